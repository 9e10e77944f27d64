//! What the benches over HTTP share: the real binary, and a connection that posts events.
#![allow(dead_code, reason = "each bench uses a part")]

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A sender's connection.
pub(crate) struct Sender {
    stream: TcpStream,
    answer: Vec<u8>,
}

impl Sender {
    pub(crate) async fn connect(addr: SocketAddr) -> Self {
        Self::over(TcpStream::connect(addr).await.expect("connected"))
    }

    /// One that uses a connection that stands.
    pub(crate) fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("a socket");
        Self { stream, answer: vec![0; 512] }
    }

    /// Posts an event and waits until it is acknowledged.
    pub(crate) async fn post(&mut self, body: &[u8]) {
        let head = format!(
            "POST /in/flyflow HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let mut request = head.into_bytes();
        request.extend_from_slice(body);
        self.stream.write_all(&request).await.expect("sent");
        let mut read = 0;
        // Answers here are short: header and body come together or nearly so.
        while !is_whole(&self.answer[..read]) {
            let more = self.stream.read(&mut self.answer[read..]).await.expect("answered");
            assert!(more > 0, "the connection was closed");
            read += more;
        }
        let answer = &self.answer[..read];
        assert!(answer.starts_with(b"HTTP/1.1 202"), "{}", String::from_utf8_lossy(answer));
    }
}

fn is_whole(answer: &[u8]) -> bool {
    let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
    let len =
        head.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next()?.trim().parse::<usize>().ok());
    answer.len() >= end + 4 + len.unwrap_or(0)
}

/// The real binary on a directory of its own; ended when dropped.
pub(crate) struct Gateway {
    child: Child,
    pub(crate) addr: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Gateway {
    /// Starts it in `folder`; `flow` is the part of its config that says which endpoints and routes there are.
    pub(crate) fn start(flow: &str, folder: tempfile::TempDir) -> Self {
        Self::start_with("", flow, folder)
    }

    /// The same; `server` is what its config says of `[server]` besides.
    pub(crate) fn start_with(server: &str, flow: &str, folder: tempfile::TempDir) -> Self {
        let config = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\n{server}[admin]\nlisten = \"127.0.0.1:0\"\n\
             [journal]\ndir = \"journal\"\n[sources.flyflow]\npreset = \"flyflow\"\n{flow}"
        );
        let path = folder.path().join("gateway.toml");
        std::fs::write(&path, config).expect("written");
        let mut child = Command::new(env!("CARGO_BIN_EXE_backstop"))
            .args(["--config".as_ref(), path.as_os_str(), "serve".as_ref()])
            .stderr(Stdio::piped())
            .spawn()
            .expect("started");
        let mut lines = BufReader::new(child.stderr.take().expect("stderr")).lines();
        let addr = loop {
            let line = lines.next().expect("a line").expect("text");
            let value: serde_json::Value = serde_json::from_str(&line).expect("JSON");
            if let Some(addr) = value.get("ingest").and_then(|addr| addr.as_str()) {
                break addr.parse().expect("an address");
            }
        };
        // Logs are read and dropped, as a log collector would.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, addr, _folder: folder }
    }

    /// CPU time it has used so far.
    pub(crate) fn cpu(&self) -> Duration {
        super::cpu_of(&self.child.id().to_string())
    }

    /// Its resident memory, in MiB.
    pub(crate) fn rss_mib(&self) -> u64 {
        super::rss_mib_of(&self.child.id().to_string())
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _killed = self.child.kill().is_ok();
        let _ended = self.child.wait().is_ok();
    }
}
