//! The embedded journal against the model: the same random batches into both, and nobody can tell them apart.
//!
//! Between batches the embedded journal is indexed, closed, dropped as a killed process leaves it, and
//! robbed of its index, all at random from a seed; a failure prints the seed.

#![cfg(feature = "server")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/journal.rs"]
mod support;

use std::path::Path;

use backstop::core::delivery::{Delivery, Reason, Status, Step};
use backstop::core::event::{Event, KEY_LEN_MAX, TYPE_LEN_MAX};
use backstop::core::failure::FailureGroup;
use backstop::core::filter::{Filter, Pick};
use backstop::core::id::{DeliveryId, EventId, ReplayId};
use backstop::core::name::Name;
use backstop::core::replay::{Hold, Replay, Skipped, Turn};
use backstop::core::retention::Keep;
use backstop::core::scheduler::Active;
use backstop::core::timestamp::Timestamp;
use backstop::journal::embedded::EmbeddedJournal;
use backstop::journal::memory::MemoryJournal;
use backstop::journal::retention::Sweep;
use backstop::journal::{Advance, Change, Journal, Redelivery};
use support::{Maker, accept, all_deliveries, all_events, assert_same, at, dedup, name};

const ENDPOINTS: [&str; 4] = ["a", "b", "c", "d"];

/// The model, and what drives both journals.
struct World {
    model: MemoryJournal,
    maker: Maker,
    now_ms: u64,
    events: Vec<EventId>,
    replays: Vec<ReplayId>,
    /// How far the mark of the first endpoint has come.
    mark: EventId,
    /// What sweeps gave back.
    freed_bytes: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let (events, replays) = (Vec::new(), Vec::new());
        Self {
            model: MemoryJournal::default(),
            maker: Maker::new(seed),
            now_ms: 0,
            events,
            replays,
            mark: EventId::MIN,
            freed_bytes: 0,
        }
    }

    fn below(&mut self, high: u64) -> u64 {
        self.maker.rng.u64(..high)
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// A clock that mostly runs, and sometimes steps back.
    fn now(&mut self) -> Timestamp {
        let back = if self.one_in(20) { self.below(2000) } else { 0 };
        self.now_ms += self.below(400);
        at(5000 + self.now_ms.saturating_sub(back))
    }

    fn endpoint(&mut self) -> Name {
        name(ENDPOINTS[self.maker.rng.usize(..ENDPOINTS.len())])
    }

    fn event(&mut self) -> Event {
        let now = self.now();
        let wanted = self.below(16);
        let endpoints: Vec<&str> =
            ENDPOINTS.into_iter().enumerate().filter(|(bit, _)| wanted >> bit & 1 == 1).map(|(_, name)| name).collect();
        let mut event = self.maker.event(now, &endpoints);
        let many = (0..self.below(100)).map(|n| name(&format!("e{n}")));
        let draft = &mut event.draft;
        if self.maker.rng.u8(..) < 20 {
            draft.endpoints.extend(many);
        }
        draft.source = name(["flyflow", "other"][self.maker.rng.usize(..2)]);
        draft.event_type = match self.maker.rng.u8(..4) {
            0 => "x".repeat(TYPE_LEN_MAX),
            1 => "tool_call".to_owned(),
            _ => "call_ended".to_owned(),
        };
        draft.key = match self.maker.rng.u8(..5) {
            0 => None,
            1 => Some("k".repeat(KEY_LEN_MAX)),
            n => Some(format!("call-{n}")),
        };
        draft.occurred_at = self.maker.rng.bool().then_some(now);
        if self.maker.rng.bool() {
            draft.dedup = dedup(self.maker.rng.u8(..4), 3000);
        }
        let body_len = if self.maker.rng.u8(..40) == 0 { 40_000 } else { self.maker.rng.usize(..3000) };
        draft.body = std::iter::repeat_with(|| self.maker.rng.u8(..)).take(body_len).collect();
        event
    }

    /// A delivery there is, or nearly so.
    fn delivery(&mut self) -> (DeliveryId, u32) {
        let event = self.some_event();
        let view = self.model.entry(event).unwrap();
        let deliveries: Vec<Delivery> = view.map(|view| view.deliveries).unwrap_or_default();
        match self.maker.rng.choice(&deliveries) {
            Some(delivery) if !self.one_in(30) => (delivery.id, delivery.attempts),
            _ => (event.delivery(u16::try_from(deliveries.len()).unwrap()), 0),
        }
    }

    /// An event there is, mostly a late one; rarely one that is not there.
    fn some_event(&mut self) -> EventId {
        if self.events.is_empty() || self.one_in(40) {
            return EventId::from_u128(u128::from(self.below(9)));
        }
        let late = self.events.len().saturating_sub(if self.one_in(4) { usize::MAX } else { 12 });
        self.events[self.maker.rng.usize(late..self.events.len())]
    }

    /// This event, or an earlier one before which nothing to `a` is untried: what a mark may be.
    fn tried_to(&self, id: EventId) -> EventId {
        let fresh = self.model.fresh(&name("a"), EventId::MIN, 1).unwrap();
        let before = |first: &Active| EventId::from_u128(first.id.event.as_u128() - 1);
        fresh.deliveries.first().map_or(id, |first| id.min(before(first)))
    }

    fn change(&mut self) -> Change {
        match self.below(20) {
            0..6 => {
                let event = self.event();
                self.events.push(event.id);
                accept(&event)
            }
            6..13 => {
                let ((id, attempts), now) = (self.delivery(), self.now());
                let due = at(5000 + self.now_ms + self.below(9000));
                if self.one_in(4) {
                    return Change::Settle(support::probe_failed(id, attempts + 1, due, now));
                }
                let step = match self.below(5) {
                    0 | 1 => Step::Succeed,
                    2 | 3 => Step::Retry { due },
                    _ => Step::GiveUp,
                };
                let number = if self.one_in(12) { attempts } else { attempts + 1 };
                let mut settlement = support::settlement(id, number, step, now);
                settlement.attempt.probe = self.one_in(6);
                settlement.attempt.out_of_order = self.one_in(6);
                Change::Settle(settlement)
            }
            13 => Change::Stand { endpoint: self.endpoint(), standing: support::standing(&mut self.maker.rng) },
            14 => Change::Cancel { id: self.delivery().0, at: self.now() },
            15 | 16 => {
                let (event, endpoint, at) = (self.some_event(), self.endpoint(), self.now());
                Change::Redeliver(Redelivery { event, endpoint, at, force: self.maker.rng.bool() })
            }
            _ => self.replay_change(),
        }
    }

    fn replay_change(&mut self) -> Change {
        let now = self.now();
        let known = self.maker.rng.choice(&self.replays).copied();
        let id = match known {
            Some(id) if !self.one_in(4) => id,
            _ => {
                let replay = self.replay(now);
                self.replays.push(replay.id);
                return Change::OpenReplay(Box::new(replay));
            }
        };
        match self.below(8) {
            0 => Change::CancelReplay { id, at: now },
            2 => Change::TurnReplay { id, turn: self.turn(), at: now },
            // As a replayer that has lost its place: at random.
            1 => self.advance(id, now, None),
            _ => {
                let replays = self.model.replays().unwrap();
                let cursor = replays.iter().find(|replay| replay.id == id).and_then(|replay| replay.cursor);
                self.advance(id, now, cursor)
            }
        }
    }

    fn replay(&mut self, now: Timestamp) -> Replay {
        let (id, to) = (self.maker.replay_id(now), self.maker.rng.bool().then(|| name("c")));
        let filter =
            Filter { until: Some(now), keys: to.iter().map(|_| "call-2".to_owned()).collect(), ..Filter::failed() };
        support::replay(id, now, filter, to)
    }

    fn turn(&mut self) -> Turn {
        match self.below(4) {
            0 => Turn::Pause(Hold::Failures),
            1 => Turn::PassCanary,
            _ => Turn::Resume { forgiven: self.below(9) },
        }
    }

    /// Some that there are, in order, each once.
    fn picks(&mut self) -> Vec<Pick> {
        let mut ids: Vec<DeliveryId> = (0..self.below(5)).map(|_| self.delivery().0).collect();
        ids.sort_unstable();
        ids.dedup_by_key(|id| id.event);
        ids.into_iter()
            .map(|id| if self.maker.rng.bool() { Pick::Event(id.event) } else { Pick::Delivery(id) })
            .collect()
    }

    fn advance(&mut self, id: ReplayId, now: Timestamp, behind: Option<DeliveryId>) -> Change {
        let mut query = support::query(Filter { superseded: true, ..Filter::default() }, false, 4);
        query.after = behind;
        let page = self.model.deliveries(&query).unwrap();
        let items = page.items.iter().map(|(head, delivery)| (head.id, delivery.endpoint.clone())).collect();
        let cursor = page.next.or(page.items.last().map(|(_, delivery)| delivery.id)).or(behind);
        let skipped = Skipped { too_old: self.below(3), ..Skipped::default() };
        Change::AdvanceReplay(Advance { id, cursor, items, skipped, at: now, finished: page.next.is_none() })
    }

    fn filter(&mut self) -> Filter {
        let chance = |world: &mut Self| world.one_in(3);
        Filter {
            endpoint: chance(self).then(|| self.endpoint()),
            source: chance(self).then(|| name("other")),
            types: if chance(self) { vec!["call*".to_owned()] } else { Vec::new() },
            keys: if chance(self) { vec!["call-3".to_owned(), "call-2".to_owned()] } else { Vec::new() },
            picks: if self.one_in(9) { self.picks() } else { Vec::new() },
            occurred_since: self.one_in(9).then(|| at(self.below(20_000))),
            occurred_until: self.one_in(9).then(|| at(self.below(40_000))),
            replay: if self.one_in(9) { self.model.replays().unwrap().first().map(|replay| replay.id) } else { None },
            statuses: Status::ALL.into_iter().filter(|_| self.maker.rng.u8(..6) == 0).collect(),
            reason: if self.one_in(6) { Some(Reason::Backoff) } else { None },
            group: if self.one_in(6) { Some(self.group()) } else { None },
            since: chance(self).then(|| at(self.below(20_000))),
            until: chance(self).then(|| at(self.below(40_000))),
            superseded: chance(self),
            unrouted: self.one_in(9),
        }
    }
}

impl World {
    /// The group of some delivery that failed.
    fn group(&mut self) -> FailureGroup {
        let query = support::query(Filter { superseded: true, ..Filter::default() }, false, 50);
        let page = self.model.deliveries(&query).unwrap();
        let groups: Vec<FailureGroup> = page.items.iter().filter_map(|(_, delivery)| delivery.group).collect();
        self.maker.rng.choice(groups).unwrap_or(FailureGroup::from_u64(7))
    }
}

fn check_lists(world: &mut World, journal: &dyn Journal) {
    for _ in 0..6 {
        let filter = world.filter();
        let (newest_first, limit) = (world.maker.rng.bool(), world.maker.rng.usize(1..9));
        let model = all_events(&world.model, &filter, newest_first, 1000);
        assert_eq!(all_events(journal, &filter, newest_first, limit), model, "{filter:?}");
        let model = all_deliveries(&world.model, &filter, newest_first, 1000);
        assert_eq!(all_deliveries(journal, &filter, newest_first, limit), model, "{filter:?}");
    }
}

/// Ends the journal in one of the ways there are, and opens it again.
fn reopen(world: &mut World, journal: EmbeddedJournal, dir: &Path) -> EmbeddedJournal {
    let closes = world.maker.rng.bool();
    if closes {
        journal.close().unwrap();
    }
    drop(journal);
    let robbed = world.below(5);
    match robbed {
        0 => std::fs::remove_dir_all(dir.join("index")).unwrap(),
        1 => std::fs::remove_file(dir.join("index.state")).unwrap(),
        2 => std::fs::write(dir.join("index.state"), b"\xff\xff").unwrap(),
        _ => {}
    }
    let journal = support::open(dir);
    assert_eq!(journal.report().rebuilt.is_some(), robbed < 3, "{:?}", journal.report());
    assert_eq!(journal.report().findings.damaged, []);
    assert_eq!(journal.report().findings.torn, []);
    let mark = journal.mark(&name("a"));
    assert!(mark <= world.mark, "a mark may lag, not run ahead");
    assert!(mark == world.mark || !closes || robbed < 3);
    world.mark = mark;
    journal
}

/// A few steps of a sweep: what the embedded journal proposes is done in both.
fn sweep(world: &mut World, journal: &EmbeddedJournal) {
    let mut retention = support::retention(2000, 6000, &ENDPOINTS[..3]);
    let small = Keep { bytes_max: Some(30_000), ..retention.default };
    retention.sources.insert(name("other"), small);
    let now = at(5000 + world.now_ms);
    for _ in 0..world.below(80) {
        match journal.sweep(&retention, now).unwrap() {
            Sweep::Idle => return,
            Sweep::Looked => {}
            Sweep::Damaged(stretches) => panic!("nothing is damaged: {stretches:?}"),
            Sweep::Freed(bytes) => world.freed_bytes += bytes,
            Sweep::Change(change) => {
                // What happens meanwhile to the events that are about to go must not be lost.
                let changes: Vec<Change> = (0..world.below(3)).map(|_| world.change()).chain([change]).collect();
                let expected = world.model.commit(&changes).unwrap();
                assert_eq!(journal.commit(&changes).unwrap(), expected, "{changes:#?}");
            }
        }
    }
}

/// The walk of `seed`; the bytes of the log that sweeps gave back, and the events they let go of.
fn run(seed: u64) -> (u64, u64) {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::new(seed);
    let mut journal = support::open(dir.path());
    let endpoints: Vec<Name> = ENDPOINTS.into_iter().map(name).collect();
    for step in 0..60 {
        let changes: Vec<Change> = (0..world.below(8)).map(|_| world.change()).collect();
        let expected = world.model.commit(&changes).unwrap();
        let receipts = journal.commit(&changes).unwrap();
        assert_eq!(receipts, expected, "step {step}: {changes:#?}");
        match world.below(12) {
            0..3 => journal.settle_index().unwrap(),
            3 | 4 => journal = reopen(&mut world, journal, dir.path()),
            5 => {
                let some = world.some_event();
                world.mark = world.mark.max(world.tried_to(some));
                journal.set_mark(&endpoints[0], world.mark);
            }
            6..9 => sweep(&mut world, &journal),
            _ => {}
        }
        check_lists(&mut world, &journal);
        if step % 10 == 9 {
            assert_same(&world.model, &journal, &endpoints);
        }
    }
    let views = all_events(&world.model, &Filter::default(), false, 1000);
    let deliveries = || views.iter().flat_map(|view| &view.deliveries);
    assert!(deliveries().any(|delivery| delivery.probes > 0) && deliveries().any(|delivery| delivery.out_of_order));
    assert!(world.model.standings().len() > 1);
    assert!(world.events.len() > 20 && !world.replays.is_empty(), "the walk goes somewhere");
    let blobs = std::fs::read_dir(dir.path().join("index/blobs")).map_or(0, Iterator::count);
    assert_eq!(blobs, 0, "no index value is so large that sled spills it");
    (world.freed_bytes, world.model.counters().dropped)
}

/// Runs `seeds`, naming the one that fails.
fn run_all(seeds: std::ops::Range<u64>) {
    let (mut freed_bytes, mut dropped) = (0, 0);
    for seed in seeds {
        let Ok(swept) = std::panic::catch_unwind(|| run(seed)) else { panic!("seed {seed} fails") };
        freed_bytes += swept.0;
        dropped += swept.1;
    }
    assert!(freed_bytes > 500_000 && dropped > 20, "sweeps do something: {freed_bytes} bytes, {dropped} events");
}

#[test]
fn random_walks_end_where_the_model_does() {
    run_all(0..12);
}

#[test]
fn more_random_walks_end_where_the_model_does() {
    run_all(12..24);
}

#[test]
fn random_walks_of_a_sealed_journal_that_changes_keys_end_where_the_model_does() {
    support::sealed(|| run_all(24..36));
}
