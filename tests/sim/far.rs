//! The far side: what the endpoints receive, and what they answer when.

use std::collections::BTreeMap;
use std::time::Duration;

use backstop::core::attempt::{Answer, Failure, FailureClass, Reply};
use backstop::core::endpoint::Endpoint;
use backstop::core::id::DeliveryId;
use bytes::Bytes;
use fastrand::Rng;

use super::plan::{Mode, Planned};

/// How long an attempt takes that is never answered: the endpoint's timeout, in milliseconds.
const TIMEOUT: u64 = 15_000;

pub(crate) struct Far {
    pub(crate) endpoint: Endpoint,
    phases: Vec<(u64, Mode)>,
    /// What is being worked on here, by when it ends.
    working: Vec<u64>,
    /// How often each delivery arrived whole.
    pub(crate) received: BTreeMap<DeliveryId, u32>,
    /// How often each was answered well.
    pub(crate) acknowledged: BTreeMap<DeliveryId, u32>,
}

impl Far {
    pub(crate) fn new(planned: Planned) -> Self {
        let Planned { endpoint, phases } = planned;
        Self { endpoint, phases, working: Vec::new(), received: BTreeMap::new(), acknowledged: BTreeMap::new() }
    }

    fn mode(&self, now: u64) -> Mode {
        self.phases.iter().find(|(until, _)| now < *until).map_or(Mode::Up, |(_, mode)| *mode)
    }

    /// An attempt arrives; what comes back, and after how many milliseconds.
    pub(crate) fn receive(&mut self, now: u64, id: DeliveryId, fails: bool, rng: &mut Rng) -> (Reply, u64) {
        self.working.retain(|until| *until > now);
        let soon = rng.u64(5..=60);
        let mode = if fails { Mode::Fails } else { self.mode(now) };
        let (reply, took) = match mode {
            Mode::Refuses => (failure(FailureClass::Refused), rng.u64(0..=2)),
            Mode::Hangs => (failure(FailureClass::TimeoutAfterSent), TIMEOUT),
            Mode::Fails => (answer(500, None), soon),
            Mode::Slow => (answer(200, None), rng.u64(2000..=14_000)),
            Mode::Throttles(seconds) => (answer(429, Some(Duration::from_secs(seconds))), soon),
            Mode::Away(seconds) => (answer(503, Some(Duration::from_secs(seconds))), soon),
            Mode::Flaky if rng.bool() => (answer(502, None), soon),
            Mode::LosesAnswers => (failure(FailureClass::ResetAfterSent), soon),
            Mode::CollapsesAbove(most) if self.working.len() >= most => (answer(503, None), 10 * soon),
            Mode::Gone => (answer(410, None), soon),
            Mode::Up | Mode::Flaky | Mode::CollapsesAbove(_) => (answer(200, None), soon),
        };
        if mode != Mode::Refuses {
            self.working.push(now + took);
            *self.received.entry(id).or_default() += 1;
        }
        if matches!(&reply, Reply::Answer(answer) if answer.status == 200) {
            *self.acknowledged.entry(id).or_default() += 1;
        }
        (reply, took)
    }
}

fn answer(status: u16, retry_after: Option<Duration>) -> Reply {
    Reply::Answer(Answer { status, headers: vec![], body: Bytes::new(), body_cut: false, retry_after })
}

fn failure(class: FailureClass) -> Reply {
    Reply::Failure(Failure { class, detail: String::new() })
}
