//! Retention in this world: a sweeper lets go of what is at rest, and nobody loses what is still to be delivered or
//! young enough to be kept.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use backstop::core::id::EventId;
use backstop::core::retention::{Keep, Kept, Retention};
use backstop::core::timestamp::{Timestamp, duration_millis};
use backstop::journal::retention::Sweep;
use backstop::journal::{Change, Journal as _, Receipt};

use super::{Happening, MINUTE, SECOND, World};

/// What is proposed to be let go of, and what has gone.
pub(super) struct Swept {
    pub(super) retention: Retention,
    /// Events of the last proposal, and when it was made.
    proposed: BTreeSet<EventId>,
    at: Timestamp,
    /// Whether that is still on its way to the journal.
    is_writing: Arc<AtomicBool>,
    /// Whose payload has gone: its attempts were looked at before.
    pub(super) gone: BTreeSet<EventId>,
}

impl Swept {
    pub(super) fn new(keep: (u64, u64), endpoints: impl Iterator<Item = backstop::core::name::Name>) -> Self {
        let [payload, metadata] = [keep.0, keep.1].map(|millis| Some(Duration::from_millis(millis)));
        let default = Keep { payload, metadata, bytes_max: None };
        let retention = Retention { default, endpoints: endpoints.collect(), ..Retention::default() };
        let (proposed, gone) = (BTreeSet::new(), BTreeSet::new());
        Self { retention, proposed, at: Timestamp::ZERO, is_writing: Arc::default(), gone }
    }
}

impl World {
    /// The sweeper of this process looks again: soon, when it begins.
    pub(super) fn schedule_sweep(&mut self, soon: bool) {
        if let Some(payload) = self.swept.as_ref().and_then(|swept| swept.retention.default.payload) {
            let payload = duration_millis(payload);
            let after = self.rng.u64(if soon { SECOND..MINUTE } else { payload / 8..payload / 2 });
            self.after(after, Happening::Sweep(self.incarnation));
        }
    }

    pub(super) fn sweep(&mut self) {
        self.schedule_sweep(false);
        let at = self.wall();
        let Some(swept) = self.swept.as_mut().filter(|swept| !swept.is_writing.load(Ordering::SeqCst)) else { return };
        let Sweep::Change(change) = self.journal.sweep(&swept.retention, at).unwrap() else { return };
        let Change::Retain(retain) = &change else { panic!("a sweep retains") };
        let items = || retain.items.iter().filter(|item| item.verdict.kept != Kept::Whole);
        let going = items().filter(|item| item.seen.has_payload).flat_map(|item| &item.seen.deliveries);
        for delivery in going.filter(|delivery| delivery.state.is_terminal()) {
            let far = self.far.iter().find(|far| far.endpoint.name == delivery.endpoint).unwrap();
            self.checks.delivery_ended(delivery, far, &self.truth);
        }
        swept.proposed = items().map(|item| item.seen.head.id).collect();
        swept.at = at;
        swept.is_writing = Arc::new(AtomicBool::new(true));
        let is_writing = Arc::clone(&swept.is_writing);
        self.process().commit(change, move |_| {
            is_writing.store(false, Ordering::SeqCst);
            None
        });
    }

    /// A process that has died takes its proposal with it.
    pub(super) fn forget_sweep(&mut self) {
        if let Some(swept) = &mut self.swept {
            swept.is_writing = Arc::default();
        }
    }

    /// After every commit: what has gone of what was proposed may have gone.
    pub(super) fn check_sweep(&mut self) {
        let Some(swept) = &mut self.swept else { return };
        for id in std::mem::take(&mut swept.proposed) {
            let view = self.journal.entry(id).unwrap();
            if view.as_ref().is_some_and(|view| view.has_payload) {
                let is_whole = self.journal.event(id).unwrap().is_some();
                self.checks.that(is_whole, || format!("{id} has lost its payload"));
                if swept.is_writing.load(Ordering::SeqCst) {
                    swept.proposed.insert(id);
                }
                continue;
            }
            swept.gone.insert(id);
            let known = self.truth.deliveries.range(id.delivery(0)..=id.delivery(u16::MAX));
            let live: Vec<_> = known.clone().filter(|(_, delivery)| !delivery.state.is_terminal()).collect();
            self.checks.that(live.is_empty(), || format!("{id} was let go of, and is still to be delivered: {live:?}"));
            let received = self.truth.heads[&id].received_at;
            let rest = known.map(|(_, delivery)| delivery.changed_at).fold(received, Timestamp::max);
            let keep = swept.retention.default;
            let span = if view.is_some() { keep.payload } else { keep.metadata };
            let is_due = span.is_some_and(|span| swept.at >= rest.after(span));
            self.checks.that(is_due, || format!("{id} came to rest at {rest} and was let go of at {}", swept.at));
        }
    }

    /// At the end: once all is old, all of it goes, and is still counted.
    pub(super) fn let_everything_go(&mut self) {
        let Some(swept) = &self.swept else { return };
        let before = self.journal.counters();
        let late = Timestamp::from_millis(1 << 50);
        while let Sweep::Change(change) = self.journal.sweep(&swept.retention, late).unwrap() {
            let receipts = self.journal.commit(&[change]).unwrap();
            if receipts != [Receipt::Done] {
                return self.checks.that(false, || format!("what is due stays: {receipts:?}"));
            }
        }
        let after = self.journal.counters();
        self.checks.that(after.dropped == after.accepted, || format!("not all that is due has gone: {after:?}"));
        let same = (after.accepted, &after.endpoints) == (before.accepted, &before.endpoints);
        self.checks.that(same, || format!("the counts have changed from {before:?} to {after:?}"));
    }
}
