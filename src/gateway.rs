//! The composition root: opens, recovers, binds, runs, and shuts down in order.
//!
//! Everything a part needs reaches it here, by its constructor; there are no globals. Start: the listeners
//! are bound first, so that a taken address is known before anything else happens and senders wait in the
//! kernel's queue instead of being refused; then the journal is opened, then the engine starts, then
//! requests are served. End: no new events, requests under way are answered, attempts under way end or meet
//! the deadline, the journal is closed, the admin API goes last.

mod doors;
pub mod notify;
mod reload;
mod traces;

use std::fmt;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use hyper_util::service::TowerToHyperService;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::admin::auth::{self, Token, TokenError};
use crate::admin::holders::Holders;
use crate::admin::pulse::Pulse;
use crate::admin::refusals::Readmission;
use crate::admin::register::Register;
use crate::admin::reload::Reload;
use crate::admin::sessions::Sessions;
use crate::admin::site::Site;
use crate::admin::{AdminState, gate};
use crate::config::{Config, JournalConfig, OperationLimits, RefusalLimits};
use crate::core::scheduler::Limits;
use crate::core::sealing::SealingKey;
use crate::core::timestamp::Timestamp;
use crate::dashboard;
use crate::deliver::HttpTransport;
use crate::egress::{self, Guard, SystemLookup};
use crate::engine::{Clock, Engine, Health, Parts, SystemClock};
use crate::ingest::{self, Door};
use crate::journal::JournalError;
use crate::journal::embedded::{EmbeddedJournal, OpenReport, Progress, Settings};
use crate::journal::log::Seals;
use crate::journal::operations::{self, Operations};
use crate::journal::private::{self, Exposed};
use crate::journal::refused::{self, Refusals};
use crate::listener::TlsError;
use crate::telemetry::Intake;
use doors::{Doors, addr_of};
use notify::Notifier;
use reload::Reloader;
pub use reload::Reloads;
use traces::Traces;

/// Where refused requests are kept, in the journal's folder.
const REFUSED: &str = "refused";
/// Where it is kept what was done by whom, in the journal's folder.
pub(crate) const OPERATIONS: &str = "operations";
/// Where the hashes of the named tokens are kept, in the journal's folder.
pub(crate) const TOKENS: &str = "tokens.json";
/// How long the admin API may take to answer what is under way at the end.
const ADMIN_DRAIN: Duration = Duration::from_secs(2);
/// What attempts under way have at the end even if a slow sender has used up the deadline, unless that is shorter.
const ATTEMPTS_DRAIN_MIN: Duration = Duration::from_secs(2);
/// How often the progress of a long start is logged, in steps of a hundred.
const PROGRESS_STEP: u64 = 10;

/// A running gateway.
pub struct Gateway {
    /// Where events are posted.
    pub ingest_addr: SocketAddr,
    /// Where operators ask.
    pub admin_addr: SocketAddr,
    /// What operators show.
    pub token: Token,
    engine: Engine,
    refusals: Refusals,
    drain: Duration,
    ingest: Served,
    admin: Served,
    reloads: Reloads,
    notifier: Notifier,
    traces: Traces,
}

/// Where a gateway's config came from, and who wants to know how it fares.
pub struct Origin {
    /// The file, for reading it again.
    pub file: PathBuf,
    /// The service manager, if one started this process.
    pub notifier: Notifier,
}

/// A listener being served.
struct Served {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// Why a gateway does not start, or ended.
#[derive(Debug)]
pub enum GatewayError {
    /// An address cannot be listened on.
    Bind(SocketAddr, io::Error),
    /// The certificate of a listener cannot be used.
    Tls(TlsError),
    /// The admin token's file cannot be used.
    Token(TokenError),
    /// The journal cannot be opened, or failed.
    Journal(JournalError),
}

/// What the journal is opened with.
#[must_use]
pub fn journal_settings(config: &JournalConfig, now: Timestamp) -> Settings {
    Settings {
        dir: config.dir.clone(),
        segment_bytes: config.segment_bytes,
        ballast_bytes: config.ballast_bytes,
        disk_free_min_bytes: config.disk_free_min_bytes,
        index_cache_bytes: config.index_cache_bytes,
        keys: config.keys.clone(),
        now,
    }
}

impl Gateway {
    /// Starts a gateway on the current runtime; returns when it serves. Without an origin its config stays as it is.
    pub async fn start(config: Config, origin: Option<Origin>) -> Result<Self, GatewayError> {
        let traces = Traces::start();
        let intake = Arc::new(Intake::telling(traces.spans.clone()));
        let Doors { front, back, certificates } = Doors::open(&config, &intake).await?;
        let (ingest_addr, admin_addr) = (addr_of(&front)?, addr_of(&back)?);
        let clock = SystemClock;
        let journal = open_journal(journal_settings(&config.journal, clock.now())).await?;
        report(journal.report());
        let (token, holders) = open_holders(&config).map_err(GatewayError::Token)?;
        let guard = Guard::new(Arc::new(SystemLookup), Some(admin_addr));
        let transport = HttpTransport::new(egress::native_roots(), guard).telling(traces.spans.clone());
        let started_at = clock.now();
        let refusals =
            open_refusals(config.journal.dir.join(REFUSED), config.refusals, config.journal.keys.clone()).await;
        report_keys(&config.journal.keys, &journal.seals(), &refusals.seals());
        let operations = open_operations(config.journal.dir.join(OPERATIONS), config.operations, started_at).await;
        let engine = Engine::start(parts(&config, journal, transport.clone())).map_err(GatewayError::Journal)?;

        let door = Door::new(
            config.sources.clone(),
            config.server.rate,
            engine.clone(),
            Arc::clone(&intake),
            refusals.clone(),
        );
        let settings = Arc::new(ArcSwap::from_pointee(reload::settings(&config, admin_addr)));
        let register = Arc::new(Register::new(operations));
        let drain = config.server.drain_timeout;
        let (file, notifier) = origin.map_or_else(Default::default, |Origin { file, notifier }| (Some(file), notifier));
        let sessions = Sessions::new(admin_addr.port(), config.admin.tls.is_some());
        let site = Site {
            journal: config.journal.dir.clone(),
            disk_free_min_bytes: config.journal.disk_free_min_bytes,
            ingest: ingest_addr,
        };
        let reloader = Arc::new(Reloader::new(
            config,
            file,
            notifier.clone(),
            reload::Parts {
                engine: engine.clone(),
                door: Arc::clone(&door),
                transport,
                settings: Arc::clone(&settings),
                admin: admin_addr,
                certificates,
            },
        ));
        let state = AdminState {
            engine: engine.clone(),
            intake: Arc::clone(&intake),
            refused: Arc::new(Readmission::new(refusals.clone())),
            settings,
            reload: Arc::clone(&reloader) as Arc<dyn Reload>,
            holders: Arc::new(holders),
            sessions: Arc::new(sessions),
            pulse: Pulse::start(&engine, &intake),
            site: Arc::new(site),
            register: Arc::clone(&register),
            knocks: Arc::default(),
            started_at,
        };
        let events = warp::service(ingest::filter(door));
        let operators = dashboard::before(gate::service(&state));
        let ingest = Served::new(|stop| front.serve(TowerToHyperService::new(events), stop, drain));
        let admin = Served::new(|stop| back.serve(operators, stop, ADMIN_DRAIN));
        tracing::info!(ingest = %ingest_addr, admin = %admin_addr, journal = %state.site.journal.display(), "serving");
        notifier.ready("serving");
        let reloads = Reloads::new(reloader, register);
        Ok(Self { ingest_addr, admin_addr, token, engine, refusals, drain, ingest, admin, reloads, notifier, traces })
    }

    /// The way to have the config read again.
    #[must_use]
    pub fn reloads(&self) -> Reloads {
        self.reloads.clone()
    }

    /// Runs until `stop` ends or the journal fails, then shuts down in order.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<(), GatewayError> {
        let mut health = self.engine.health();
        let failed = tokio::select! {
            () = stop => None,
            failed = health.wait_for(|health| matches!(health, Health::Failed(_))) => match failed.as_deref() {
                Ok(Health::Failed(why)) => Some(JournalError::Failed(why.clone())),
                _ => None,
            },
        };
        let closed = self.stop().await;
        match failed {
            Some(error) => Err(GatewayError::Journal(error)),
            None => closed,
        }
    }

    /// Shuts down in order. Requests and attempts under way share one deadline.
    pub async fn stop(self) -> Result<(), GatewayError> {
        tracing::info!("stopping: no new events; what is under way may end");
        self.notifier.stopping();
        let began = Instant::now();
        self.ingest.stop().await;
        let rest = self.drain.saturating_sub(began.elapsed());
        let closed = self.engine.stop(rest.max(self.drain.min(ATTEMPTS_DRAIN_MIN))).await;
        self.admin.stop().await;
        self.traces.stop().await;
        let refusals = self.refusals;
        if tokio::task::spawn_blocking(move || refusals.settle()).await.is_err() {
            tracing::error!("filing refused requests panicked");
        }
        closed.map_err(GatewayError::Journal)?;
        tracing::info!("stopped");
        Ok(())
    }
}

/// The first operator's token, and who holds which other.
fn open_holders(config: &Config) -> Result<(Token, Holders), TokenError> {
    let token = auth::load_or_create(&config.admin.token_file)?;
    let holders = Holders::open(&config.journal.dir.join(TOKENS), &token)?;
    Ok((token, holders))
}

/// What the engine is made of.
fn parts(config: &Config, journal: EmbeddedJournal, transport: HttpTransport) -> Parts {
    let rules = config.clone();
    Parts {
        journal: Arc::new(journal),
        clock: Arc::new(SystemClock),
        transport: Arc::new(transport),
        lifecycles: reload::lifecycles(config),
        endpoints: rules.endpoints,
        routes: rules.routes,
        retention: rules.retention,
        limits: Limits {
            active_max: config.delivery.active_max_per_endpoint,
            ordered_max: config.delivery.ordered_max_per_endpoint,
            in_flight_max: config.delivery.in_flight_max,
        },
        recent_max_bytes: config.delivery.cache_bytes,
        accept_queue_max: config.server.accept_queue_max,
        seed: RandomState::new().build_hasher().finish(),
    }
}

impl Served {
    fn new<F: Future<Output = ()> + Send + 'static>(serve: impl FnOnce(watch::Receiver<bool>) -> F) -> Self {
        let (stop, stopped) = watch::channel(false);
        Self { stop, task: tokio::spawn(serve(stopped)) }
    }

    async fn stop(self) {
        self.stop.send_replace(true);
        if self.task.await.is_err() {
            tracing::error!("a listener panicked");
        }
    }
}

/// Without it nothing is lost that was promised to anybody: the gateway starts all the same.
async fn open_refusals(dir: PathBuf, limits: RefusalLimits, keys: Vec<SealingKey>) -> Refusals {
    let RefusalLimits { count_max, bytes_max } = limits;
    let seed = RandomState::new().build_hasher().finish();
    let opening = move || Refusals::open(&dir, refused::Limits { count_max, bytes_max }, keys, seed);
    match tokio::task::spawn_blocking(opening).await {
        Ok(Ok(refusals)) => refusals,
        Ok(Err(error)) => {
            tracing::warn!(%error, "refused requests are not kept");
            Refusals::default()
        }
        Err(error) => {
            tracing::error!(%error, "refused requests are not kept");
            Refusals::default()
        }
    }
}

/// Without it nothing can be changed through the admin API; what was promised to senders goes on.
async fn open_operations(dir: PathBuf, limits: OperationLimits, now: Timestamp) -> Result<Operations, String> {
    let opening = tokio::task::spawn_blocking(move || Operations::open(&dir, operation_limits(limits), now));
    let opened = opening.await.unwrap_or_else(|error| Err(JournalError::Open(error.to_string())));
    match opened {
        Ok((operations, findings)) => {
            for (position, len) in &findings.damaged {
                tracing::error!(position = position.0, len, "what was noted of operations is damaged here");
            }
            Ok(operations)
        }
        Err(error) => {
            tracing::error!(%error, "operations cannot be noted: nothing can be changed through the admin API");
            Err(error.to_string())
        }
    }
}

/// How much is kept of what was done by whom.
pub(crate) const fn operation_limits(limits: OperationLimits) -> operations::Limits {
    operations::Limits { bytes_max: limits.bytes_max, age_max: limits.age_max }
}

async fn open_journal(settings: Settings) -> Result<EmbeddedJournal, GatewayError> {
    let opening = tokio::task::spawn_blocking(move || {
        keep_private(&settings.dir);
        let logged = std::cell::Cell::new(0);
        EmbeddedJournal::open(&settings, &|Progress { done_bytes, total_bytes }| {
            let percent = done_bytes.saturating_mul(100) / total_bytes.max(1);
            if percent >= logged.get() + PROGRESS_STEP {
                logged.set(percent);
                tracing::info!(percent, "reading the log");
            }
        })
    });
    let opened = opening.await.unwrap_or_else(|error| Err(JournalError::Open(error.to_string())));
    opened.map_err(GatewayError::Journal)
}

/// Takes from everybody else what they could read of the journal, and says so.
fn keep_private(dir: &Path) {
    const SAID: &str = "others could read the journal; it is the owner's alone now";
    const UNMENDED: &str = "others can read the journal, and that cannot be changed here; make it mode 0700";
    match private::mend(dir) {
        Ok(None) => {}
        Ok(Some(Exposed { count, example, mode, unmended })) => {
            let (example, mode) = (example.display(), format!("{mode:04o}"));
            match unmended {
                None => tracing::warn!(count, %example, mode, "{SAID}"),
                Some(error) => tracing::warn!(count, %example, mode, error, "{UNMENDED}"),
            }
        }
        Err(error) => tracing::warn!(%error, "who can read the journal is not known"),
    }
}

/// Says what opening the journal found.
fn report(report: &OpenReport) {
    if let Some(why) = &report.rebuilt {
        tracing::warn!(why, records = report.findings.records, "the index was built again from the log");
    }
    for (position, len) in &report.findings.torn {
        tracing::warn!(
            position = position.0,
            len,
            "the log ended in a write that was cut off; it was never acknowledged"
        );
    }
    for (position, len) in &report.findings.damaged {
        tracing::error!(
            position = position.0,
            len,
            "the log is damaged here; what stood there is lost, the rest is intact"
        );
    }
}

/// Says which keys seal nothing any more, and what cannot be read of refused requests for want of one.
fn report_keys(keys: &[SealingKey], journal: &Seals, refusals: &Seals) {
    for key in keys.iter().skip(1).map(SealingKey::id) {
        if !journal.contains_key(&Some(key)) && !refusals.contains_key(&Some(key)) {
            tracing::info!(%key, "nothing is sealed with this key any more; it can be taken out of the config");
        }
    }
    for (key, extent) in refusals {
        if let Some(key) = key.filter(|key| !keys.iter().any(|known| known.id() == *key)) {
            tracing::warn!(%key, bytes = extent.bytes, "refused requests sealed with this key are not listed without it");
        }
    }
}

impl fmt::Display for GatewayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bind(addr, error) if error.kind() == io::ErrorKind::AddrInUse => {
                write!(
                    f,
                    "{addr} is taken, perhaps by another backstop; stop that one or choose another address in the config"
                )
            }
            Self::Bind(addr, error) => write!(f, "cannot listen on {addr}: {error}"),
            Self::Tls(error) => write!(f, "{error}"),
            Self::Token(error) => write!(f, "{error}"),
            Self::Journal(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for GatewayError {}
