//! What a decision of the scheduler costs, without journal or network.
//!
//! A decision is a [`Scheduler::poll_dispatch`] that says what to send, or a [`Scheduler::handle_outcome`]
//! that says what came of it. Each is measured within its whole cycle: a new delivery is accepted, one is
//! dispatched, its outcome decided, its slot freed. The number of active deliveries stays the same.
//!
//! It must be at least [`DECISIONS_MIN`] a second with 1000 endpoints and 100 000 active deliveries. With 10 000
//! endpoints a decision may take at most [`WORK_MAX`] times the instructions that it takes with 10 (counted by valgrind,
//! where that is installed), and at most [`TIME_MAX`] times the time.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a bench that cannot go on fails"
)]

mod support;

use std::time::Duration;

use backstop::core::attempt::{Answer, Attempt, Outcome, Reply, StatusSet};
use backstop::core::breaker::{Circuit, Sign, TripCause};
use backstop::core::delivery::Step;
use backstop::core::endpoint::{Endpoint, Order};
use backstop::core::id::{DeliveryId, EventId, IdSource};
use backstop::core::name::Name;
use backstop::core::scheduler::{Dispatch, Fresh, Limits, Lot, Refill, Scheduler};
use backstop::core::standing::Standing;
use backstop::core::timestamp::Timestamp;
use backstop::core::window::Concurrency;

const ACTIVE: usize = 100_000;
/// As the config's default. Ten endpoints reach it too, so that their number is all that differs in the series.
const IN_FLIGHT_MAX: usize = 1024;
const CONCURRENCY: Concurrency = Concurrency { min: 1, max: 128 };
const CYCLES: usize = 300_000;
const ROUNDS: usize = 5;
const DECISIONS_MIN: f64 = 1e6;
/// The work is the same, however many endpoints there are.
const WORK_MAX: f64 = 1.1;
/// The time is not: ten lanes stay in the processor's nearest cache, ten thousand not in its second.
const TIME_MAX: f64 = 3.0;
const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

/// What goes on.
#[derive(Clone, Copy)]
struct Scene {
    endpoints: usize,
    order: Order,
    /// Every so many attempts one fails, and is tried again when it is due; 0 for never.
    fails: usize,
    /// Every so many lanes one has an open circuit; 0 for none.
    open: usize,
}

impl Scene {
    const PLAIN: Self = Self { endpoints: 1000, order: Order::None, fails: 0, open: 0 };

    fn is_open(&self, index: usize) -> bool {
        self.open > 0 && index.is_multiple_of(self.open)
    }

    fn lot(&self, index: usize) -> Lot {
        let name = Name::new(&format!("endpoint-{index}")).expect("a name");
        let plain = Endpoint::new(name, "http://127.0.0.1:1/".to_owned());
        let endpoint = Endpoint { order: self.order, concurrency: CONCURRENCY, ..plain };
        let open = Circuit::Open {
            since: NOW,
            cause: TripCause::ConsecutiveFailures,
            sign: Sign::Status(500),
            probe_at: NOW.after(Duration::from_secs(300)),
            probes: 9,
        };
        let circuit = if self.is_open(index) { open } else { Circuit::Closed };
        Lot { endpoint, mark: EventId::MIN, standing: Standing { circuit, ..Standing::default() } }
    }
}

/// The scheduler, and what a dispatcher would do around it.
struct Drive {
    scene: Scene,
    scheduler: Scheduler,
    /// Events to come, with their keys where those matter: three of each.
    events: std::vec::IntoIter<(EventId, Option<String>)>,
    made: usize,
    ids: IdSource,
    rng: fastrand::Rng,
    now: Timestamp,
    good: Attempt,
    bad: Attempt,
    attempts: usize,
}

fn attempt(status: u16) -> Attempt {
    let answer = Answer { status, headers: vec![], body: "".into(), body_cut: false, retry_after: None };
    let reply = Reply::Answer(answer);
    let outcome = Outcome::classify(&reply, &StatusSet::default());
    Attempt { number: 1, started_at: NOW, took_ms: 1, reply, outcome, probe: false, out_of_order: false }
}

impl Drive {
    fn new(scene: Scene) -> Self {
        let lots: Vec<Lot> = (0..scene.endpoints).map(|index| scene.lot(index)).collect();
        let names: Vec<Name> = lots.iter().map(|lot| lot.endpoint.name.clone()).collect();
        let active_max = 4 * ACTIVE / scene.endpoints;
        let limits = Limits { active_max, ordered_max: active_max, in_flight_max: IN_FLIGHT_MAX };
        let mut drive = Self {
            scene,
            scheduler: Scheduler::new(limits, lots),
            events: vec![].into_iter(),
            made: 0,
            ids: IdSource::default(),
            rng: fastrand::Rng::with_seed(1),
            now: NOW,
            good: attempt(200),
            bad: attempt(500),
            attempts: 0,
        };
        while let Some(refill) = drive.scheduler.poll_refill() {
            match refill {
                Refill::Fresh { endpoint, after, .. } => {
                    let nothing = Fresh { deliveries: vec![], scanned_to: after, end: true };
                    drive.scheduler.handle_fresh(&endpoint, nothing);
                }
                Refill::Waiting { endpoint, .. } => drive.scheduler.handle_waiting(NOW, &endpoint, &[], true),
                Refill::Line { .. } => unreachable!("nothing was left to the journal"),
            }
        }
        drive.prepare(ACTIVE);
        names.iter().cycle().take(ACTIVE).for_each(|name| drive.accept(name));
        drive
    }

    /// Makes ids and keys outside of what is measured.
    fn prepare(&mut self, count: usize) {
        let Self { scene, ids, rng, now, made, .. } = self;
        let numbers = *made..*made + count;
        *made = numbers.end;
        let key = |number| (scene.order == Order::Key).then(|| format!("call-{}", number / 3));
        let events: Vec<_> = numbers.map(|number| (ids.event(*now, rng), key(number))).collect();
        self.events = events.into_iter();
    }

    fn accept(&mut self, endpoint: &Name) {
        let (event, key) = self.events.next().expect("prepared");
        self.scheduler.handle_accepted(event.delivery(0), endpoint, self.now, key.as_deref());
    }

    /// One turn of the dispatcher: whatever may go goes, a millisecond later it is answered and settled.
    fn turn(&mut self, on_their_way: &mut Vec<Dispatch>) {
        on_their_way.extend(std::iter::from_fn(|| self.scheduler.poll_dispatch(self.now)));
        assert!(self.scheduler.poll_refill().is_none(), "all is held in memory");
        self.now = self.now.after(Duration::from_millis(1));
        while self.scheduler.poll_standing().is_some() {}
        for Dispatch { id, endpoint, .. } in on_their_way.drain(..) {
            if self.outcome(id) {
                self.accept(&endpoint);
            }
        }
    }

    /// Whether the delivery has ended.
    fn outcome(&mut self, id: DeliveryId) -> bool {
        self.attempts += 1;
        let fails = self.scene.fails > 0 && self.attempts.is_multiple_of(self.scene.fails);
        let attempt = if fails { &self.bad } else { &self.good };
        let decided = self.scheduler.handle_outcome(self.now, id, attempt, &mut self.rng).expect("on its way");
        self.scheduler.handle_settled(id);
        !matches!(decided.step, Step::Retry { .. })
    }

    /// Time of one cycle, in nanoseconds.
    fn round(&mut self) -> f64 {
        self.prepare(CYCLES + IN_FLIGHT_MAX);
        let mut on_their_way = Vec::with_capacity(IN_FLIGHT_MAX);
        let (before, began) = (self.attempts, support::now());
        while self.attempts - before < CYCLES {
            self.turn(&mut on_their_way);
        }
        began.elapsed().as_nanos() as f64 / (self.attempts - before) as f64
    }
}

/// The median cycle's time of some rounds, in nanoseconds.
fn measure(what: &str, scene: Scene) -> f64 {
    let mut drive = Drive::new(scene);
    drive.round(); // windows open, tables grow
    let mut rounds: Vec<f64> = (0..ROUNDS).map(|_| drive.round()).collect();
    rounds.sort_unstable_by(f64::total_cmp);
    let cycle = rounds[ROUNDS / 2];
    let (cycles, decisions) = (1e9 / cycle, 2e9 / cycle);
    println!("{what:<38}  {:>9}  {cycles:>10.0}  {decisions:>11.0}  {:>11.0}", scene.endpoints, cycle / 2.0);
    cycle
}

/// Instructions of all rounds with that many endpoints, the same on every run; `None` without valgrind.
fn instructions(endpoints: usize) -> Option<f64> {
    let this = std::env::current_exe().expect("a bench has a path");
    let mut valgrind = std::process::Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--toggle-collect=scheduler::Drive::round"]);
    let output = valgrind.arg(this).arg(endpoints.to_string()).output().ok()?;
    let told = String::from_utf8_lossy(&output.stderr);
    let (_, counted) = told.split_once("Collected : ").unwrap_or_else(|| panic!("valgrind counted nothing: {told}"));
    let counted = counted.split_whitespace().next().expect("a number follows");
    Some(counted.parse().expect("a number"))
}

fn main() {
    // A number of endpoints alone runs that scene only: for a profiler, or one that counts instructions.
    if let Some(endpoints) = std::env::args().find_map(|argument| argument.parse().ok()) {
        measure("plain", Scene { endpoints, ..Scene::PLAIN });
        return;
    }
    println!("{ACTIVE} active deliveries; a cycle is accept, dispatch, outcome, settled: two decisions");
    println!("{:<38}  endpoints    cycles/s  decisions/s  ns/decision", "");
    let series = [10, 100, 1000, 10_000].map(|endpoints| measure("plain", Scene { endpoints, ..Scene::PLAIN }));
    let by_key = Scene { order: Order::Key, ..Scene::PLAIN };
    measure("order = \"key\"", by_key);
    measure("order = \"endpoint\"", Scene { order: Order::Endpoint, ..Scene::PLAIN });
    measure("one in ten fails and is retried", Scene { fails: 10, ..Scene::PLAIN });
    measure("one lane in ten is open", Scene { open: 10, ..Scene::PLAIN });
    measure("by key, one in ten fails, one in ten open", Scene { fails: 10, open: 10, ..by_key });
    let decisions = 2e9 / series[2];
    let longer = series[3] / series[0];
    println!(
        "with 1000 endpoints: {decisions:.0} decisions/s; with 10 000 one takes {longer:.2} times as long as with 10"
    );
    assert!(decisions >= DECISIONS_MIN, "fewer than {DECISIONS_MIN} decisions/s");
    assert!(longer <= TIME_MAX, "a decision takes {longer:.2} times as long");
    let Some((few, many)) = instructions(10).zip(instructions(10_000)) else {
        println!("valgrind is not installed: instructions were not counted");
        return;
    };
    println!("in instructions it costs {:.2} times as much", many / few);
    assert!(many / few <= WORK_MAX, "the work of a decision is not flat: {:.2} times", many / few);
}
