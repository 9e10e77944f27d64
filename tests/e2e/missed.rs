//! A hundred thousand missed events, replayed through a `kill -9` in the middle.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

use backstop::core::attempt::{Answer, Attempt, Outcome, Reply};
use backstop::core::delivery::{Reason, Step};
use backstop::core::event::{Draft, Event};
use backstop::core::id::{EventId, IdSource};
use backstop::core::name::Name;
use backstop::core::timestamp::Timestamp;
use backstop::engine::{Clock as _, SystemClock};
use backstop::journal::embedded::{EmbeddedJournal, Settings};
use backstop::journal::{Change, Journal as _, Settlement};
use serde_json::json;

use crate::place::{Gateway, Place};

/// Events of the type that is replayed; a fifth as many of another type failed as well.
const MISSED: usize = 100_000;
const OTHERS: usize = MISSED / 5;
const BATCH: usize = 1000;

/// An endpoint that counts what it gets, on connections that stay.
#[derive(Clone, Default)]
struct Counting(Arc<Mutex<HashMap<String, u32>>>);

impl Counting {
    fn start(&self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, counting) = (listener.local_addr().unwrap(), self.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let counting = counting.clone();
                // A gateway that was killed breaks its connections off.
                std::thread::spawn(move || while_open(stream, &counting).is_some());
            }
        });
        address
    }

    fn seen(&self) -> HashMap<String, u32> {
        self.0.lock().unwrap().clone()
    }
}

/// Exchanges on one connection until the other side goes away.
fn while_open(mut stream: TcpStream, counting: &Counting) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    loop {
        let (mut id, mut length) = (None, 0);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            match line.trim_end().split_once(": ") {
                Some(("webhook-id", value)) => id = Some(value.to_owned()),
                Some(("content-length", value)) => length = value.parse().ok()?,
                None if line == "\r\n" => break,
                _ => {}
            }
        }
        reader.read_exact(&mut vec![0; length]).ok()?;
        *counting.0.lock().unwrap().entry(id?).or_default() += 1;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").ok()?;
    }
}

/// A journal in which everything was given up after one attempt; the ids of the events of each type.
fn fill(dir: &Path) -> (Vec<EventId>, Vec<EventId>) {
    let now = SystemClock.now();
    let settings = Settings {
        dir: dir.to_owned(),
        segment_bytes: 4 << 20,
        ballast_bytes: 1 << 20,
        disk_free_min_bytes: 1 << 20,
        index_cache_bytes: 16 << 20,
        keys: Vec::new(),
        now,
    };
    let journal = EmbeddedJournal::open(&settings, &|_| ()).unwrap();
    let (mut ids, mut rng) = (IdSource::default(), fastrand::Rng::with_seed(1));
    let (mut missed, mut others) = (Vec::new(), Vec::new());
    for first in (0..MISSED + OTHERS).step_by(BATCH) {
        let mut events = Vec::new();
        for number in first..first + BATCH {
            let is_other = number % 6 == 5;
            let id = ids.event(now, &mut rng);
            if is_other {
                others.push(id)
            } else {
                missed.push(id)
            }
            events.push(event(id, now, if is_other { "call_started" } else { "call_ended" }, number));
        }
        let accepted: Vec<Change> = events.iter().map(|event| Change::Accept(Arc::clone(event))).collect();
        journal.commit(&accepted).unwrap();
        let given_up: Vec<Change> = events.iter().map(|event| give_up(event.id, now)).collect();
        journal.commit(&given_up).unwrap();
    }
    journal.close().unwrap();
    (missed, others)
}

fn event(id: EventId, received_at: Timestamp, event_type: &str, number: usize) -> Arc<Event> {
    let draft = Draft {
        source: Name::new("flyflow").unwrap(),
        event_type: event_type.to_owned(),
        key: Some(format!("call-{}", number / 3)),
        occurred_at: None,
        headers: vec![],
        body: format!(r#"{{"event_type":"{event_type}","n":{number}}}"#).into(),
        dedup: None,
        endpoints: vec![Name::new("crm").unwrap()],
    };
    Arc::new(Event { id, received_at, draft })
}

fn give_up(id: EventId, now: Timestamp) -> Change {
    let answer = Answer { status: 500, headers: vec![], body: "".into(), body_cut: false, retry_after: None };
    let attempt = Attempt {
        number: 1,
        started_at: now,
        took_ms: 1,
        reply: Reply::Answer(answer),
        outcome: Outcome::Retryable,
        probe: false,
        out_of_order: false,
    };
    let (step, reason) = (Step::GiveUp, Reason::AttemptsExhausted);
    Change::Settle(Settlement { id: id.delivery(0), attempt, step, reason })
}

/// Waits in strides, each of which comes within what is waited for at most.
fn until_delivered(gateway: &Gateway, path: &str, from: usize, to: usize) {
    for count in (from..=to).step_by(10_000) {
        gateway.until(path, |replay| replay["delivered"].as_u64().unwrap() >= count as u64);
    }
}

#[test]
fn a_hundred_thousand_missed_events_get_there_as_selected_through_a_kill() {
    let counting = Counting::default();
    let address = counting.start();
    let place = Place::new(&format!(
        "[sources.flyflow]\npreset = \"flyflow\"\n\
         [endpoints.crm]\nurl = \"http://{address}/\"\nconcurrency = 64\n[[routes]]\nendpoints = [\"crm\"]\n"
    ));
    let (missed, others) = fill(&place.path("backstop-data"));
    assert_eq!((missed.len(), others.len()), (MISSED, OTHERS));
    let gateway = place.serve();
    let asked = json!({ "filter": { "endpoint": "crm", "type": ["call_ended"] } });
    let dry = json!({ "filter": asked["filter"], "dry_run": true });
    let plan = gateway.ask("POST", "replays", &dry.to_string()).json();
    assert_eq!((&plan["selected"], &plan["by_type"]), (&json!(MISSED), &json!({ "call_ended": MISSED })));
    let begun = gateway.ask("POST", "replays", &asked.to_string());
    assert_eq!(begun.status, 202, "{begun:?}");
    let path = format!("replays/{}", begun.json()["id"].as_str().unwrap());
    until_delivered(&gateway, &path, 0, 30_000);
    gateway.kill();
    let before = counting.seen().len();
    assert!((30_000..MISSED).contains(&before), "{before} had arrived when it was killed");

    let gateway = place.serve();
    until_delivered(&gateway, &path, 30_000, MISSED);
    let done = gateway.until(&path, |replay| replay["open"] == 0);
    let counts = ["selected", "queued", "delivered", "skipped", "dead"].map(|name| done[name].as_u64().unwrap());
    assert_eq!((&done["state"], counts), (&json!("completed"), [MISSED as u64, MISSED as u64, MISSED as u64, 0, 0]));
    let seen = counting.seen();
    let wanted: HashMap<String, ()> = missed.iter().map(|id| (id.to_string(), ())).collect();
    assert_eq!(seen.len(), MISSED);
    assert!(seen.keys().all(|id| wanted.contains_key(id)), "only what was selected came");
    // Twice came at most what was on its way when the process was killed.
    let twice = seen.values().filter(|count| **count > 1).count();
    assert!(twice <= 64 && seen.values().all(|count| *count <= 2), "{twice} came more than once");
    let counters = gateway.get("counters");
    let crm = &counters["endpoints"]["crm"];
    assert_eq!((&crm["replayed"], &crm["failed"]), (&json!(MISSED), &json!(OTHERS)));
    gateway.verb(["audit"]).ok();
}
