//! What the journal's tests share: things to put in, and ways to hold one journal against another.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking, its helpers too")]

use std::cell::Cell;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use backstop::core::attempt::{Answer, Attempt, Failure, FailureClass, Outcome, Reply};
use backstop::core::breaker::{Circuit, Sign, TripCause};
use backstop::core::delivery::{Delivery, Reason, Step};
use backstop::core::event::{Dedup, Draft, Event, EventHead, Fingerprint, Header, KeyTag};
use backstop::core::filter::Filter;
use backstop::core::id::{DeliveryId, EventId, IdSource, ReplayId};
use backstop::core::name::Name;
use backstop::core::replay::Replay;
use backstop::core::retention::{Keep, Retention};
use backstop::core::scheduler::{Active, Fresh};
use backstop::core::sealing::SealingKey;
use backstop::core::standing::{Pause, PauseCause, Standing};
use backstop::core::timestamp::Timestamp;
use backstop::journal::audit::Span;
use backstop::journal::embedded::{EmbeddedJournal, Settings};
use backstop::journal::retention::Sweep;
use backstop::journal::{Change, EventView, Journal, Query, Receipt, Settlement};

/// When the tests begin.
pub const START_MS: u64 = 1_790_000_000_000;

pub fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

pub fn at(millis_since_start: u64) -> Timestamp {
    Timestamp::from_millis(START_MS + millis_since_start)
}

thread_local! {
    /// How often this thread has asked for settings since it was told to seal.
    static SEALING: Cell<Option<usize>> = const { Cell::new(None) };
}

/// Runs `test` with journals that are sealed, with the other of two keys at every opening.
pub fn sealed<T>(test: impl FnOnce() -> T) -> T {
    SEALING.set(Some(0));
    let tested = test();
    SEALING.set(None);
    tested
}

fn keys() -> Vec<SealingKey> {
    let Some(times) = SEALING.get() else { return Vec::new() };
    SEALING.set(Some(times + 1));
    let mut keys = vec![key(1), key(2)];
    keys.rotate_left(times % 2);
    keys
}

/// A key that is not random at all.
pub fn key(first: u8) -> SealingKey {
    let hex: String = (0..32).map(|n| format!("{:02x}", first + n)).collect();
    SealingKey::parse(&hex).unwrap()
}

/// Small segments, no ballast, no high-water mark; sealed if [`sealed`] says so.
pub fn settings(dir: &Path) -> Settings {
    Settings {
        dir: dir.to_owned(),
        segment_bytes: 16 << 10,
        ballast_bytes: 0,
        disk_free_min_bytes: 0,
        index_cache_bytes: 8 << 20,
        keys: keys(),
        now: at(0),
    }
}

pub fn open(dir: &Path) -> EmbeddedJournal {
    EmbeddedJournal::open(&settings(dir), &|_| ()).unwrap()
}

/// A replay that begins.
pub fn replay(id: ReplayId, created_at: Timestamp, filter: Filter, to: Option<Name>) -> Replay {
    Replay { to, ..Replay::new(id, created_at, filter) }
}

/// Makes events with growing ids.
pub struct Maker {
    ids: IdSource,
    pub rng: fastrand::Rng,
}

impl Maker {
    pub fn new(seed: u64) -> Self {
        Self { ids: IdSource::default(), rng: fastrand::Rng::with_seed(seed) }
    }

    /// A plain event to `endpoints`, without duplicate test.
    pub fn event(&mut self, now: Timestamp, endpoints: &[&str]) -> Event {
        let draft = Draft {
            source: name("flyflow"),
            event_type: "call_ended".to_owned(),
            key: Some("call-1".to_owned()),
            occurred_at: Some(now),
            headers: vec![Header { name: "content-type".to_owned(), value: "application/json".into() }],
            body: format!("{{\"n\":{}}}", self.rng.u32(..)).into(),
            dedup: None,
            endpoints: endpoints.iter().map(|endpoint| name(endpoint)).collect(),
        };
        Event { id: self.ids.event(now, &mut self.rng), received_at: now, draft }
    }

    pub fn replay_id(&mut self, now: Timestamp) -> backstop::core::id::ReplayId {
        self.ids.replay(now, &mut self.rng)
    }
}

pub fn dedup(fingerprint: u8, window_ms: u64) -> Option<Dedup> {
    Some(Dedup { fingerprint: Fingerprint([fingerprint; 16]), window: Duration::from_millis(window_ms) })
}

pub fn accept(event: &Event) -> Change {
    Change::Accept(Arc::new(event.clone()))
}

/// An attempt with `number` that leads to `step`, with what goes with it.
pub fn settlement(id: DeliveryId, number: u32, step: Step, started_at: Timestamp) -> Settlement {
    let answer = |status| {
        let body = format!("answer to {number}").into();
        let headers = vec![Header { name: "x-try".to_owned(), value: number.to_string().into() }];
        Reply::Answer(Answer { status, headers, body, body_cut: false, retry_after: Some(Duration::from_secs(3)) })
    };
    let failure = Reply::Failure(Failure { class: FailureClass::TimeoutAfterSent, detail: "no answer".to_owned() });
    let (reply, outcome, reason) = match step {
        Step::Succeed => (answer(204), Outcome::Delivered, Reason::Acknowledged),
        Step::Retry { .. } if number.is_multiple_of(2) => (failure, Outcome::MaybeDelivered, Reason::Backoff),
        Step::Retry { .. } => (answer(503), Outcome::Throttled, Reason::RetryAfter),
        _ => (answer(410), Outcome::Permanent, Reason::Gone),
    };
    Settlement {
        id,
        attempt: Attempt { number, started_at, took_ms: 7, reply, outcome, probe: false, out_of_order: false },
        step,
        reason,
    }
}

pub fn settle(id: DeliveryId, number: u32, step: Step, started_at: Timestamp) -> Change {
    Change::Settle(settlement(id, number, step, started_at))
}

/// A probe that failed: it is tried again at `due`, and spent nothing.
pub fn probe_failed(id: DeliveryId, number: u32, due: Timestamp, started_at: Timestamp) -> Settlement {
    let retry = settlement(id, number, Step::Retry { due }, started_at);
    Settlement { attempt: Attempt { probe: true, ..retry.attempt }, reason: Reason::ProbeFailed, ..retry }
}

/// A standing of every shape there is.
pub fn standing(rng: &mut fastrand::Rng) -> Standing {
    let mut time = || at(rng.u64(..100_000));
    let (since, probe_at, held_until, available_since) = (time(), time(), time(), time());
    let cause = if rng.bool() { PauseCause::Operator } else { PauseCause::Gone };
    let pause = rng.bool().then(|| Pause { since, cause, note: "n".repeat(rng.usize(..600)) });
    let sign = if rng.bool() { Sign::Status(rng.u16(100..600)) } else { Sign::Failure(FailureClass::Refused) };
    let circuit = match rng.u8(..4) {
        0 => Circuit::Closed,
        1 => Circuit::HalfOpen { since, allowed: rng.u32(..) },
        2 => Circuit::Open { since, cause: TripCause::FailureRate, sign, probe_at, probes: rng.u32(..) },
        _ => Circuit::Open { since, cause: TripCause::ConsecutiveFailures, sign, probe_at, probes: 0 },
    };
    Standing { pause, circuit, held_until, available_since }
}

pub fn query<C>(filter: Filter, newest_first: bool, limit: usize) -> Query<C> {
    Query { filter, after: None, newest_first, limit }
}

/// Every page of events, put together.
pub fn all_events(journal: &dyn Journal, filter: &Filter, newest_first: bool, limit: usize) -> Vec<EventView> {
    let mut query = query(filter.clone(), newest_first, limit);
    let mut items = Vec::new();
    loop {
        let page = journal.events(&query).unwrap();
        assert!(page.items.len() <= limit);
        items.extend(page.items);
        let Some(next) = page.next else { return items };
        assert_ne!(query.after, Some(next), "a cursor moves");
        query.after = Some(next);
    }
}

/// Every page of deliveries, put together.
pub fn all_deliveries(
    journal: &dyn Journal,
    filter: &Filter,
    newest_first: bool,
    limit: usize,
) -> Vec<(EventHead, Delivery)> {
    let mut query = query(filter.clone(), newest_first, limit);
    let mut items = Vec::new();
    loop {
        let page = journal.deliveries(&query).unwrap();
        assert!(page.items.len() <= limit);
        items.extend(page.items);
        let Some(next) = page.next else { return items };
        assert_ne!(query.after, Some(next), "a cursor moves");
        query.after = Some(next);
    }
}

/// Every fresh delivery of an endpoint after `after`, taken `limit` at a time.
pub fn all_fresh(journal: &dyn Journal, endpoint: &Name, after: EventId, limit: usize) -> Vec<Active> {
    take_all(after, |after| journal.fresh(endpoint, after, limit).unwrap())
}

/// The same of events with a key.
pub fn all_fresh_of_key(journal: &dyn Journal, endpoint: &Name, key: KeyTag, limit: usize) -> Vec<Active> {
    take_all(EventId::MIN, |after| {
        let fresh = journal.fresh_of_key(endpoint, key, after, limit).unwrap();
        assert!(fresh.deliveries.len() <= limit);
        fresh
    })
}

fn take_all(mut after: EventId, ask: impl Fn(EventId) -> Fresh) -> Vec<Active> {
    let mut found = Vec::new();
    loop {
        let fresh = ask(after);
        assert!(fresh.deliveries.iter().all(|active| active.id.event > after));
        assert!(fresh.deliveries.iter().all(|active| active.id.event <= fresh.scanned_to));
        found.extend(fresh.deliveries);
        if fresh.end {
            return found;
        }
        assert!(fresh.scanned_to > after, "a scan that is not at its end has moved");
        after = fresh.scanned_to;
    }
}

/// Sweeps until there is nothing to do; how many bytes of the log were given back.
pub fn sweep(journal: &dyn Journal, retention: &Retention, now: Timestamp) -> u64 {
    let mut freed_bytes = 0;
    loop {
        match journal.sweep(retention, now).unwrap() {
            Sweep::Change(change) => assert_eq!(journal.commit(&[change]).unwrap(), [Receipt::Done]),
            Sweep::Looked | Sweep::Damaged(_) => {}
            Sweep::Freed(bytes) => freed_bytes += bytes,
            Sweep::Idle => return freed_bytes,
        }
    }
}

/// Payload and metadata kept for so many milliseconds, by every source; with these endpoints there.
pub fn retention(payload_ms: u64, metadata_ms: u64, endpoints: &[&str]) -> Retention {
    let span = |millis| Some(Duration::from_millis(millis));
    let default = Keep { payload: span(payload_ms), metadata: span(metadata_ms), bytes_max: None };
    let endpoints = endpoints.iter().map(|endpoint| name(endpoint)).collect();
    Retention { default, endpoints, ..Retention::default() }
}

/// Asserts that nobody can tell `journal` from `model`, apart from the marks.
pub fn assert_same(model: &dyn Journal, journal: &dyn Journal, endpoints: &[Name]) {
    assert_eq!(journal.counters(), model.counters());
    let audit = journal.audit(Span::default()).unwrap();
    assert_eq!((audit.counters, audit.differences), (model.counters(), vec![]));
    assert!(model.counters().endpoints.values().all(|tally| tally.reconciles()));
    assert_eq!(journal.replays().unwrap(), model.replays().unwrap());
    assert_eq!(journal.last_id(), model.last_id());
    assert_eq!(journal.standings(), model.standings());
    let views = all_events(model, &Filter::default(), false, 1000);
    assert_eq!(all_events(journal, &Filter::default(), false, 1000), views);
    for view in &views {
        let id = view.head.id;
        assert_eq!(journal.entry(id).unwrap().as_ref(), Some(view));
        assert_eq!(journal.event(id).unwrap(), model.event(id).unwrap());
        for delivery in &view.deliveries {
            let attempts = journal.attempts(delivery.id).unwrap();
            assert_eq!(attempts, model.attempts(delivery.id).unwrap());
            let kept = if view.has_payload { delivery.attempts } else { 0 };
            assert_eq!(attempts.len(), usize::try_from(kept).unwrap());
        }
    }
    let keys: BTreeSet<KeyTag> = views.iter().filter_map(|view| view.head.key.as_deref()).map(KeyTag::of).collect();
    for endpoint in endpoints {
        assert_eq!(journal.standing(endpoint), model.standing(endpoint));
        let fresh = all_fresh(model, endpoint, EventId::MIN, 1000);
        for limit in [1, 3, 1000] {
            assert_eq!(all_fresh(journal, endpoint, EventId::MIN, limit), fresh);
            assert_eq!(journal.waiting(endpoint, limit).unwrap(), model.waiting(endpoint, limit).unwrap());
            for key in &keys {
                let of_key: Vec<Active> = fresh.iter().copied().filter(|active| active.key == Some(*key)).collect();
                assert_eq!(all_fresh_of_key(journal, endpoint, *key, limit), of_key);
                assert_eq!(all_fresh_of_key(model, endpoint, *key, limit), of_key);
            }
        }
    }
}
