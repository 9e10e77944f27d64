//! What becomes of a lane when the config says something else of its endpoint.
//!
//! Most rules simply hold from the next decision on, and what was learnt of the endpoint stays: its circuit, its
//! window, its silence, what its rate has counted. Who waits for whom is different: lines are made anew from the
//! journal, as after a restart, and before that what is on its way must have landed. The same holds for an endpoint
//! that is gone: its lane rests once nothing more can come of it, and until then it can come back as if it never left.

use std::time::Duration;

use super::{Lane, Lines};
use crate::core::endpoint::{Endpoint, Order};
use crate::core::id::EventId;
use crate::core::mutant::{self, Mutant};
use crate::core::rate::Bucket;
use crate::core::scheduler::Limits;
use crate::core::timestamp::Timestamp;

/// What is to become of a lane.
#[derive(Debug)]
pub(in super::super) enum Fate {
    /// It goes on.
    Stays,
    /// Its endpoint keeps another order: it begins anew once nothing is on its way.
    Turns(Box<Endpoint>),
    /// The config has its endpoint no more: it rests once nothing is on its way.
    Ends,
    /// It rests until its endpoint is back.
    Rests,
}

impl Lane {
    /// The config says this of the endpoint now.
    pub(in super::super) fn change(&mut self, now: Timestamp, endpoint: Endpoint) {
        if matches!(self.fate, Fate::Rests) {
            self.come_back(now);
        }
        if self.lines.are_of(endpoint.order, endpoint.order_hold_max) {
            self.adapt(now, endpoint);
            self.fate = Fate::Stays;
        } else {
            self.fate = Fate::Turns(Box::new(endpoint));
        }
    }

    /// The rules that hold from the next decision on.
    fn adapt(&mut self, now: Timestamp, endpoint: Endpoint) {
        *self.retry = endpoint.retry;
        self.window.adapt(endpoint.concurrency);
        self.concurrency_max = endpoint.concurrency.max;
        if self.rate != endpoint.rate {
            self.rate = endpoint.rate;
            self.bucket = endpoint.rate.map(|rate| Box::new(Bucket::new(rate)));
        }
        if self.breaker.adapt(endpoint.breaker) {
            self.has_news = true;
            if self.pause.is_none() {
                self.away.end(now);
            }
        }
        // Who asked for more silence than may be asked for now.
        self.held_until = self.held_until.min(now.after(self.retry.retry_after_max));
    }

    /// Begins anew behind the mark, with what was learnt of the endpoint.
    pub(in super::super) fn turn(&mut self, now: Timestamp, endpoint: Endpoint, mark: EventId, limits: Limits) {
        self.forget(mark, limits, (endpoint.order, endpoint.order_hold_max));
        self.adapt(now, endpoint);
        self.fate = Fate::Stays;
    }

    /// Holds nothing any more until its endpoint is back: all of it stands in the journal.
    pub(in super::super) fn rest(&mut self, mark: EventId, limits: Limits) {
        self.forget(mark, limits, self.lines.rules());
        self.fate = Fate::Rests;
    }

    /// Lets go of all that it holds and that is to be asked for again behind the mark.
    fn forget(&mut self, mark: EventId, limits: Limits, (order, hold_max): (Order, Duration)) {
        self.lines = Lines::new(order, hold_max, limits.active_max);
        self.queue = Self::queue_behind(mark, limits, &self.lines);
        self.early.clear();
    }

    /// It was away until now because the config did not have its endpoint: nothing has aged meanwhile.
    pub(in super::super) fn come_back(&mut self, now: Timestamp) {
        self.away.come_back(now);
        self.has_news = true;
    }

    /// Whether it takes part: it sends, and asks for more.
    pub(in super::super) const fn is_active(&self) -> bool {
        matches!(self.fate, Fate::Stays)
    }

    /// Whether the config has its endpoint.
    pub(in super::super) const fn is_configured(&self) -> bool {
        matches!(self.fate, Fate::Stays | Fate::Turns(_))
    }

    /// Whether nothing of it is on its way any more, be it to the endpoint or from or to the journal.
    pub(in super::super) fn is_quiet(&self) -> bool {
        if mutant::is(Mutant::ReloadForgetsFlights) {
            return true;
        }
        let is_asking = self.queue.is_asking() || self.lines.is_asking();
        self.in_flight == 0 && self.cancelling.is_empty() && !is_asking
    }
}
