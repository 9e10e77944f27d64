//! Operators of this world: they pause and resume endpoints, take deliveries back, have some made again, take
//! endpoints out of the config for a while, and give them other rules.

use std::collections::BTreeSet;

use backstop::core::endpoint::Endpoint;
use backstop::core::standing::{Pause, PauseCause};
use backstop::engine::dispatcher::{Command, lots};
use backstop::journal::{Change, Receipt, Redelivery};
use tokio::sync::oneshot;

use super::World;
use crate::plan::rules;
use crate::process::Asked;

impl World {
    /// Whether there is such an endpoint, and the config has it.
    fn is_there(&self, index: usize) -> bool {
        index < self.far.len() && !self.absent.contains(&index)
    }

    /// The config is changed: some endpoints are gone, others are back, and some have other rules, gone or not.
    pub(super) fn reload(&mut self) {
        self.again(3);
        if self.process.is_some() {
            for index in 1..self.far.len() {
                if self.rng.u32(0..3) == 0 {
                    // What ends a delivery is looked at when all is over: that stays.
                    let retry = self.far[index].endpoint.retry.clone();
                    self.far[index].endpoint = Endpoint { retry, ..rules(&mut self.rng, index - 1) };
                }
            }
            let absent = (1..self.far.len()).filter(|_| self.rng.bool()).collect();
            self.configure(absent);
        }
    }

    /// The config has all endpoints but these.
    pub(super) fn configure(&mut self, absent: BTreeSet<usize>) {
        self.tell(|| format!("  the config lacks {absent:?}"));
        for far in &self.far {
            self.truth.ruled(&far.endpoint);
            self.checks.ruled(&far.endpoint);
        }
        let there = self.far.iter().enumerate().filter(|(index, _)| !absent.contains(index));
        let lots = lots(&*self.journal, there.map(|(_, far)| &far.endpoint));
        let (reply, _) = oneshot::channel();
        self.process().tell(Command::Endpoints(lots, reply));
        self.absent = absent;
    }

    /// An operator asks for something.
    pub(super) fn request(&mut self) {
        self.again(2);
        if self.process.is_none() {
            return;
        }
        let index = self.rng.usize(1..self.far.len().max(2));
        match (self.rng.u32(0..6), self.rng.choice(self.truth.deliveries.values()).cloned()) {
            (0, _) if self.is_there(index) => {
                let pause = Pause { since: self.wall(), cause: PauseCause::Operator, note: String::new() };
                let (reply, answer) = oneshot::channel();
                let endpoint = self.far[index].endpoint.name.clone();
                self.process().tell(Command::Pause(endpoint, pause, reply));
                self.process().asked.push_back(Asked::Pause(index, answer));
            }
            (1 | 2, _) if self.is_there(index) => self.resume(index),
            (3, Some(delivery)) => {
                let (reply, answer) = oneshot::channel();
                self.checks.cancel_asked(delivery.id);
                self.truth.touch(delivery.id.event);
                self.process().tell(Command::Cancel(delivery.id, delivery.endpoint, reply));
                self.process().asked.push_back(Asked::Cancel(answer));
            }
            (5, _) => self.request_replay(),
            (4, Some(delivery)) => {
                let (event, endpoint, at) = (delivery.id.event, delivery.endpoint, self.wall());
                self.truth.touch(event);
                let again = Change::Redeliver(Redelivery { event, endpoint, at, force: false });
                self.process().commit(again, |result| match result {
                    Ok(Receipt::Made(made)) => Some(Command::Made(made)),
                    _ => None,
                });
            }
            _ => {}
        }
    }
}
