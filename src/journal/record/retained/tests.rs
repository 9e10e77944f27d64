//! What retention leaves round-trips, half of it is none, and what was ever written can be read.

use std::time::Duration;

use super::*;
use crate::core::attempt::{Answer, Outcome, Reply};
use crate::core::breaker::Circuit;
use crate::core::standing::Standing;

/// Such a record as this version writes it. It is never written again.
const GOLDEN: &[u8] = include_bytes!("../../../../tests/golden/retained-1.record");

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

const fn time(millis: u64) -> Timestamp {
    Timestamp::from_millis(1_790_000_000_000 + millis)
}

fn event() -> Event {
    let dedup = Some(Dedup { fingerprint: Fingerprint(*b"0123456789abcdef"), window: Duration::from_secs(86_400) });
    let draft = Draft {
        source: name("flyflow"),
        event_type: "call_ended".to_owned(),
        key: Some("call-1".to_owned()),
        occurred_at: Some(time(0)),
        headers: vec![Header { name: "content-type".to_owned(), value: Bytes::from_static(b"application/json") }],
        body: Bytes::from_static(b"{}"),
        dedup,
        endpoints: vec![name("crm"), name("old-crm"), name("billing")],
    };
    Event { id: EventId::from_u128(0x0198_0000_0000_7000_8000_0000_0000_0001), received_at: time(1), draft }
}

fn attempt() -> Attempt {
    let (headers, body) = (Vec::new(), Bytes::from_static(b"no"));
    let answer = Answer { status: 503, headers, body, body_cut: true, retry_after: None };
    let (reply, outcome) = (Reply::Answer(answer), Outcome::Throttled);
    Attempt { number: 1, started_at: time(3), took_ms: 12, reply, outcome, probe: true, out_of_order: false }
}

/// A delivery of every state, one that waits after an attempt and one that was made again.
fn carried(has_payload: bool) -> Carried {
    let event = event();
    let mut entry = Entry::accepted(&event, Position(7));
    let replay = Some(ReplayId::from_u128(0x0198_0000_0000_7000_8000_0000_0000_0003));
    entry.deliver_again(3, &name("crm"), time(5), replay, Position(9));
    entry.expire(1, time(9), Position(9));
    entry.cancel(2, time(8), Position(9));
    if let Some(slot) = entry.slots.first_mut() {
        slot.state = State::Scheduled { due: time(90) };
        slot.reason = Reason::RetryAfter;
        (slot.attempts, slot.probes, slot.tried_at) = (1, 1, Some(time(3)));
        (slot.last_status, slot.out_of_order) = (Some(503), true);
        slot.group = Some(FailureGroup::from_u64(77));
    }
    let Draft { headers, body, dedup, .. } = event.draft;
    let payload = Payload { headers, body, attempts: vec![vec![attempt()], vec![], vec![], vec![]] };
    Carried::new(&entry, dedup, has_payload.then_some(payload))
}

fn sample() -> Record {
    let mut counters = Counters { accepted: 9, unrouted: 2, dropped: 9, ..Counters::default() };
    let tally = Tally { routed: 7, replayed: 1, attempts: 12, delivered: 6, dead: 2, failed: 1, ..Tally::default() };
    counters.endpoints.insert(name("crm"), tally);
    counters.replays.insert(ReplayId::from_u128(3), tally);
    let standing = Standing { circuit: Circuit::Closed, held_until: time(4), ..Standing::default() };
    Record::Retained(Retained {
        forgotten: vec![EventId::from_u128(1), EventId::from_u128(2)],
        carried: vec![carried(true), carried(false)],
        remains: Remains { counters, up_to: Position(4096) },
        again: vec![Record::Stood { endpoint: name("crm"), standing }],
        forgotten_replays: Vec::new(),
        last_id: 1 << 100,
    })
}

fn encoded(record: &Record) -> Vec<u8> {
    let mut bytes = Vec::new();
    record.encode(&mut bytes);
    bytes
}

#[test]
fn it_round_trips_and_a_part_of_it_is_none() {
    let bytes = encoded(&sample());
    assert_eq!(Record::decode(bytes.clone().into()), Some(sample()));
    for len in 0..bytes.len() {
        assert_eq!(Record::decode(bytes[..len].to_vec().into()), None, "{len} bytes");
    }
}

#[test]
fn what_is_out_there_reads_back_and_is_written_the_same() {
    assert_eq!(Record::decode(Bytes::from_static(GOLDEN)), Some(sample()));
    assert!(encoded(&sample()) == GOLDEN, "today's code writes other bytes");
}

#[test]
fn a_changed_byte_never_panics() {
    let bytes = encoded(&sample());
    for at in 0..bytes.len() {
        for to in [0, 1, 0x7f, 0xff] {
            let mut changed = bytes.clone();
            changed[at] = to;
            let _read = Record::decode(changed.into());
        }
    }
}

#[test]
fn what_is_carried_whole_is_the_event_again() {
    assert_eq!(carried(true).event().as_deref(), Some(&event()));
    assert_eq!(carried(true).attempts(0), [attempt()]);
    assert!(carried(false).event().is_none() && carried(false).attempts(0).is_empty());
    let entry = carried(true).entry_at(Position(64));
    let places: Vec<_> = entry.slots.iter().map(|slot| (slot.made_by.0, slot.last_place.0, slot.ended_by.0)).collect();
    assert_eq!(places, [(0, 64, 0), (0, 0, 64), (0, 0, 64), (64, 0, 0)]);
}

#[test]
fn one_within_another_is_refused() {
    let within = Retained { again: vec![Record::Retained(Retained::default())], ..Retained::default() };
    assert_eq!(Record::decode(encoded(&Record::Retained(within)).into()), None);
}
