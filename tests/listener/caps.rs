//! Who may have how many connections, and what idles or drips.

use std::io::{BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use backstop::listener::Limits;
use backstop::telemetry::Intake;

use crate::{GET, LONG, Served, WAIT, answer, ask, end, limits, serve, serve_with};

/// A connection that comes from this address of loopback.
async fn connect_from(server: &Served, address: [u8; 4]) -> BufReader<TcpStream> {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from((Ipv4Addr::from(address), 0))).unwrap();
    let stream = socket.connect(server.address).await.unwrap().into_std().unwrap();
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    BufReader::new(stream)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_has_its_share_and_others_have_theirs() {
    let intake = Arc::new(Intake::default());
    let counting = Arc::clone(&intake);
    let caps = Limits { connections_max_per_address: 2, ..limits(8, LONG) };
    let server = serve_with(caps, LONG, |listener| listener.counting(counting)).await;
    let mut first = connect_from(&server, [127, 0, 0, 2]).await;
    let mut second = connect_from(&server, [127, 0, 0, 2]).await;
    for stream in [&mut first, &mut second] {
        ask(stream, GET);
        assert_eq!(answer(stream).0, 200);
    }
    let mut third = connect_from(&server, [127, 0, 0, 2]).await;
    let told = String::from_utf8(end(&mut third)).unwrap();
    assert!(told.starts_with("HTTP/1.1 503 ") && told.contains("retry-after: 5\r\n"), "{told}");
    let (head, body) = told.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(&format!("content-length: {}", body.len())), "{told}");
    assert_eq!(intake.counts()["crowded"], 1);
    let mut other = connect_from(&server, [127, 0, 0, 3]).await;
    ask(&mut other, GET);
    assert_eq!(answer(&mut other).0, 200);
    // A place comes back with the end of a connection, which the listener sees in its own time.
    drop(first);
    loop {
        let mut again = connect_from(&server, [127, 0, 0, 2]).await;
        let sent = again.get_mut().write_all(GET.as_bytes());
        let mut status = [0; 12];
        if sent.is_ok() && again.read_exact(&mut status).is_ok() && status == *b"HTTP/1.1 200" {
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trusted_network_is_not_counted() {
    let trusted = vec!["127.0.0.0/8".parse().unwrap()];
    let server = serve(Limits { connections_max_per_address: 1, trusted, ..limits(8, LONG) }, LONG).await;
    let mut streams: Vec<_> = (0..4).map(|_| server.connect()).collect();
    for stream in &mut streams {
        ask(stream, GET);
        assert_eq!(answer(stream).0, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_idles_longest_makes_room_and_who_is_served_does_not() {
    let server = serve(limits(3, LONG), LONG).await;
    let (mut idle, mut busy) = (server.connect(), server.connect());
    ask(&mut busy, WAIT);
    server.has_begun().await;
    // The last free place is taken: from now on room is wanted, and only one has nothing to do.
    let mut late = server.connect();
    ask(&mut late, WAIT);
    server.has_begun().await;
    assert_eq!(end(&mut idle), b"");
    server.go.add_permits(2);
    assert_eq!(answer(&mut busy).0, 200);
    assert_eq!(answer(&mut late).0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_has_its_time_however_it_drips_and_an_idle_connection_another() {
    let header_timeout = Duration::from_millis(200);
    let server = serve(Limits { header_timeout, idle_timeout: LONG, ..limits(8, LONG) }, LONG).await;
    let mut idle = server.connect();
    let mut drips = server.connect();
    ask(&mut drips, "GET / HTTP/1.1\r\n");
    // Until the end is seen, another byte is another sign of life.
    drips.get_ref().set_read_timeout(Some(Duration::from_millis(10))).unwrap();
    loop {
        let sent = drips.get_mut().write_all(b"x");
        match drips.read(&mut [0; 1]) {
            Ok(0) => break,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock && sent.is_ok() => {}
            Err(_) => break,
            Ok(_) => panic!("nothing was to be answered"),
        }
    }
    ask(&mut idle, GET);
    assert_eq!(answer(&mut idle).0, 200, "it had done nothing for longer than a header may take");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_pause_requests_go_on_where_they_were() {
    let server = serve(limits(8, LONG), LONG).await;
    let mut stream = server.connect();
    // Longer than HTTP is kept ready: put away with nothing, and with the beginning of a next head.
    let pause = Duration::from_millis(1300);
    ask(&mut stream, &format!("{GET}GET / HT"));
    assert_eq!(answer(&mut stream).0, 200);
    tokio::time::sleep(pause).await;
    ask(&mut stream, "TP/1.1\r\nhost: x\r\n\r\n");
    assert_eq!(answer(&mut stream).0, 200);
    tokio::time::sleep(pause).await;
    ask(&mut stream, "POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhe");
    tokio::time::sleep(pause).await;
    ask(&mut stream, "llo");
    assert_eq!(answer(&mut stream), (200, "hello".to_owned()), "a body is not put away");
    ask(&mut stream, "POST /echo HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n3\r\nGET\r\n");
    tokio::time::sleep(pause).await;
    ask(&mut stream, "2\r\n /\r\n0\r\n\r\n");
    assert_eq!(answer(&mut stream), (200, "GET /".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelined_requests_are_each_answered_in_order() {
    let server = serve(limits(8, LONG), LONG).await;
    let mut stream = server.connect();
    let post = |body: &str| format!("POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    ask(&mut stream, &(1..=40).map(|number| post(&format!("number {number}"))).collect::<String>());
    for number in 1..=40 {
        assert_eq!(answer(&mut stream), (200, format!("number {number}")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_must_keep_coming() {
    let server = serve(Limits { bytes_per_sec_min: 1000, ..limits(8, LONG) }, LONG).await;
    let mut stream = server.connect();
    ask(&mut stream, "POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\nonly this");
    let (status, body) = answer(&mut stream);
    assert_eq!((status, body.as_str()), (200, "the body came too slowly"));
}
