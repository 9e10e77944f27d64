//! Ids: events and replays carry a UUIDv7 (RFC 9562) that sorts by time; a delivery is an event and a slot.
//!
//! Written as TypeID does: a prefix and 26 characters of Crockford's base32, so that text sorts as the
//! number does. Within one process ids strictly grow even while the clock stands still or steps back,
//! because the order of ids is the order of acceptance.

use std::fmt;
use std::str::FromStr;

use crate::core::timestamp::Timestamp;

/// One accepted event: `evt_` and 26 characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct EventId(u128);

/// One replay: `rpl_` and 26 characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplayId(u128);

/// One refused request that was kept: `ref_` and 26 characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RefusalId(u128);

/// One event to one endpoint: `dlv_`, the event's 26 characters, `_` and the slot.
///
/// Slots count up from 0 in routing order; a replay appends new ones. Sorts by event, then slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeliveryId {
    /// The event delivered.
    pub event: EventId,
    /// Which of the event's deliveries.
    pub slot: u16,
}

/// Why a text is not an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdError {
    expected: &'static str,
}

/// Hands out UUIDv7 numbers, each greater than all before it.
#[derive(Debug, Default)]
pub struct IdSource {
    last: u128,
}

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const TEXT_LEN: usize = 26;
/// The lowest 62 bits of a UUIDv7: a random start that counts up within a millisecond (RFC 9562, 6.2, method 2).
const COUNTER_MASK: u128 = (1 << 62) - 1;

impl IdSource {
    /// A source whose ids are all greater than `last`: what the journal already holds.
    #[must_use]
    pub const fn after(last: u128) -> Self {
        Self { last }
    }

    /// The next number. If `now` is not later than the last id's time, counts up from that id.
    pub fn next(&mut self, now: Timestamp, rng: &mut fastrand::Rng) -> u128 {
        let mut random = [0; 10];
        rng.fill(&mut random);
        let fresh = uuid::Builder::from_unix_timestamp_millis(now.millis(), &random).into_uuid().as_u128();
        // Half the counter space is left free, so that a burst within one millisecond cannot overflow it.
        let fresh = fresh & !(1 << 61);
        let same_or_earlier_millisecond = fresh >> 80 <= self.last >> 80;
        self.last = if same_or_earlier_millisecond { successor(self.last) } else { fresh };
        self.last
    }

    /// The next event id.
    pub fn event(&mut self, now: Timestamp, rng: &mut fastrand::Rng) -> EventId {
        EventId(self.next(now, rng))
    }

    /// The next replay id.
    pub fn replay(&mut self, now: Timestamp, rng: &mut fastrand::Rng) -> ReplayId {
        ReplayId(self.next(now, rng))
    }

    /// The next refused request's id.
    pub fn refusal(&mut self, now: Timestamp, rng: &mut fastrand::Rng) -> RefusalId {
        RefusalId(self.next(now, rng))
    }
}

/// The next UUIDv7 after `id`; on counter overflow, the first one of the next millisecond.
fn successor(id: u128) -> u128 {
    if id & COUNTER_MASK != COUNTER_MASK {
        return id + 1;
    }
    let millis = u64::try_from(id >> 80).unwrap_or(u64::MAX);
    uuid::Builder::from_unix_timestamp_millis(millis + 1, &[0; 10]).into_uuid().as_u128()
}

impl EventId {
    /// Below every real event.
    pub const MIN: Self = Self(0);
    /// Above every real event.
    pub const MAX: Self = Self(u128::MAX);

    /// The id with this number; the journal's codec uses it.
    #[must_use]
    pub const fn from_u128(number: u128) -> Self {
        Self(number)
    }

    /// The id's number; big-endian bytes of it sort as the ids do.
    #[must_use]
    pub const fn as_u128(self) -> u128 {
        self.0
    }

    /// When the id was made: the event's receive time unless the clock had stepped back.
    #[must_use]
    pub fn time(self) -> Timestamp {
        Timestamp::from_millis(u64::try_from(self.0 >> 80).unwrap_or(u64::MAX))
    }

    /// The lowest id an event made at `time` can have: turns a time bound into an id bound.
    #[must_use]
    pub fn floor(time: Timestamp) -> Self {
        let millis = u128::from(time.millis().min((1 << 48) - 1));
        Self(millis << 80)
    }

    /// The delivery of this event in `slot`.
    #[must_use]
    pub const fn delivery(self, slot: u16) -> DeliveryId {
        DeliveryId { event: self, slot }
    }
}

impl ReplayId {
    /// The id with this number; the journal's codec uses it.
    #[must_use]
    pub const fn from_u128(number: u128) -> Self {
        Self(number)
    }

    /// The id's number.
    #[must_use]
    pub const fn as_u128(self) -> u128 {
        self.0
    }
}

impl RefusalId {
    /// The id with this number.
    #[must_use]
    pub const fn from_u128(number: u128) -> Self {
        Self(number)
    }

    /// The id's number.
    #[must_use]
    pub const fn as_u128(self) -> u128 {
        self.0
    }
}

/// 128 bits as 26 characters of Crockford's base32, most significant first.
fn encode(number: u128) -> String {
    let digit = |index: usize| {
        let shift = 5 * (TEXT_LEN - 1 - index);
        let value = usize::try_from((number >> shift) & 31).unwrap_or_default();
        char::from(ALPHABET.get(value).copied().unwrap_or(b'0'))
    };
    (0..TEXT_LEN).map(digit).collect()
}

fn decode(text: &str) -> Option<u128> {
    // The first character carries only three bits: above '7' the number would not fit.
    if text.len() != TEXT_LEN || text.bytes().next()? > b'7' {
        return None;
    }
    text.bytes().try_fold(0u128, |number, byte| {
        let value = ALPHABET.iter().position(|letter| *letter == byte)?;
        Some(number << 5 | value as u128)
    })
}

fn decode_after(prefix: &'static str, text: &str, expected: &'static str) -> Result<u128, IdError> {
    text.strip_prefix(prefix).and_then(decode).ok_or(IdError { expected })
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "evt_{}", encode(self.0))
    }
}

impl fmt::Display for ReplayId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rpl_{}", encode(self.0))
    }
}

impl fmt::Display for RefusalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ref_{}", encode(self.0))
    }
}

impl fmt::Display for DeliveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "dlv_{}_{}", encode(self.event.0), self.slot)
    }
}

impl FromStr for EventId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        decode_after("evt_", text, "an event id: evt_ and 26 characters").map(Self)
    }
}

impl FromStr for ReplayId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        decode_after("rpl_", text, "a replay id: rpl_ and 26 characters").map(Self)
    }
}

impl FromStr for RefusalId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        decode_after("ref_", text, "a refused request's id: ref_ and 26 characters").map(Self)
    }
}

impl FromStr for DeliveryId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let error = IdError { expected: "a delivery id: dlv_, 26 characters, _ and a number" };
        let (event, slot) = text.rsplit_once('_').ok_or(error)?;
        let event = event.strip_prefix("dlv_").and_then(decode).ok_or(error)?;
        let canonical = slot == "0" || !slot.starts_with(['0', '+']);
        let slot = slot.parse().ok().filter(|_| canonical).ok_or(error)?;
        Ok(Self { event: EventId(event), slot })
    }
}

impl fmt::Display for IdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected {}", self.expected)
    }
}

impl std::error::Error for IdError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_grow_while_the_clock_stands_still_or_steps_back() {
        let mut source = IdSource::default();
        let mut rng = fastrand::Rng::with_seed(1);
        let mut last = EventId::MIN;
        for step in 0..10_000u64 {
            let now = Timestamp::from_millis(1_000_000 + step / 100 - (step % 7));
            let id = source.event(now, &mut rng);
            assert!(id > last, "{id} after {last}");
            assert_eq!(uuid::Uuid::from_u128(id.0).get_version_num(), 7);
            last = id;
        }
    }

    #[test]
    fn a_full_counter_moves_to_the_next_millisecond() {
        let id = EventId::floor(Timestamp::from_millis(7)).0 | COUNTER_MASK;
        assert_eq!(EventId(successor(id)).time(), Timestamp::from_millis(8));
    }

    #[test]
    fn text_sorts_as_the_number_does_and_round_trips() {
        let mut rng = fastrand::Rng::with_seed(2);
        for _ in 0..1000 {
            let (a, b) = (EventId(rng.u128(..)), EventId(rng.u128(..)));
            assert_eq!(a.cmp(&b), a.to_string().cmp(&b.to_string()));
            assert_eq!(a.to_string().parse(), Ok(a));
            let delivery = a.delivery(rng.u16(..));
            assert_eq!(delivery.to_string().parse(), Ok(delivery));
            let replay = ReplayId(b.0);
            assert_eq!(replay.to_string().parse(), Ok(replay));
        }
    }

    #[test]
    fn what_is_no_id_is_refused() {
        let event = EventId(u128::MAX).to_string();
        assert!(event.parse::<EventId>().is_ok());
        for bad in [
            "",
            "evt_",
            "evt_8zzzzzzzzzzzzzzzzzzzzzzzzz",
            "dlv_00",
            &event.replace("evt", "rpl"),
            &event.to_uppercase(),
        ] {
            assert!(bad.parse::<EventId>().is_err(), "{bad}");
        }
        let delivery = EventId(5).delivery(3).to_string();
        for bad in
            [delivery.trim_end_matches('3'), &format!("{delivery}00000"), &delivery.replace("_3", "_03"), "dlv__1"]
        {
            assert!(bad.parse::<DeliveryId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_time_bound_is_an_id_bound() {
        let mut rng = fastrand::Rng::with_seed(3);
        let now = Timestamp::from_millis(1_700_000_000_000);
        let id = IdSource::default().event(now, &mut rng);
        assert_eq!(id.time(), now);
        assert!(EventId::floor(now) <= id && id < EventId::floor(Timestamp::from_millis(now.millis() + 1)));
    }
}
