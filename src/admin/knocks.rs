//! Who shows tokens that are nobody's: after a few, an address must wait.
//!
//! By address (an IPv6 one stands for its /64), so that nobody is kept out by what others do; while it waits nothing
//! of that address is looked at, or waiting would be in vain. A request without a token is no guess. In bounded memory: of
//! too many addresses the one that has least to wait for is forgotten.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::core::network::Network;
use crate::core::rate::{Bucket, Rate};
use crate::core::timestamp::Timestamp;

/// How many an address may show, in how much time, and how many at once.
const ALLOWED: Rate = Rate { count: 10, per: Duration::from_secs(60), burst: 10 };
/// Most addresses remembered.
const ADDRESSES_MAX: usize = 4096;

/// What each address may still show.
#[derive(Debug)]
pub struct Knocks {
    began: Instant,
    of: Mutex<HashMap<Network, Bucket>>,
}

impl Default for Knocks {
    fn default() -> Self {
        Self { began: Instant::now(), of: Mutex::default() }
    }
}

impl Knocks {
    /// How long an address has to wait until a token of it is looked at, if it has to.
    pub(super) fn wait(&self, address: IpAddr) -> Option<Duration> {
        self.wait_at(self.now(), address)
    }

    fn wait_at(&self, now: Timestamp, address: IpAddr) -> Option<Duration> {
        let of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        of.get(&Network::of_customer(address))?.next_at(now).map(|next| next.since(now))
    }

    /// An address has shown a token that is nobody's.
    pub(super) fn note(&self, address: IpAddr) {
        self.note_at(self.now(), Network::of_customer(address));
    }

    fn note_at(&self, now: Timestamp, whose: Network) {
        let mut of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        if of.len() >= ADDRESSES_MAX && !of.contains_key(&whose) {
            let burst = u64::from(ALLOWED.burst);
            of.retain(|_, bucket| bucket.allowance(now) < burst);
            if of.len() >= ADDRESSES_MAX
                && let Some(least) = of.iter().max_by_key(|(_, bucket)| bucket.allowance(now)).map(|(least, _)| *least)
            {
                of.remove(&least);
            }
        }
        of.entry(whose).or_insert_with(|| Bucket::new(ALLOWED)).take(now);
    }

    /// By a clock that nobody sets.
    fn now(&self) -> Timestamp {
        Timestamp::ZERO.after(self.began.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_waits_after_a_few_and_no_other_does() {
        let (knocks, now) = (Knocks::default(), Timestamp::from_millis(5));
        for _ in 0..ALLOWED.burst {
            assert_eq!(knocks.wait_at(now, address("2001:db8::1")), None);
            knocks.note_at(now, Network::of_customer(address("2001:db8::1")));
        }
        let wait = knocks.wait_at(now, address("2001:db8::2")).unwrap();
        assert!(wait <= Duration::from_secs(6), "{wait:?}");
        assert_eq!(knocks.wait_at(now, address("2001:db8:0:1::1")), None);
        assert_eq!(knocks.wait_at(now.after(wait), address("2001:db8::1")), None);
    }

    #[test]
    fn memory_is_bounded_and_who_waits_longest_is_not_forgotten() {
        let (knocks, now) = (Knocks::default(), Timestamp::from_millis(5));
        for _ in 0..ALLOWED.burst {
            knocks.note_at(now, Network::one(address("10.0.0.1")));
        }
        for other in 0..2 * u32::try_from(ADDRESSES_MAX).unwrap() {
            knocks.note_at(now, Network::one(IpAddr::from((0x0b00_0000 + other).to_be_bytes())));
        }
        assert_eq!(knocks.of.lock().unwrap().len(), ADDRESSES_MAX);
        assert!(knocks.wait_at(now, address("10.0.0.1")).is_some());
    }
}
