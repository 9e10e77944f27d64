//! The config has changed: endpoints come, go, and have other rules.
//!
//! Nothing that is on its way is disturbed. A lane that must rest or begin anew does so once it is quiet, and until
//! then follows what happens, so that its mark is right: what it did not send stands in the journal behind that. A lane
//! whose endpoint is gone rests with what it knows of the endpoint, in next to no memory, and goes on when it is back.

use std::collections::HashSet;

use super::lane::{Fate, Lane};
use super::{Lot, Scheduler};
use crate::core::name::Name;
use crate::core::timestamp::Timestamp;

impl Scheduler {
    /// These are the endpoints now. A lane that is there goes on with what it knows, whatever its lot says; the others
    /// begin with theirs. Deliveries to endpoints that are gone are parked.
    pub fn handle_endpoints(&mut self, now: Timestamp, lots: Vec<Lot>) {
        self.seen_at = now;
        let named: HashSet<Name> = lots.iter().map(|lot| lot.endpoint.name.clone()).collect();
        for index in 0..self.lanes.len() {
            if let Some(lane) = self.lanes.get_mut(index)
                && lane.is_configured()
                && !named.contains(&lane.name)
            {
                lane.fate = Fate::Ends;
                self.look_at(index);
            }
        }
        for lot in lots {
            let index = self.by_name.get(&lot.endpoint.name).copied().unwrap_or(self.lanes.len());
            match self.lanes.get_mut(index) {
                Some(lane) => lane.change(now, lot.endpoint),
                None => self.add(now, lot),
            }
            self.look_at(index);
        }
    }

    /// Of an endpoint that this process has not had before.
    fn add(&mut self, now: Timestamp, lot: Lot) {
        self.by_name.insert(lot.endpoint.name.clone(), self.lanes.len());
        let mut lane = Lane::new(lot, self.limits);
        lane.come_back(now);
        self.lanes.push(lane);
    }

    /// If nothing of a lane is on its way any more, it becomes what it is to become.
    pub(super) fn fulfil(&mut self, index: usize) {
        let (newest, now, limits) = (self.newest, self.seen_at, self.limits);
        let Some(lane) = self.lanes.get_mut(index).filter(|lane| lane.is_quiet()) else { return };
        let mark = lane.mark(newest, None);
        match std::mem::replace(&mut lane.fate, Fate::Stays) {
            Fate::Stays => {}
            Fate::Turns(endpoint) => lane.turn(now, *endpoint, mark, limits),
            Fate::Ends => lane.rest(mark, limits),
            Fate::Rests => lane.fate = Fate::Rests,
        }
    }
}
