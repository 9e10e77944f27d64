//! The effective config: everything that holds, written as the file would have to say it, without its secrets.
//!
//! Presets are resolved, defaults are there, variables and files are read. Whoever reads it back has the same
//! config, but for what stands as `***`: secrets to sign, to verify and to seal with, the values of added headers,
//! a proxy's name and password, and whatever follows the `?` of a URL. Every field of the config is named here by a
//! pattern that leaves none out, so that a new one cannot be forgotten.

mod endpoints;
mod sources;
mod verify;

use std::fmt::Write as _;
use std::time::Duration;

use jiff::SignedDuration;

use super::{
    Admin, Config, DeliveryLimits, JournalConfig, Log, LogFormat, OperationLimits, RefusalLimits, Server, TlsFiles,
};
use crate::core::egress::Policy;
use crate::core::network::Network;
use crate::core::retention::{Keep, Retention};
use crate::core::route::Route;

/// What stands in place of a secret.
pub const REDACTED: &str = "***";

impl Config {
    /// The whole of it as TOML, without its secrets.
    #[must_use]
    pub fn effective(&self) -> String {
        let Self {
            server,
            admin,
            journal,
            refusals,
            operations,
            egress,
            delivery,
            log,
            sources,
            endpoints,
            retention,
            routes,
            warnings: _, // about the file
        } = self;
        let mut toml = Toml::default();
        server.write(&mut toml);
        admin.write(&mut toml);
        journal.write(&mut toml);
        let Retention { default, sources: keeps, endpoints: _, windows: _ } = retention;
        toml.table("retention").lines(keep(default));
        delivery.write(&mut toml);
        toml.table("egress").lines(policy(egress));
        refusals.write(&mut toml);
        operations.write(&mut toml);
        log.write(&mut toml);
        for source in sources {
            sources::write(&mut toml, source, keeps.get(&source.name));
        }
        for endpoint in endpoints {
            endpoints::write(&mut toml, endpoint);
        }
        for Route { source, types, endpoints } in routes.routes() {
            toml.item("routes");
            toml.maybe("source", source.as_ref().map(|source| text(source.as_str())));
            toml.maybe("types", (!types.is_empty()).then(|| texts(types)));
            toml.line("endpoints", texts(endpoints.iter().map(crate::core::name::Name::as_str)));
        }
        toml.0
    }
}

impl Server {
    fn write(&self, toml: &mut Toml) {
        let Self {
            listen,
            tls,
            connections_max,
            connections_max_per_address,
            trusted_proxies,
            header_timeout,
            idle_timeout,
            bytes_per_sec_min,
            rate,
            drain_timeout,
            accept_queue_max,
        } = self;
        toml.table("server")
            .line("listen", text(listen.to_string()))
            .maybe("tls", tls.as_ref().map(files))
            .line("connections_max", connections_max.to_string())
            .line("connections_max_per_address", connections_max_per_address.to_string())
            .line("trusted_proxies", texts(trusted_proxies.iter().map(ToString::to_string)))
            .line("header_timeout", duration(*header_timeout))
            .line("idle_timeout", duration(*idle_timeout))
            .line("bytes_per_sec_min", bytes_per_sec_min.to_string())
            .maybe("rate", rate.as_ref().map(endpoints::limit))
            .line("drain_timeout", duration(*drain_timeout))
            .line("accept_queue_max", accept_queue_max.to_string());
    }
}

impl Admin {
    fn write(&self, toml: &mut Toml) {
        let Self { listen, tls, hosts, token_file } = self;
        let is_plain_remote = tls.is_none() && !listen.ip().is_loopback();
        toml.table("admin")
            .line("listen", text(listen.to_string()))
            .maybe("tls", tls.as_ref().map(files))
            .line("allow_plain_remote", is_plain_remote.to_string())
            .line("hosts", texts(hosts))
            .line("token_file", text(token_file.to_string_lossy()));
    }
}

impl JournalConfig {
    fn write(&self, toml: &mut Toml) {
        let Self { dir, segment_bytes, ballast_bytes, disk_free_min_bytes, index_cache_bytes, keys } = self;
        let redacted = texts(keys.iter().map(|_| REDACTED));
        toml.table("journal")
            .line("dir", text(dir.to_string_lossy()))
            .line("segment_mib", mib(*segment_bytes))
            .line("ballast_mib", mib(*ballast_bytes))
            .line("disk_free_min_mib", mib(*disk_free_min_bytes))
            .line("index_cache_mib", mib(*index_cache_bytes))
            .maybe("encryption", (!keys.is_empty()).then(|| inline(vec![("keys", redacted)])));
    }
}

impl DeliveryLimits {
    fn write(&self, toml: &mut Toml) {
        let Self { in_flight_max, active_max_per_endpoint, ordered_max_per_endpoint, cache_bytes } = self;
        toml.table("delivery")
            .line("in_flight_max", in_flight_max.to_string())
            .line("active_max_per_endpoint", active_max_per_endpoint.to_string())
            .line("ordered_max_per_endpoint", ordered_max_per_endpoint.to_string())
            .line("cache_mib", mib(*cache_bytes));
    }
}

impl RefusalLimits {
    fn write(&self, toml: &mut Toml) {
        let Self { count_max, bytes_max } = self;
        toml.table("refusals").line("count_max", count_max.to_string()).line("size_mib", mib(*bytes_max));
    }
}

impl OperationLimits {
    fn write(&self, toml: &mut Toml) {
        let Self { age_max, bytes_max } = self;
        toml.table("operations").line("age_max", age(*age_max)).line("size_mib", mib(*bytes_max));
    }
}

impl Log {
    fn write(&self, toml: &mut Toml) {
        let Self { format, level } = self;
        let format = match format {
            LogFormat::Json => "json",
            LogFormat::Text => "text",
        };
        toml.table("log").line("format", text(format)).line("level", text(level));
    }
}

/// TOML as it grows.
#[derive(Default)]
struct Toml(String);

/// A key and the TOML of its value.
type Line = (&'static str, String);

impl Toml {
    /// Begins a table.
    fn table(&mut self, name: &str) -> &mut Self {
        self.head(&format!("[{name}]"))
    }

    /// Begins an item of a list of tables.
    fn item(&mut self, name: &str) -> &mut Self {
        self.head(&format!("[[{name}]]"))
    }

    fn head(&mut self, head: &str) -> &mut Self {
        if !self.0.is_empty() {
            self.0.push('\n');
        }
        self.0.push_str(head);
        self.0.push('\n');
        self
    }

    fn line(&mut self, key: &str, value: impl AsRef<str>) -> &mut Self {
        // Writing to a String cannot fail.
        let _written = writeln!(self.0, "{key} = {}", value.as_ref()).is_ok();
        self
    }

    fn lines(&mut self, lines: Vec<Line>) -> &mut Self {
        for (key, value) in lines {
            self.line(key, value);
        }
        self
    }

    fn maybe(&mut self, key: &str, value: Option<String>) -> &mut Self {
        if let Some(value) = value {
            self.line(key, value);
        }
        self
    }
}

fn text(text: impl AsRef<str>) -> String {
    toml::Value::String(text.as_ref().to_owned()).to_string()
}

fn texts<T: AsRef<str>>(items: impl IntoIterator<Item = T>) -> String {
    list(items.into_iter().map(text))
}

/// Items that are TOML already.
fn list(items: impl IntoIterator<Item = String>) -> String {
    format!("[{}]", items.into_iter().collect::<Vec<_>>().join(", "))
}

/// A table in one line.
fn inline(lines: Vec<Line>) -> String {
    let lines: Vec<String> = lines.into_iter().map(|(key, value)| format!("{key} = {value}")).collect();
    if lines.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", lines.join(", ")) }
}

fn files(tls: &TlsFiles) -> String {
    let TlsFiles { certificates, key } = tls;
    inline(vec![("cert", text(certificates.to_string_lossy())), ("key", text(key.to_string_lossy()))])
}

fn duration(span: Duration) -> String {
    let span = SignedDuration::try_from(span).unwrap_or(SignedDuration::MAX);
    text(format!("{span:#}"))
}

fn mib(bytes: u64) -> String {
    (bytes >> 20).to_string()
}

/// A size in the largest unit that leaves nothing over.
fn size(bytes: u64) -> String {
    let unit = [("GiB", 30), ("MiB", 20), ("KiB", 10)]
        .into_iter()
        .find(|(_, shift)| bytes > 0 && bytes.is_multiple_of(1 << shift));
    let (unit, shift) = unit.unwrap_or(("B", 0));
    text(format!("{}{unit}", bytes >> shift))
}

/// A time to keep, in days if it is that.
fn age(age: Option<Duration>) -> String {
    const DAY_SECS: u64 = 24 * 3600;
    match age {
        None => text("forever"),
        Some(age) if age.subsec_nanos() == 0 && age.as_secs().is_multiple_of(DAY_SECS) => {
            text(format!("{}d", age.as_secs() / DAY_SECS))
        }
        Some(age) => duration(age),
    }
}

fn keep(keep: &Keep) -> Vec<Line> {
    let Keep { payload, metadata, bytes_max } = keep;
    let mut lines = vec![("payload", age(*payload)), ("metadata", age(*metadata))];
    lines.extend(bytes_max.map(|bytes| ("bytes_max", size(bytes))));
    lines
}

fn policy(policy: &Policy) -> Vec<Line> {
    let Policy { reach, allow, deny, admin } = policy;
    let networks = |networks: &[Network]| networks.iter().map(|network| text(network.to_string())).collect::<Vec<_>>();
    let mut allowed = networks(allow);
    allowed.extend(admin.then(|| text("admin")));
    vec![("reach", text(reach.as_str())), ("allow", list(allowed)), ("deny", list(networks(deny)))]
}
