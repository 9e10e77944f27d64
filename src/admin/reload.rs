//! Reload: the config is read again and taken in whole, or not at all.
//!
//! How that is done is the gateway's matter ([`Reload`]); here it is asked for, by an operator or by SIGHUP, and told:
//! what is otherwise, by name and key and without secrets, what of it needs a restart, or everything that is wrong.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use http::StatusCode;
use warp::Filter as _;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use super::problem::{Answer, Problem, json_telling};
use super::register::Register;
use super::{AdminState, POST, only, respond, wire, with};
use crate::config::Problem as Fault;
use crate::config::change::{Change, Key};
use crate::core::operation::{Operation, Who};
use crate::core::role::Role;
use crate::core::timestamp::Timestamp;

/// What it is called where it is noted who asked for it.
pub(super) const WHAT: &str = "config.reload";
/// Who asks for it by a signal.
const SIGNAL: &str = "SIGHUP";

/// Has the config read again.
pub trait Reload: Send + Sync + 'static {
    /// Reads it and takes it in, one reload at a time.
    fn reload(&self) -> Pin<Box<dyn Future<Output = Result<Reloaded, NotReloaded>> + Send + '_>>;

    /// How the last one went.
    fn last(&self) -> Last;

    /// Now, by the gateway's clock.
    fn now(&self) -> Timestamp;
}

/// A config that was taken in.
#[derive(Debug, Clone, Default)]
pub struct Reloaded {
    /// What is otherwise now.
    pub applied: Vec<Change>,
    /// What the file has otherwise, too, and a process takes in at its start only.
    pub needs_restart: Vec<Change>,
    /// What is allowed but probably not meant.
    pub warnings: Vec<Fault>,
}

/// Why everything stays as it was.
#[derive(Debug, Clone)]
pub enum NotReloaded {
    /// The process was not started with a config file.
    NoFile,
    /// The config is refused, and why.
    Refused(Vec<Fault>),
    /// The gateway is being stopped, or failed.
    Failed(String),
}

/// How the last reload went. The start counts as one.
#[derive(Debug, Clone, Copy)]
pub struct Last {
    /// Whether the last one was taken in.
    pub succeeded: bool,
    /// When the last one was that was.
    pub success_at: Timestamp,
}

pub(super) fn routes(state: &AdminState) -> BoxedFilter<(Response,)> {
    warp::path!("reload").and(only(POST)).and(with(state)).then(reload).map(respond).boxed()
}

async fn reload(state: AdminState) -> Answer {
    answer(&*state.reload).await
}

/// The same because of SIGHUP: noted like what an operator asks for, but done even where it cannot be noted.
pub async fn by_signal(reload: &dyn Reload, register: &Arc<Register>) {
    let who = Some(Who { name: SIGNAL.to_owned(), token: None, role: Role::Admin });
    let (what, at, parameters) = (WHAT.to_owned(), reload.now(), String::new());
    let operation = Operation { at, who, from: None, what, object: None, parameters, repeats: 0 };
    let id = register.begin(operation).await.inspect_err(|error| {
        tracing::warn!(%error, "that the config is read again cannot be noted");
    });
    let response = answer(reload).await.unwrap_or_else(Problem::into_response);
    if let Ok(id) = id {
        register.end(id, reload.now(), &response).await;
    }
}

async fn answer(reload: &dyn Reload) -> Answer {
    match reload.reload().await {
        Ok(reloaded) => {
            let told = reloaded.told();
            Ok(json_telling(StatusCode::OK, &wire::Reloaded::from(reloaded), told))
        }
        Err(NotReloaded::NoFile) => {
            let detail = "this gateway was not started with a config file: there is nothing to read again";
            Err(Problem::new(StatusCode::CONFLICT, detail))
        }
        Err(NotReloaded::Refused(faults)) => {
            let detail = "the config is refused, and what was there before goes on";
            Err(Problem::faults(detail, faults.iter().map(ToString::to_string).collect()))
        }
        Err(NotReloaded::Failed(why)) => Err(Problem::unavailable(why)),
    }
}

impl Reloaded {
    /// In a line, for the register and the log.
    #[must_use]
    pub fn told(&self) -> String {
        let list = |changes: &[Change]| changes.iter().map(Change::to_string).collect::<Vec<_>>().join("; ");
        match (self.applied.as_slice(), self.needs_restart.as_slice()) {
            ([], []) => "nothing has changed".to_owned(),
            (applied, []) => list(applied),
            ([], waiting) => format!("needs a restart: {}", list(waiting)),
            (applied, waiting) => format!("{}; needs a restart: {}", list(applied), list(waiting)),
        }
    }
}

impl From<Reloaded> for wire::Reloaded {
    fn from(reloaded: Reloaded) -> Self {
        let Reloaded { applied, needs_restart, warnings } = reloaded;
        let shown = |Change { kind, what, keys }: Change| wire::ConfigChange {
            kind: kind.as_str().into(),
            what,
            keys: keys.into_iter().map(|Key { name, secret }| wire::ConfigKey { name, secret }).collect(),
        };
        Self {
            applied: applied.into_iter().map(shown).collect(),
            needs_restart: needs_restart.into_iter().map(shown).collect(),
            warnings: warnings.iter().map(ToString::to_string).collect(),
        }
    }
}
