//! The promises, checked at every step against the truth and the far side; nothing here asks the scheduler
//! what it thinks, but for how a circuit stands.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use backstop::core::attempt::{Attempt, Outcome};
use backstop::core::breaker::Circuit;
use backstop::core::delivery::{Delivery, Reason, State};
use backstop::core::endpoint::Endpoint;
use backstop::core::id::{DeliveryId, EventId};
use backstop::core::name::Name;
use backstop::core::scheduler::{Dispatch, LaneView, Limits};
use backstop::core::standing::Standing;
use backstop::core::timestamp::duration_millis;
use backstop::journal::Journal as _;

use super::far::Far;
use super::plan::MINUTE;
use super::truth::Truth;

/// How late an attempt to the endpoint that is always well may be, if nothing but the gateway keeps it back.
const LATE: u64 = 3_000;

/// What is known of one endpoint, beyond what the journal says.
#[derive(Default)]
struct Known {
    in_flight: BTreeSet<DeliveryId>,
    /// Those sent because the circuit was open.
    probes: BTreeSet<DeliveryId>,
    /// Nothing may be sent before then, for the endpoint asked for that.
    silent_until: u64,
    /// Whether an operator was told that it is paused, or it is on disk, and nobody asked to resume it since.
    is_paused: bool,
    /// Departures that its rate still counts.
    departures: VecDeque<u64>,
}

pub(crate) struct Checks {
    limits: Limits,
    endpoints: BTreeMap<Name, (Endpoint, Known)>,
    /// When a delivery may be sent again at the earliest, by the steady clock.
    dues: BTreeMap<DeliveryId, u64>,
    /// When it was first sent, by the steady clock.
    first_sent: BTreeMap<DeliveryId, u64>,
    /// Of the never-tried: since when they wait in a process that runs.
    since: BTreeMap<DeliveryId, u64>,
    /// How often it was on its way when a process died.
    cut_off: BTreeMap<DeliveryId, u32>,
    /// An operator asked for it to be taken back.
    cancelled: BTreeSet<DeliveryId>,
    pub(crate) violation: Option<String>,
}

impl Checks {
    pub(crate) fn new(limits: Limits, far: &[Far]) -> Self {
        let known = |far: &Far| (far.endpoint.name.clone(), (far.endpoint.clone(), Known::default()));
        Self {
            limits,
            endpoints: far.iter().map(known).collect(),
            dues: BTreeMap::new(),
            first_sent: BTreeMap::new(),
            since: BTreeMap::new(),
            cut_off: BTreeMap::new(),
            cancelled: BTreeSet::new(),
            violation: None,
        }
    }

    pub(crate) fn that(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds && self.violation.is_none() {
            self.violation = Some(what());
        }
    }

    fn known(&mut self, endpoint: &Name) -> &mut Known {
        &mut self.endpoints.get_mut(endpoint).unwrap().1
    }

    /// Promise 1: what a sender was told is true.
    pub(crate) fn acknowledged(&mut self, id: EventId, routed_to: usize, truth: &Truth) {
        let view = truth.journal.entry(id).unwrap();
        let is_there = view.is_some_and(|view| view.deliveries.len() >= routed_to);
        self.that(is_there, || format!("{id} was acknowledged and is not in the journal"));
    }

    /// An attempt leaves.
    pub(crate) fn departed(&mut self, now: u64, dispatch: &Dispatch, lane: &LaneView, truth: &Truth) {
        let circuit = lane.standing.circuit;
        let id = dispatch.id;
        let Some(delivery) = truth.deliveries.get(&id) else {
            return self.that(false, || format!("{id} was sent and is not in the journal"));
        };
        self.that(!delivery.state.is_terminal(), || format!("{id} was sent after it had ended: {:?}", delivery.state));
        let made = delivery.attempts;
        self.that(dispatch.attempt == made + 1, || format!("{id}: attempt {} after {made}", dispatch.attempt));
        self.keeps_its_line(now, dispatch, delivery, truth);
        self.keeps_limits(now, dispatch);
        self.keeps_to_the_circuit(dispatch, circuit);
        let in_flight = self.known(&dispatch.endpoint).in_flight.len();
        let fits = in_flight < lane.window || matches!(circuit, Circuit::Open { .. });
        self.that(fits, || {
            format!("{in_flight} and one more on their way to {}: its window is {}", lane.endpoint, lane.window)
        });
        self.is_due(now, id, &dispatch.endpoint);
        self.first_sent.entry(id).or_insert(now);
        self.since.remove(&id);
        let known = self.known(&dispatch.endpoint);
        known.in_flight.insert(id);
        if matches!(circuit, Circuit::Open { .. }) {
            known.probes.insert(id);
        }
    }

    /// Promise 4: in the order received, one at a time; past a bounded hold others may pass, and say so.
    fn keeps_its_line(&mut self, now: u64, dispatch: &Dispatch, delivery: &Delivery, truth: &Truth) {
        let Some(line) = truth.line(delivery) else {
            return self.that(!dispatch.out_of_order, || format!("{} is out of no order", dispatch.id));
        };
        let (endpoint, known) = &self.endpoints[&dispatch.endpoint];
        let hold = duration_millis(endpoint.order_hold_max);
        let open = &truth.open[&line];
        let flying = known.in_flight.iter().find(|id| open.contains(id)).copied();
        let mut earlier = open.range(..dispatch.id);
        let held = |id: &DeliveryId| self.first_sent.get(id).is_some_and(|first| now >= first + hold);
        let overtaken = earlier.clone().next().copied();
        let unheld = earlier.find(|id| !held(id)).copied();
        let id = dispatch.id;
        self.that(flying.is_none(), || format!("{id} was sent while {flying:?} of its line was on its way"));
        self.that(unheld.is_none(), || format!("{id} passed {unheld:?}, which did not hold its line for too long"));
        let is_marked = dispatch.out_of_order == overtaken.is_some();
        self.that(is_marked, || format!("{id} passed {overtaken:?} and its mark is {}", dispatch.out_of_order));
    }

    /// Promise 7, and the endpoint's rate.
    fn keeps_limits(&mut self, now: u64, dispatch: &Dispatch) {
        let all: usize = self.endpoints.values().map(|(_, known)| known.in_flight.len()).sum();
        let most = self.limits.in_flight_max;
        self.that(all < most, || format!("{all} and one more on their way, {most} allowed"));
        let (endpoint, known) = self.endpoints.get_mut(&dispatch.endpoint).unwrap();
        let name = endpoint.name.clone();
        let (in_flight, most) = (known.in_flight.len(), endpoint.concurrency.max);
        let mut too_many = None;
        if let Some(rate) = endpoint.rate {
            let span = duration_millis(rate.per);
            while known.departures.front().is_some_and(|at| at + span < now) {
                known.departures.pop_front();
            }
            known.departures.push_back(now);
            let allowed = usize::try_from(rate.count + rate.burst).unwrap() + 1;
            too_many = (known.departures.len() > allowed).then_some(known.departures.len());
        }
        self.that(in_flight < most, || format!("{in_flight} and one more on their way to {name}, {most} allowed"));
        self.that(too_many.is_none(), || format!("{too_many:?} to {name} within its rate's span"));
    }

    /// Promise 5: while the circuit is open one probe at a time goes, and nothing else.
    fn keeps_to_the_circuit(&mut self, dispatch: &Dispatch, circuit: Circuit) {
        let (rules, known) = &self.endpoints[&dispatch.endpoint];
        let (probes, in_flight, has_breaker) = (known.probes.len(), known.in_flight.len(), rules.breaker.is_some());
        let (most, on_their_way) = match circuit {
            Circuit::Closed => (usize::MAX, 0),
            Circuit::Open { .. } => (1, probes),
            Circuit::HalfOpen { allowed, .. } => (usize::try_from(allowed).unwrap(), in_flight),
        };
        let is_right = dispatch.probe == (has_breaker && circuit != Circuit::Closed);
        self.that(is_right, || format!("{}: a probe or none, and {:?}", dispatch.id, circuit));
        self.that(on_their_way < most, || format!("{}: {on_their_way} are on their way already", dispatch.id));
    }

    fn is_due(&mut self, now: u64, id: DeliveryId, endpoint: &Name) {
        let due = self.dues.get(&id).copied().unwrap_or_default();
        self.that(now + 1 >= due, || format!("{id} was sent {} ms early", due - now));
        let known = self.known(endpoint);
        let (silent_until, is_paused) = (known.silent_until, known.is_paused);
        self.that(now + 1 >= silent_until, || {
            format!("{id} was sent into the silence, {} ms early", silent_until - now)
        });
        self.that(!is_paused, || format!("{id} was sent to {endpoint}, which is paused"));
        let fine = endpoint.as_str() == "fine";
        let waited = self.since.get(&id).map_or(0, |since| now - since);
        self.that(!fine || waited < LATE, || format!("{id} waited {waited} ms for an endpoint that is well"));
    }

    /// The process was told what came of an attempt.
    pub(crate) fn landed(&mut self, now: u64, endpoint: &Name, attempt: &Attempt) {
        let (rules, known) = self.endpoints.get_mut(endpoint).unwrap();
        if let (Outcome::Throttled, backstop::core::attempt::Reply::Answer(answer)) = (attempt.outcome, &attempt.reply)
        {
            let asked = answer.retry_after.unwrap_or_default().min(rules.retry.retry_after_max);
            known.silent_until = known.silent_until.max(now + duration_millis(asked));
        }
    }

    /// The journal has a delivery's new state; `due`: when it may go again, if it waits.
    pub(crate) fn stored(&mut self, now: u64, delivery: &Delivery, due: Option<u64>) {
        let id = delivery.id;
        if delivery.attempts == 0 && matches!(delivery.state, State::Scheduled { .. }) {
            self.since.entry(id).or_insert(now);
        } else if delivery.endpoint.as_str() == "fine" {
            self.since.remove(&id);
        }
        match due {
            Some(due) => self.dues.insert(id, due),
            None => self.dues.remove(&id),
        };
    }

    /// An attempt's outcome is stored: its place is free.
    pub(crate) fn settled(&mut self, id: DeliveryId, endpoint: &Name) {
        let known = self.known(endpoint);
        known.in_flight.remove(&id);
        known.probes.remove(&id);
    }

    /// The config says this of an endpoint now.
    pub(crate) fn ruled(&mut self, endpoint: &Endpoint) {
        let (rules, known) = self.endpoints.get_mut(&endpoint.name).unwrap();
        if rules.rate != endpoint.rate {
            known.departures.clear();
        }
        if endpoint.breaker.is_none() {
            // What went to see if it is back is one among others now.
            known.probes.clear();
        }
        rules.clone_from(endpoint);
    }

    pub(crate) fn cancel_asked(&mut self, id: DeliveryId) {
        self.cancelled.insert(id);
    }

    pub(crate) fn paused(&mut self, endpoint: &Name, is_paused: bool) {
        self.known(endpoint).is_paused = is_paused;
    }

    /// The process is gone, and with it all that it had on its way.
    pub(crate) fn crashed(&mut self) {
        for (_, known) in self.endpoints.values_mut() {
            for id in std::mem::take(&mut known.in_flight) {
                *self.cut_off.entry(id).or_default() += 1;
            }
            known.probes.clear();
            // Neither a short silence nor what a rate counts survives.
            known.silent_until = 0;
            known.departures.clear();
        }
    }

    /// A new process begins as the endpoint stood.
    pub(crate) fn began(&mut self, endpoint: &Endpoint, on_disk: &Standing, standing: &Standing) {
        let is_same = standing.circuit == on_disk.circuit || endpoint.breaker.is_none();
        self.that(is_same, || format!("{} has forgotten its circuit over a restart", endpoint.name));
    }

    /// A new process runs. Where the clock was set since the last one began, times on disk are by another clock:
    /// what waits for them may go at once, but not wait for longer.
    pub(crate) fn restarted(&mut self, now: u64, clock_was_set: bool) {
        self.since.values_mut().for_each(|since| *since = now);
        if clock_was_set {
            self.dues.clear();
            self.first_sent.values_mut().for_each(|first| *first = 0);
        }
    }

    /// At the end: promises 2 and 3.
    pub(crate) fn ended(
        &mut self,
        now: u64,
        (truth, gone): (&Truth, Option<&BTreeSet<EventId>>),
        far: &[Far],
        all_delivered: bool,
    ) {
        let waiting: Vec<String> = truth.unfinished.iter().map(|id| format!("{:?}", truth.deliveries[id])).collect();
        self.that(waiting.is_empty(), || format!("{now}: {} never ended, the first: {}", waiting.len(), waiting[0]));
        for (name, tally) in truth.journal.counters().endpoints {
            self.that(tally.reconciles(), || format!("the counts of {name} do not agree: {tally:?}"));
        }
        for delivery in truth.deliveries.values() {
            let far = far.iter().find(|far| far.endpoint.name == delivery.endpoint).unwrap();
            // Those of events that have gone were looked at before.
            if gone.is_none_or(|gone| !gone.contains(&delivery.id.event)) {
                self.delivery_ended(delivery, far, truth);
            }
            let is_dead = delivery.state == State::Dead;
            self.that(!(all_delivered && is_dead), || format!("an outage cost a delivery its attempts: {delivery:?}"));
        }
    }

    pub(crate) fn delivery_ended(&mut self, delivery: &Delivery, far: &Far, truth: &Truth) {
        let id = delivery.id;
        let attempts = truth.journal.attempts(id).unwrap();
        let in_order = (1..).zip(&attempts).all(|(number, attempt)| attempt.number == number);
        let count = u32::try_from(attempts.len()).unwrap();
        self.that(in_order && delivery.attempts == count, || format!("{id}: attempts are missing or doubled"));
        let received = far.received.get(&id).copied().unwrap_or_default();
        let cut_off = self.cut_off.get(&id).copied().unwrap_or_default();
        self.that(received <= count + cut_off, || {
            format!("{id} arrived {received} times by {count} attempts, and {cut_off} that a crash cut off")
        });
        let marked = attempts.iter().any(|attempt| attempt.out_of_order);
        self.that(delivery.out_of_order == marked, || format!("{id}: the mark of its attempts is not its own"));
        let failed = |attempt: &&Attempt| attempt.outcome != Outcome::Delivered;
        match delivery.state {
            State::Delivered => {
                let acknowledged = far.acknowledged.contains_key(&id);
                self.that(acknowledged, || format!("{id} counts as delivered and was never acknowledged"));
            }
            State::Dead if delivery.reason == Reason::AttemptsExhausted => {
                let spent = attempts.iter().filter(|attempt| !attempt.probe).filter(failed).count();
                let allowed = usize::try_from(far.endpoint.retry.attempts_max).unwrap();
                self.that(spent >= allowed, || format!("{id} is dead after {spent} of {allowed} attempts"));
            }
            State::Dead => {
                let known = [Reason::AgeExceeded, Reason::Gone].contains(&delivery.reason);
                self.that(known, || format!("{id} is dead without a cause: {delivery:?}"));
            }
            State::Cancelled => self.that(self.cancelled.contains(&id), || format!("{id} cancelled itself")),
            _ => {}
        }
    }
}

/// How long after the end of all troubles every wait must have ended.
pub(crate) const QUIET: u64 = 15 * MINUTE;
