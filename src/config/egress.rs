//! `egress`, of the gateway and of an endpoint: which addresses may be connected to.
//!
//! A word, or a table `{ reach, allow, deny }`. An endpoint's own stands in place of the gateway's, but what the
//! gateway denies stays denied. An endpoint whose URL is an address is judged here already; a name is judged when
//! it is dialled. Absent: what any of it means, which is the core's `egress`.

use std::net::{IpAddr, SocketAddr};

use reqwest::Url;

use super::raw::{Table, Value};
use crate::core::address::{faces, of_host};
use crate::core::egress::{Policy, Reach, Refusal};
use crate::core::network::Network;

/// Most entries of a list.
const NETWORKS_MAX: usize = 1024;
/// What names the gateway's own admin listener.
const ADMIN: &str = "admin";

/// An entry of `allow`.
enum Entry {
    Network(Network),
    Admin,
}

/// The policy that `table` has under `egress`; the default is `gateway`'s.
pub(super) fn read(table: &mut Table<'_>, gateway: &Policy) -> Policy {
    let Some(mut policy) = table.read("egress", policy) else { return gateway.clone() };
    for network in &gateway.deny {
        if !policy.deny.contains(network) {
            policy.deny.push(*network);
        }
    }
    policy
}

fn policy(value: &Value<'_>) -> Option<Policy> {
    if value.is_text() {
        return value.parsed(reach).map(|reach| Policy { reach, ..Policy::default() });
    }
    if !value.is_table() {
        return value
            .wrong_type("a text like \"public\" or a table like { reach = \"public\", allow = [\"10.0.0.7\"] }");
    }
    let mut table = value.table()?;
    let mut policy = Policy { reach: table.parsed("reach", reach).unwrap_or_default(), ..Policy::default() };
    let allow = table.read("allow", |value| value.items(NETWORKS_MAX)).unwrap_or_default();
    for entry in allow.iter().filter_map(|item| item.parsed(entry)) {
        match entry {
            Entry::Network(network) => policy.allow.push(network),
            Entry::Admin => policy.admin = true,
        }
    }
    let deny = table.read("deny", |value| value.items(NETWORKS_MAX)).unwrap_or_default();
    policy.deny = deny.iter().filter_map(|item| item.parsed(network)).collect();
    if policy.reach == Reach::Listed && allow.is_empty() {
        table.place_of("allow").refuse("lists nothing, and egress is \"listed\": nothing could be reached");
    }
    table.done();
    Some(policy)
}

fn reach(text: &str) -> Result<Reach, String> {
    let found = Reach::ALL.into_iter().find(|reach| reach.as_str() == text);
    found.ok_or_else(|| "must be \"private\" (anywhere), \"public\" or \"listed\" (only what `allow` lists)".to_owned())
}

pub(super) fn network(text: &str) -> Result<Network, String> {
    text.parse().map_err(|error: crate::core::network::NetworkError| error.to_string())
}

fn entry(text: &str) -> Result<Entry, String> {
    if text == ADMIN { Ok(Entry::Admin) } else { network(text).map(Entry::Network) }
}

/// Why `url` can never be reached under `policy`, if its host is an address that is refused.
pub(super) fn refusal(policy: &Policy, url: &Url, admin: SocketAddr) -> Option<Refusal> {
    let address = of_host(url.host_str()?)?;
    let is_admin =
        |face: IpAddr| admin.ip().to_canonical() == face || (admin.ip().is_unspecified() && face.is_loopback());
    let leads_to_admin = admin.port() != 0
        && url.port_or_known_default() == Some(admin.port())
        && faces(address).into_iter().any(is_admin);
    let judged = policy.judge(address).err();
    judged.or((leads_to_admin && !policy.admin).then_some(Refusal::Admin))
}
