//! Requests as they should not be, one by one.

use crate::{Door, open, plain, statuses};

/// What is sent, in pieces; what is answered; what becomes an event.
struct Case {
    name: &'static str,
    pieces: Vec<Vec<u8>>,
    answers: &'static [u16],
    events: &'static [&'static str],
}

fn case(name: &'static str, sent: &str, answers: &'static [u16], events: &'static [&'static str]) -> Case {
    Case { name, pieces: vec![sent.as_bytes().to_vec()], answers, events }
}

/// A request whose header lines and body are these.
fn post(lines: &str, body: &str) -> String {
    format!("POST /in/plain HTTP/1.1\r\nhost: x\r\n{lines}\r\n{body}")
}

fn check(door: &Door, cases: Vec<Case>) {
    for Case { name, pieces, answers, events } in cases {
        let before = door.events().len();
        let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
        let told = door.all(&pieces);
        assert_eq!(statuses(&told), answers, "{name}: {}", String::from_utf8_lossy(&told));
        let made = door.events().split_off(before);
        let made: Vec<String> = made.iter().map(|body| String::from_utf8_lossy(body).into_owned()).collect();
        assert_eq!(made, events, "{name}");
        door.is_well();
    }
}

/// What a proxy in front may take for one request, and we for two, or the other way round.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_smuggled() {
    let door = open(plain(), None).await;
    let hidden = "GET /livez HTTP/1.1\r\nhost: x\r\n\r\n";
    let length = |bytes: usize| format!("content-length: {bytes}\r\n");
    let chunked = "transfer-encoding: chunked\r\n";
    let both = |lines: &str| post(lines, &format!("0\r\n\r\n{hidden}"));
    check(
        &door,
        vec![
            // By RFC 9112, 6.1 the chunks count, and the connection ends behind them.
            case("length, then chunks", &both(&format!("{}{chunked}", length(40))), &[202], &[""]),
            case("chunks, then length", &both(&format!("{chunked}{}", length(40))), &[202], &[""]),
            case("chunks and a length that is none", &both(&format!("{chunked}content-length: x\r\n")), &[202], &[""]),
            case("a length that is none and chunks", &both(&format!("content-length: x\r\n{chunked}")), &[400], &[]),
            case("two lengths", &post("content-length: 1\r\ncontent-length: 2\r\n", "ab"), &[400], &[]),
            case("two equal lengths", &post("content-length: 2\r\ncontent-length: 2\r\n", "ab"), &[202], &["ab"]),
            case("a list of lengths", &post("content-length: 2, 2\r\n", "ab"), &[400], &[]),
            case("a signed length", &post("content-length: +2\r\n", "ab"), &[400], &[]),
            case("a negative length", &post("content-length: -1\r\n", "ab"), &[400], &[]),
            case("an endless length", &post("content-length: 18446744073709551616\r\n", "ab"), &[400], &[]),
            case("the longest length", &post("content-length: 18446744073709551615\r\n", "ab"), &[431], &[]),
            case("a hexadecimal length", &post("content-length: 0x2\r\n", "ab"), &[400], &[]),
            case("an empty length", &post("content-length: \r\n", "ab"), &[400], &[]),
            case("an unknown coding", &post("transfer-encoding: gzip\r\n", ""), &[400], &[]),
            case("chunks not last", &post("transfer-encoding: chunked, identity\r\n", "0\r\n\r\n"), &[400], &[]),
            case("a coding that looks alike", &post("transfer-encoding: xchunked\r\n", "0\r\n\r\n"), &[400], &[]),
            case("a space before the colon", &post("transfer-encoding : chunked\r\n", "0\r\n\r\n"), &[400], &[]),
            case("chunks in HTTP/1.0", &post(chunked, "0\r\n\r\n").replace("1.1", "1.0"), &[400], &[]),
            case("too little, then another", &format!("{}{hidden}", post(&length(2), "ab")), &[202, 200], &["ab"]),
            case("more than the length says", &post(&length(2), "abcd\r\n\r\n"), &[202, 400], &["ab"]),
        ],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_are_what_they_say() {
    let door = open(plain(), None).await;
    let chunked = |body: &str| post("transfer-encoding: chunked\r\n", body);
    let long = "x".repeat(20_000);
    check(
        &door,
        vec![
            case("sound", &chunked("2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"), &[202], &["abc"]),
            case("an extension", &chunked("2;a=b\r\nab\r\n0\r\n\r\n"), &[202], &["ab"]),
            case("a trailer", &chunked("2\r\nab\r\n0\r\nx: y\r\n\r\n"), &[202], &["ab"]),
            case("no number", &chunked("zz\r\nab\r\n0\r\n\r\n"), &[400], &[]),
            case("a negative size", &chunked("-1\r\nab\r\n0\r\n\r\n"), &[400], &[]),
            case("a prefix", &chunked("0x2\r\nab\r\n0\r\n\r\n"), &[400], &[]),
            case("more than fits a number", &chunked("fffffffffffffffff\r\nab\r\n0\r\n\r\n"), &[400], &[]),
            case("the largest number", &chunked("ffffffffffffffff\r\nab"), &[400], &[]),
            case("longer than its size", &chunked("2\r\nabc\r\n0\r\n\r\n"), &[400], &[]),
            case("a bare line feed", &chunked("2\nab\r\n0\r\n\r\n"), &[400], &[]),
            case("an endless extension", &chunked(&format!("2;{long}\r\nab\r\n0\r\n\r\n")), &[400], &[]),
            case("endless trailers", &chunked(&format!("2\r\nab\r\n0\r\nx: {long}{long}\r\n\r\n")), &[400], &[]),
        ],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_are_well_formed_or_refused() {
    let door = open(plain(), None).await;
    let sound = "content-length: 2\r\n";
    let with = |line: &str| post(&format!("{line}{sound}"), "ab");
    let huge = format!("x: {}\r\n", "y".repeat(40_000));
    check(
        &door,
        vec![
            case("folded lines", &with("x: a\r\n b\r\n"), &[400], &[]),
            case("a NUL in a name", &with("x\0y: a\r\n"), &[400], &[]),
            case("a NUL in a value", &with("x: a\0b\r\n"), &[400], &[]),
            case("a bare carriage return", &with("x: a\rb\r\n"), &[400], &[]),
            case("no colon", &with("nothing\r\n"), &[400], &[]),
            case("no name", &with(": a\r\n"), &[400], &[]),
            case("a line before the headers", &with(" x: a\r\n"), &[400], &[]),
            case("a header that is too large", &with(&huge), &[431], &[]),
            case("too many lines", &with(&"x: y\r\n".repeat(200)), &[431], &[]),
            case("no version", "POST /in/plain\r\nhost: x\r\n\r\n", &[400], &[]),
            case("another version", "POST /in/plain HTTP/3.0\r\nhost: x\r\n\r\n", &[400], &[]),
            case("HTTP/2 on a plain listener", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0", &[], &[]),
            case("a method with a control character", "PO\x01ST /in/plain HTTP/1.1\r\n\r\n", &[400], &[]),
            case("a space in the path", "POST /in/plain x HTTP/1.1\r\n\r\n", &[400], &[]),
            case("a path that is too long", &format!("POST /{} HTTP/1.1\r\n\r\n", "x".repeat(70_000)), &[431], &[]),
            case("TLS", "\x16\x03\x01\0\0", &[400], &[]),
            case("nothing but lines", "\r\n\r\n\r\n\r\n", &[], &[]),
            case("a head that never ends", "POST /in/plain HTTP/1.1\r\nhost: x\r\nx: y", &[], &[]),
            case(
                "a body that never ends",
                &post("content-length: 9\r\nx: y\r\n", "ab").replace("POST", "PUT"),
                &[405],
                &[],
            ),
        ],
    );
}

/// What is odd, and allowed.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_allowed_is_served_once() {
    let door = open(plain(), None).await;
    let two = post("content-length: 2\r\n", "ab");
    let end = post("connection: close\r\ncontent-length: 2\r\n", "cd");
    check(
        &door,
        vec![
            case("bare line feeds", &two.replace("\r\n", "\n"), &[202], &["ab"]),
            case("empty lines before", &format!("\r\n\r\n{two}"), &[202], &["ab"]),
            case("a whole URL", &two.replace("/in/plain", "http://other.example/in/plain"), &[202], &["ab"]),
            case("no Host", &two.replace("host: x\r\n", ""), &[202], &["ab"]),
            case("two in one", &format!("{two}{end}"), &[202, 202], &["ab", "cd"]),
            case("nothing behind a last one", &format!("{end}{two}"), &[202], &["cd"]),
            case("HTTP/1.0 ends the connection", &format!("{}{two}", two.replace("1.1", "1.0")), &[202], &["ab"]),
            case(
                "to be asked for the body",
                &post("expect: 100-continue\r\ncontent-length: 2\r\n", "ab"),
                &[100, 202],
                &["ab"],
            ),
            case("another expectation", &post("expect: a-miracle\r\ncontent-length: 2\r\n", "ab"), &[202], &["ab"]),
            case(
                "an upgrade that is not made",
                &post("connection: upgrade\r\nupgrade: h2c\r\ncontent-length: 2\r\n", "ab"),
                &[202],
                &["ab"],
            ),
            case("CONNECT", "CONNECT other.example:443 HTTP/1.1\r\nhost: other.example:443\r\n\r\n", &[404], &[]),
            case("OPTIONS *", "OPTIONS * HTTP/1.1\r\nhost: x\r\n\r\n", &[404], &[]),
        ],
    );
    // Byte by byte, as slowly as one may.
    let bytes: Vec<Vec<u8>> = end.bytes().map(|byte| vec![byte]).collect();
    check(&door, vec![Case { name: "in pieces", pieces: bytes, answers: &[202], events: &["cd"] }]);
}
