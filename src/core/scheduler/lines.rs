//! Lines: which deliveries of one endpoint wait for each other.
//!
//! With `order = "key"` the deliveries of one key stand in a line, with `order = "endpoint"` all of them
//! do: the one of the earliest event goes first, the next when it has ended. A line that is stuck holds
//! only itself, and not for ever: a delivery that has been failing for longer than the endpoint allows is
//! passed by those behind it, and each that passes is marked.
//!
//! A line knows every delivery of its key that is on its way, waits for a due time, or was set aside here
//! because it is not its turn. First-time deliveries that nobody has looked at yet are all later, so they
//! need not be known; where too many would have to be set aside they are left to the journal, and the line
//! remembers from which on. Time spent while the endpoint could take nothing holds nobody up.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use super::away::Away;
use super::hash::OwnMap;
use super::{Active, Fresh};
use crate::core::endpoint::Order;
use crate::core::event::KeyTag;
use crate::core::id::{DeliveryId, EventId};
use crate::core::timestamp::Timestamp;

/// Deliveries of one key that were left to the journal are asked for by so many in one go,
const LINE_REFILL_MAX: usize = 64;
/// and by so few where as many as there may be are set aside already.
const LINE_REFILL_MIN: usize = 4;

/// All lines of one endpoint.
#[derive(Debug)]
pub(super) struct Lines {
    order: Order,
    hold_max: Duration,
    lines: HashMap<KeyTag, Line>,
    /// What was set aside, over all lines; whether for the first time.
    aside: OwnMap<DeliveryId, (Active, bool)>,
    /// Waiting ones that are known and stand in the journal only.
    waiting_left: OwnMap<DeliveryId, KeyTag>,
    /// When to look whether a failing delivery has held its line for too long.
    holds: BTreeSet<(Timestamp, KeyTag, DeliveryId)>,
    /// How many of those set aside are first-time ones.
    untried: usize,
    untried_max: usize,
    /// Lines that may want what they left to the journal.
    hungry: BTreeSet<KeyTag>,
    /// How many lines the journal is being asked for, and what was cancelled since the first of them was.
    asking: usize,
    gone: BTreeSet<DeliveryId>,
}

#[derive(Debug, Default)]
struct Line {
    /// All that is known of the line: on its way, waiting, set aside.
    known: BTreeSet<DeliveryId>,
    /// Known, tried at least once and to be tried again: since when they fail.
    failing: BTreeMap<DeliveryId, Failing>,
    /// Held the line for too long: nobody waits for these.
    passed: BTreeSet<DeliveryId>,
    flight: Option<DeliveryId>,
    left: Option<Left>,
    /// When somebody last ceased to be waited for.
    turned_at: Timestamp,
}

/// A delivery that fails and holds its line. Kept while it is on its way again.
#[derive(Debug, Clone, Copy)]
struct Failing {
    /// Since when, or since its endpoint last came back before this process knew it.
    since: Timestamp,
    /// How long the endpoint had been away until then.
    away: Duration,
    /// When to look whether that is too long.
    look_at: Timestamp,
}

impl Failing {
    /// Until when it holds its line, if the endpoint stays.
    fn until(&self, now: Timestamp, away: &Away, hold_max: Duration) -> Timestamp {
        self.since.after(hold_max).after(away.until(now).saturating_sub(self.away))
    }
}

/// First-time deliveries that the queue has given out and that stand in the journal only.
#[derive(Debug)]
struct Left {
    /// All of them are later than this,
    after: EventId,
    /// and this is the latest. What the journal has beyond it is still to come out of the queue.
    newest: EventId,
    /// Whether the journal is being asked for them.
    is_asked: bool,
}

/// Where a delivery goes that was set aside and is first in its line now.
#[derive(Debug, Clone, Copy)]
pub(super) struct Freed {
    pub(super) active: Active,
    pub(super) first_time: bool,
}

impl Lines {
    pub(super) fn new(order: Order, hold_max: Duration, untried_max: usize) -> Self {
        Self {
            order,
            hold_max,
            lines: HashMap::new(),
            aside: OwnMap::default(),
            waiting_left: OwnMap::default(),
            holds: BTreeSet::new(),
            untried: 0,
            untried_max,
            hungry: BTreeSet::new(),
            asking: 0,
            gone: BTreeSet::new(),
        }
    }

    /// By which rules they are kept.
    pub(super) const fn rules(&self) -> (Order, Duration) {
        (self.order, self.hold_max)
    }

    /// Whether these are the lines of an endpoint with this order.
    pub(super) fn are_of(&self, order: Order, hold_max: Duration) -> bool {
        self.order == order && (self.hold_max == hold_max || order == Order::None)
    }

    /// Whether the journal is being asked for any.
    pub(super) const fn is_asking(&self) -> bool {
        self.asking > 0
    }

    /// Whether anything ever waits in a line here.
    pub(super) fn are_kept(&self) -> bool {
        self.order != Order::None
    }

    /// Which line it stands in, if any.
    pub(super) fn tag(&self, active: &Active) -> Option<KeyTag> {
        match self.order {
            Order::None => None,
            Order::Key => active.key,
            Order::Endpoint => Some(KeyTag(0)),
        }
    }

    /// Whether first-time deliveries behind a stuck one are set aside, or block the endpoint as a whole.
    pub(super) fn are_by_key(&self) -> bool {
        self.order == Order::Key
    }

    /// A waiting delivery is held in memory from now on: those behind it wait.
    pub(super) fn note_waiting(&mut self, active: &Active, away: &Away) {
        let Some(tag) = self.tag(active) else { return };
        self.waiting_left.remove(&active.id);
        let line = self.lines.entry(tag).or_default();
        line.known.insert(active.id);
        if let Some(tried_at) = active.tried_at {
            let since = tried_at.max(away.back_at());
            let first = Failing { since, away: away.until(since), look_at: since.after(self.hold_max) };
            let failing = line.failing.entry(active.id).or_insert(first);
            self.holds.insert((failing.look_at, tag, active.id));
        }
    }

    /// Whether it is first in its line.
    pub(super) fn is_first(&self, tag: KeyTag, id: DeliveryId) -> bool {
        self.lines.get(&tag).is_none_or(|line| {
            let is_free = line.flight.is_none() && !line.is_behind_left(id);
            is_free && line.first().is_none_or(|first| id <= first)
        })
    }

    /// Whether it passes one that is before it; only a first one may be asked about.
    pub(super) fn passes(&self, tag: KeyTag, id: DeliveryId) -> bool {
        self.lines.get(&tag).is_some_and(|line| line.passed.first().is_some_and(|passed| *passed < id))
    }

    /// It is on its way: nothing of its line goes until it has landed.
    pub(super) fn depart(&mut self, tag: KeyTag, id: DeliveryId) {
        let line = self.lines.entry(tag).or_default();
        assert!(line.flight.is_none(), "one of a line is on its way at a time");
        line.known.insert(id);
        line.flight = Some(id);
        if let Some(failing) = line.failing.get(&id) {
            self.holds.remove(&(failing.look_at, tag, id));
        }
    }

    /// It has landed; `ended` unless it is to be tried again. Those set aside who may go now.
    pub(super) fn land(&mut self, now: Timestamp, tag: KeyTag, id: DeliveryId, ended: bool) -> Vec<Freed> {
        let Some(line) = self.lines.get_mut(&tag) else { return Vec::new() };
        if line.flight == Some(id) {
            line.flight = None;
        }
        if ended {
            line.forget(id);
            line.turned_at = now;
        }
        self.next(tag)
    }

    /// It was taken out for good. Those set aside who may go now.
    pub(super) fn forget(&mut self, now: Timestamp, tag: KeyTag, id: DeliveryId) -> Vec<Freed> {
        self.waiting_left.remove(&id);
        let Some(line) = self.lines.get_mut(&tag) else { return Vec::new() };
        line.turned_at = now;
        if let Some(failing) = line.forget(id) {
            self.holds.remove(&(failing.look_at, tag, id));
        }
        self.next(tag)
    }

    /// It was cancelled: what the journal was asked before may still name it.
    pub(super) fn note_gone(&mut self, id: DeliveryId) {
        if self.asking > 0 {
            self.gone.insert(id);
        }
    }

    /// A waiting delivery is left to the journal. It keeps its place: those behind it wait.
    pub(super) fn note_left(&mut self, active: &Active) {
        if let Some(tag) = self.tag(active) {
            self.waiting_left.insert(active.id, tag);
        }
    }

    /// The line of a waiting delivery that was left to the journal.
    pub(super) fn tag_of_left(&self, id: DeliveryId) -> Option<KeyTag> {
        self.waiting_left.get(&id).copied()
    }

    /// It is set aside until it is first. Left to the journal if too many first-time ones are.
    pub(super) fn set_aside(&mut self, tag: KeyTag, active: Active, first_time: bool) {
        let line = self.lines.entry(tag).or_default();
        if first_time && !line.known.contains(&active.id) {
            let event = active.id.event;
            if let Some(left) = &mut line.left {
                left.newest = left.newest.max(event);
                return;
            }
            if self.untried >= self.untried_max {
                let after = EventId::from_u128(event.as_u128().saturating_sub(1));
                line.left = Some(Left { after, newest: event, is_asked: false });
                self.note_hungry(tag);
                return;
            }
        }
        self.untried += usize::from(first_time);
        line.known.insert(active.id);
        self.aside.insert(active.id, (active, first_time));
    }

    /// Takes a delivery that is set aside out again, to be cancelled. It keeps its place until that is on disk.
    pub(super) fn take_aside(&mut self, id: DeliveryId) -> Option<Active> {
        let (active, first_time) = self.aside.remove(&id)?;
        self.untried -= usize::from(first_time);
        Some(active)
    }

    /// Lets those pass who have been held for too long by a failing delivery, not counting the time in which the
    /// endpoint could take nothing.
    pub(super) fn expire(&mut self, now: Timestamp, away: &Away) -> Vec<Freed> {
        let mut freed = Vec::new();
        if !self.are_kept() {
            return freed;
        }
        while let Some(hold) = self.holds.first().copied().filter(|(at, _, _)| *at <= now) {
            self.holds.remove(&hold);
            let (_, tag, id) = hold;
            let Some(line) = self.lines.get_mut(&tag) else { continue };
            let Some(failing) = line.failing.get_mut(&id) else { continue };
            let until = failing.until(now, away, self.hold_max);
            if until > now {
                failing.look_at = until;
                self.holds.insert((until, tag, id));
            } else if line.passed.insert(id) {
                line.turned_at = now;
                freed.extend(self.next(tag));
            }
        }
        freed
    }

    /// Whether those who wait for `id` may pass, though the endpoint is not there: it has been failing for too long.
    pub(super) fn may_pass(&self, tag: KeyTag, id: DeliveryId, now: Timestamp) -> bool {
        let failing = self.lines.get(&tag).and_then(|line| line.failing.get(&id));
        failing.is_some_and(|failing| failing.since.after(self.hold_max) <= now)
    }

    /// Lets those pass who wait for `id`.
    pub(super) fn pass(&mut self, now: Timestamp, tag: KeyTag, id: DeliveryId) -> Vec<Freed> {
        if let Some(line) = self.lines.get_mut(&tag) {
            line.passed.insert(id);
            line.turned_at = now;
        }
        self.next(tag)
    }

    /// Nobody was there to pass `id`: it holds its line as before.
    pub(super) fn hold_again(&mut self, tag: KeyTag, id: DeliveryId) {
        if let Some(line) = self.lines.get_mut(&tag) {
            line.passed.remove(&id);
        }
    }

    /// When [`Lines::expire`] may let somebody pass.
    pub(super) fn next_expiry(&self) -> Option<Timestamp> {
        let first = if self.are_kept() { self.holds.first() } else { None };
        first.map(|(at, _, _)| *at)
    }

    /// The next line that wants what it left to the journal, and behind which event.
    pub(super) fn next_refill(&mut self) -> Option<(KeyTag, EventId, usize)> {
        while let Some(tag) = self.hungry.pop_first() {
            let Some(left) =
                self.lines.get_mut(&tag).filter(|line| line.is_hungry()).and_then(|line| line.left.as_mut())
            else {
                continue;
            };
            left.is_asked = true;
            self.asking += 1;
            let room = self.untried_max.saturating_sub(self.untried);
            return Some((tag, left.after, room.clamp(LINE_REFILL_MIN, LINE_REFILL_MAX)));
        }
        None
    }

    pub(super) fn is_hungry(&self) -> bool {
        self.are_kept() && !self.hungry.is_empty()
    }

    /// The journal's answer to what [`Lines::next_refill`] asked. `is_gone`: being cancelled.
    pub(super) fn refill(&mut self, tag: KeyTag, fresh: Fresh, is_gone: impl Fn(DeliveryId) -> bool) -> Vec<Freed> {
        self.asking = self.asking.saturating_sub(1);
        let gone = if self.asking == 0 { std::mem::take(&mut self.gone) } else { self.gone.clone() };
        let Some(line) = self.lines.get_mut(&tag) else { return Vec::new() };
        let Some(left) = line.left.as_mut() else { return Vec::new() };
        left.is_asked = false;
        let newest = left.newest;
        for active in fresh.deliveries.into_iter().filter(|active| active.id.event <= newest) {
            if !gone.contains(&active.id) && !is_gone(active.id) && line.known.insert(active.id) {
                self.aside.insert(active.id, (active, true));
                self.untried += 1;
            }
        }
        left.after = left.after.max(fresh.scanned_to);
        if newest <= left.after {
            line.left = None;
        }
        self.next(tag)
    }

    /// The earliest first-time delivery that is set aside or left to the journal.
    pub(super) fn oldest_untried(&self) -> Option<EventId> {
        let aside = self.aside.values().filter(|(_, first_time)| *first_time).map(|(active, _)| active.id.event);
        let left = self.lines.values().filter_map(|line| line.left.as_ref());
        aside.chain(left.map(|left| EventId::from_u128(left.after.as_u128().saturating_add(1)))).min()
    }

    /// First-time deliveries set aside.
    pub(super) const fn untried(&self) -> usize {
        self.untried
    }

    /// Waiting deliveries set aside.
    pub(super) fn waiting(&self) -> usize {
        if self.are_kept() { self.aside.len() - self.untried } else { 0 }
    }

    /// Lines in which somebody waits for somebody.
    pub(super) fn held(&self) -> usize {
        self.lines.values().filter(|line| line.known.len() > 1 || line.left.is_some()).count()
    }

    /// The one that `id` waits for, and when it passes at the latest.
    pub(super) fn before(
        &self,
        now: Timestamp,
        tag: KeyTag,
        id: DeliveryId,
        away: &Away,
    ) -> Option<(DeliveryId, Option<Timestamp>)> {
        let line = self.lines.get(&tag)?;
        let on_its_way = line.flight.filter(|flight| *flight != id);
        let behind = on_its_way.or_else(|| line.first().filter(|first| *first < id))?;
        let failing = line.failing.get(&behind);
        Some((behind, failing.map(|failing| failing.until(now, away, self.hold_max))))
    }

    /// Since when the first of a line is first.
    pub(super) fn turned_at(&self, tag: KeyTag) -> Timestamp {
        self.lines.get(&tag).map_or(Timestamp::ZERO, |line| line.turned_at)
    }

    /// A delivery that is set aside.
    pub(super) fn find_aside(&self, id: DeliveryId) -> Option<&Active> {
        self.aside.get(&id).map(|(active, _)| active)
    }

    /// The wall clock jumped.
    pub(super) fn shift(&mut self, by: i64) {
        let holds = std::mem::take(&mut self.holds);
        self.holds = holds.into_iter().map(|(at, tag, id)| (at.shifted(by), tag, id)).collect();
        for line in self.lines.values_mut() {
            line.turned_at = line.turned_at.shifted(by);
            for failing in line.failing.values_mut() {
                failing.since = failing.since.shifted(by);
                failing.look_at = failing.look_at.shifted(by);
            }
        }
        self.aside.values_mut().for_each(|(active, _)| *active = active.shifted(by));
    }

    /// Those set aside who may go now: the first of the line, and who was passed while it was set aside.
    fn next(&mut self, tag: KeyTag) -> Vec<Freed> {
        let Some(line) = self.lines.get(&tag) else { return Vec::new() };
        let mut freed = Vec::new();
        if line.flight.is_none() {
            for id in line.passed.iter().copied().chain(line.first()) {
                let Some((active, first_time)) = self.aside.remove(&id) else { continue };
                self.untried -= usize::from(first_time);
                freed.push(Freed { active, first_time });
            }
        }
        if line.known.is_empty() && line.left.is_none() {
            self.lines.remove(&tag);
        }
        self.note_hungry(tag);
        freed
    }

    fn note_hungry(&mut self, tag: KeyTag) {
        if self.lines.get(&tag).is_some_and(Line::is_hungry) {
            self.hungry.insert(tag);
        }
    }
}

impl Line {
    /// It has ended.
    fn forget(&mut self, id: DeliveryId) -> Option<Failing> {
        self.known.remove(&id);
        self.passed.remove(&id);
        self.failing.remove(&id)
    }

    /// The earliest one that is to be waited for, unless that stands in the journal only.
    fn first(&self) -> Option<DeliveryId> {
        let first = self.known.iter().find(|id| !self.passed.contains(id)).copied();
        first.filter(|first| !self.is_behind_left(*first))
    }

    /// Whether an earlier one may stand in the journal only.
    fn is_behind_left(&self, id: DeliveryId) -> bool {
        self.left.as_ref().is_some_and(|left| id.event > left.after)
    }

    /// Whether the next to go is to be had from the journal.
    fn is_hungry(&self) -> bool {
        let nobody_first = self.flight.is_none() && self.first().is_none();
        nobody_first && self.left.as_ref().is_some_and(|left| !left.is_asked)
    }
}
