//! The front door under abuse: malformed and smuggled requests by raw sockets, and random bytes. The listener, the
//! door and the engine are the real ones, over the journal's model.
//!
//! What is looked for: nobody panics, no request becomes two events, every event was acknowledged or at least asked
//! for, and whatever came before, an honest request is served at once.
#![cfg(feature = "server")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking, its helpers too")]

mod corpus;
mod random;
mod rate;

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use backstop::core::attempt::Reply;
use backstop::core::filter::Filter;
use backstop::core::name::Name;
use backstop::core::rate::Rate;
use backstop::core::route::RouteTable;
use backstop::core::scheduler::Limits;
use backstop::core::source::{Ack, DedupRule, Source};
use backstop::core::verify::Verification;
use backstop::engine::{Engine, Parts, Sending, SystemClock, Transport};
use backstop::ingest;
use backstop::journal::memory::MemoryJournal;
use backstop::journal::refused::{self, Refusals};
use backstop::journal::{Journal as _, Query};
use backstop::listener::{self, Listener};
use backstop::telemetry::Intake;
use hyper_util::service::TowerToHyperService;
use tokio::sync::watch;

/// Never reached: a test that hangs fails by it.
const LONG: Duration = Duration::from_secs(60);

struct NoTransport;

impl Transport for NoTransport {
    fn send(&self, _: Sending) -> Pin<Box<dyn Future<Output = Reply> + Send>> {
        Box::pin(std::future::pending())
    }
}

/// A door that stands open until it is dropped, with one source, `plain`, where every post is an event.
struct Door {
    address: SocketAddr,
    journal: Arc<MemoryJournal>,
    intake: Arc<Intake>,
    refusals: Refusals,
    _folder: tempfile::TempDir,
    _stop: watch::Sender<bool>,
}

fn plain() -> Source {
    Source {
        name: Name::new("plain").unwrap(),
        verification: Verification::default(),
        type_at: vec![],
        key_at: vec![],
        time_at: vec![],
        strict: false,
        dedup: DedupRule::Off,
        dedup_window: LONG,
        body_max_bytes: 1000,
        body_timeout: LONG,
        rate: None,
        ack: Ack { status: 202, body: None, content_type: "application/json".to_owned() },
        lifecycle: None,
    }
}

/// A door whose headers and idle connections have little time: tests of what never ends wait for it.
async fn open(source: Source, rate: Option<Rate>) -> Door {
    let journal = Arc::new(MemoryJournal::default());
    let engine = Engine::start(Parts {
        journal: Arc::clone(&journal) as _,
        clock: Arc::new(SystemClock),
        transport: Arc::new(NoTransport),
        endpoints: vec![],
        routes: RouteTable::default(),
        lifecycles: vec![],
        retention: backstop::core::retention::Retention::default(),
        limits: Limits { active_max: 10, ordered_max: 1000, in_flight_max: 10 },
        recent_max_bytes: 1 << 20,
        accept_queue_max: 1000,
        seed: 1,
    })
    .unwrap();
    let intake = Arc::new(Intake::default());
    let folder = tempfile::tempdir().unwrap();
    let kept = refused::Limits { count_max: 100, bytes_max: 8 << 20 };
    let refusals = Refusals::open(&folder.path().join("refused"), kept, Vec::new(), 7).unwrap();
    let filter = ingest::filter(ingest::Door::new(vec![source], rate, engine, Arc::clone(&intake), refusals.clone()));
    let times = (Duration::from_millis(300), Duration::from_millis(300));
    let limits = listener::Limits { header_timeout: times.0, idle_timeout: times.1, ..listener::Limits::default() };
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), limits).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(listener.serve(TowerToHyperService::new(warp::service(filter)), stopped, LONG));
    Door { address, journal, intake, refusals, _folder: folder, _stop: stop }
}

impl Door {
    /// Everything that is answered to these bytes, which come in these pieces, until the connection ends.
    fn all(&self, pieces: &[&[u8]]) -> Vec<u8> {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream.set_nodelay(true).unwrap();
        for piece in pieces {
            // It may have been ended by what came before.
            if stream.write_all(piece).is_err() {
                break;
            }
        }
        let mut answers = Vec::new();
        if let Err(error) = stream.read_to_end(&mut answers) {
            assert!(matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{error}");
        }
        let _ended = stream.shutdown(Shutdown::Both).is_ok();
        answers
    }

    /// The bodies of all events, oldest first.
    fn events(&self) -> Vec<Vec<u8>> {
        let query = Query { filter: Filter::default(), after: None, limit: 10_000, newest_first: false };
        let events = self.journal.events(&query).unwrap().items;
        let body = |id| self.journal.event(id).unwrap().unwrap().draft.body.to_vec();
        events.iter().map(|view| body(view.head.id)).collect()
    }

    /// Asserts that an honest request is served as ever.
    fn is_well(&self) {
        let before = self.events().len();
        let request = b"POST /in/plain HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 6\r\n\r\nhonest";
        assert_eq!(statuses(&self.all(&[request])), [202]);
        let events = self.events();
        assert_eq!((events.len(), events.last().unwrap().as_slice()), (before + 1, &b"honest"[..]));
    }
}

/// The status of each answer in `bytes`. A body that begins like an answer is none of ours.
fn statuses(bytes: &[u8]) -> Vec<u16> {
    let text = String::from_utf8_lossy(bytes);
    let answers = text.split("HTTP/1.").skip(1);
    answers.map(|answer| answer.split(' ').nth(1).unwrap().parse().unwrap()).collect()
}
