//! How many connections each address has: none may take what is there for all.
//!
//! An IPv6 address stands for its /64, which is what one customer gets. Networks that are trusted (a proxy, through
//! which everybody comes) are not counted. Bounded: only addresses with an open connection are held.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use crate::core::network::Network;

/// The count of each address.
#[derive(Debug)]
pub(super) struct Addresses {
    open: Mutex<HashMap<Network, u32>>,
    max: u32,
    trusted: Vec<Network>,
}

/// A connection's place in the count of its address, until dropped.
#[derive(Debug)]
pub(super) struct Place(Option<(Arc<Addresses>, Network)>);

impl Addresses {
    pub(super) fn new(max: u32, trusted: Vec<Network>) -> Self {
        Self { open: Mutex::default(), max, trusted }
    }

    /// A place for one more connection of `address`; `None` if it has all that it may have.
    pub(super) fn admit(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let address = address.to_canonical();
        if self.trusted.iter().any(|network| network.contains(address)) {
            return Some(Place(None));
        }
        let whose = Network::of_customer(address);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(whose).or_insert(0);
        if *count >= self.max {
            return None;
        }
        *count += 1;
        Some(Place(Some((Arc::clone(self), whose))))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some((addresses, whose)) = self.0.take() else { return };
        let mut open = addresses.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&whose) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                open.remove(&whose);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(max: u32, trusted: &[&str]) -> Arc<Addresses> {
        Arc::new(Addresses::new(max, trusted.iter().map(|text| text.parse().unwrap()).collect()))
    }

    fn admit(addresses: &Arc<Addresses>, address: &str) -> Option<Place> {
        addresses.admit(address.parse().unwrap())
    }

    #[test]
    fn each_address_has_its_own_count_and_gets_its_places_back() {
        let addresses = addresses(2, &[]);
        let places = [admit(&addresses, "10.0.0.1"), admit(&addresses, "10.0.0.1")];
        assert!(places.iter().all(Option::is_some));
        assert!(admit(&addresses, "10.0.0.1").is_none());
        assert!(admit(&addresses, "::ffff:10.0.0.1").is_none(), "the same, written otherwise");
        assert!(admit(&addresses, "10.0.0.2").is_some());
        drop(places);
        assert!(admit(&addresses, "10.0.0.1").is_some());
        assert!(addresses.open.lock().unwrap().is_empty(), "nothing is held of who is gone");
    }

    #[test]
    fn a_network_of_ipv6_is_one() {
        let addresses = addresses(1, &[]);
        let _one = admit(&addresses, "2001:db8:0:1::1").unwrap();
        assert!(admit(&addresses, "2001:db8:0:1:ffff::2").is_none());
        assert!(admit(&addresses, "2001:db8:0:2::1").is_some());
    }

    #[test]
    fn the_trusted_are_not_counted() {
        let addresses = addresses(0, &["127.0.0.0/8", "::1"]);
        assert!(admit(&addresses, "127.3.4.5").is_some());
        assert!(admit(&addresses, "::ffff:127.0.0.1").is_some());
        assert!(admit(&addresses, "::1").is_some());
        assert!(admit(&addresses, "128.0.0.1").is_none());
    }
}
