//! How long a line is held by one that fails, and since when the others wait.

use crate::core::attempt::{Failure, FailureClass};
use crate::core::delivery::State;
use crate::core::endpoint::Order;
use crate::core::standing::PauseCause;

use super::*;

const MINUTE: Duration = Duration::from_secs(60);
const HOLD_MAX: Duration = Duration::from_secs(300);

/// What cannot be the delivery's own fault, or others might go to see.
fn unreached() -> Attempt {
    let reply = Reply::Failure(Failure { class: FailureClass::Refused, detail: String::new() });
    let outcome = Outcome::classify(&reply, &StatusSet::default());
    Attempt { reply, outcome, ..answered(500, None) }
}

/// An endpoint "a" that does not take whatever has the key "bad", and the events it gets.
struct Scene {
    scheduler: Scheduler,
    rng: fastrand::Rng,
    ids: std::vec::IntoIter<EventId>,
    now: Timestamp,
    a: Name,
    bad: Vec<DeliveryId>,
    sent: Vec<Dispatch>,
}

impl Scene {
    fn new() -> Self {
        let mut ordered = endpoint("a", 4);
        (ordered.order, ordered.order_hold_max) = (Order::Key, HOLD_MAX);
        ordered.retry.attempts_max = 1000;
        ordered.retry.interval_max = Duration::from_secs(1);
        let scheduler = scheduler(1000, vec![ordered]);
        let (rng, ids, a) = (fastrand::Rng::with_seed(1), ids(1000).into_iter(), Name::new("a").unwrap());
        Self { scheduler, rng, ids, now: NOW, a, bad: vec![], sent: vec![] }
    }

    fn accept(&mut self, key: &str) -> DeliveryId {
        let id = self.ids.next().unwrap().delivery(0);
        self.scheduler.handle_accepted(id, &self.a, self.now, Some(key));
        if key == "bad" {
            self.bad.push(id);
        }
        id
    }

    /// Second by second: what may go goes and is answered at once.
    fn pass(&mut self, span: Duration) {
        for _ in 0..span.as_secs() {
            self.now = self.now.after(Duration::from_secs(1));
            while let Some(sent) = self.scheduler.poll_dispatch(self.now) {
                let attempt = if self.bad.contains(&sent.id) { unreached() } else { answered(200, None) };
                self.scheduler.handle_outcome(self.now, sent.id, &attempt, &mut self.rng).unwrap();
                self.scheduler.handle_settled(sent.id);
                self.sent.push(sent);
            }
        }
    }

    fn pause(&mut self, span: Duration) {
        let pause = Pause { since: self.now, cause: PauseCause::Operator, note: String::new() };
        self.scheduler.handle_paused(&self.a, pause);
        self.pass(span);
        self.scheduler.handle_resumed(self.now, &self.a);
    }

    fn wait(&self, id: DeliveryId, received_at: Timestamp) -> Wait {
        let state = State::Scheduled { due: received_at };
        let delivery = Delivery {
            id,
            endpoint: self.a.clone(),
            state,
            reason: Reason::Received,
            changed_at: received_at,
            born_at: received_at,
            attempts: 0,
            probes: 0,
            out_of_order: false,
            last_status: None,
            last_failure: None,
            group: None,
            replay: None,
            superseded: false,
            has_payload: true,
        };
        self.scheduler.wait(self.now, &delivery).unwrap()
    }
}

/// An endpoint that is away every other minute holds its lines for as long as it was there, not for ever.
#[test]
fn good_times_add_up_where_an_endpoint_comes_and_goes() {
    let mut scene = Scene::new();
    let head = scene.accept("bad");
    let behind = scene.accept("bad");
    let mut there = Duration::ZERO;
    while !scene.sent.iter().any(|sent| sent.id == behind) {
        // These end the ramp after a pause at once: the one that fails is no probe again and again.
        for number in 0..8 {
            scene.accept(&format!("good-{number}"));
        }
        scene.pass(MINUTE);
        there += MINUTE;
        assert!(there <= HOLD_MAX + 2 * MINUTE, "it is held though the endpoint was there for {there:?}");
        scene.pause(MINUTE);
    }
    assert!(there >= HOLD_MAX, "it passed when the endpoint had been there for {there:?}");
    let passed = scene.sent.iter().find(|sent| sent.id == behind).unwrap();
    assert!(passed.out_of_order && scene.sent.iter().any(|sent| sent.id == head));
}

/// Each obstacle counts from when it became the one that is in the way.
#[test]
fn a_wait_is_told_since_its_own_obstacle_began() {
    let mut scene = Scene::new();
    scene.accept("bad");
    let received_at = scene.now;
    let behind = scene.accept("bad");
    let last = scene.accept("bad");
    scene.pass(MINUTE);
    let wait = scene.wait(behind, received_at);
    assert!(matches!(wait.on, On::Line { .. }), "{wait:?}");
    assert_eq!(wait.since, received_at);
    let mut released_at = None;
    for _ in 0..HOLD_MAX.as_secs() {
        scene.pass(Duration::from_secs(1));
        let passed = scene.sent.iter().any(|sent| sent.id == behind);
        released_at = released_at.or(passed.then_some(scene.now));
    }
    // The second one fails now as well, and the third waits for it since it has the place of the first.
    let wait = scene.wait(last, received_at);
    assert!(matches!(wait.on, On::Line { behind: first, .. } if first == behind), "{wait:?}");
    assert_eq!(Some(wait.since), released_at);
}

#[test]
fn after_a_pause_a_full_window_is_waited_for_since_the_pause_ended() {
    let mut scene = Scene::new();
    scene.accept("good");
    scene.pass(MINUTE);
    let received_at = scene.now;
    let waiting: Vec<DeliveryId> = (0..9).map(|number| scene.accept(&number.to_string())).collect();
    scene.pause(MINUTE);
    let resumed_at = scene.now;
    let later = |seconds| resumed_at.after(Duration::from_secs(seconds));
    // The first one closes the circuit, the next ones fill the window.
    let first = scene.scheduler.poll_dispatch(later(1)).unwrap();
    scene.scheduler.handle_outcome(later(2), first.id, &answered(200, None), &mut scene.rng).unwrap();
    scene.scheduler.handle_settled(first.id);
    while let Some(sent) = scene.scheduler.poll_dispatch(later(3)) {
        scene.scheduler.handle_outcome(later(3), sent.id, &answered(200, None), &mut scene.rng).unwrap();
    }
    scene.now = later(5);
    let last = *waiting.last().unwrap();
    let wait = scene.wait(last, received_at);
    assert_eq!((wait.on, wait.since), (On::Window { limit: 4 }, later(3)));
}
