//! Nobody starves, nobody gets more than a fair share, and a rate is kept and used.

use proptest::prelude::*;

use super::*;
use crate::core::rate::Rate;

fn name(index: usize) -> Name {
    Name::new(&format!("e{index}")).unwrap()
}

fn crowd(in_flight_max: usize, concurrency: &[usize]) -> Scheduler {
    let limits = Limits { active_max: 10_000, ordered_max: 10_000, in_flight_max };
    let lots = concurrency.iter().enumerate().map(|(index, max)| lot(endpoint(name(index).as_str(), *max)));
    let mut scheduler = Scheduler::new(limits, lots.collect());
    feed_nothing(&mut scheduler);
    scheduler
}

fn land(scheduler: &mut Scheduler, now: Timestamp, id: DeliveryId) {
    scheduler.handle_outcome(now, id, &answered(200, None), &mut fastrand::Rng::with_seed(1)).unwrap();
    scheduler.handle_settled(id);
}

/// The slots that hang are taken for good; whoever has none on its way must still get the free ones.
#[test]
fn endpoints_that_hang_leave_slots_to_one_that_does_not() {
    let hanging = 6;
    let mut scheduler = crowd(8, &[4; 7]);
    for event in ids(50) {
        (0..=hanging).for_each(|lane| {
            scheduler.handle_accepted(event.delivery(u16::try_from(lane).unwrap()), &name(lane), NOW, None);
        });
    }
    let mut flying = vec![];
    let mut delivered = 0;
    while delivered < 50 {
        let sent: Vec<Dispatch> = std::iter::from_fn(|| scheduler.poll_dispatch(NOW)).collect();
        flying.extend(sent.into_iter().filter(|sent| sent.endpoint == name(hanging)));
        let sent = flying.pop().unwrap_or_else(|| panic!("it starves after {delivered}"));
        land(&mut scheduler, NOW, sent.id);
        delivered += 1;
    }
}

#[test]
fn retries_and_first_attempts_alternate_while_there_are_both() {
    let mut scheduler = crowd(100, &[1]);
    let ids = ids(60);
    let retries: Vec<Active> =
        ids[..30].iter().map(|id| Active { attempts: 1, ..Active::fresh(id.delivery(0), NOW, None) }).collect();
    scheduler.handle_replayed(&name(0), NOW);
    assert!(matches!(scheduler.poll_refill(), Some(Refill::Waiting { .. })));
    scheduler.handle_waiting(NOW, &name(0), &retries, true);
    for id in &ids[30..] {
        scheduler.handle_accepted(id.delivery(0), &name(0), NOW, None);
    }
    let mut attempts = vec![];
    while let Some(sent) = scheduler.poll_dispatch(NOW) {
        attempts.push(sent.attempt);
        land(&mut scheduler, NOW, sent.id);
    }
    assert_eq!(attempts.len(), 60);
    assert!(attempts.windows(2).all(|pair| pair[0] != pair[1]), "{attempts:?}");
}

#[test]
fn what_replays_made_goes_when_nothing_else_is_to_go() {
    let mut scheduler = crowd(100, &[1]);
    let ids = ids(40);
    let made = |id: &EventId| Active { yields: true, ..Active::fresh(id.delivery(1), NOW, None) };
    let retry = Active { attempts: 1, ..Active::fresh(ids[39].delivery(0), NOW, None) };
    let waiting: Vec<Active> = ids[..10].iter().map(made).chain([retry]).collect();
    scheduler.handle_replayed(&name(0), NOW);
    assert!(matches!(scheduler.poll_refill(), Some(Refill::Waiting { .. })));
    scheduler.handle_waiting(NOW, &name(0), &waiting, true);
    for id in &ids[10..30] {
        scheduler.handle_accepted(id.delivery(0), &name(0), NOW, None);
    }
    let mut sent = vec![];
    while let Some(dispatch) = scheduler.poll_dispatch(NOW) {
        sent.push(dispatch.id);
        land(&mut scheduler, NOW, dispatch.id);
        // More comes in while there are some to be replayed.
        if sent.len() == 25 {
            scheduler.handle_accepted(ids[30].delivery(0), &name(0), NOW, None);
        }
    }
    let is_replayed: Vec<bool> = sent.iter().map(|id| id.slot == 1).collect();
    assert_eq!(is_replayed.iter().filter(|is| **is).count(), 10);
    assert_eq!((&is_replayed[..21], &is_replayed[21..25]), (&[false; 21][..], &[true; 4][..]), "{is_replayed:?}");
    assert_eq!((is_replayed[25], &is_replayed[26..]), (false, &[true; 6][..]), "what comes in goes first");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// However crowded the gateway is: between two departures of an endpoint that answers, and has more to get,
    /// there are no more than a few turns of all the others.
    #[test]
    fn whoever_answers_is_served_again_within_a_few_turns(
        hangs in prop::collection::vec(any::<bool>(), 2..12),
        concurrency in 1_usize..8,
        spare in 1_usize..20,
    ) {
        let lanes = hangs.len();
        // What hangs cannot take everything: there is a slot for each of the others.
        let mut scheduler = crowd(lanes + spare, &vec![concurrency; lanes]);
        for event in ids(300) {
            for lane in 0..lanes {
                scheduler.handle_accepted(event.delivery(u16::try_from(lane).unwrap()), &name(lane), NOW, None);
            }
        }
        let mut flying = vec![];
        let mut waited = vec![0; lanes];
        for _ in 0..200 {
            while let Some(sent) = scheduler.poll_dispatch(NOW) {
                prop_assert!(scheduler.in_flight() <= lanes + spare);
                let lane = (0..lanes).find(|lane| name(*lane) == sent.endpoint).unwrap();
                waited.iter_mut().for_each(|turns| *turns += 1);
                waited[lane] = 0;
                if !hangs[lane] {
                    flying.push(sent.id);
                }
            }
            for (lane, turns) in waited.iter().enumerate().filter(|(lane, _)| !hangs[*lane]) {
                prop_assert!(*turns <= 3 * (lanes + spare), "lane {lane} waits for {turns} departures of others");
            }
            if hangs.iter().all(|hangs| *hangs) {
                break;
            }
            prop_assert!(!flying.is_empty(), "nobody that answers has anything on its way");
            let id = flying.remove(0);
            land(&mut scheduler, NOW, id);
        }
    }

    /// Asked whenever it says so, a rate lets go no more than it may and no less than it could.
    #[test]
    fn a_rate_is_kept_and_used(count in 1_u32..500, seconds in 1_u64..60, burst in 1_u32..20) {
        let per = Duration::from_secs(seconds);
        let limited = Endpoint { rate: Some(Rate { count, per, burst }), ..endpoint("e0", 1000) };
        let mut scheduler = Scheduler::new(limits(10_000), vec![lot(limited)]);
        feed_nothing(&mut scheduler);
        let many = ids(200);
        for id in &many {
            scheduler.handle_accepted(id.delivery(0), &name(0), NOW, None);
        }
        let (mut now, mut departed) = (NOW, vec![]);
        while departed.len() < many.len() {
            while let Some(sent) = scheduler.poll_dispatch(now) {
                departed.push(now);
                land(&mut scheduler, now, sent.id);
            }
            if departed.len() < many.len() {
                let next = scheduler.poll_timeout().unwrap();
                prop_assert!(next > now, "it says when");
                now = next;
            }
        }
        let share = |span: Duration| (span.as_millis() + 1) * u128::from(count) / per.as_millis();
        for (first, at) in departed.iter().enumerate() {
            for (nth, later) in departed.iter().enumerate().skip(first) {
                prop_assert!(((nth - first) as u128) < share(later.since(*at)) + 1 + u128::from(burst));
            }
        }
        let even = per.mul_f64((many.len() as f64 - f64::from(burst)).max(0.0) / f64::from(count));
        prop_assert!(now.since(NOW) <= even + Duration::from_millis(2), "{:?} for {even:?}", now.since(NOW));
    }
}
