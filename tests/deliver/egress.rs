//! The guard with real listeners: what is denied gets no connection, however it is spelled, named or led to.
//!
//! A connection is there for `accept` as soon as the kernel has it, long before an attempt ends. So a listener that
//! has none to give after the attempt has had none.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use backstop::core::dial::Dial;
use backstop::core::egress::{Policy, Reach};
use backstop::egress::{Found, Lookup};

use super::*;

/// A place that nobody may connect to.
struct Forbidden(TcpListener);

impl Forbidden {
    fn at(ip: &str) -> Self {
        let listener = TcpListener::bind((ip.parse::<IpAddr>().unwrap(), 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        Self(listener)
    }

    fn port(&self) -> u16 {
        self.0.local_addr().unwrap().port()
    }

    /// How many connections have come since this was asked.
    fn connections(&self) -> usize {
        let mut count = 0;
        loop {
            match self.0.accept() {
                Ok(_connection) => count += 1,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return count,
                Err(error) => panic!("{error}"),
            }
        }
    }
}

/// A lookup that gives one answer after the other, and the last one from then on.
#[derive(Clone, Default)]
struct Script(Arc<Mutex<(VecDeque<Vec<IpAddr>>, usize)>>);

impl Script {
    fn of(answers: &[&[&str]]) -> Self {
        let answers = answers.iter().map(|answer| answer.iter().map(|text| text.parse().unwrap()).collect());
        Self(Arc::new(Mutex::new((answers.collect(), 0))))
    }

    fn asked(&self) -> usize {
        self.0.lock().unwrap().1
    }

    fn transport(&self, admin: Option<SocketAddr>) -> HttpTransport {
        HttpTransport::new(RootCertStore::empty(), Guard::new(Arc::new(self.clone()), admin))
    }
}

impl Lookup for Script {
    fn lookup(&self, _name: &str) -> Found {
        let mut script = self.0.lock().unwrap();
        script.1 += 1;
        let answer = if script.0.len() > 1 { script.0.pop_front() } else { script.0.front().cloned() };
        Box::pin(async move { Ok(answer.unwrap_or_default()) })
    }
}

fn policy(reach: Reach, allow: &[&str], deny: &[&str]) -> Policy {
    let networks = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
    Policy { reach, allow: networks(allow), deny: networks(deny), admin: false }
}

fn under(policy: Policy, url: impl ToString) -> Endpoint {
    Endpoint { dial: Arc::new(Dial { egress: policy, ..Dial::default() }), ..target(url) }
}

/// A copy of a small event, sent by `transport`.
async fn send(transport: &HttpTransport, endpoint: Endpoint) -> Reply {
    transport.send(sending(endpoint, draft(vec![], "{}"))).await
}

fn assert_denied(reply: Reply, what: &str) {
    let Reply::Failure(failure) = &reply else { panic!("{what}: {reply:?}") };
    assert!(failure.detail.starts_with("not allowed: "), "{what}: {failure:?}");
    assert_eq!(class(reply), FailureClass::EgressDenied, "{what}");
}

/// 127.0.0.2 and ::1 in every spelling that a URL knows; `{}` is the port.
const SPELLINGS: [&str; 13] = [
    "http://127.0.0.2:{}/",
    "http://127.2:{}/",
    "http://127.0.2:{}/",
    "http://2130706434:{}/",
    "http://0x7f000002:{}/",
    "http://0x7f.2:{}/",
    "http://0177.0.0.2:{}/",
    "http://017700000002:{}/",
    "http://127.0.0.2.:{}/",
    "http://%31%32%37.0.0.2:{}/",
    "http://１２７。0。0。2:{}/",
    "http://[::ffff:127.0.0.2]:{}/",
    "http://[::ffff:7f00:2]:{}/",
];

/// What else stands for 127.0.0.2. Nothing leads there on this machine, but somewhere something may.
const CARRIERS: [&str; 8] = [
    "http://[::127.0.0.2]:{}/",
    "http://[::ffff:0:127.0.0.2]:{}/",
    "http://[64:ff9b::127.0.0.2]:{}/",
    "http://[64:ff9b:1::7f00:2]:{}/",
    "http://[64:ff9b:1:7f00:0:200::]:{}/",
    "http://[2002:7f00:2::1]:{}/",
    "http://[2001:0:808:808:0:0:80ff:fffd]:{}/",
    "http://[2606:4700::5efe:127.0.0.2]:{}/",
];

#[tokio::test]
async fn a_denied_address_gets_no_connection_in_any_spelling() {
    let (four, six) = (Forbidden::at("127.0.0.2"), Forbidden::at("::1"));
    let transport = transport();
    let policies = [
        policy(Reach::Public, &[], &[]),
        policy(Reach::Listed, &["127.0.0.1"], &[]),
        policy(Reach::Private, &["127.0.0.0/8"], &["127.0.0.2", "::1"]),
    ];
    for policy in &policies {
        for spelling in SPELLINGS.iter().chain(&CARRIERS) {
            let url = spelling.replace("{}", &four.port().to_string());
            assert_denied(send(&transport, under(policy.clone(), &url)).await, &url);
            let secure = url.replace("http:", "https:");
            assert_denied(send(&transport, under(policy.clone(), &secure)).await, &secure);
        }
        let url = format!("http://[::1]:{}/", six.port());
        assert_denied(send(&transport, under(policy.clone(), &url)).await, &url);
    }
    assert_eq!((four.connections(), six.connections()), (0, 0));
}

#[tokio::test]
async fn the_same_spellings_do_lead_there_where_it_is_allowed() {
    let four = Forbidden::at("127.0.0.2");
    for spelling in SPELLINGS {
        let url = spelling.replace("{}", &four.port().to_string());
        let endpoint = Endpoint { timeout: SHORT, ..under(Policy::default(), &url) };
        assert_eq!(class(send(&transport(), endpoint).await), FailureClass::TimeoutAfterSent, "{url}");
        assert_eq!(four.connections(), 1, "{url}");
    }
}

#[tokio::test]
async fn a_name_that_leads_to_what_is_denied_gets_no_connection() {
    let (four, six) = (Forbidden::at("127.0.0.2"), Forbidden::at("::1"));
    let leads = ["127.0.0.2", "::ffff:127.0.0.2", "64:ff9b::127.0.0.2", "::1", "169.254.169.254", "10.0.0.1"];
    for lead in leads {
        let transport = Script::of(&[&[lead]]).transport(None);
        for port in [four.port(), six.port()] {
            let url = format!("http://crm.test:{port}/");
            assert_denied(send(&transport, under(policy(Reach::Public, &[], &[]), &url)).await, lead);
        }
    }
    let transport = Script::of(&[&["169.254.169.254"]]).transport(None);
    let reply = send(&transport, under(Policy::default(), "http://metadata.google.internal/")).await;
    assert_denied(reply, "the metadata service by its name, by the default policy");
    assert_eq!((four.connections(), six.connections()), (0, 0));
}

#[tokio::test]
async fn of_mixed_answers_only_what_is_allowed_is_dialled() {
    let forbidden = Forbidden::at("127.0.0.2");
    let port = forbidden.port();
    let open = TcpListener::bind(("127.0.0.3", port)).unwrap();
    open.set_nonblocking(true).unwrap();
    let only = policy(Reach::Listed, &["127.0.0.3"], &[]);
    for answer in [["127.0.0.2", "127.0.0.3"], ["127.0.0.3", "127.0.0.2"], ["::ffff:127.0.0.2", "127.0.0.3"]] {
        let transport = Script::of(&[&answer]).transport(None);
        let endpoint = Endpoint { timeout: SHORT, ..under(only.clone(), format!("http://crm.test:{port}/")) };
        assert_eq!(class(send(&transport, endpoint).await), FailureClass::TimeoutAfterSent);
        assert!(open.accept().is_ok());
    }
    // The allowed one does not take connections: the other is no way out.
    drop(open);
    let transport = Script::of(&[&["127.0.0.2", "127.0.0.3"]]).transport(None);
    let reply = send(&transport, under(only, format!("http://crm.test:{port}/"))).await;
    assert_eq!(class(reply), FailureClass::Refused);
    assert_eq!(forbidden.connections(), 0);
}

#[tokio::test]
async fn a_name_that_changes_its_mind_is_judged_at_every_dial() {
    let forbidden = Forbidden::at("127.0.0.2");
    let port = forbidden.port();
    let listener = TcpListener::bind(("127.0.0.3", port)).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut reader = BufReader::new(stream.unwrap());
            read_request(&mut reader);
            let closing = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok";
            reader.get_mut().write_all(closing).ok();
        }
    });
    let script = Script::of(&[&["127.0.0.3"], &["127.0.0.2"], &["127.0.0.3"], &["127.0.0.2"]]);
    let transport = script.transport(None);
    let endpoint = || under(policy(Reach::Listed, &["127.0.0.3"], &[]), format!("http://crm.test:{port}/"));
    for round in 1..=2 {
        assert_eq!(answer(send(&transport, endpoint()).await).body, "ok");
        // Asked once a dial: there is no second look that could find something else.
        assert_eq!(script.asked(), round * 2 - 1);
        assert_denied(send(&transport, endpoint()).await, "it has changed its mind");
    }
    assert_eq!(forbidden.connections(), 0);
}

#[tokio::test]
async fn a_redirect_leads_nowhere() {
    let forbidden = Forbidden::at("127.0.0.2");
    for status in [301, 302, 303, 307, 308] {
        let location = format!("http://127.0.0.2:{}/", forbidden.port());
        let head = format!("HTTP/1.1 {status} Elsewhere\r\nlocation: {location}\r\nrefresh: 0; url={location}\r\n");
        let (address, _requests) = answering(format!("{head}content-length: 0\r\n\r\n"));
        let only = policy(Reach::Listed, &["127.0.0.1"], &[]);
        assert_eq!(answer(send(&transport(), under(only, format!("http://{address}/"))).await).status, status);
    }
    assert_eq!(forbidden.connections(), 0);
}

#[tokio::test]
async fn the_gateways_own_admin_listener_gets_no_connection() {
    let (admin, elsewhere) = (Forbidden::at("0.0.0.0"), Forbidden::at("127.0.0.1"));
    let bound = admin.0.local_addr().unwrap();
    let transport = Script::of(&[&["127.0.0.1"]]).transport(Some(bound));
    let hosts = ["127.0.0.1", "127.0.0.2", "127.9.9.9", "[::ffff:127.0.0.1]", "2130706433", "crm.test", "0.0.0.0"];
    for host in hosts {
        let reply = send(&transport, under(Policy::default(), format!("http://{host}:{}/api/v1", bound.port()))).await;
        assert_denied(reply, host);
    }
    assert_eq!(admin.connections(), 0);
    // The same host at another port is not the admin listener, and named it may be reached.
    for (listener, named) in [(&elsewhere, false), (&admin, true)] {
        let egress = Policy { admin: named, ..Policy::default() };
        for host in ["crm.test", "127.0.0.1"] {
            let url = format!("http://{host}:{}/", listener.port());
            let endpoint = Endpoint { timeout: SHORT, ..under(egress.clone(), url) };
            assert_eq!(class(send(&transport, endpoint).await), FailureClass::TimeoutAfterSent);
            assert_eq!(listener.connections(), 1);
        }
    }
}

#[tokio::test]
async fn endpoints_under_different_policies_do_not_share_connections() {
    let (address, requests) = answering(OK);
    let transport = Script::of(&[&["127.0.0.1"]]).transport(None);
    let url = format!("http://crm.test:{}/", address.port());
    assert_eq!(answer(send(&transport, under(Policy::default(), &url)).await).body, "ok");
    assert_denied(send(&transport, under(policy(Reach::Public, &[], &[]), &url)).await, "not by a kept connection");
    assert_eq!(answer(send(&transport, under(Policy::default(), &url)).await).body, "ok");
    let connections: Vec<usize> = [requests.recv().unwrap(), requests.recv().unwrap()].map(|seen| seen.0).to_vec();
    assert_eq!(connections, [0, 0], "those under one policy do");
}
