//! Who may connect: addresses by their networks, and proxies that are believed when they name an address.
//!
//! Without a proxy in the config `X-Forwarded-For` is never looked at: anybody can write it. Of what a believed
//! proxy has passed on, the last address that is not a proxy itself counts, for everything before that one was
//! written by somebody who is not believed.

use std::net::{IpAddr, SocketAddr};

use super::Headers;
use crate::core::network::Network;

/// Where requests may come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allowed {
    /// The senders' networks.
    pub from: Vec<Network>,
    /// The networks of the proxies in front, whose `X-Forwarded-For` is believed.
    pub proxies: Vec<Network>,
}

const FORWARDED_FOR: &str = "x-forwarded-for";

impl Allowed {
    /// Whether a request from `peer` may come in. One from nowhere never may.
    pub(super) fn admits(&self, peer: Option<IpAddr>, headers: &dyn Headers) -> bool {
        let Some(peer) = peer else { return false };
        self.sender(peer.to_canonical(), headers).is_some_and(|sender| holds(&self.from, sender))
    }

    /// The address that counts; `None` if a believed proxy passes on what is no address.
    fn sender(&self, peer: IpAddr, headers: &dyn Headers) -> Option<IpAddr> {
        let mut sender = peer;
        let values = headers.values(FORWARDED_FOR);
        let mut named = values.iter().rev().flat_map(|value| value.rsplit(|byte| *byte == b','));
        while holds(&self.proxies, sender) {
            let Some(next) = named.next() else { break };
            sender = address(next)?;
        }
        Some(sender)
    }
}

fn holds(networks: &[Network], address: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(address))
}

/// An address, with or without a port behind it.
fn address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?.trim();
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    text.parse::<IpAddr>().ok().or_else(with_port).map(|address| address.to_canonical())
}
