//! An entry: what the index knows of one event and its deliveries.
//!
//! Entries change only by [`Entry::settle`], [`Entry::cancel`], [`Entry::expire`] and [`Entry::deliver_again`];
//! each checks the move against the core's drawing and does nothing if it is not legal.

use std::sync::Arc;

use super::log::Position;
use super::{Counters, EventView, Held, Settlement, Tally};
use crate::core::attempt::FailureClass;
use crate::core::delivery::{Delivery, Reason, State, Status, Step};
use crate::core::event::{Event, EventHead, Fingerprint, KeyTag, tag};
use crate::core::failure::FailureGroup;
use crate::core::id::ReplayId;
use crate::core::name::Name;
use crate::core::scheduler::Active;
use crate::core::timestamp::Timestamp;

/// One event, where its record is, and its deliveries by slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) head: Arc<EventHead>,
    pub(crate) place: Position,
    /// By which its fingerprint is found, if it has one.
    pub(crate) print_tag: Option<u64>,
    /// Whether headers, body and attempts are still kept.
    pub(crate) has_payload: bool,
    pub(crate) slots: Vec<Slot>,
}

/// One delivery of the event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) endpoint: Name,
    pub(crate) state: State,
    pub(crate) reason: Reason,
    pub(crate) changed_at: Timestamp,
    pub(crate) born_at: Timestamp,
    pub(crate) attempts: u32,
    /// Of the attempts, probes that failed.
    pub(crate) probes: u32,
    /// When it was first tried, once it was.
    pub(crate) tried_at: Option<Timestamp>,
    /// Whether it was sent past an earlier delivery of its key.
    pub(crate) out_of_order: bool,
    pub(crate) last_status: Option<u16>,
    pub(crate) last_failure: Option<FailureClass>,
    /// Computed once, when the attempt is applied: lists only compare it.
    pub(crate) group: Option<FailureGroup>,
    pub(crate) replay: Option<ReplayId>,
    /// The record that an operator or a replay made it by; [`Position::NONE`] for one that routing made.
    pub(crate) made_by: Position,
    /// The record that ended it without an attempt; [`Position::NONE`] if none did.
    pub(crate) ended_by: Position,
    /// The record of its last attempt; [`Position::NONE`] if there was none.
    pub(crate) last_place: Position,
}

impl Slot {
    /// Whether an operator or a replay made it.
    pub(crate) fn is_again(&self) -> bool {
        self.made_by != Position::NONE
    }

    /// Whether it is an original that was never tried: found by its event, needs no index record of its own.
    pub(crate) fn is_fresh(&self) -> bool {
        self.state.due().is_some() && self.attempts == 0 && !self.is_again()
    }

    /// Whether it is scheduled otherwise: a retry or a replay, found by its due time.
    pub(crate) fn is_waiting(&self) -> bool {
        self.state.due().is_some() && !self.is_fresh()
    }

    /// Whether it is neither a first wait nor a success: what searches for trouble look through.
    pub(crate) fn is_exception(&self) -> bool {
        self.state != State::Delivered && !self.is_fresh()
    }
}

impl Entry {
    /// A new event: every delivery scheduled, due at once.
    pub(crate) fn accepted(event: &Event, place: Position) -> Self {
        let slot = |endpoint: &Name| Slot {
            endpoint: endpoint.clone(),
            state: State::Scheduled { due: event.received_at },
            reason: Reason::Received,
            changed_at: event.received_at,
            born_at: event.received_at,
            attempts: 0,
            probes: 0,
            tried_at: None,
            out_of_order: false,
            last_status: None,
            last_failure: None,
            group: None,
            replay: None,
            made_by: Position::NONE,
            ended_by: Position::NONE,
            last_place: Position::NONE,
        };
        let draft = &event.draft;
        let print_tag = draft.dedup.map(|dedup| print_tag(&draft.source, dedup.fingerprint));
        let slots = draft.endpoints.iter().map(slot).collect();
        Self { head: Arc::new(event.head()), place, print_tag, has_payload: true, slots }
    }

    /// What stands for the event's key, if it has one.
    pub(crate) fn key(&self) -> Option<KeyTag> {
        self.head.key.as_deref().map(KeyTag::of)
    }

    /// The tags by which the event is found: its key's and its fingerprint's.
    pub(crate) fn tags(&self) -> impl Iterator<Item = u64> {
        self.key().map(|key| key.0).into_iter().chain(self.print_tag)
    }

    pub(crate) fn slot(&self, slot: u16) -> Option<&Slot> {
        self.slots.get(usize::from(slot))
    }

    /// Whether an attempt with this step may settle the delivery now.
    pub(crate) fn admits(&self, slot: u16, attempt: u32, step: Step) -> bool {
        self.slot(slot).is_some_and(|slot| {
            let dispatched = slot.state.apply(Step::Dispatch { attempt });
            slot.attempts + 1 == attempt && dispatched.and_then(|state| state.apply(step)).is_ok()
        })
    }

    /// Applies an attempt whose record is at `place`. Applying it twice is the same as once.
    pub(crate) fn settle(&mut self, settlement: &Settlement, place: Position) {
        let Some(slot) = self.slots.get_mut(usize::from(settlement.id.slot)) else { return };
        let attempt = &settlement.attempt;
        let dispatched = slot.state.apply(Step::Dispatch { attempt: attempt.number });
        let Ok(state) = dispatched.and_then(|state| state.apply(settlement.step)) else { return };
        if place <= slot.last_place {
            return;
        }
        slot.state = state;
        slot.reason = settlement.reason;
        slot.changed_at = attempt.ended_at();
        slot.attempts = attempt.number;
        slot.probes += u32::from(settlement.reason == Reason::ProbeFailed);
        slot.tried_at = slot.tried_at.or(Some(attempt.started_at));
        slot.out_of_order |= attempt.out_of_order;
        slot.last_status = attempt.status();
        slot.last_failure = attempt.failure();
        slot.group = FailureGroup::of(&slot.endpoint, attempt);
        slot.last_place = place;
    }

    /// Takes a scheduled delivery back, by the record at `place`.
    pub(crate) fn cancel(&mut self, slot: u16, at: Timestamp, place: Position) {
        let Some(slot) = self.slots.get_mut(usize::from(slot)) else { return };
        if let Ok(state) = slot.state.apply(Step::Cancel) {
            slot.state = state;
            slot.reason = Reason::Operator;
            slot.changed_at = at;
            slot.ended_by = place;
        }
    }

    /// Ends a delivery that has waited for longer than is kept.
    pub(crate) fn expire(&mut self, slot: u16, at: Timestamp, place: Position) {
        let Some(slot) = self.slots.get_mut(usize::from(slot)) else { return };
        if let Ok(state) = slot.state.apply(Step::Expire) {
            slot.state = state;
            slot.reason = Reason::Retention;
            slot.changed_at = at;
            slot.ended_by = place;
        }
    }

    /// Whether a delivery to `endpoint` is still scheduled.
    pub(crate) fn has_scheduled(&self, endpoint: &Name) -> bool {
        self.slots.iter().any(|slot| slot.endpoint == *endpoint && !slot.state.is_terminal())
    }

    /// Makes the delivery in `slot` by the record at `place`, unless it is there already.
    pub(crate) fn deliver_again(
        &mut self,
        slot: u16,
        endpoint: &Name,
        at: Timestamp,
        replay: Option<ReplayId>,
        place: Position,
    ) {
        if usize::from(slot) != self.slots.len() {
            return;
        }
        self.slots.push(Slot {
            endpoint: endpoint.clone(),
            state: State::Scheduled { due: at },
            reason: Reason::Replayed,
            changed_at: at,
            born_at: at,
            attempts: 0,
            probes: 0,
            tried_at: None,
            out_of_order: false,
            last_status: None,
            last_failure: None,
            group: None,
            replay,
            made_by: place,
            ended_by: Position::NONE,
            last_place: Position::NONE,
        });
    }

    /// Whether nothing more will happen by itself.
    pub(crate) fn is_settled(&self) -> bool {
        self.slots.iter().all(|slot| slot.state.is_terminal())
    }

    /// The delivery in slot `index`, as others see it.
    pub(crate) fn delivery(&self, index: usize) -> Option<Delivery> {
        let slot = self.slots.get(index)?;
        Some(Delivery {
            id: self.head.id.delivery(u16::try_from(index).ok()?),
            endpoint: slot.endpoint.clone(),
            state: slot.state,
            reason: slot.reason,
            changed_at: slot.changed_at,
            born_at: slot.born_at,
            attempts: slot.attempts,
            probes: slot.probes,
            out_of_order: slot.out_of_order,
            last_status: slot.last_status,
            last_failure: slot.last_failure,
            group: slot.group,
            replay: slot.replay,
            superseded: self.is_superseded(index, slot),
            has_payload: self.has_payload,
        })
    }

    /// Whether a later delivery went to the same endpoint.
    fn is_superseded(&self, index: usize, slot: &Slot) -> bool {
        self.slots.iter().skip(index + 1).any(|later| later.endpoint == slot.endpoint)
    }

    pub(crate) fn deliveries(&self) -> impl DoubleEndedIterator<Item = Delivery> {
        (0..self.slots.len()).filter_map(|index| self.delivery(index))
    }

    pub(crate) fn view(&self) -> EventView {
        let (head, deliveries) = ((*self.head).clone(), self.deliveries().collect());
        EventView { head, deliveries, has_payload: self.has_payload }
    }

    /// The deliveries to `endpoint` that fit, as the scheduler takes them.
    pub(crate) fn actives(&self, endpoint: &Name, fits: impl Fn(&Slot) -> bool) -> impl Iterator<Item = Active> {
        self.slots.iter().enumerate().filter(move |(_, slot)| slot.endpoint == *endpoint && fits(slot)).filter_map(
            |(index, slot)| {
                let id = self.head.id.delivery(u16::try_from(index).ok()?);
                Some(Active {
                    due: slot.state.due()?,
                    id,
                    since: slot.changed_at,
                    attempts: slot.attempts,
                    probes: slot.probes,
                    born_at: slot.born_at,
                    tried_at: slot.tried_at,
                    key: self.key(),
                    yields: slot.replay.is_some() && slot.attempts == 0,
                })
            },
        )
    }

    /// Adds this entry's deliveries to the tallies that `tally` finds (or, with `sign` -1, takes them out).
    pub(crate) fn count(&self, sign: Sign, mut tally: impl FnMut(&Slot, &mut dyn FnMut(&mut Tally))) {
        for (index, slot) in self.slots.iter().enumerate() {
            tally(slot, &mut |tally| {
                sign.add(if slot.is_again() { &mut tally.replayed } else { &mut tally.routed }, 1);
                sign.add(&mut tally.attempts, u64::from(slot.attempts));
                sign.add(tally.of_mut(Status::of(slot.state, slot.attempts)), 1);
                if slot.state == State::Dead && !self.is_superseded(index, slot) {
                    sign.add(&mut tally.failed, 1);
                }
            });
        }
    }
}

impl Counters {
    /// Adds an entry to every count, or takes it out of them.
    pub(crate) fn add(&mut self, entry: &Entry, sign: Sign) {
        self.add_history(entry, sign);
        let source = &entry.head.source;
        let held = match self.sources.get_mut(source) {
            Some(held) => held,
            None => self.sources.entry(source.clone()).or_default(),
        };
        let bytes = if entry.has_payload { u64::from(entry.head.body_bytes) } else { 0 };
        sign.add(&mut held.events, 1);
        sign.add(&mut held.bytes, bytes);
        sign.add(&mut held.live_bytes, if entry.is_settled() { 0 } else { bytes });
        if *held == Held::default() {
            self.sources.remove(source);
        }
    }

    /// The same, without what is held now.
    fn add_history(&mut self, entry: &Entry, sign: Sign) {
        sign.add(&mut self.accepted, 1);
        if !entry.slots.iter().any(|slot| !slot.is_again()) {
            sign.add(&mut self.unrouted, 1);
        }
        entry.count(sign, |slot, count| {
            match self.endpoints.get_mut(&slot.endpoint) {
                Some(tally) => count(tally),
                None => count(self.endpoints.entry(slot.endpoint.clone()).or_default()),
            }
            if let Some(replay) = slot.replay {
                let tally = self.replays.entry(replay).or_default();
                count(tally);
                if *tally == Tally::default() {
                    self.replays.remove(&replay);
                }
            }
        });
    }

    /// Adds an entry that is being let go of.
    pub(crate) fn add_dropped(&mut self, entry: &Entry) {
        self.add_history(entry, Sign::Plus);
        self.dropped += 1;
    }

    /// These counts and those together.
    pub(crate) fn plus(mut self, other: &Self) -> Self {
        self.merge(other, |one, other| one + other);
        self
    }

    /// Takes over what is greater in counts that only ever grow: doing it twice is the same as once.
    pub(crate) fn raise(&mut self, other: &Self) {
        self.merge(other, u64::max);
    }

    fn merge(&mut self, other: &Self, of: impl Fn(u64, u64) -> u64) {
        self.accepted = of(self.accepted, other.accepted);
        self.unrouted = of(self.unrouted, other.unrouted);
        self.dropped = of(self.dropped, other.dropped);
        self.damaged = of(self.damaged, other.damaged);
        self.damaged_bytes = of(self.damaged_bytes, other.damaged_bytes);
        let merged = |mine: Tally, other: &Tally| {
            let (fields, others) = (mine.fields(), other.fields());
            Tally::of_fields(std::array::from_fn(|at| {
                let field = |fields: [u64; Tally::FIELDS]| fields.get(at).copied().unwrap_or_default();
                of(field(fields), field(others))
            }))
        };
        for (endpoint, tally) in &other.endpoints {
            let mine = self.endpoints.entry(endpoint.clone()).or_default();
            *mine = merged(*mine, tally);
        }
        for (replay, tally) in &other.replays {
            let mine = self.replays.entry(*replay).or_default();
            *mine = merged(*mine, tally);
        }
    }
}

impl Tally {
    /// How many counts there are.
    pub(crate) const FIELDS: usize = 10;

    /// All counts, in an order that is on disk: it never changes.
    pub(crate) const fn fields(&self) -> [u64; Self::FIELDS] {
        let Self { routed, replayed, attempts, scheduled, retrying, delivered, dead, failed, cancelled, expired } =
            *self;
        [routed, replayed, attempts, scheduled, retrying, delivered, dead, failed, cancelled, expired]
    }

    pub(crate) const fn of_fields(fields: [u64; Self::FIELDS]) -> Self {
        let [routed, replayed, attempts, scheduled, retrying, delivered, dead, failed, cancelled, expired] = fields;
        Self { routed, replayed, attempts, scheduled, retrying, delivered, dead, failed, cancelled, expired }
    }
}

/// By which events of `source` with this fingerprint are found.
pub(crate) fn print_tag(source: &Name, print: Fingerprint) -> u64 {
    tag(&[b"print", source.as_str().as_bytes(), &print.0])
}

/// Whether a count goes in or comes out.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Sign {
    Plus,
    Minus,
}

impl Sign {
    pub(crate) const fn add(self, total: &mut u64, by: u64) {
        *total = match self {
            Self::Plus => *total + by,
            Self::Minus => *total - by,
        };
    }
}
