//! The rules: what the config says of where events go, read as one and swapped as one.
//!
//! Whoever decides something takes the rules of now ([`Current::load`]) and decides all of it by those: there is no
//! moment at which the routes are new and the endpoints are not. When they are swapped the dispatcher is told first,
//! so that every endpoint that a new route names has its lane before the first event comes for it. What was routed
//! by the old rules and is committed a moment later finds its lane, or is parked, as if it had been committed before.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::oneshot;

use super::dispatcher::{self, Command};
use super::walk::Map;
use super::{Engine, Parts};
use crate::core::endpoint::Endpoint;
use crate::core::lifecycle::Lifecycle;
use crate::core::name::Name;
use crate::core::retention::Retention;
use crate::core::route::RouteTable;
use crate::journal::JournalError;

/// What the config says of where events go, and for how long they are kept.
#[derive(Debug)]
pub struct Rules {
    pub(super) endpoints: HashMap<Name, Arc<Endpoint>>,
    pub(super) map: Arc<Map>,
    pub(super) lifecycles: Vec<(Name, Lifecycle)>,
    pub(super) retention: Arc<Retention>,
    /// Whether any route asks for alerts.
    pub(super) takes_alerts: bool,
}

/// The rules of now. Cheap to clone; clones see the same.
#[derive(Debug, Clone)]
pub(super) struct Current(Arc<ArcSwap<Rules>>);

impl Rules {
    /// Rules of these parts of a config.
    #[must_use]
    pub fn new(
        endpoints: Vec<Endpoint>,
        routes: RouteTable,
        lifecycles: Vec<(Name, Lifecycle)>,
        retention: Retention,
    ) -> Self {
        let takes_alerts = routes.takes_alerts();
        let map = Map { endpoints: endpoints.iter().map(|endpoint| endpoint.name.clone()).collect(), routes };
        let named = endpoints.into_iter().map(|endpoint| (endpoint.name.clone(), Arc::new(endpoint)));
        let (endpoints, map, retention) = (named.collect(), Arc::new(map), Arc::new(retention));
        Self { endpoints, map, lifecycles, retention, takes_alerts }
    }

    pub(super) fn of(parts: &Parts) -> Self {
        let Parts { endpoints, routes, lifecycles, retention, .. } = parts;
        Self::new(endpoints.clone(), routes.clone(), lifecycles.clone(), retention.clone())
    }

    /// Where events go.
    #[must_use]
    pub fn routes(&self) -> &RouteTable {
        &self.map.routes
    }
}

impl Current {
    pub(super) fn new(rules: Rules) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(rules)))
    }

    pub(super) fn load(&self) -> Arc<Rules> {
        self.0.load_full()
    }
}

impl Engine {
    /// The rules of now.
    #[must_use]
    pub fn rules(&self) -> Arc<Rules> {
        self.shared.rules.load()
    }

    /// From now on these are the rules. What is on its way is not disturbed; deliveries to endpoints that are gone are
    /// parked; what waited for one that is back goes on.
    pub async fn change_rules(&self, rules: Rules) -> Result<(), JournalError> {
        let _one_at_a_time = self.shared.changing.lock().await;
        let endpoints: Vec<Arc<Endpoint>> = rules.endpoints.values().cloned().collect();
        let lots =
            self.read(move |journal| Ok(dispatcher::lots(journal, endpoints.iter().map(|endpoint| &**endpoint))));
        let (reply, done) = oneshot::channel();
        self.tell(Command::Endpoints(lots.await?, reply));
        done.await.map_err(|_| JournalError::Closed)?;
        self.shared.rules.0.store(Arc::new(rules));
        self.shared.replayer.wake();
        self.shared.watching.wake();
        self.shared.sweeper.wake();
        Ok(())
    }

    /// The endpoints of the config.
    pub fn endpoints(&self) -> impl Iterator<Item = Arc<Endpoint>> + use<> {
        self.rules().endpoints.values().cloned().collect::<Vec<_>>().into_iter()
    }

    /// The config's endpoint of this name.
    #[must_use]
    pub fn endpoint(&self, name: &Name) -> Option<Arc<Endpoint>> {
        self.rules().endpoints.get(name).cloned()
    }

    /// How the calls of each source begin and end, where the config says.
    #[must_use]
    pub fn lifecycles(&self) -> Vec<(Name, Lifecycle)> {
        self.rules().lifecycles.clone()
    }
}
