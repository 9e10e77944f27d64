//! Operators of this world: they pause and resume endpoints, take deliveries back, and have some made again.

use backstop::core::standing::{Pause, PauseCause};
use backstop::engine::dispatcher::Command;
use backstop::journal::{Change, Receipt, Redelivery};
use tokio::sync::oneshot;

use super::World;
use crate::process::Asked;

impl World {
    /// An operator asks for something.
    pub(super) fn request(&mut self) {
        self.again(2);
        if self.process.is_none() {
            return;
        }
        let index = self.rng.usize(1..self.far.len().max(2));
        match (self.rng.u32(0..6), self.rng.choice(self.truth.deliveries.values()).cloned()) {
            (0, _) if index < self.far.len() => {
                let pause = Pause { since: self.wall(), cause: PauseCause::Operator, note: String::new() };
                let (reply, answer) = oneshot::channel();
                let endpoint = self.far[index].endpoint.name.clone();
                self.process().tell(Command::Pause(endpoint, pause, reply));
                self.process().asked.push_back(Asked::Pause(index, answer));
            }
            (1 | 2, _) if index < self.far.len() => self.resume(index),
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
