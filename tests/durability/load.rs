//! The senders: they post as fast as they are answered, keep what was acknowledged, and, like any sender
//! that was not answered, send the rest again.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::http::Client;

const SENDERS: u64 = 8;
/// Never reached by a gateway that takes events.
const PATIENCE: Duration = Duration::from_secs(120);

/// Before the next try when the connection broke.
const PAUSE: Duration = Duration::from_millis(1);

pub(crate) type Hash = [u8; 32];

/// All senders, across all lives of the gateway.
pub(crate) struct Load {
    senders: Vec<Sender>,
    pub(crate) posted: Posted,
}

struct Sender {
    rng: fastrand::Rng,
    number: u64,
    /// Sent and not acknowledged: it may be there or not.
    unanswered: Vec<Vec<u8>>,
}

/// What became of the posts.
#[derive(Default)]
pub(crate) struct Posted {
    acknowledged: Mutex<Vec<(String, Hash)>>,
    /// Rung at each answer.
    answered: Condvar,
    refused: AtomicU64,
    repeated: AtomicU64,
    stopped: AtomicBool,
    /// The power is out: an answer that comes now would reach nobody.
    cut: AtomicBool,
    late: Mutex<Vec<(String, Hash)>>,
}

impl Load {
    pub(crate) fn new(seed: u64) -> Self {
        let sender = |number| {
            let rng = fastrand::Rng::with_seed(seed.wrapping_mul(SENDERS) + number);
            Sender { rng, number, unanswered: Vec::new() }
        };
        Self { senders: (0..SENDERS).map(sender).collect(), posted: Posted::default() }
    }

    /// Posts to `ingest` until `act` returns; it is told what became of the posts as they go.
    pub(crate) fn run<T>(&mut self, ingest: SocketAddr, act: impl FnOnce(&Posted) -> T) -> T {
        let posted = &self.posted;
        posted.stopped.store(false, Ordering::SeqCst);
        posted.cut.store(false, Ordering::SeqCst);
        std::thread::scope(|scope| {
            for sender in &mut self.senders {
                scope.spawn(|| sender.post(ingest, posted));
            }
            let _stop = StopAtEnd(posted);
            act(posted)
        })
    }

    /// Posts whose fate is unknown.
    pub(crate) fn unanswered(&self) -> usize {
        self.senders.iter().map(|sender| sender.unanswered.len()).sum()
    }
}

/// Ends the senders also if the test panics, which otherwise would wait for them for ever.
struct StopAtEnd<'a>(&'a Posted);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.stopped.store(true, Ordering::SeqCst);
    }
}

impl Sender {
    fn post(&mut self, ingest: SocketAddr, posted: &Posted) {
        let mut client = Client::new(ingest);
        while !posted.stopped.load(Ordering::SeqCst) {
            let body = self.unanswered.pop().unwrap_or_else(|| self.body());
            match client.ask("/in/flyflow", None, &body) {
                Ok(answer) if answer.status() == 202 => {
                    let id: Value = serde_json::from_slice(&answer.body).unwrap();
                    if !posted.acknowledge(id["id"].as_str().unwrap(), &body) {
                        self.unanswered.push(body);
                        continue;
                    }
                    let repeated = u64::from(answer.header("backstop-duplicate").is_some());
                    posted.repeated.fetch_add(repeated, Ordering::SeqCst);
                }
                Ok(answer) => {
                    assert_eq!(answer.status(), 503, "what cannot be taken now is 503, never 4xx");
                    assert!(answer.header("retry-after").is_some(), "503 says when to come again");
                    self.unanswered.push(body);
                    posted.refuse();
                }
                // The gateway has been killed; the next post finds out whether this is over.
                Err(_) => {
                    self.unanswered.push(body);
                    std::thread::sleep(PAUSE);
                }
            }
        }
    }

    /// A call's event as Flyflow sends it, mostly; some bodies are large, some are not JSON.
    fn body(&mut self) -> Vec<u8> {
        self.number += SENDERS;
        let rng = &mut self.rng;
        let len = match rng.u8(..100) {
            0..60 => rng.usize(0..2 << 10),
            60..97 => rng.usize(2 << 10..64 << 10),
            _ => 300 << 10,
        };
        let fill: String = std::iter::repeat_with(|| rng.alphanumeric()).take(len).collect();
        if rng.u8(..20) == 0 {
            return format!("not JSON {} {fill}", self.number).into_bytes();
        }
        let types = ["call_started", "transcript_updated", "tool_call", "call_ended"];
        let event = json!({
            "event_type": rng.choice(types),
            "call_id": format!("call_{}", rng.u16(..200)),
            "timestamp": "2025-01-01T12:00:00Z",
            "data": { "number": self.number, "transcript": fill },
        });
        event.to_string().into_bytes()
    }
}

impl Posted {
    /// Notes the answer, unless the power was out when it came.
    fn acknowledge(&self, id: &str, body: &[u8]) -> bool {
        let in_time = !self.cut.load(Ordering::SeqCst);
        let list = if in_time { &self.acknowledged } else { &self.late };
        list.lock().unwrap().push((id.to_owned(), Sha256::digest(body).into()));
        self.answered.notify_all();
        in_time
    }

    /// From here on the power is out. A machine without power answers nobody; one whose file system was shut
    /// down goes on, and a sync that was under way may return as if it had been done.
    pub(crate) fn set_cut(&self) {
        self.cut.store(true, Ordering::SeqCst);
    }

    /// Posts that were acknowledged when the power was out.
    pub(crate) fn late(&self) -> Vec<(String, Hash)> {
        self.late.lock().unwrap().clone()
    }

    fn refuse(&self) {
        self.refused.fetch_add(1, Ordering::SeqCst);
        // Taken, so that no one who is about to wait misses the ring.
        drop(self.acknowledged.lock().unwrap());
        self.answered.notify_all();
    }

    pub(crate) fn acknowledged(&self) -> usize {
        self.acknowledged.lock().unwrap().len()
    }

    /// Acknowledged events from the `first` one on.
    pub(crate) fn since(&self, first: usize) -> Vec<(String, Hash)> {
        self.acknowledged.lock().unwrap()[first..].to_vec()
    }

    /// Posts answered with 503.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::SeqCst)
    }

    /// Acknowledged posts whose first answer was lost.
    pub(crate) fn repeated(&self) -> u64 {
        self.repeated.load(Ordering::SeqCst)
    }

    /// Waits until `more` further posts are acknowledged.
    pub(crate) fn wait_acknowledged(&self, more: usize) {
        let target = self.acknowledged() + more;
        self.wait("acknowledged", |acknowledged| acknowledged >= target);
    }

    /// Waits until `more` further posts are refused.
    pub(crate) fn wait_refused(&self, more: u64) {
        let target = self.refused() + more;
        self.wait("refused", |_| self.refused() >= target);
    }

    fn wait(&self, what: &str, reached: impl Fn(usize) -> bool) {
        let acknowledged = self.acknowledged.lock().unwrap();
        let waited = self.answered.wait_timeout_while(acknowledged, PATIENCE, |list| !reached(list.len()));
        assert!(!waited.unwrap().1.timed_out(), "no more posts are {what}");
    }
}
