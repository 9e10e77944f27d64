//! What people are told of a lane.

use super::Lane;
use crate::core::breaker::Circuit;
use crate::core::id::DeliveryId;
use crate::core::scheduler::view::{LaneView, On};
use crate::core::timestamp::Timestamp;

impl Lane {
    pub(in super::super) fn view(&self, now: Timestamp) -> LaneView {
        LaneView {
            endpoint: self.name.clone(),
            in_flight: self.in_flight,
            fresh: self.queue.fresh_len() + self.lines.untried(),
            waiting: self.queue.waiting_len() + self.aside(),
            behind: self.queue.is_behind(),
            held_until: self.silence(now),
            window: self.window.limit(),
            lines: self.lines.held(),
            rate_next_at: self.bucket.as_ref().and_then(|bucket| bucket.next_at(now)),
            standing: self.standing(),
        }
    }

    /// What a delivery that is not on its way waits for, as far as the endpoint as a whole holds it back.
    pub(in super::super) fn blocked(&self, now: Timestamp) -> Option<(On, Timestamp)> {
        if let Some(pause) = &self.pause {
            return Some((On::Pause { cause: pause.cause }, pause.since));
        }
        match self.breaker.circuit() {
            Circuit::Open { since, cause, probe_at, .. } => return Some((On::Circuit { cause, probe_at }, since)),
            Circuit::HalfOpen { since, allowed } => return Some((On::Ramp { allowed }, since)),
            Circuit::Closed => {}
        }
        self.silence(now).map(|until| (On::Silence { until }, self.held_since))
    }

    /// What a delivery waits for that the endpoint as a whole does not hold back.
    /// And since when nothing but that holds it back; others may have gone before it meanwhile.
    pub(in super::super) fn waits(&self, now: Timestamp, id: DeliveryId, due: Timestamp) -> (On, Timestamp) {
        let aside = self.early.get(&id).copied().or_else(|| self.lines.find_aside(id).copied());
        let held = self.queue.find(id).or(aside);
        let due = held.map_or(due, |active| active.due);
        if due > now {
            return (On::Due { at: due }, Timestamp::ZERO);
        }
        // A lane that begins anew asks the journal for all of it.
        let Some(active) = held.filter(|_| self.is_active()) else { return (On::Journal, due) };
        let tag = self.lines.tag(&active);
        let turned_at = tag.map_or(Timestamp::ZERO, |tag| self.lines.turned_at(tag));
        if let Some((behind, until)) = tag.and_then(|tag| self.lines.before(now, tag, id, &self.away)) {
            return (On::Line { behind, until }, due.max(turned_at));
        }
        let silence_ended_at = Some(self.held_until).filter(|until| *until <= now).unwrap_or_default();
        (self.is_full(now), due.max(turned_at).max(silence_ended_at).max(self.away.back_at()))
    }

    /// What keeps the endpoint from taking one more at once.
    fn is_full(&self, now: Timestamp) -> On {
        let limit = self.window.limit();
        if self.in_flight >= limit {
            return On::Window { limit };
        }
        match self.bucket.as_ref().and_then(|bucket| bucket.next_at(now)) {
            Some(next_at) => On::Rate { next_at },
            None => On::Turn { ahead: (self.queue.fresh_len() + self.queue.waiting_len()).saturating_sub(1) },
        }
    }
}
