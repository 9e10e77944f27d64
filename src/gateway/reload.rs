//! Reading the config again: whole or not at all, in one step, and with nothing in flight disturbed.
//!
//! Everything that can be wrong is found before anything changes: the file and what it names, the certificates, and
//! whether it fits what only a restart takes in. Then lanes and routes change, then the door, then what operators see;
//! each request is taken in by what stood when it came. One reload at a time.

use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex as StdMutex, PoisonError};

use arc_swap::ArcSwap;
use tokio::sync::Mutex;

use super::doors::Certificate;
use super::notify::Notifier;
use crate::admin::hosts::Hosts;
use crate::admin::register::Register;
use crate::admin::reload::{Last, NotReloaded, Reload, Reloaded, by_signal};
use crate::admin::settings::Settings;
use crate::config::change::{Change, changes};
use crate::config::{Config, Problem};
use crate::core::lifecycle::Lifecycle;
use crate::core::name::Name;
use crate::core::timestamp::Timestamp;
use crate::deliver::HttpTransport;
use crate::engine::{Clock as _, Engine, Rules, SystemClock};
use crate::ingest::{self, Door};
use crate::listener::Identity;

/// The way to have the config read again. Cheap to clone.
#[derive(Clone)]
pub struct Reloads {
    reloader: Arc<Reloader>,
    register: Arc<Register>,
}

/// What a config changes in a running gateway.
pub(super) struct Parts {
    pub(super) engine: Engine,
    pub(super) door: Arc<Door>,
    pub(super) transport: HttpTransport,
    pub(super) settings: Arc<ArcSwap<Settings>>,
    pub(super) admin: SocketAddr,
    pub(super) certificates: Vec<Certificate>,
}

/// Reads the config again.
pub(super) struct Reloader {
    parts: Parts,
    file: Option<PathBuf>,
    notifier: Notifier,
    /// What holds.
    running: Mutex<Config>,
    last: StdMutex<Last>,
}

/// A config that is right, and all it takes to take it in.
struct Found {
    config: Config,
    identities: Vec<Identity>,
}

impl Reloads {
    pub(super) const fn new(reloader: Arc<Reloader>, register: Arc<Register>) -> Self {
        Self { reloader, register }
    }

    /// Has it read again because the process was told to by SIGHUP.
    pub async fn by_signal(&self) {
        by_signal(&*self.reloader, &self.register).await;
    }
}

impl Reloader {
    pub(super) fn new(config: Config, file: Option<PathBuf>, notifier: Notifier, parts: Parts) -> Self {
        let last = StdMutex::new(Last { succeeded: true, success_at: SystemClock.now() });
        Self { parts, file, notifier, running: Mutex::new(config), last }
    }

    async fn read_again(&self) -> Result<Reloaded, NotReloaded> {
        let file = self.file.as_deref().ok_or(NotReloaded::NoFile)?;
        let mut running = self.running.lock().await;
        self.notifier.reloading();
        let outcome = self.take_in(file, &mut running).await;
        self.note(file, &outcome);
        self.notifier.ready(if outcome.is_ok() { "serving" } else { "serving; the config was refused, see the log" });
        outcome
    }

    async fn take_in(&self, file: &Path, running: &mut Config) -> Result<Reloaded, NotReloaded> {
        let Found { config: new, identities } = self.find(file, running).await?;
        let mixed = running.taking_in(new.clone());
        let reloaded = Reloaded {
            applied: changes(running, &mixed),
            needs_restart: changes(&mixed, &new),
            warnings: new.warnings,
        };
        let Parts { engine, door, transport, settings, admin, certificates } = &self.parts;
        let rules =
            Rules::new(mixed.endpoints.clone(), mixed.routes.clone(), lifecycles(&mixed), mixed.retention.clone());
        engine.change_rules(rules).await.map_err(|error| NotReloaded::Failed(error.to_string()))?;
        door.change(mixed.sources.clone(), mixed.server.rate);
        settings.store(Arc::new(self::settings(&mixed, *admin)));
        transport.keep(&mixed.endpoints);
        for (certificate, identity) in certificates.iter().zip(identities) {
            certificate.tls.take_in(identity);
        }
        *running = mixed;
        Ok(reloaded)
    }

    /// Reads all there is to read, and finds everything that is wrong with it.
    async fn find(&self, file: &Path, running: &Config) -> Result<Found, NotReloaded> {
        let name: Arc<Path> = file.into();
        let tls: Vec<_> = self.parts.certificates.iter().map(|it| (it.key, Arc::clone(&it.tls))).collect();
        let reading = tokio::task::spawn_blocking(move || {
            let identities: Vec<_> = tls.into_iter().map(|(key, tls)| (key, tls.look())).collect();
            (Config::load(&name), identities, name)
        });
        let (loaded, looked, name) = reading.await.map_err(|error| NotReloaded::Failed(error.to_string()))?;
        let (mut identities, mut problems) = (Vec::new(), Vec::new());
        let config = loaded.map_err(|errors| problems.extend(errors.problems)).ok();
        problems.extend(config.iter().flat_map(|config| running.misfits(config, file)));
        for (key, looked) in looked {
            match looked {
                Ok(identity) => identities.push(identity),
                Err(error) => problems.push(Problem {
                    file: Arc::clone(&name),
                    line: None,
                    key: key.to_owned(),
                    message: error.to_string(),
                }),
            }
        }
        match config {
            Some(config) if problems.is_empty() => Ok(Found { config, identities }),
            _ => Err(NotReloaded::Refused(problems)),
        }
    }

    /// Remembers how it went, and logs it.
    fn note(&self, file: &Path, outcome: &Result<Reloaded, NotReloaded>) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.succeeded = outcome.is_ok();
        if last.succeeded {
            last.success_at = SystemClock.now();
        }
        drop(last);
        let file = file.display();
        match outcome {
            Ok(Reloaded { applied, needs_restart, warnings }) => {
                for warning in warnings {
                    tracing::warn!(%warning, "config");
                }
                for change in applied {
                    tracing::info!(%change, "config");
                }
                let waiting: Vec<String> = needs_restart.iter().map(Change::to_string).collect();
                for change in &waiting {
                    tracing::warn!(change, "config: this needs a restart, and is as it was until then");
                }
                let (applied, waiting) = (applied.len(), waiting.len());
                tracing::info!(%file, applied, needs_restart = waiting, "the config was read again");
            }
            Err(NotReloaded::Refused(problems)) => {
                for problem in problems {
                    tracing::error!(%problem, "config");
                }
                tracing::error!(%file, problems = problems.len(), "the config is refused; what was there before goes on");
            }
            Err(NotReloaded::Failed(error)) => tracing::error!(%file, error, "the config was not taken in"),
            Err(NotReloaded::NoFile) => {}
        }
    }
}

impl Reload for Reloader {
    fn reload(&self) -> Pin<Box<dyn Future<Output = Result<Reloaded, NotReloaded>> + Send + '_>> {
        Box::pin(self.read_again())
    }

    fn last(&self) -> Last {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Timestamp {
        self.parts.engine.now()
    }
}

/// What the admin API goes by.
pub(super) fn settings(config: &Config, admin: SocketAddr) -> Settings {
    Settings {
        read: Box::new(ingest::reader(&config.sources)),
        import: Box::new(ingest::importer(&config.sources)),
        sources: config.sources.clone(),
        hosts: Hosts::new(admin, config.admin.hosts.clone()),
        effective: config.effective(),
    }
}

/// How calls begin and end, by source.
pub(super) fn lifecycles(config: &Config) -> Vec<(Name, Lifecycle)> {
    let watched = config.sources.iter().filter_map(|source| Some((source.name.clone(), source.lifecycle.clone()?)));
    watched.collect()
}
