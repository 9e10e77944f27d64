//! Just enough HTTP/1.1, blocking: requests over one connection kept alive, and a server's side of it.

use std::io::{self, BufRead, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Never reached by a gateway that lives: what is waited for comes, or the connection breaks.
const TIMEOUT: Duration = Duration::from_secs(90);

/// A request or an answer, read whole.
pub(crate) struct Message {
    pub(crate) first_line: String,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Message {
    /// The next message; `None` where the other side has hung up between two.
    pub(crate) fn read(from: &mut impl BufRead) -> io::Result<Option<Self>> {
        let first_line = line(from)?;
        if first_line.is_empty() {
            return Ok(None);
        }
        let mut message = Self { first_line, headers: Vec::new(), body: Vec::new() };
        loop {
            let line = line(from)?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').ok_or(io::ErrorKind::InvalidData)?;
            message.headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let len = message.header("content-length").map_or(Ok(0), str::parse).map_err(io::Error::other)?;
        message.body.resize(len, 0);
        from.read_exact(&mut message.body)?;
        Ok(Some(message))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// An answer's status.
    pub(crate) fn status(&self) -> u16 {
        self.first_line.split(' ').nth(1).unwrap().parse().unwrap()
    }
}

fn line(from: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    from.read_line(&mut line)?;
    Ok(line.trim_end().to_owned())
}

/// A connection that is made when it is needed and made anew when it broke.
pub(crate) struct Client {
    addr: SocketAddr,
    connection: Option<BufReader<TcpStream>>,
}

impl Client {
    pub(crate) fn new(addr: SocketAddr) -> Self {
        Self { addr, connection: None }
    }

    /// `POST path` without, `GET path` with a token; an error says nothing of whether the request was done.
    pub(crate) fn ask(&mut self, path: &str, token: Option<&str>, body: &[u8]) -> io::Result<Message> {
        let asked = self.try_ask(path, token, body);
        if !asked.as_ref().is_ok_and(|answer| answer.header("connection") != Some("close")) {
            self.connection = None;
        }
        asked
    }

    fn try_ask(&mut self, path: &str, token: Option<&str>, body: &[u8]) -> io::Result<Message> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            None => {
                let stream = TcpStream::connect(self.addr)?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(TIMEOUT))?;
                stream.set_write_timeout(Some(TIMEOUT))?;
                self.connection.insert(BufReader::new(stream))
            }
        };
        let method = if token.is_some() { "GET" } else { "POST" };
        let token = token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
        let len = body.len();
        let head = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\n{token}content-length: {len}\r\n\r\n");
        connection.get_mut().write_all(&[head.as_bytes(), body].concat())?;
        Message::read(connection)?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}
