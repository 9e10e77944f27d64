//! An endpoint under the test's control: it keeps what it gets and answers as it is told.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use crate::place::LONG;

/// An answer that a delivery is done with.
pub(crate) const OK: &str = "200 OK\r\n";
/// An answer that is tried again soon.
pub(crate) const BROKEN: &str = "500 Internal Server Error\r\n";
/// An answer that is tried again after the test.
pub(crate) const MUCH_LATER: &str = "503 Service Unavailable\r\nretry-after: 3600\r\n";

/// An HTTP server on a loopback port.
#[derive(Clone)]
pub(crate) struct Sink {
    address: SocketAddr,
    shared: Arc<(Mutex<State>, Condvar)>,
}

struct State {
    /// Status line and headers.
    answer: &'static str,
    /// Answers wait until this is over.
    held: bool,
    posts: Vec<Post>,
}

/// A request that came whole.
#[derive(Debug, Clone)]
pub(crate) struct Post {
    pub(crate) path: String,
    headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Post {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// Every header, in order, names in lower case.
    pub(crate) fn headers(&self) -> &[(String, String)] {
        &self.headers
    }

    /// What a receiver tells a repeat from another event by.
    pub(crate) fn id(&self) -> &str {
        self.header("webhook-id").unwrap()
    }
}

impl Sink {
    /// One that gives this answer, until told otherwise.
    pub(crate) fn answering(answer: &'static str) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").unwrap(), answer)
    }

    /// The same, on a port that the test chose.
    pub(crate) fn on(listener: TcpListener, answer: &'static str) -> Self {
        let state = State { answer, held: false, posts: Vec::new() };
        let sink =
            Self { address: listener.local_addr().unwrap(), shared: Arc::new((Mutex::new(state), Condvar::new())) };
        let serving = sink.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let sink = serving.clone();
                // A gateway that was killed breaks its connections off.
                std::thread::spawn(move || sink.serve(stream).is_some());
            }
        });
        sink
    }

    /// One that keeps requests waiting until [`Sink::release`].
    pub(crate) fn holding() -> Self {
        let sink = Self::answering(OK);
        sink.state().held = true;
        sink
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/webhook", self.address)
    }

    /// Gives this answer from now on.
    pub(crate) fn answer(&self, answer: &'static str) {
        self.state().answer = answer;
    }

    /// Answers, those who wait too.
    pub(crate) fn release(&self) {
        self.state().held = false;
        self.shared.1.notify_all();
    }

    /// The requests that have come.
    pub(crate) fn posts(&self) -> Vec<Post> {
        self.state().posts.clone()
    }

    /// The same, once there are as many as `count`, answered or not.
    pub(crate) fn wait_for(&self, count: usize) -> Vec<Post> {
        let fewer = |state: &mut State| state.posts.len() < count;
        let (state, waited) = self.shared.1.wait_timeout_while(self.state(), LONG, fewer).unwrap();
        assert!(!waited.timed_out(), "{} of {count} came", state.posts.len());
        state.posts.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.0.lock().unwrap()
    }

    /// One exchange; `None` if the other side goes away.
    fn serve(&self, mut stream: TcpStream) -> Option<()> {
        let mut reader = BufReader::new(stream.try_clone().ok()?);
        let mut lines = reader.by_ref().lines().map_while(Result::ok);
        let path = lines.next()?.split(' ').nth(1)?.to_owned();
        let header = |line: String| line.split_once(": ").map(|(name, value)| (name.to_lowercase(), value.to_owned()));
        let headers: Vec<(String, String)> = lines.map_while(header).collect();
        let length = headers.iter().find(|(name, _)| name == "content-length")?.1.parse().ok()?;
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let answer = self.take(Post { path, headers, body: String::from_utf8_lossy(&body).into_owned() });
        let answer = format!("HTTP/1.1 {answer}connection: close\r\ncontent-length: 4\r\n\r\nseen");
        stream.write_all(answer.as_bytes()).ok()
    }

    /// Keeps the request; the answer, once it may be given.
    fn take(&self, post: Post) -> &'static str {
        self.state().posts.push(post);
        self.shared.1.notify_all();
        self.shared.1.wait_while(self.state(), |state| state.held).unwrap().answer
    }
}
