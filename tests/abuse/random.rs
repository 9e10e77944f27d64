//! Random bytes, and requests in which something was changed, at the real service.
//!
//! However they are cut and spoiled: no more events than requests were begun, each answer a known status, and the
//! next sender served.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::{Door, LONG, open, plain, statuses};

/// What a request is made of, for better or worse.
const FRAGMENTS: [&[u8]; 26] = [
    b"POST /in/plain HTTP/1.1\r\n",
    b"POST /in/plain HTTP/1.0\r\n",
    b"GET /livez HTTP/1.1\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"host: x\r\n",
    b"content-length: 0\r\n",
    b"content-length: 2\r\n",
    b"content-length: 99999\r\n",
    b"content-length: -1\r\n",
    b"transfer-encoding: chunked\r\n",
    b"transfer-encoding: identity\r\n",
    b"expect: 100-continue\r\n",
    b"connection: close\r\n",
    b"connection: keep-alive, upgrade\r\n",
    b"upgrade: h2c\r\n",
    b" folded\r\n",
    b"x: \xff\0\r\n",
    b"\r\n",
    b"\n",
    b"ab",
    b"0\r\n\r\n",
    b"2\r\nab\r\n",
    b"ffffffffffffffff\r\n",
    b"2;x=y\r\n",
    b"\0",
    b"POST /in/plain HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nab",
];

/// Fragments in any order, then a few bytes of it changed, and cut into pieces.
fn requests() -> impl Strategy<Value = (Vec<u8>, usize)> {
    let fragment = prop_oneof![
        9 => proptest::sample::select(FRAGMENTS.to_vec()).prop_map(<[u8]>::to_vec),
        1 => proptest::collection::vec(any::<u8>(), 0..64),
    ];
    let changes = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    (proptest::collection::vec(fragment, 1..14), changes, 1..200_usize).prop_map(|(fragments, changes, piece)| {
        let mut bytes = fragments.concat();
        for (at, byte) in changes.iter().filter(|_| !fragments.concat().is_empty()) {
            let at = at.index(bytes.len());
            bytes[at] = *byte;
        }
        (bytes, piece)
    })
}

/// Sends it, says that there is no more, and reads all answers.
fn send(door: &Door, bytes: &[u8], piece: usize) -> Vec<u8> {
    let mut stream = TcpStream::connect(door.address).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream.set_nodelay(true).unwrap();
    let sent = bytes.chunks(piece).all(|piece| stream.write_all(piece).is_ok());
    let _said = sent && stream.shutdown(Shutdown::Write).is_ok();
    let mut answers = Vec::new();
    // A reset is an end, too.
    let _ended = stream.read_to_end(&mut answers).is_ok();
    answers
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_comes_no_request_becomes_two_events_and_the_next_is_served() {
    let door = open(plain(), None).await;
    let mut runner = TestRunner::new(Config { cases: 400, failure_persistence: None, ..Config::default() });
    let result = runner.run(&requests(), |(bytes, piece)| {
        let before = door.events().len();
        let answers = send(&door, &bytes, piece);
        let told = statuses(&answers);
        let known = [100, 200, 202, 400, 404, 405, 408, 413, 414, 431];
        prop_assert!(told.iter().all(|status| known.contains(status)), "{told:?}");
        let made = door.events().len() - before;
        let asked = bytes.windows(9).filter(|window| *window == b"/in/plain").count();
        let acknowledged = told.iter().filter(|status| **status == 202).count();
        prop_assert!(acknowledged <= made && made <= asked, "{acknowledged} told, {made} made, {asked} asked");
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
    door.is_well();
}
