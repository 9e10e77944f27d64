//! The endpoints: `/good` takes everything, `/bad` fails often; both count what they took.

use std::collections::HashMap;
use std::io::{self, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};

use sha2::{Digest as _, Sha256};

use crate::http::Message;
use crate::load::Hash;

/// A server of both endpoints on a thread per connection; it ends with the process.
#[derive(Clone)]
pub(crate) struct Sink {
    pub(crate) addr: SocketAddr,
    taken: Arc<Mutex<Taken>>,
    gate: Arc<(Mutex<bool>, Condvar)>,
}

/// What was answered with 200, by endpoint and event.
#[derive(Default)]
struct Taken {
    good: HashMap<String, (Hash, u32)>,
    bad: HashMap<String, (Hash, u32)>,
}

/// What an endpoint took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) events: u64,
    /// Taken again, beyond the first time.
    pub(crate) duplicates: u64,
}

impl Sink {
    pub(crate) fn start(seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let gate = Arc::new((Mutex::new(true), Condvar::new()));
        let sink = Self { addr: listener.local_addr().unwrap(), taken: Arc::default(), gate };
        let server = sink.clone();
        std::thread::spawn(move || {
            for (connection, number) in listener.incoming().zip(seed..) {
                let server = server.clone();
                // A connection that breaks is a gateway that was killed.
                std::thread::spawn(move || server.serve(connection?, fastrand::Rng::with_seed(number)));
            }
        });
        sink
    }

    /// Holds every answer back until the gate is opened.
    pub(crate) fn set_open(&self, open: bool) {
        *self.gate.0.lock().unwrap() = open;
        self.gate.1.notify_all();
    }

    fn serve(&self, mut connection: TcpStream, mut rng: fastrand::Rng) -> io::Result<()> {
        connection.set_nodelay(true)?;
        let mut requests = BufReader::new(connection.try_clone()?);
        while let Some(request) = Message::read(&mut requests)? {
            drop(self.gate.1.wait_while(self.gate.0.lock().unwrap(), |open| !*open).unwrap());
            let is_good = request.first_line.starts_with("POST /good ");
            let status = match rng.u8(..100) {
                0..50 if !is_good => "500 Internal Server Error",
                50..53 if !is_good => "422 Unprocessable Content",
                _ => "200 OK",
            };
            if status == "200 OK" {
                self.take(is_good, &request);
            }
            connection.write_all(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").as_bytes())?;
        }
        Ok(())
    }

    fn take(&self, is_good: bool, request: &Message) {
        let id = request.header("webhook-id").unwrap().to_owned();
        let hash: Hash = Sha256::digest(&request.body).into();
        let mut taken = self.taken.lock().unwrap();
        let endpoint = if is_good { &mut taken.good } else { &mut taken.bad };
        let (first, times) = endpoint.entry(id).or_insert((hash, 0));
        assert_eq!(*first, hash, "an id stands for one body");
        *times += 1;
    }

    pub(crate) fn good(&self) -> Seen {
        seen(&self.taken.lock().unwrap().good)
    }

    pub(crate) fn bad(&self) -> Seen {
        seen(&self.taken.lock().unwrap().bad)
    }

    /// Whether `/good` took the event, byte for byte.
    pub(crate) fn has(&self, id: &str, hash: &Hash) -> bool {
        self.taken.lock().unwrap().good.get(id).is_some_and(|(taken, _)| taken == hash)
    }
}

fn seen(taken: &HashMap<String, (Hash, u32)>) -> Seen {
    let times: u64 = taken.values().map(|(_, times)| u64::from(*times)).sum();
    let events = taken.len() as u64;
    Seen { events, duplicates: times - events }
}
