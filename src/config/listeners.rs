//! `[server]` and `[admin]`: where senders post and operators ask, and what either may take.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::raw::{Table, Value};
use super::{JournalConfig, egress, flow, path, scalar};
use crate::core::network::Network;
use crate::core::rate::Rate;

/// Most networks of proxies, and most names of the admin listener.
const ENTRIES_MAX: usize = 64;
/// Most bytes a second that may be asked of a sender.
const BYTES_PER_SEC_MAX: u32 = 1 << 20;

/// The public listener, `[server]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Its certificate; without one it speaks plain HTTP.
    pub tls: Option<TlsFiles>,
    /// Most connections open at a time.
    pub connections_max: u32,
    /// Most of them of one address (an IPv6 address stands for its /64).
    pub connections_max_per_address: u32,
    /// Whose connections are not counted by address.
    pub trusted_proxies: Vec<Network>,
    /// Longest time for a TLS handshake, and for a request's header once it has begun.
    pub header_timeout: Duration,
    /// Longest time that a connection may do nothing.
    pub idle_timeout: Duration,
    /// Fewest bytes a second that a body must bring; 0 is no least.
    pub bytes_per_sec_min: u32,
    /// How many events may come, over all sources.
    pub rate: Option<Rate>,
    /// Longest time that running work is waited for at shutdown.
    pub drain_timeout: Duration,
    /// Most requests waiting for the disk; above it 503.
    pub accept_queue_max: usize,
}

/// The operators' listener, `[admin]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    /// Where it listens; loopback unless there is TLS or the file allows otherwise.
    pub listen: SocketAddr,
    /// Its certificate; without one it speaks plain HTTP.
    pub tls: Option<TlsFiles>,
    /// By which names it is asked, in lower case, besides its addresses and those of loopback.
    pub hosts: Vec<String>,
    /// Where the bearer token is kept.
    pub token_file: PathBuf,
}

/// A certificate and its private key, in PEM form; read when a listener begins, and again when they change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, with those between it and the one that is trusted.
    pub certificates: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

impl Server {
    pub(super) fn read(mut table: Table<'_>) -> Self {
        let listen = table.parsed("listen", scalar::address).unwrap_or(SocketAddr::from(([127, 0, 0, 1], 8080)));
        let tls = table.read("tls", tls);
        let connections_max = table.count("connections_max", 1..=1_000_000, 1024);
        let per_address: Option<u32> = table.read("connections_max_per_address", |value| value.integer(1..=1_000_000));
        if per_address.is_some_and(|per_address| per_address > connections_max) {
            let place = table.place_of("connections_max_per_address");
            place.refuse("is more than server.connections_max, so it limits nothing; lower it");
        }
        let trusted = table.read("trusted_proxies", |value| value.items(ENTRIES_MAX));
        let server = Self {
            listen,
            tls,
            connections_max,
            connections_max_per_address: per_address.unwrap_or((connections_max / 4).max(1)),
            trusted_proxies: match trusted {
                None => vec![Network::v4(Ipv4Addr::LOCALHOST, 8), Network::one(IpAddr::V6(Ipv6Addr::LOCALHOST))],
                Some(items) => items.iter().filter_map(|item| item.parsed(egress::network)).collect(),
            },
            header_timeout: table.duration("header_timeout", Duration::from_secs(10)),
            idle_timeout: table.duration("idle_timeout", Duration::from_secs(60)),
            bytes_per_sec_min: table.count("bytes_per_sec_min", 0..=BYTES_PER_SEC_MAX, 100),
            rate: table.read("rate", flow::rate),
            drain_timeout: table.duration("drain_timeout", Duration::from_secs(20)),
            accept_queue_max: table.count("accept_queue_max", 1..=1_000_000, 4096),
        };
        table.done();
        server
    }
}

impl Admin {
    pub(super) fn read(mut table: Table<'_>, server: &Server, journal: &JournalConfig) -> Self {
        let listen = table.parsed("listen", scalar::address).unwrap_or(SocketAddr::from(([127, 0, 0, 1], 8081)));
        let place = table.place_of("listen");
        let asked = table.get("tls");
        let (tls_is_asked, tls) = (asked.is_some(), asked.and_then(|value| tls(&value)));
        let plain = table.flag("allow_plain_remote", false);
        if !tls_is_asked && !plain && !listen.ip().is_loopback() {
            place.refuse(
                "is reachable from other machines, and its token would be read on the way; use 127.0.0.1, give a \
                 certificate as tls = { cert = \"…\", key = \"…\" }, or set allow_plain_remote = true where something \
                 in front speaks TLS",
            );
        }
        if listen == server.listen && listen.port() != 0 {
            place.refuse("is server.listen too; the admin API needs an address of its own");
        }
        let hosts = table.read("hosts", |value| value.items(ENTRIES_MAX)).unwrap_or_default();
        let hosts = hosts.iter().filter_map(|item| item.parsed(host)).collect();
        let token_file = match table.parsed("token_file", path) {
            Some(file) => place.folder().join(file),
            None => journal.dir.join("admin.token"),
        };
        table.done();
        Self { listen, tls, hosts, token_file }
    }
}

/// `{ cert, key }`: both must be there. What is in them is looked at when they are used.
fn tls(value: &Value<'_>) -> Option<TlsFiles> {
    if !value.is_table() {
        return value.wrong_type("a table like { cert = \"server.pem\", key = \"server.key\" }");
    }
    let mut table = value.table()?;
    let mut file = |key: &'static str| {
        let found = table.get(key);
        if found.is_none() {
            table.place_of(key).refuse("is missing; tls has both: { cert = \"server.pem\", key = \"server.key\" }");
        }
        found.and_then(|value| value.parsed(path)).map(|file| table.place.folder().join(file))
    };
    let (certificates, key) = (file("cert"), file("key"));
    table.done();
    Some(TlsFiles { certificates: certificates?, key: key? })
}

/// The name or the address that stands in a Host header, without the port.
fn host(text: &str) -> Result<String, String> {
    let text = text.to_ascii_lowercase();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    let is_name = !text.is_empty() && text.len() <= 253 && text.bytes().all(plain);
    let is_v6 = text.parse::<Ipv6Addr>().is_ok();
    if is_name || is_v6 {
        Ok(text)
    } else {
        Err("not a host; write a name or an address without a port, like \"backstop.example.com\"".to_owned())
    }
}
