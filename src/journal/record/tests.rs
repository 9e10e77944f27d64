//! Records round-trip, noise is refused, and what was ever written can be read.

use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::core::delivery::Status;
use crate::core::event::Header;
use crate::core::failure::FailureGroup;
use crate::core::filter::{Filter, Pick};
use crate::core::id::EventId;
use crate::core::rate::Rate;
use crate::core::replay::{Freeze, Hold, ReplayState, Request, Terms};
use crate::core::sealing::SealingKey;
use crate::journal::disk::{Disk, Folder};
use crate::journal::log::Log;
use crate::journal::seal::Keyring;

/// A log of every kind of record, as version 0.1.0 wrote it. It is never written again: if this file's
/// test fails, journals that are out there cannot be read any more.
const GOLDEN_FIRST: &[u8] = include_bytes!("../../../tests/golden/00000000000000000000.log");
/// The same with attempts by version 2, and how endpoints stand.
const GOLDEN_ATTEMPTS: &[u8] = include_bytes!("../../../tests/golden/attempts-2.log");
/// The same with replays by version 2, with their terms.
const GOLDEN_TERMS: &[u8] = include_bytes!("../../../tests/golden/replays-2.log");
/// The same as it is written now: replays by version 3, with who asked for them.
const GOLDEN: &[u8] = include_bytes!("../../../tests/golden/replays-3.log");
/// The same, sealed with the key 00 01 … 1f.
const GOLDEN_SEALED: &[u8] = include_bytes!("../../../tests/golden/sealed-1.log");

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn header(name: &str, value: &'static [u8]) -> Header {
    Header { name: name.to_owned(), value: Bytes::from_static(value) }
}

fn event() -> Event {
    let draft = Draft {
        source: name("flyflow"),
        event_type: "call_ended".to_owned(),
        key: Some("call-1".to_owned()),
        occurred_at: Some(Timestamp::from_millis(1_790_000_000_000)),
        headers: vec![header("content-type", b"application/json"), header("x-raw", b"\xff\x00")],
        body: Bytes::from_static(b"{\"event_type\":\"call_ended\"}"),
        dedup: Some(Dedup { fingerprint: Fingerprint(*b"0123456789abcdef"), window: Duration::from_secs(86_400) }),
        endpoints: vec![name("crm"), name("billing")],
    };
    Event { id: EventId::from_u128(0x0198_0000_0000_7000_8000_0000_0000_0001), received_at: time(1), draft }
}

fn plain_event() -> Event {
    let (headers, endpoints) = (Vec::new(), Vec::new());
    let (key, occurred_at, dedup, body) = (None, None, None, Bytes::new());
    let (source, event_type) = (name("other"), "unknown".to_owned());
    let draft = Draft { source, event_type, key, occurred_at, headers, body, dedup, endpoints };
    Event { id: EventId::from_u128(0x0198_0000_0000_7000_8000_0000_0000_0002), received_at: time(2), draft }
}

const fn time(millis: u64) -> Timestamp {
    Timestamp::from_millis(1_790_000_000_000 + millis)
}

fn delivery(slot: u16) -> DeliveryId {
    event().id.delivery(slot)
}

fn settled(slot: u16, number: u32, step: Step, reason: Reason, outcome: Outcome, reply: Reply) -> Record {
    let attempt =
        Attempt { number, started_at: time(3), took_ms: 12, reply, outcome, probe: false, out_of_order: false };
    let previous = if number > 1 { Position(1234) } else { Position::NONE };
    Record::Settled { settlement: Settlement { id: delivery(slot), attempt, step, reason }, previous }
}

/// The same attempt with these flags.
fn flagged(settled: Record, probe: bool, out_of_order: bool) -> Record {
    let Record::Settled { settlement, previous } = settled else { panic!("{settled:?}") };
    let attempt = Attempt { probe, out_of_order, ..settlement.attempt };
    Record::Settled { settlement: Settlement { attempt, ..settlement }, previous }
}

fn stood(pause: Option<(PauseCause, &str)>, circuit: Circuit) -> Record {
    let pause = pause.map(|(cause, note)| Pause { since: time(8), cause, note: note.to_owned() });
    let standing = Standing { pause, circuit, held_until: time(30_000), available_since: time(9) };
    Record::Stood { endpoint: name("crm"), standing }
}

fn answer(status: u16, retry_after: Option<Duration>) -> Reply {
    let (headers, body) = (vec![header("x-a", b"b")], Bytes::from_static(b"no"));
    Reply::Answer(Answer { status, headers, body, body_cut: true, retry_after })
}

/// One as version 1 has it: without terms, and with what is skipped in one count.
fn plain_replay() -> Replay {
    let filter = Filter {
        endpoint: Some(name("crm")),
        source: Some(name("flyflow")),
        types: vec!["call_*".to_owned()],
        keys: vec!["call-1".to_owned()],
        statuses: vec![Status::Dead, Status::Expired],
        reason: Some(Reason::Gone),
        group: None,
        since: Some(time(0)),
        until: Some(time(9)),
        superseded: true,
        ..Filter::default()
    };
    Replay {
        id: ReplayId::from_u128(0x0198_0000_0000_7000_8000_0000_0000_0003),
        created_at: time(5),
        filter,
        to: Some(name("billing")),
        freeze: Freeze { before: EventId::from_u128(0x0198_0000_0000_7000_8000_0000_0000_0003), at: time(5) },
        terms: Terms::default(),
        request: None,
        by: None,
        cursor: Some(delivery(1)),
        selected: 300,
        queued: 200,
        skipped: Skipped { waiting: 100, ..Skipped::default() },
        state: ReplayState::Running,
        hold: None,
        canary_passed: false,
        forgiven: 0,
    }
}

/// One with everything that version 2 knows.
fn replay() -> Replay {
    let plain = plain_replay();
    let filter = Filter {
        keys: vec!["call-1".to_owned(), "call-2".to_owned()],
        picks: vec![Pick::Event(delivery(1).event), Pick::Delivery(delivery(2))],
        occurred_since: Some(time(1)),
        occurred_until: Some(time(8)),
        replay: Some(ReplayId::from_u128(5)),
        group: Some(FailureGroup::from_u64(6)),
        ..plain.filter.clone()
    };
    let terms = Terms {
        rate: Some(Rate { count: 10, per: Duration::from_secs(1), burst: 5 }),
        newest_first: true,
        max_ages: vec![("tool_call".to_owned(), Duration::from_secs(300))],
        skip_if_delivered_later: true,
        stop_after_failures: Some(7),
        canary: Some(3),
    };
    Replay {
        freeze: Freeze { before: EventId::from_u128(9), at: time(4) },
        filter,
        terms,
        request: Some(Request { key: "k".to_owned(), digest: [9; 16] }),
        skipped: Skipped { waiting: 1, too_old: 2, delivered_later: 3, body_gone: 4, nowhere: 5 },
        state: ReplayState::Paused,
        hold: Some(Hold::Canary),
        canary_passed: true,
        forgiven: 4,
        ..plain
    }
}

/// What version 0.1.0 knew: every kind, and every variant within the kinds.
fn first_samples() -> Vec<Record> {
    let failure = Failure { class: FailureClass::TimeoutAfterSent, detail: "no answer in 15 s".to_owned() };
    let retry = Step::Retry { due: time(500) };
    let throttled = answer(503, Some(Duration::from_secs(7)));
    let advanced = ReplayAdvanced {
        id: plain_replay().id,
        cursor: Some(delivery(1)),
        selected: 2,
        skipped: Skipped { waiting: 1, ..Skipped::default() },
        made: vec![(delivery(2), name("billing"))],
        at: time(6),
        finished: false,
    };
    vec![
        Record::Opened(Opened { at: time(0), version: "0.1.0".to_owned(), torn: vec![(Position(4096), 512)] }),
        Record::Accepted(Arc::new(event())),
        Record::Accepted(Arc::new(plain_event())),
        settled(0, 1, retry, Reason::RetryAfter, Outcome::Throttled, throttled),
        settled(0, 2, retry, Reason::Backoff, Outcome::MaybeDelivered, Reply::Failure(failure)),
        settled(0, 3, Step::Succeed, Reason::Acknowledged, Outcome::Delivered, answer(204, None)),
        settled(1, 1, Step::GiveUp, Reason::Gone, Outcome::Permanent, answer(410, None)),
        Record::Cancelled { id: delivery(1), at: time(4) },
        Record::Redelivered { id: delivery(2), endpoint: name("crm"), at: time(4) },
        Record::ReplayOpened(Box::new(plain_replay())),
        Record::ReplayAdvanced(advanced.clone()),
        Record::ReplayAdvanced(ReplayAdvanced { cursor: None, made: Vec::new(), finished: true, ..advanced }),
        Record::ReplayCancelled { id: plain_replay().id, at: time(7) },
    ]
}

/// What came with version 2 of attempts.
fn second_samples() -> Vec<Record> {
    let failed =
        || settled(1, 2, Step::Retry { due: time(500) }, Reason::ProbeFailed, Outcome::Retryable, answer(500, None));
    let (since, probe_at) = (time(10), time(5_010));
    let open = |cause, sign| Circuit::Open { since, cause, sign, probe_at, probes: 2 };
    let mut samples = first_samples();
    samples.extend([
        flagged(failed(), true, false),
        flagged(failed(), false, true),
        flagged(failed(), true, true),
        stood(None, Circuit::Closed),
        stood(Some((PauseCause::Operator, "for maintenance")), Circuit::HalfOpen { since, allowed: 4 }),
        stood(Some((PauseCause::Gone, "")), open(TripCause::ConsecutiveFailures, Sign::Status(503))),
        stood(None, open(TripCause::FailureRate, Sign::Failure(FailureClass::Refused))),
        Record::Stood { endpoint: name("billing"), standing: Standing::default() },
    ]);
    samples
}

/// Every kind, and every variant within the kinds.
fn samples() -> Vec<Record> {
    let mut samples = third_samples();
    samples.push(Record::ReplayOpened(Box::new(Replay { by: Some(name("oncall")), ..replay() })));
    samples
}

/// What came with version 2 of replays.
fn third_samples() -> Vec<Record> {
    let id = replay().id;
    let advanced = ReplayAdvanced {
        id,
        cursor: Some(delivery(3)),
        selected: 16,
        skipped: replay().skipped,
        made: vec![(delivery(3), name("crm"))],
        at: time(8),
        finished: true,
    };
    let turns = [Hold::Operator, Hold::Failures, Hold::Canary].map(Turn::Pause);
    let turns = turns.into_iter().chain([Turn::Resume { forgiven: 3 }, Turn::PassCanary]);
    let mut samples = second_samples();
    samples.extend([Record::ReplayOpened(Box::new(replay())), Record::ReplayAdvanced(advanced)]);
    samples.extend(turns.map(|turn| Record::ReplayTurned { id, turn, at: time(9) }));
    samples
}

fn encode(record: &Record) -> Vec<u8> {
    let mut bytes = Vec::new();
    record.encode(&mut bytes);
    bytes
}

fn open(dir: &Path, keys: &[SealingKey]) -> (Log, Vec<Record>) {
    let folder: Arc<dyn Disk> = Arc::new(Folder::open(dir).unwrap());
    let mut records = Vec::new();
    let (log, findings) = Log::open::<std::io::Error>(
        folder,
        Keyring::new(keys.to_vec(), "journal"),
        4096,
        Position::NONE,
        |_, payload| {
            records.push(Record::decode(payload).unwrap());
            Ok(())
        },
    )
    .unwrap();
    assert_eq!((findings.torn, findings.damaged), (vec![], vec![]));
    (log, records)
}

#[test]
fn every_kind_round_trips_and_half_of_one_is_none() {
    let mut kinds = Vec::new();
    for record in samples() {
        let bytes = encode(&record);
        kinds.push(bytes[1]);
        assert_eq!(Record::decode(bytes.clone().into()), Some(record.clone()));
        for len in 0..bytes.len() {
            assert_eq!(Record::decode(bytes[..len].to_vec().into()), None, "{len} bytes of {record:?}");
        }
        let too_long = [bytes.as_slice(), b"\0"].concat();
        assert_eq!(Record::decode(too_long.into()), None);
        let newer = [&[bytes[0] + 1], &bytes[1..]].concat();
        assert_eq!(Record::decode(newer.into()), None);
    }
    kinds.sort_unstable();
    kinds.dedup();
    assert_eq!(kinds, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
}

#[test]
fn an_attempt_with_an_unknown_flag_is_not_read() {
    let plain = first_samples().into_iter().find(|record| matches!(record, Record::Settled { .. })).unwrap();
    let mut bytes = encode(&plain);
    assert_eq!(bytes.pop(), Some(0), "the flags come last");
    for flags in 0..=u8::MAX {
        let read = Record::decode([bytes.as_slice(), &[flags]].concat().into());
        let known = flags < 4;
        assert_eq!(read, known.then(|| flagged(plain.clone(), flags & 1 == 1, flags & 2 == 2)));
    }
}

/// Opens a log of these bytes: `expected` stands in it, and opening changes nothing.
fn assert_reads(bytes: &[u8], keys: &[SealingKey], expected: &[Record]) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("00000000000000000000.log");
    std::fs::write(&file, bytes).unwrap();
    let (log, records) = open(dir.path(), keys);
    assert_eq!(records, expected);
    drop(log);
    assert!(std::fs::read(&file).unwrap() == bytes, "opening changes nothing of a whole log");
}

#[test]
fn what_was_written_before_reads_back() {
    assert_reads(GOLDEN_FIRST, &[], &first_samples());
    assert_reads(GOLDEN_ATTEMPTS, &[], &second_samples());
    assert_reads(GOLDEN_TERMS, &[], &third_samples());
}

#[test]
fn what_is_written_now_reads_back_and_is_written_the_same() {
    assert_reads(GOLDEN, &[], &samples());
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(dir.path(), &[]);
    log.append(&samples(), Record::encode).unwrap();
    let written = std::fs::read(dir.path().join("00000000000000000000.log")).unwrap();
    assert!(written == GOLDEN, "today's code writes other bytes");
}

/// No two sealed logs have the same bytes; they have the same lengths.
#[test]
fn what_was_sealed_before_reads_back_and_is_sealed_the_same_way() {
    let key = SealingKey::parse("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f").unwrap();
    let keys = [key];
    assert_reads(GOLDEN_SEALED, &keys, &samples());
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(dir.path(), &keys);
    log.append(&samples(), Record::encode).unwrap();
    let written = std::fs::read(dir.path().join("00000000000000000000.log")).unwrap();
    let used = |bytes: &[u8]| bytes.iter().rposition(|byte| *byte != 0).unwrap() / 8;
    assert_eq!((&written[..32], used(&written)), (&GOLDEN_SEALED[..32], used(GOLDEN_SEALED)));
    assert!(written != GOLDEN_SEALED);
}

fn any_name() -> impl Strategy<Value = Name> {
    "[a-z0-9][a-z0-9_-]{0,63}".prop_map(|text| name(&text))
}

fn any_headers() -> impl Strategy<Value = Vec<Header>> {
    let header = ("[a-z-]{1,20}", any::<Vec<u8>>()).prop_map(|(name, value)| Header { name, value: value.into() });
    prop::collection::vec(header, 0..4)
}

fn any_time() -> impl Strategy<Value = Timestamp> {
    any::<u64>().prop_map(Timestamp::from_millis)
}

fn any_delivery() -> impl Strategy<Value = DeliveryId> {
    any::<(u128, u16)>().prop_map(|(event, slot)| EventId::from_u128(event).delivery(slot))
}

prop_compose! {
    fn any_event()(
        (id, received_at, occurred_at) in (any::<u128>(), any_time(), prop::option::of(any_time())),
        (source, event_type, key) in (any_name(), ".{0,40}", prop::option::of(".{0,40}")),
        (headers, body) in (any_headers(), any::<Vec<u8>>()),
        dedup in prop::option::of(any::<([u8; 16], u64)>()),
        endpoints in prop::collection::vec(any_name(), 0..5),
    ) -> Event {
        let print = |(print, window)| Dedup { fingerprint: Fingerprint(print), window: Duration::from_millis(window) };
        let dedup = dedup.map(print);
        let draft = Draft { source, event_type, key, occurred_at, headers, body: body.into(), dedup, endpoints };
        Event { id: EventId::from_u128(id), received_at, draft }
    }
}

prop_compose! {
    fn any_reply()(
        status: u16, headers in any_headers(), body: Vec<u8>, body_cut: bool,
        retry_after in prop::option::of(any::<u64>()), class in 0u8..20, detail in ".{0,40}",
    ) -> Reply {
        match FailureClass::from_code(class) {
            Some(class) => Reply::Failure(Failure { class, detail }),
            None => {
                let retry_after = retry_after.map(Duration::from_millis);
                Reply::Answer(Answer { status, headers, body: body.into(), body_cut, retry_after })
            }
        }
    }
}

prop_compose! {
    fn any_settled()(
        id in any_delivery(), number: u32, started_at in any_time(), took_ms: u32, reply in any_reply(),
        outcome in (1u8..6).prop_map(|code| Outcome::from_code(code).unwrap()),
        reason in prop::sample::select(Reason::ALL.to_vec()),
        step in prop_oneof![
            any_time().prop_map(|due| Step::Retry { due }), Just(Step::Succeed), Just(Step::GiveUp),
        ],
        previous: u64, (probe, out_of_order) in any::<(bool, bool)>(),
    ) -> Record {
        let attempt = Attempt { number, started_at, took_ms, reply, outcome, probe, out_of_order };
        Record::Settled { settlement: Settlement { id, attempt, step, reason }, previous: Position(previous) }
    }
}

prop_compose! {
    fn any_replay()(
        (id, created_at) in (any::<u128>(), any_time()),
        (endpoint, source, to) in prop::array::uniform3(prop::option::of(any_name())).prop_map(|names| names.into()),
        (types, keys) in (prop::collection::vec(".{0,9}", 0..3), prop::collection::vec(".{0,9}", 0..3)),
        statuses in prop::sample::subsequence(Status::ALL.to_vec(), 0..=6),
        reason in prop::option::of(prop::sample::select(Reason::ALL.to_vec())),
        (since, until) in (prop::option::of(any_time()), prop::option::of(any_time())),
        (superseded, unrouted) in any::<(bool, bool)>(), cursor in prop::option::of(any_delivery()),
        (selected, queued, skipped) in (any::<u64>(), any::<u64>(), any_skipped()), terms in any_terms(),
        (picks, occurred) in (prop::collection::vec(any_pick(), 0..3), prop::option::of(any_time())),
        (request, made_by) in (prop::option::of((".{0,9}", any::<[u8; 16]>())), prop::option::of(any::<u128>())),
        (group, by) in (any::<Option<u64>>(), prop::option::of(any_name())), (hold, canary_passed, forgiven) in (prop::option::of(1u8..4), any::<bool>(), any::<u64>()),
        state in (1u8..5).prop_map(|code| ReplayState::from_code(code).unwrap()),
    ) -> Replay {
        let filter = Filter {
            endpoint, source, types, keys, statuses, reason, since, until, superseded, unrouted,
            picks, occurred_since: occurred, occurred_until: since, group: group.map(FailureGroup::from_u64), replay: made_by.map(ReplayId::from_u128),
        };
        let request = request.map(|(key, digest)| Request { key, digest });
        let hold = hold.map(|code| Hold::from_code(code).unwrap());
        let id = ReplayId::from_u128(id);
        Replay {
            id, created_at, filter, freeze: Freeze { before: EventId::from_u128(u128::from(forgiven)), at: created_at }, to, terms, request, by, cursor, selected, queued, skipped, state, hold, canary_passed,
            forgiven,
        }
    }
}

prop_compose! {
    fn any_skipped()(counts in any::<[u64; 5]>()) -> Skipped {
        let [waiting, too_old, delivered_later, body_gone, nowhere] = counts;
        Skipped { waiting, too_old, delivered_later, body_gone, nowhere }
    }
}

fn any_pick() -> impl Strategy<Value = Pick> {
    prop_oneof![any_delivery().prop_map(|id| Pick::Event(id.event)), any_delivery().prop_map(Pick::Delivery)]
}

prop_compose! {
    fn any_terms()(
        rate in prop::option::of((1u32.., 1u64..1 << 40, 1u32..)), flags in any::<(bool, bool)>(),
        max_ages in prop::collection::vec((".{0,9}", (0u64..1 << 40).prop_map(Duration::from_millis)), 0..3),
        (stop_after_failures, canary) in any::<(Option<u64>, Option<u64>)>(),
    ) -> Terms {
        let rate = rate.map(|(count, per, burst)| Rate { count, per: Duration::from_millis(per), burst });
        let (newest_first, skip_if_delivered_later) = flags;
        Terms { rate, newest_first, max_ages, skip_if_delivered_later, stop_after_failures, canary }
    }
}

prop_compose! {
    fn any_advanced()(
        id: u128, cursor in prop::option::of(any_delivery()), (selected, skipped) in (any::<u64>(), any_skipped()),
        made in prop::collection::vec((any_delivery(), any_name()), 0..4), at in any_time(), finished: bool,
    ) -> ReplayAdvanced {
        ReplayAdvanced { id: ReplayId::from_u128(id), cursor, selected, skipped, made, at, finished }
    }
}

fn any_circuit() -> impl Strategy<Value = Circuit> {
    let sign = prop_oneof![
        any::<u16>().prop_map(Sign::Status),
        prop::sample::select(FailureClass::ALL.to_vec()).prop_map(Sign::Failure),
    ];
    let cause = prop::sample::select(vec![TripCause::ConsecutiveFailures, TripCause::FailureRate]);
    let open = (any_time(), cause, sign, any_time(), any::<u32>());
    prop_oneof![
        Just(Circuit::Closed),
        open.prop_map(|(since, cause, sign, probe_at, probes)| Circuit::Open { since, cause, sign, probe_at, probes }),
        (any_time(), any::<u32>()).prop_map(|(since, allowed)| Circuit::HalfOpen { since, allowed }),
    ]
}

prop_compose! {
    fn any_stood()(
        endpoint in any_name(), circuit in any_circuit(), (held_until, available_since) in (any_time(), any_time()),
        pause in prop::option::of((any_time(), any::<bool>(), ".{0,40}")),
    ) -> Record {
        let cause = |gone| if gone { PauseCause::Gone } else { PauseCause::Operator };
        let pause = pause.map(|(since, gone, note)| Pause { since, cause: cause(gone), note });
        Record::Stood { endpoint, standing: Standing { pause, circuit, held_until, available_since } }
    }
}

fn any_record() -> impl Strategy<Value = Record> {
    let torn = prop::collection::vec((any::<u64>().prop_map(Position), any::<u64>()), 0..3);
    let opened = (any_time(), ".{0,9}", torn).prop_map(|(at, version, torn)| Opened { at, version, torn });
    prop_oneof![
        opened.prop_map(Record::Opened),
        any_event().prop_map(|event| Record::Accepted(Arc::new(event))),
        any_settled(),
        (any_delivery(), any_time()).prop_map(|(id, at)| Record::Cancelled { id, at }),
        (any_delivery(), any_name(), any_time()).prop_map(|(id, endpoint, at)| Record::Redelivered {
            id,
            endpoint,
            at
        }),
        any_replay().prop_map(|replay| Record::ReplayOpened(Box::new(replay))),
        any_advanced().prop_map(Record::ReplayAdvanced),
        (any::<u128>(), any_time()).prop_map(|(id, at)| Record::ReplayCancelled { id: ReplayId::from_u128(id), at }),
        any_stood(),
    ]
}

proptest! {
    #[test]
    fn any_record_round_trips(record in any_record()) {
        prop_assert_eq!(Record::decode(encode(&record).into()), Some(record));
    }

    #[test]
    fn noise_is_refused_or_read_but_never_panics(version in 0u8..5, kind in 0u8..22, noise: Vec<u8>) {
        let _read = Record::decode([&[version, kind], noise.as_slice()].concat().into());
        let _read = Record::decode(noise.into());
    }

    #[test]
    fn a_changed_byte_never_panics(record in any_record(), at: prop::sample::Index, to: u8) {
        let mut bytes = encode(&record);
        let at = at.index(bytes.len());
        bytes[at] = to;
        let _read = Record::decode(bytes.into());
    }
}
