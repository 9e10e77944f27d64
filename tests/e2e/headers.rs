//! What a sender writes into a request's head, and what of it an endpoint gets: raw bytes at both ends.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;

use crate::place::Place;
use crate::sink::{OK, Post, Sink};

/// Headers that an endpoint must not get from a sender, each with the value `planted`.
const KEPT_BACK: [&str; 59] = [
    // They speak of the connection to us.
    "Keep-Alive",
    "TE",
    "Trailer",
    "Proxy-Connection",
    "Proxy-Authorization",
    "Proxy-Authenticate",
    "Proxy-Status",
    "HTTP2-Settings",
    "X-Named-Once",
    "X-Named-Twice",
    "X-Named-Beside-Noise",
    // They were meant for us.
    "Authorization",
    "Cookie",
    "Accept-Encoding",
    "User-Agent",
    // Only we may say them.
    "Webhook-Id",
    "Webhook-Timestamp",
    "Webhook-Signature",
    "Webhook-Anything",
    "WEBHOOK-ID",
    "webhook_id",
    "webhook_Signature",
    "Svix-Id",
    "Svix-Signature",
    "svix_timestamp",
    "Backstop-Replay",
    "Backstop-Trial",
    "Backstop-Attempt",
    "Backstop-Delivery",
    "Backstop-Received-At",
    "Backstop-Event-Type",
    "Backstop-Key",
    "backstop_key",
    "X-Team",
    "x_team",
    "X_Api-Key",
    "X-Api-Key",
    // An endpoint might believe them because we say them.
    "Forwarded",
    "Via",
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Forwarded-Proto",
    "X-Forwarded-Anything",
    "x_forwarded_for",
    "X-Real-IP",
    "X-Client-IP",
    "X-Cluster-Client-IP",
    "X-Original-Forwarded-For",
    "True-Client-IP",
    "CF-Connecting-IP",
    "Fastly-Client-IP",
    "X-HTTP-Method-Override",
    "X-HTTP-Method",
    "X-Method-Override",
    "X-Original-URL",
    "X-Rewrite-URL",
    "x_http_method_override",
    "http2_settings",
    "transfer_encoding",
];

const CONFIG: &str = r#"
[sources.flyflow]
preset = "flyflow"
[endpoints.crm]
url = "URL"
secrets = ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]
headers = { x-team = "ours" }
auth = { header = "x-api-key", value = "ours" }
[[routes]]
endpoints = ["crm"]
"#;

/// Posts these bytes, head and all; the status of the answer.
fn post(address: &str, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(request).unwrap();
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    line.split(' ').nth(1).unwrap_or_default().to_owned()
}

fn all<'a>(post: &'a Post, name: &str) -> Vec<&'a str> {
    post.headers().iter().filter(|(other, _)| other == name).map(|(_, value)| value.as_str()).collect()
}

#[test]
fn nothing_that_is_not_the_senders_to_say_reaches_an_endpoint() {
    let crm = Sink::answering(OK);
    let place = Place::new(&CONFIG.replace("URL", &crm.url()));
    let gateway = place.serve();
    let mut head =
        b"POST /in/flyflow HTTP/1.1\r\nHost: the-gateway\r\nContent-Length: 2\r\nConnection: close\r\n".to_vec();
    head.extend_from_slice(b"Connection: X-Named-Once,keep-alive\r\nconnection:\t x-named-twice ,,close\r\n");
    head.extend_from_slice(b"Connection: \xff\xfe, x-named-beside-noise\r\n");
    for name in KEPT_BACK {
        head.extend_from_slice(format!("{name}: planted\r\n").as_bytes());
    }
    for passing in ["Content-Type: text/x-mine", "X-Request-Id: 7", "X-Many: one", "x-many: two", "X-Empty:"] {
        head.extend_from_slice(format!("{passing}\r\n").as_bytes());
    }
    head.extend_from_slice(
        b"x_own_name: kept\r\nStripe-Signature: t=1,v1=providers\r\nX-Hub-Signature-256: sha256=providers\r\n",
    );
    head.extend_from_slice(b"\r\n{}");
    assert_eq!(post(&gateway.ingest, &head), "202");
    let arrived = &crm.wait_for(1)[0];
    for (name, value) in arrived.headers() {
        assert!(!value.contains("planted"), "{name}: {value}");
        assert!(name != "connection" && name != "transfer-encoding", "{name}: {value}");
    }
    let port = crm.url().split('/').nth(2).unwrap().to_owned();
    for (name, values) in [
        ("host", vec![port.as_str()]),
        ("content-length", vec!["2"]),
        ("content-type", vec!["text/x-mine"]),
        ("x-request-id", vec!["7"]),
        ("x-many", vec!["one", "two"]),
        ("x_own_name", vec!["kept"]),
        ("stripe-signature", vec!["t=1,v1=providers"]),
        ("x-hub-signature-256", vec!["sha256=providers"]),
        ("x-team", vec!["ours"]),
        ("x-api-key", vec!["ours"]),
        ("user-agent", vec![concat!("backstop/", env!("CARGO_PKG_VERSION"))]),
        ("backstop-attempt", vec!["1"]),
    ] {
        assert_eq!(all(arrived, name), values, "{name}");
    }
    assert_eq!(all(arrived, "webhook-id").len(), 1);
    assert!(all(arrived, "webhook-signature")[0].starts_with("v1,"));
    assert_eq!(arrived.body, "{}");
}
