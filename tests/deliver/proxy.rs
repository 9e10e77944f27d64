//! Through a proxy: what it is told, what the endpoint is told, and what the guard still judges.

use std::net::IpAddr;
use std::sync::Mutex;

use backstop::core::dial::{Credentials, Dial, Pem, Proxy, Tls};
use backstop::core::egress::{Policy, Reach};
use backstop::egress::{Found, Lookup};

use super::tls::Authority;
use super::*;

/// Knows every name as 127.0.0.1, and remembers which it was asked for.
#[derive(Clone, Default)]
struct Names(Arc<Mutex<Vec<String>>>);

impl Lookup for Names {
    fn lookup(&self, name: &str) -> Found {
        self.0.lock().unwrap().push(name.to_owned());
        Box::pin(async move { Ok(vec![IpAddr::from([127, 0, 0, 1])]) })
    }
}

fn credentials() -> Option<Credentials> {
    Some(Credentials { user: "backstop".to_owned(), password: "hunter2 ü:%41".to_owned() })
}

/// `backstop:hunter2 ü:%41` as RFC 7617 writes it.
const BASIC: &str = "Basic YmFja3N0b3A6aHVudGVyMiDDvDolNDE=";

fn through(proxy: impl ToString, credentials: Option<Credentials>, url: impl ToString) -> Endpoint {
    let proxy = Some(Proxy { url: proxy.to_string(), credentials });
    Endpoint { dial: Arc::new(Dial { proxy, ..Dial::default() }), ..target(url) }
}

fn transport_of(names: &Names) -> HttpTransport {
    HttpTransport::new(RootCertStore::empty(), Guard::new(Arc::new(names.clone()), None))
}

async fn send(names: &Names, endpoint: Endpoint) -> Reply {
    let sent = vec![header("proxy-authorization", b"Basic forged"), header("x-many", b"one")];
    transport_of(names).send(sending(endpoint, draft(sent, "{}"))).await
}

#[tokio::test]
async fn a_plain_endpoint_is_asked_of_the_proxy_which_resolves_its_name() {
    let (address, requests) = answering(OK);
    let names = Names::default();
    let proxy = format!("http://proxy.test:{}/", address.port());
    let endpoint = through(proxy, credentials(), "http://crm.test:8443/hooks?a=b");
    assert_eq!(answer(send(&names, endpoint).await).body, "ok");
    let (_, request) = requests.recv().unwrap();
    assert_eq!(request.line, "POST http://crm.test:8443/hooks?a=b HTTP/1.1");
    assert_eq!(request.one("host"), "crm.test:8443");
    assert_eq!(request.one("proxy-authorization"), BASIC);
    assert_eq!(request.one("x-many"), "one");
    assert_eq!(*names.0.lock().unwrap(), ["proxy.test"]);
}

#[tokio::test]
async fn a_proxy_that_cannot_be_read_is_not_gone_past() {
    let direct = TcpListener::bind("127.0.0.1:0").unwrap();
    direct.set_nonblocking(true).unwrap();
    let url = format!("http://{}/?token=hunter2", direct.local_addr().unwrap());
    for proxy in ["http://pro{xy}:3128/", "http://pro\"xy/", "proxy:3128", "socks5://proxy", ""] {
        let reply = send(&Names::default(), through(proxy, credentials(), &url)).await;
        assert_eq!(class(reply), FailureClass::NotSent, "{proxy}");
    }
    assert!(direct.accept().is_err());
}

#[tokio::test]
async fn no_address_of_an_endpoint_is_dialled_past_its_proxy() {
    let (address, requests) = answering(OK);
    let direct = TcpListener::bind("127.0.0.1:0").unwrap();
    direct.set_nonblocking(true).unwrap();
    let port = direct.local_addr().unwrap().port();
    for host in ["127.0.0.1", "localhost", "[::1]", "crm.test"] {
        let url = format!("http://{host}:{port}/");
        assert_eq!(answer(send(&Names::default(), through(format!("http://{address}/"), None, &url)).await).body, "ok");
        let (_, request) = requests.recv().unwrap();
        assert_eq!(request.line, format!("POST {url} HTTP/1.1"));
        assert!(request.all("proxy-authorization").is_empty());
    }
    assert!(direct.accept().is_err());
}

/// A proxy that answers CONNECT like this, and if that is a yes, passes on to `to`. It tells what it was asked.
fn tunnel(answer: &'static str, to: SocketAddr) -> (SocketAddr, mpsc::Receiver<String>) {
    let (asked, heads) = mpsc::channel();
    let address = endpoint(move |stream| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).unwrap() > 0 {}
        asked.send(head).ok();
        let mut stream = stream;
        stream.write_all(answer.as_bytes()).unwrap();
        if answer.contains(" 200 ") {
            let mut server = TcpStream::connect(to).unwrap();
            let mut back = (server.try_clone().unwrap(), stream);
            std::thread::spawn(move || std::io::copy(&mut back.0, &mut back.1).ok());
            std::io::copy(&mut reader, &mut server).ok();
        }
    });
    (address, heads)
}

#[tokio::test]
async fn a_secure_endpoint_is_spoken_to_through_a_tunnel_which_alone_has_the_password() {
    let ours = Authority::new("ours");
    let (server, requests) = super::tls::answering_over_tls(&ours.sign("crm.test"));
    let (proxy, heads) = tunnel("HTTP/1.1 200 Established\r\n\r\n", server);
    let tls = Tls {
        identity: None,
        ca: Some(Pem { file: "ca.pem".into(), text: ours.pem.clone().into() }),
        machine_roots: false,
    };
    let proxy = Some(Proxy { url: format!("http://proxy.test:{}/", proxy.port()), credentials: credentials() });
    let dial = Arc::new(Dial { proxy, tls, ..Dial::default() });
    let names = Names::default();
    let endpoint = Endpoint { dial, ..target("https://crm.test:9443/hooks") };
    assert_eq!(answer(send(&names, endpoint).await).body, "ok");
    let head = heads.recv().unwrap().to_lowercase();
    assert!(head.starts_with("connect crm.test:9443 http/1.1\r\n"), "{head}");
    assert!(head.contains(&BASIC.to_lowercase()), "{head}");
    let request = requests.recv().unwrap();
    assert_eq!(request.line, "POST /hooks HTTP/1.1");
    assert!(request.all("proxy-authorization").is_empty());
    assert_eq!(*names.0.lock().unwrap(), ["proxy.test"]);
}

#[tokio::test]
async fn a_proxy_that_refuses_or_is_not_there_is_told_as_such() {
    let nowhere = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = "https://crm.test/?token=hunter2";
    for (answer, piece) in [
        ("HTTP/1.1 407 Who are you\r\n\r\n", "proxy authorization required"),
        ("HTTP/1.1 403 No\r\n\r\n", "tunnel error"),
        ("HTTP/1.1 200", "tunnel error"),
        ("SSH-2.0\r\n\r\n", "tunnel error"),
    ] {
        let (proxy, _heads) = tunnel(answer, nowhere);
        let reply = send(&Names::default(), through(format!("http://{proxy}/"), credentials(), url)).await;
        let Reply::Failure(failure) = &reply else { panic!("{reply:?}") };
        assert!(failure.detail.contains(piece), "{failure:?}");
        assert_eq!(class(reply), FailureClass::Unreachable, "{answer}");
    }
    for url in [url, "http://crm.test/?token=hunter2"] {
        let reply = send(&Names::default(), through(format!("http://{nowhere}/"), credentials(), url)).await;
        assert_eq!(class(reply), FailureClass::Refused);
    }
}

#[tokio::test]
async fn the_proxys_own_address_is_judged_and_an_endpoints_where_it_is_one() {
    let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
    proxy.set_nonblocking(true).unwrap();
    let port = proxy.local_addr().unwrap().port();
    let near = format!("http://127.0.0.1:{port}/");
    let denied = Policy { deny: vec!["127.0.0.0/8".parse().unwrap()], ..Policy::default() };
    let public = Policy { reach: Reach::Public, ..Policy::default() };
    let cases = [
        (&denied, near.clone(), "http://crm.test/"),
        (&denied, format!("http://proxy.test:{port}/"), "http://crm.test/"),
        (&denied, format!("http://proxy.test:{port}/"), "https://crm.test/"),
        (&denied, format!("http://[::ffff:127.0.0.1]:{port}/"), "http://crm.test/"),
        (&public, "http://169.254.169.254/".to_owned(), "http://crm.test/"),
        (&public, near.clone(), "http://10.0.0.1/"),
        (&public, near.clone(), "https://[::ffff:169.254.169.254]/"),
    ];
    for (egress, proxy, url) in cases {
        let mut endpoint = through(&proxy, None, url);
        let dial = Dial { egress: egress.clone(), ..(*endpoint.dial).clone() };
        endpoint.dial = Arc::new(dial);
        assert_eq!(class(send(&Names::default(), endpoint).await), FailureClass::EgressDenied, "{proxy} {url}");
    }
    assert!(proxy.accept().is_err());
    // How far endpoints may be says nothing about the proxy, which is this operator's own.
    let mut endpoint = through(&near, None, "http://crm.test/");
    endpoint.timeout = SHORT;
    endpoint.dial = Arc::new(Dial { egress: public, ..(*endpoint.dial).clone() });
    assert_eq!(class(send(&Names::default(), endpoint).await), FailureClass::TimeoutAfterSent);
    assert!(proxy.accept().is_ok());
}
