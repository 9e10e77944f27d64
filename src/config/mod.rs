//! The config: gateway.toml read whole, checked whole, and valid by construction from then on.
//!
//! A [`Config`] exists only if the file has no problem; otherwise there is a [`ConfigErrors`] with all
//! of them, each with its line and key. Every key has a default or is refused when missing, every limit
//! has a range, an unknown key is an error. In any text `${NAME}` is an environment variable; a secret
//! or a header may also be `file:<path>` or a systemd `credential:<name>`. No secret's value is ever in an error or in `Debug`.
//!
//! From here down: `raw` reads tables and values with their places, `scalar` the small languages inside
//! texts, `sources` (with `presets` and `verify`), `endpoints` (with `flow`, `egress` and `dial`), `retention`,
//! `encryption` and `routes` their tables, `local` what operators need of it, `report` says what is wrong, `effective` what holds, `change` what is
//! otherwise by another config. Absent: watching the file (a reload is another [`Config::load`]) and anything changed at
//! run time, which is the journal's.

pub mod change;
mod dial;
mod effective;
mod egress;
mod encryption;
mod endpoints;
mod flow;
mod listeners;
mod local;
mod operations;
mod presets;
mod raw;
mod refusals;
mod report;
mod retention;
mod routes;
mod scalar;
mod sources;
mod verify;

use std::fmt;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use toml::de::DeTable;

pub use self::effective::REDACTED;
pub use self::listeners::{Admin, Server, TlsFiles};
pub use self::local::Local;
pub use self::operations::OperationLimits;
pub use self::raw::{Env, ReadFile};
use self::raw::{Input, Table};
pub use self::refusals::RefusalLimits;
pub use self::report::{ConfigErrors, Problem};
use self::routes::Named;
use crate::core::egress::Policy;
use crate::core::endpoint::Endpoint;
use crate::core::retention::{Keep, Retention};
use crate::core::route::RouteTable;
use crate::core::sealing::SealingKey;
use crate::core::source::Source;

/// Longest config file, in bytes; longest secret file too.
pub const FILE_MAX_BYTES: u64 = 1 << 20;

/// Everything gateway.toml says.
#[derive(Clone, PartialEq, Eq)]
pub struct Config {
    /// The public listener.
    pub server: Server,
    /// The operators' listener.
    pub admin: Admin,
    /// The durable store.
    pub journal: JournalConfig,
    /// How much is kept of requests that became no event.
    pub refusals: RefusalLimits,
    /// Which addresses may be connected to, where an endpoint does not say.
    pub egress: Policy,
    /// How much is kept of what was done by whom.
    pub operations: OperationLimits,
    /// Limits over all deliveries.
    pub delivery: DeliveryLimits,
    /// What is logged, and how.
    pub log: Log,
    /// Who may send, in the file's order. No two have one name.
    pub sources: Vec<Source>,
    /// Where to, in the file's order. No two have one name.
    pub endpoints: Vec<Endpoint>,
    /// How long events are kept, `[retention]` and each source's own.
    pub retention: Retention,
    /// Which events go where; names only sources and endpoints that are here.
    pub routes: RouteTable,
    /// What is allowed but probably not meant.
    pub warnings: Vec<Problem>,
}

/// The durable store, `[journal]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalConfig {
    /// Its folder.
    pub dir: PathBuf,
    /// Size of a log segment, in bytes. No body is larger than a quarter of it.
    pub segment_bytes: u64,
    /// Size of the file given up when the disk is full, in bytes.
    pub ballast_bytes: u64,
    /// Intake stops while less than this is free, in bytes.
    pub disk_free_min_bytes: u64,
    /// Memory for the index, in bytes.
    pub index_cache_bytes: u64,
    /// What is sealed on disk, is with the first of these; all of them open. Empty: nothing is.
    pub keys: Vec<SealingKey>,
}

/// Limits over all deliveries, `[delivery]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryLimits {
    /// Most attempts on their way at a time, over all endpoints.
    pub in_flight_max: usize,
    /// Most deliveries of one endpoint held in memory; the others wait in the journal.
    pub active_max_per_endpoint: usize,
    /// Most waiting deliveries of one ordered endpoint held in memory: each may hold others back, so all are needed.
    pub ordered_max_per_endpoint: usize,
    /// Memory for the bodies of fresh events, in bytes.
    pub cache_bytes: u64,
}

/// What is logged, and how, `[log]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// How a line is written.
    pub format: LogFormat,
    /// The least severe level written: `off`, `error`, `warn`, `info`, `debug` or `trace`.
    pub level: String,
}

/// How a log line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

impl Config {
    /// Reads and checks the file at `path`, with this process's environment.
    ///
    /// Relative paths in it start from its folder.
    pub fn load(path: &Path) -> Result<Self, ConfigErrors> {
        Self::parse(&read_file(path)?, path, &|name| std::env::var(name).ok(), &read_capped)
    }

    /// Checks `text` as the content of the file at `path`, which is not opened.
    ///
    /// `env` looks environment variables up, `read_file` reads the files that `file:` names. Every
    /// problem is reported at once, unless the text is not TOML: then only that is.
    pub fn parse(text: &str, path: &Path, env: &Env<'_>, read_file: &ReadFile<'_>) -> Result<Self, ConfigErrors> {
        let (config, problems, warnings) = read_tables(text, path, env, read_file, Self::read);
        match config {
            Some(config) if problems.is_empty() => {
                let mut warnings = [config.warnings, warnings].concat();
                warnings.sort_by_key(|warning| warning.line);
                Ok(Self { warnings, ..config })
            }
            _ => Err(ConfigErrors { file: path.to_owned(), problems }),
        }
    }

    fn read(mut root: Table<'_>) -> Self {
        let server = Server::read(root.table("server"));
        let journal = JournalConfig::read(root.table("journal"), true);
        let admin = Admin::read(root.table("admin"), &server, &journal);
        let delivery = DeliveryLimits::read(root.table("delivery"));
        let refusals = RefusalLimits::read(root.table("refusals"));
        let operations = OperationLimits::read(root.table("operations"));
        let log = Log::read(root.table("log"));
        let named = Named { sources: root.table("sources"), endpoints: root.table("endpoints") };
        let keep = retention::keep(root.table("retention"), Keep::default(), journal.segment_bytes);
        let (sources, keeps) = sources::read(&named.sources, journal.segment_bytes, keep);
        let egress = egress::read(&mut root, &Policy::default());
        let in_flight_max = delivery.in_flight_max_per_endpoint();
        let gateway = endpoints::Gateway { egress: &egress, admin: admin.listen, in_flight_max };
        let endpoints = endpoints::read(&named.endpoints, gateway);
        let retention = retention::all(keep, keeps, &sources, &endpoints);
        let (routes, warnings) = routes::read(&mut root, &named);
        root.done();
        Self {
            server,
            admin,
            journal,
            refusals,
            egress,
            operations,
            delivery,
            log,
            sources,
            endpoints,
            retention,
            routes,
            warnings,
        }
    }
}

impl fmt::Debug for Config {
    /// Without the endpoints' URLs and headers, which may hold credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("server", &self.server)
            .field("admin", &self.admin)
            .field("journal", &self.journal)
            .field("refusals", &self.refusals)
            .field("egress", &self.egress)
            .field("delivery", &self.delivery)
            .field("log", &self.log)
            .field("sources", &self.sources.iter().map(|source| &source.name).collect::<Vec<_>>())
            .field("endpoints", &self.endpoints.iter().map(|endpoint| &endpoint.name).collect::<Vec<_>>())
            .field("retention", &self.retention)
            .field("warnings", &self.warnings)
            .finish_non_exhaustive()
    }
}

impl JournalConfig {
    /// The most MiB of anything: a TiB.
    const MIB_MAX: u32 = 1 << 20;

    /// Its keys are looked for only if that is wanted.
    fn read(mut table: Table<'_>, wants_keys: bool) -> Self {
        let dir = table.parsed("dir", path).unwrap_or(PathBuf::from("backstop-data"));
        let journal = Self {
            dir: table.place.folder().join(dir),
            segment_bytes: table.mib("segment_mib", 1..=1024, 64),
            ballast_bytes: table.mib("ballast_mib", 1..=Self::MIB_MAX, 64),
            disk_free_min_bytes: table.mib("disk_free_min_mib", 1..=Self::MIB_MAX, 256),
            index_cache_bytes: table.mib("index_cache_mib", 1..=Self::MIB_MAX, 64),
            keys: table
                .get("encryption")
                .filter(|_| wants_keys)
                .and_then(|value| encryption::keys(&value))
                .unwrap_or_default(),
        };
        table.done();
        journal
    }
}

impl DeliveryLimits {
    /// Most attempts of one endpoint on their way at a time: the scheduler gives nobody more than half of them all.
    #[must_use]
    pub fn in_flight_max_per_endpoint(&self) -> usize {
        (self.in_flight_max / 2).max(1)
    }

    fn read(mut table: Table<'_>) -> Self {
        let limits = Self {
            in_flight_max: table.count("in_flight_max", 1..=100_000, 1024),
            active_max_per_endpoint: table.count("active_max_per_endpoint", 1..=1_000_000, 1000),
            ordered_max_per_endpoint: table.count("ordered_max_per_endpoint", 100..=10_000_000, 20_000),
            cache_bytes: table.mib("cache_mib", 1..=JournalConfig::MIB_MAX, 64),
        };
        table.done();
        limits
    }
}

impl Log {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

    fn read(mut table: Table<'_>) -> Self {
        let format = |text: &str| match text {
            "json" => Ok(LogFormat::Json),
            "text" => Ok(LogFormat::Text),
            _ => Err("must be \"json\" or \"text\"".to_owned()),
        };
        let level = |text: &str| {
            if Self::LEVELS.contains(&text) {
                Ok(text.to_owned())
            } else {
                Err(format!("must be one of {}", Self::LEVELS.join(", ")))
            }
        };
        let log = Self {
            format: table.parsed("format", format).unwrap_or(LogFormat::Json),
            level: table.parsed("level", level).unwrap_or("info".to_owned()),
        };
        table.done();
        log
    }
}

fn path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() || text.contains('\0') { Err("must be a path".to_owned()) } else { Ok(text.into()) }
}

/// The text of the config file at `path`.
fn read_file(path: &Path) -> Result<String, ConfigErrors> {
    read_capped(path).map_err(|error| {
        let message = match error.kind() {
            io::ErrorKind::NotFound => "there is no such file; name one with --config".to_owned(),
            io::ErrorKind::InvalidData => "cannot be read: it is not UTF-8 text".to_owned(),
            _ => format!("cannot be read: {error}"),
        };
        let problem = Problem { file: path.into(), line: None, key: String::new(), message };
        ConfigErrors { file: path.to_owned(), problems: vec![problem] }
    })
}

/// What `read` makes of the tables in `text`, unless that is not TOML; what is wrong with them, and what is doubtful.
fn read_tables<T>(
    text: &str,
    path: &Path,
    env: &Env<'_>,
    read_file: &ReadFile<'_>,
    read: impl FnOnce(Table<'_>) -> T,
) -> (Option<T>, Vec<Problem>, Vec<Problem>) {
    let input = Input::new(path, text, env, read_file);
    let (document, syntax_errors) = DeTable::parse_recoverable(text);
    // What is recovered from broken TOML lacks what the file says, and judging it would mislead.
    let made = match syntax_errors.as_slice() {
        [] => Some(read(input.root(document.get_ref()))),
        errors => {
            errors.iter().for_each(|error| input.refuse_syntax(text, error));
            None
        }
    };
    let (problems, warnings) = input.into_found();
    (made, problems, warnings)
}

/// The text of a file of at most [`FILE_MAX_BYTES`].
fn read_capped(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let length = std::fs::File::open(path)?.take(FILE_MAX_BYTES + 1).read_to_string(&mut text)?;
    match u64::try_from(length) {
        Ok(bytes) if bytes <= FILE_MAX_BYTES => Ok(text),
        _ => Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {FILE_MAX_BYTES} bytes"))),
    }
}
