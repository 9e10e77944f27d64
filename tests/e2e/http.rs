//! One HTTP exchange, by hand: what is sent is what stands here.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;

use serde_json::Value;

use crate::place::LONG;

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

/// Sends a request on a connection of its own; `headers` is whole lines.
pub(crate) fn ask(to: &str, method: &str, path: &str, headers: &str, body: &[u8]) -> io::Result<Answer> {
    let mut stream = TcpStream::connect(to)?;
    stream.set_read_timeout(Some(LONG))?;
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: {to}\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n"
    );
    stream.write_all(&[head.as_bytes(), body].concat())?;
    let mut got = Vec::new();
    stream.read_to_end(&mut got)?;
    read(&got).ok_or_else(|| io::Error::new(io::ErrorKind::UnexpectedEof, "the answer broke off"))
}

fn read(got: &[u8]) -> Option<Answer> {
    let end = got.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&got[..end]).into_owned();
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let answer = Answer { status, head, body: got[end + 4..].to_vec() };
    let length: usize = answer.header("content-length")?.parse().ok()?;
    (answer.body.len() == length).then_some(answer)
}
