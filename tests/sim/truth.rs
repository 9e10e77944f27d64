//! The truth: what the journal says, followed change by change, so that it can be asked at every step.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use backstop::core::delivery::Delivery;
use backstop::core::endpoint::{Endpoint, Order};
use backstop::core::event::EventHead;
use backstop::core::filter::Filter;
use backstop::core::id::{DeliveryId, EventId, ReplayId};
use backstop::core::name::Name;
use backstop::journal::memory::MemoryJournal;
use backstop::journal::{EventView, Journal as _, Query};

/// Which deliveries wait for each other: those of one endpoint, with an equal key where that matters.
pub(crate) type Line = (Name, Option<String>);

pub(crate) struct Truth {
    pub(crate) journal: Arc<MemoryJournal>,
    orders: BTreeMap<Name, Order>,
    pub(crate) heads: BTreeMap<EventId, EventHead>,
    pub(crate) deliveries: BTreeMap<DeliveryId, Delivery>,
    /// Not ended, by line; deliveries without a line are in none.
    pub(crate) open: BTreeMap<Line, BTreeSet<DeliveryId>>,
    /// Not ended.
    pub(crate) unfinished: BTreeSet<DeliveryId>,
    /// What each replay has made.
    pub(crate) made: BTreeMap<ReplayId, BTreeSet<DeliveryId>>,
    /// Events with changes that are on their way to the journal.
    touched: BTreeSet<EventId>,
    last: Option<EventId>,
}

impl Truth {
    pub(crate) fn new<'a>(journal: Arc<MemoryJournal>, endpoints: impl Iterator<Item = &'a Endpoint>) -> Self {
        Self {
            journal,
            orders: endpoints.map(|endpoint| (endpoint.name.clone(), endpoint.order)).collect(),
            heads: BTreeMap::new(),
            deliveries: BTreeMap::new(),
            open: BTreeMap::new(),
            unfinished: BTreeSet::new(),
            made: BTreeMap::new(),
            touched: BTreeSet::new(),
            last: None,
        }
    }

    pub(crate) fn touch(&mut self, id: EventId) {
        self.touched.insert(id);
    }

    /// Reads what a commit may have changed; the deliveries that have changed.
    pub(crate) fn refresh(&mut self) -> Vec<Delivery> {
        let filter = Filter { superseded: true, ..Filter::default() };
        let query = Query { filter, after: self.last, newest_first: false, limit: 1000 };
        let fresh = self.journal.events(&query).unwrap().items;
        let touched: Vec<EventId> = self.touched.iter().copied().collect();
        let known = touched.into_iter().filter_map(|id| self.journal.entry(id).unwrap());
        let views: Vec<EventView> = known.chain(fresh).collect();
        let mut changed = Vec::new();
        for view in views {
            self.last = self.last.max(Some(view.head.id));
            for delivery in view.deliveries {
                self.heads.entry(view.head.id).or_insert_with(|| view.head.clone());
                if self.deliveries.get(&delivery.id) != Some(&delivery) {
                    self.note(&delivery);
                    changed.push(delivery);
                }
            }
        }
        changed
    }

    /// Nothing is on its way to the journal any more.
    pub(crate) fn settled(&mut self) {
        self.touched.clear();
    }

    fn note(&mut self, delivery: &Delivery) {
        let line = self.line(delivery);
        if delivery.state.is_terminal() {
            self.unfinished.remove(&delivery.id);
            if let Some(open) = line.and_then(|line| self.open.get_mut(&line)) {
                open.remove(&delivery.id);
            }
        } else {
            self.unfinished.insert(delivery.id);
            if let Some(line) = line {
                self.open.entry(line).or_default().insert(delivery.id);
            }
        }
        if let Some(replay) = delivery.replay {
            self.made.entry(replay).or_default().insert(delivery.id);
        }
        self.deliveries.insert(delivery.id, delivery.clone());
    }

    /// The config says this of an endpoint now: others may wait for each other.
    pub(crate) fn ruled(&mut self, endpoint: &Endpoint) {
        let Endpoint { name, order, .. } = endpoint;
        if self.orders.insert(name.clone(), *order) == Some(*order) {
            return;
        }
        self.open.retain(|(of, _), _| of != name);
        let waiting =
            self.unfinished.iter().map(|id| &self.deliveries[id]).filter(|delivery| delivery.endpoint == *name);
        for delivery in waiting.cloned().collect::<Vec<_>>() {
            if let Some(line) = self.line(&delivery) {
                self.open.entry(line).or_default().insert(delivery.id);
            }
        }
    }

    pub(crate) fn line(&self, delivery: &Delivery) -> Option<Line> {
        let endpoint = delivery.endpoint.clone();
        match self.orders.get(&endpoint).copied().unwrap_or_default() {
            Order::None => None,
            Order::Endpoint => Some((endpoint, None)),
            Order::Key => {
                let key = self.heads.get(&delivery.id.event)?.key.clone()?;
                Some((endpoint, Some(key)))
            }
        }
    }
}
