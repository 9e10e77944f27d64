//! An endpoint that collapses above so many at once, behind the whole scheduler: breaker, retries, window.
//!
//! It answers after its service time; with more than it bears, all that are on their way fail half a second
//! later. There is always a backlog. No real time passes.

use super::*;
use crate::core::breaker::{BreakerPolicy, Circuit};

#[derive(Debug, Clone, Copy)]
struct Landing {
    fails: bool,
    lands_at: u64,
}

struct Far {
    scheduler: Scheduler,
    bears: usize,
    service_ms: u64,
    is_down: bool,
    rng: fastrand::Rng,
    ids: IdSource,
    now: u64,
    accepted: usize,
    delivered: usize,
    dead: usize,
    flights: BTreeMap<DeliveryId, Landing>,
    landings: BTreeSet<(u64, DeliveryId)>,
    most: usize,
    /// The sum of what is on its way over milliseconds.
    flight_millis: u64,
}

impl Far {
    fn new(bears: usize, service_ms: u64, seed: u64) -> Self {
        let adaptive = Concurrency { min: 1, max: 200 };
        let crm = Endpoint { concurrency: adaptive, breaker: Some(BreakerPolicy::default()), ..endpoint("a", 1) };
        Self {
            scheduler: scheduler(1_000_000, vec![crm]),
            bears,
            service_ms,
            is_down: false,
            rng: fastrand::Rng::with_seed(seed),
            ids: IdSource::default(),
            now: 0,
            accepted: 0,
            delivered: 0,
            dead: 0,
            flights: BTreeMap::new(),
            landings: BTreeSet::new(),
            most: 0,
            flight_millis: 0,
        }
    }

    fn at(&self) -> Timestamp {
        NOW.after(Duration::from_millis(self.now))
    }

    fn run(&mut self, millis: u64) {
        let until = self.now + millis;
        (self.delivered, self.most, self.flight_millis) = (0, self.flights.len(), 0);
        loop {
            self.fill();
            let alarm = self.scheduler.poll_timeout().map(|at| at.since(NOW).as_millis() as u64);
            let landing = self.landings.first().map(|(at, _)| *at);
            let next = alarm.into_iter().chain(landing).min().unwrap_or(until).max(self.now + 1).min(until);
            self.flight_millis += (next - self.now) * self.flights.len() as u64;
            self.now = next;
            while let Some(id) = self.landings.first().filter(|(at, _)| *at <= self.now).map(|(_, id)| *id) {
                self.land(id);
            }
            if self.now >= until {
                return;
            }
        }
    }

    fn fill(&mut self) {
        let now = self.at();
        while self.accepted < 500 {
            let id = self.ids.event(now, &mut self.rng).delivery(0);
            self.scheduler.handle_accepted(id, &Name::new("a").unwrap(), now, None);
            self.accepted += 1;
        }
        while let Some(sent) = self.scheduler.poll_dispatch(now) {
            let took =
                if self.is_down { 5 } else { self.rng.u64(self.service_ms * 9 / 10..=self.service_ms * 11 / 10) };
            let lands_at = self.now + took;
            self.flights.insert(sent.id, Landing { fails: self.is_down, lands_at });
            self.landings.insert((lands_at, sent.id));
            self.most = self.most.max(self.flights.len());
            if self.flights.len() > self.bears {
                self.collapse();
            }
        }
    }

    fn collapse(&mut self) {
        let lands_at = self.now + 500;
        for (id, flight) in self.flights.iter_mut().filter(|(_, flight)| !flight.fails) {
            self.landings.remove(&(flight.lands_at, *id));
            self.landings.insert((lands_at, *id));
            *flight = Landing { fails: true, lands_at };
        }
    }

    fn land(&mut self, id: DeliveryId) {
        let flight = self.flights.remove(&id).unwrap();
        self.landings.remove(&(flight.lands_at, id));
        let status = if flight.fails { 500 } else { 200 };
        let now = self.at();
        let transition = self.scheduler.handle_outcome(now, id, &answered(status, None), &mut self.rng).unwrap();
        self.scheduler.handle_settled(id);
        match transition.step {
            Step::Succeed => self.delivered += 1,
            Step::GiveUp => self.dead += 1,
            _ => return,
        }
        self.accepted -= 1;
    }
}

/// A hand-tuned fixed limit would keep as many on their way as the endpoint bears, all the time.
#[test]
fn it_settles_near_what_an_endpoint_bears_and_delivers_nearly_as_much() {
    for (bears, service_ms, seed) in [(5, 100, 1), (5, 20, 2), (20, 20, 3), (20, 100, 4), (20, 50, 5), (60, 50, 6)] {
        let mut far = Far::new(bears, service_ms, seed);
        let millis = 4000 * service_ms;
        far.run(millis);
        let known = bears * 4000;
        let share = far.delivered as f64 / known as f64;
        let average = far.flight_millis as f64 / millis as f64 / bears as f64;
        assert!(share >= 0.8, "{bears} of {service_ms} ms: {share} of what a known limit delivers");
        assert!((0.7..=1.1).contains(&average), "{bears} of {service_ms} ms: {average} of it on its way");
        assert_eq!(far.dead, 0);
        assert_eq!(far.scheduler.standing(&Name::new("a").unwrap()).unwrap().circuit, Circuit::Closed);
    }
}

/// What has gathered does not fall on an endpoint that is there again.
#[test]
fn after_an_outage_there_is_no_herd() {
    for (bears, seed) in [(5, 1), (20, 2), (60, 3)] {
        let mut far = Far::new(bears, 50, seed);
        far.run(20_000);
        far.is_down = true;
        far.run(300_000);
        assert!(far.delivered <= bears, "it was down");
        let standing = far.scheduler.standing(&Name::new("a").unwrap()).unwrap();
        assert!(matches!(standing.circuit, Circuit::Open { probes: 3.., .. }), "{standing:?}");
        far.is_down = false;
        far.run(300_000);
        assert!(far.most <= bears + bears / 4 + 2, "{bears}: {} at once", far.most);
        far.run(60_000);
        let share = far.delivered as f64 / (bears * 1200) as f64;
        assert!(share >= 0.8, "{bears}: {share} of what it bears");
        assert_eq!(far.dead, 0);
    }
}
