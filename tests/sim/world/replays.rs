//! Replays in this world: operators begin them and change their minds, a replayer works them off.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use backstop::core::delivery::Status;
use backstop::core::endpoint::Order;
use backstop::core::filter::Filter;
use backstop::core::id::IdSource;
use backstop::core::replay::{Hold, Next, OPEN_MAX, Replay, Terms, Turn};
use backstop::core::route::RouteTable;
use backstop::engine::dispatcher::Command;
use backstop::engine::walk::{Map, fared};
use backstop::journal::{Change, Journal as _, JournalError, Receipt};

use super::{Duration, Happening, MINUTE, SECOND, World};

/// The longest slice.
const SLICE_MAX: u64 = 7;
/// Replays begun in one run at most.
const REPLAYS_MAX: usize = 6;

impl World {
    /// An operator begins a replay, or does something to one.
    pub(super) fn request_replay(&mut self) {
        let replays = self.journal.replays().unwrap();
        let (at, may_begin) = (self.wall(), self.replays_begun < REPLAYS_MAX);
        let known = self.rng.choice(replays).map(|replay| replay.id);
        let change = match (self.rng.u32(0..6), known) {
            (0, Some(id)) => Change::CancelReplay { id, at },
            (1, Some(id)) => Change::TurnReplay { id, turn: Turn::Pause(Hold::Operator), at },
            (2, Some(id)) => Change::TurnReplay { id, turn: Turn::Resume { forgiven: 1_000_000 }, at },
            _ if may_begin => {
                self.replays_begun += 1;
                Change::OpenReplay(Box::new(self.some_replay()))
            }
            _ => return,
        };
        self.process().commit(change, |_| None);
        self.schedule_replays(true);
    }

    fn some_replay(&mut self) -> Replay {
        let far = &self.far[self.rng.usize(0..self.far.len())].endpoint;
        let statuses = match self.rng.u32(0..3) {
            0 => vec![Status::Delivered],
            1 => vec![Status::Dead, Status::Cancelled],
            _ => Status::ALL.to_vec(),
        };
        let (endpoint, superseded) = (Some(far.name.clone()), self.rng.bool());
        let now = self.wall();
        let terms = Terms {
            rate: None,
            newest_first: far.order == Order::None && self.rng.bool(),
            max_ages: if self.rng.bool() { vec![("*".to_owned(), Duration::from_millis(60 * MINUTE))] } else { vec![] },
            skip_if_delivered_later: self.rng.bool(),
            stop_after_failures: self.rng.bool().then(|| self.rng.u64(1..9)),
            canary: self.rng.bool().then(|| self.rng.u64(1..5)),
        };
        let id = IdSource::after(self.journal.last_id()).replay(now, &mut self.rng);
        let filter = Filter { endpoint, statuses, superseded, ..Filter::default() };
        Replay { terms, ..Replay::new(id, now, filter) }
    }

    /// The replayer looks again: soon, if there was something to do.
    pub(super) fn schedule_replays(&mut self, soon: bool) {
        let after = self.rng.u64(if soon { SECOND / 10..2 * SECOND } else { MINUTE..10 * MINUTE });
        let (of, at) = (self.incarnation, self.now + after);
        if self.process.as_mut().is_some_and(|process| process.next_replay.is_none_or(|next| at < next)) {
            self.process().next_replay = Some(at);
            self.after(after, Happening::Replay(of));
        }
    }

    /// As the replayer does: what each that runs has to do next.
    pub(super) fn work_replays(&mut self) {
        let now = self.now;
        if self.process().next_replay.take_if(|at| *at <= now).is_none() {
            return; // one that was meant for later, and came sooner
        }
        let mut is_busy = false;
        let is_writing = Arc::clone(&self.process().is_replaying);
        let replays = self.journal.replays().unwrap();
        let is_over = replays.iter().all(|replay| replay.state.has_ended());
        let tallies = if is_over { BTreeMap::new() } else { self.journal.counters().replays };
        let endpoints = self.far.iter().map(|far| far.endpoint.name.clone()).collect();
        let map = Map { endpoints, routes: RouteTable::default() };
        for replay in replays {
            // One commit at a time, and the next one when it is known what came of it.
            if is_writing.load(Ordering::SeqCst) {
                is_busy = true;
                break;
            }
            let fared = tallies.get(&replay.id).map(fared).unwrap_or_default();
            let change = match replay.next(fared, self.wall(), None, OPEN_MAX) {
                Next::Make(most) => {
                    let limit = usize::try_from(most.min(SLICE_MAX)).unwrap();
                    let advance = map.advance(&*self.journal, &replay, self.wall(), limit).unwrap();
                    advance.items.iter().for_each(|(event, _)| self.truth.touch(*event));
                    Change::AdvanceReplay(advance)
                }
                Next::Turn(turn) => Change::TurnReplay { id: replay.id, turn, at: self.wall() },
                _ => continue,
            };
            let done = Arc::clone(&is_writing);
            done.store(true, Ordering::SeqCst);
            is_busy = true;
            self.process().commit(change, move |result: Result<Receipt, JournalError>| {
                done.store(false, Ordering::SeqCst);
                match result {
                    Ok(Receipt::Made(made)) => Some(Command::Made(made)),
                    _ => None,
                }
            });
        }
        if is_busy || !self.are_replayed() {
            self.schedule_replays(is_busy);
        }
    }

    /// In calm every replay that was paused goes on.
    pub(super) fn resume_replays(&mut self) {
        let at = self.wall();
        for replay in self.journal.replays().unwrap() {
            let turn = Turn::Resume { forgiven: 1_000_000 };
            self.process().commit(Change::TurnReplay { id: replay.id, turn, at }, |_| None);
        }
        self.schedule_replays(true);
    }

    /// Whether every replay is over, or waits for an operator for whom there is none any more.
    pub(super) fn are_replayed(&self) -> bool {
        let replays = self.journal.replays().unwrap();
        replays.iter().all(|replay| replay.state.has_ended() || (self.is_calm && replay.hold.is_some()))
    }

    /// After every commit: what a replay has made is of older events, each once, and no more than its canary at first.
    pub(super) fn check_replays(&mut self) {
        let before = std::mem::take(&mut self.seen_replays);
        self.seen_replays = self.journal.replays().unwrap();
        for replay in self.seen_replays.iter().filter(|replay| !before.contains(replay)) {
            let nothing = BTreeSet::new();
            let made = self.truth.made.get(&replay.id).unwrap_or(&nothing);
            let canary = replay.terms.canary.filter(|_| !replay.canary_passed).unwrap_or(u64::MAX);
            let events: BTreeSet<u128> = made.iter().map(|id| id.event.as_u128()).collect();
            let is_frozen = events.last().is_none_or(|event| *event < replay.id.as_u128());
            let is_once = events.len() == made.len();
            let counted =
                (replay.queued, replay.selected) == (made.len() as u64, replay.queued + replay.skipped.total());
            let is_right = is_frozen && is_once && counted && replay.queued <= canary;
            self.checks.that(is_right, || format!("{is_frozen} {is_once} {counted}: {made:?} by {replay:?}"));
        }
    }
}
