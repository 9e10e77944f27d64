//! Which delivery of a lane goes next.
//!
//! First-time and due ones alternate, none before an earlier one of its line; what replays made goes when there is
//! neither. Where an order is kept nothing yields: it may be what others wait for.

use super::Lane;
use crate::core::mutant::{self, Mutant};
use crate::core::scheduler::Active;
use crate::core::scheduler::lines::Freed;
use crate::core::timestamp::Timestamp;

impl Lane {
    pub(super) fn choose_freely(&mut self, now: Timestamp) -> Option<(Active, bool)> {
        let freed = self.lines.expire(now, &self.away);
        self.take_back(freed);
        self.choose(now)
    }

    /// Time during which the endpoint is not there holds nobody up, so nobody passes meanwhile. But if nothing
    /// else could be sent than the probe that failed before, it may be that one's fault: then those behind it
    /// go to see.
    pub(super) fn choose_probe(&mut self, now: Timestamp) -> Option<(Active, bool)> {
        let (active, first_time) = self.choose(now)?;
        let may_be_its_fault = self.probed == Some(active.id) && self.breaker.may_blame_delivery();
        let tag = self.lines.tag(&active).filter(|_| may_be_its_fault && !first_time);
        let Some(tag) = tag.filter(|tag| self.lines.may_pass(*tag, active.id, now)) else {
            return Some((active, first_time));
        };
        let freed = self.lines.pass(now, tag, active.id);
        self.take_back(freed);
        self.hold_waiting(active);
        let chosen = self.choose(now);
        if chosen.is_some_and(|(other, _)| other.id == active.id) {
            self.lines.hold_again(tag, active.id);
        }
        chosen
    }

    /// The delivery that goes next, taken out of the queue. Those who are not first in their line are set aside.
    fn choose(&mut self, now: Timestamp) -> Option<(Active, bool)> {
        self.admit_early();
        let is_known = self.queue.knows_all_waiting() || !self.queue.has_room_beside(self.aside());
        let is_known = is_known || mutant::is(Mutant::LineSkippedAfterRestart);
        let mut fresh_is_blocked = self.lines.are_kept() && !is_known;
        loop {
            if let Some(yielding) = self.yielding(now) {
                return Some((yielding, false));
            }
            let is_due = self.queue.first_waiting().is_some_and(|first| first.due <= now);
            let has_fresh = !fresh_is_blocked && self.queue.first_fresh().is_some();
            let first_time = has_fresh && !(is_due && self.waiting_goes_next);
            let next =
                if first_time { self.queue.first_fresh() } else { self.queue.first_waiting().filter(|_| is_due) };
            let active = *next?;
            let tag = self.lines.tag(&active);
            let is_first = tag.is_none_or(|tag| self.lines.is_first(tag, active.id));
            if first_time && !is_first && !self.lines.are_by_key() {
                // All stand in one line: setting aside would only move the queue.
                fresh_is_blocked = true;
                continue;
            }
            if first_time {
                self.queue.pop_fresh()
            } else {
                self.queue.pop_waiting()
            };
            match tag {
                Some(_) if !first_time && active.id.event > self.queue.looked_at() => {
                    self.early.insert(active.id, active);
                }
                Some(tag) if !is_first => self.lines.set_aside(tag, active, first_time),
                _ => return Some((active, first_time)),
            }
            if first_time {
                self.admit_early();
            }
        }
    }

    /// One that yields, if nothing else is to go.
    fn yielding(&mut self, now: Timestamp) -> Option<Active> {
        let is_due = |first: Option<&Active>| first.is_some_and(|first| first.due <= now);
        let is_alone = self.queue.first_fresh().is_none() && !is_due(self.queue.first_waiting());
        if is_alone && is_due(self.queue.first_yielding()) { self.queue.pop_yielding() } else { None }
    }

    /// Lets those go on whom nothing can come before any more.
    fn admit_early(&mut self) {
        while let Some((id, _)) = self.early.first_key_value()
            && id.event <= self.queue.looked_at()
            && let Some((_, active)) = self.early.pop_first()
        {
            self.hold_waiting(active);
        }
    }

    pub(super) fn take_back(&mut self, freed: Vec<Freed>) {
        for Freed { active, first_time } in freed {
            if first_time { self.queue.push_ready(active) } else { self.hold_waiting(active) }
        }
    }
}
