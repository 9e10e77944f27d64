//! Calls: follows what is received and finds the calls that did not end, or never began.
//!
//! The core's [`Watch`] suspects and the journal decides ([`gap`]); what is a gap is journaled as an alert, so that
//! it is listed by whoever asks, told to whom a route names, and remembered over restarts. The walk is oldest first
//! behind a cursor, a page at a time; after a start it begins one timeout before the last event there is, and what
//! it finds again is journaled once only. How many calls are undelivered is counted now and then, never by the call.
//!
//! Absent: a list. The alerts are one, and whether a gap is one still is asked of the journal.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};

use super::alerts::{Body, Herald};
use super::rules::Current;
use super::{Clock, Engine, Health, read_blocking, supervise};
use crate::core::alert::{Alert, AlertKind, Damper};
use crate::core::delivery::Status;
use crate::core::event::{EventHead, KeyTag};
use crate::core::filter::Filter;
use crate::core::id::EventId;
use crate::core::lifecycle::{GapKind, Lifecycle, Part, START_GRACE, Suspect, Watch};
use crate::core::name::Name;
use crate::core::source::ALERTS;
use crate::core::timestamp::Timestamp;
use crate::journal::{Journal, JournalError, Query};

/// Events looked at in one piece.
const PAGE: usize = 1000;
/// How long what comes is gathered before it is looked at.
const GATHER: Duration = Duration::from_millis(100);
/// The longest sleep: a clock that was set is noticed within this.
const SLEEP_MAX: Duration = Duration::from_secs(5);
/// How long to wait before going on after the journal could not be read or written.
const ERROR_PAUSE: Duration = Duration::from_secs(1);
/// Alerts of former processes that are looked at, at a start.
const RESTORED_MAX: usize = 10_000;
/// How often undelivered calls are counted, at most; counting may take a twentieth of the time.
const COUNT_PERIOD: Duration = Duration::from_secs(30);
const COUNT_SHARE: u32 = 20;
/// Undelivered calls of one source that are told apart when they are counted.
const UNDELIVERED_MAX: usize = 100_000;

/// How many calls are incomplete.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CallCounts {
    /// By source and kind, for each source that has a lifecycle.
    pub incomplete: Vec<(Name, GapKind, u64)>,
    /// By source: calls since the start of this process that there was no room to watch.
    pub unwatched: Vec<(Name, u64)>,
}

/// A handle on the task.
pub(super) struct Calls {
    woken: Arc<Notify>,
    counts: watch::Receiver<CallCounts>,
}

/// What the task works with.
pub(super) struct Parts {
    pub(super) journal: Arc<dyn Journal>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) herald: Herald,
    pub(super) rules: Current,
}

struct Task {
    parts: Parts,
    lifecycles: Vec<(Name, Lifecycle)>,
    watch: Watch,
    /// Events up to this one are seen.
    cursor: EventId,
    /// Types that matter to any source.
    types: Vec<String>,
    damper: Damper,
    counts: watch::Sender<CallCounts>,
    undelivered: BTreeMap<Name, u64>,
    count_at: Timestamp,
}

impl Calls {
    /// Starts the task on the current runtime. It ends when `stopped` says so.
    pub(super) fn start(parts: Parts, health: watch::Sender<Health>, mut stopped: watch::Receiver<bool>) -> Self {
        let (counts, counted) = watch::channel(CallCounts::default());
        let woken = Arc::new(Notify::new());
        let calls = Self { woken: Arc::clone(&woken), counts: counted };
        let task = Task::new(parts, counts);
        supervise("the calls' task", health, async move {
            tokio::select! {
                () = task.run(woken) => {}
                _ = stopped.wait_for(|stop| *stop) => {}
            }
        });
        calls
    }

    /// Who wants to know that events were accepted.
    pub(super) fn listener(&self) -> Arc<Notify> {
        Arc::clone(&self.woken)
    }
}

impl Engine {
    /// How many calls are incomplete, as last counted.
    #[must_use]
    pub fn call_counts(&self) -> CallCounts {
        self.shared.watching.calls.counts.borrow().clone()
    }
}

/// The head of `event` if its call lacks its other end by what the journal holds; `None` if it is whole by now, or
/// the event is no longer there. Blocks on disk.
pub fn gap(
    journal: &dyn Journal,
    (source, lifecycle): &(Name, Lifecycle),
    part: Part,
    event: EventId,
) -> Result<Option<EventHead>, JournalError> {
    let Some(head) = journal.entry(event)?.map(|view| view.head) else { return Ok(None) };
    let Some(key) = head.key.clone() else { return Ok(None) };
    let (pattern, since) = match part {
        // The end of an earlier call that had the same key does not count.
        Part::Start => (&lifecycle.end, Some(before(head.received_at, START_GRACE))),
        Part::End => (&lifecycle.start, None),
    };
    let filter = Filter {
        source: Some(source.clone()),
        types: vec![pattern.clone()],
        keys: vec![key],
        since,
        ..Filter::default()
    };
    let is_other = |found: &EventHead| lifecycle.part(&found.event_type).is_some_and(|other| other != part);
    let mut query = Query { filter, after: None, newest_first: true, limit: PAGE };
    loop {
        let page = journal.events(&query)?;
        if page.items.iter().any(|view| is_other(&view.head)) {
            return Ok(None);
        }
        query.after = page.next;
        if query.after.is_none() {
            return Ok(Some(head));
        }
    }
}

/// The filter that finds every alert about a call.
#[must_use]
pub fn call_alerts() -> Filter {
    let event_type = AlertKind::CallIncomplete.event_type();
    Filter { source: Name::new(ALERTS).ok(), keys: vec![event_type.to_owned()], ..Filter::default() }
}

/// What an alert about a call's end says: its source, which end is there, and the event of it. Blocks on disk.
pub fn told_gap(journal: &dyn Journal, alert: EventId) -> Result<Option<(Name, Part, EventId)>, JournalError> {
    let Some(event) = journal.event(alert)? else { return Ok(None) };
    let Ok(body) = serde_json::from_slice::<Body>(&event.draft.body) else { return Ok(None) };
    let source = body.source.and_then(|source| Name::new(&source).ok());
    let part = GapKind::from_name(&body.reason).and_then(GapKind::part);
    let event = body.event.and_then(|event| event.parse().ok());
    Ok(source.zip(part).zip(event).map(|((source, part), event)| (source, part, event)))
}

fn before(time: Timestamp, span: Duration) -> Timestamp {
    Timestamp::ZERO.after(time.since(Timestamp::ZERO.after(span)))
}

impl Task {
    fn new(parts: Parts, counts: watch::Sender<CallCounts>) -> Self {
        let lifecycles = parts.rules.load().lifecycles.clone();
        let watch = Watch::new(lifecycles.clone());
        let patterns = lifecycles.iter().flat_map(|(_, lifecycle)| [&lifecycle.start, &lifecycle.end]);
        let types: BTreeSet<String> = patterns.cloned().collect();
        let last = EventId::from_u128(parts.journal.last_id()).time();
        let begin = before(before(last, watch.timeout_max()), START_GRACE);
        Self {
            watch,
            cursor: EventId::floor(begin),
            types: types.into_iter().collect(),
            damper: Damper::default(),
            counts,
            undelivered: BTreeMap::new(),
            count_at: Timestamp::ZERO,
            lifecycles,
            parts,
        }
    }

    async fn run(mut self, woken: Arc<Notify>) {
        let mut restored = false;
        loop {
            if self.lifecycles != self.parts.rules.load().lifecycles {
                // As after a start: what is found again is told once only.
                self = Self::new(self.parts, self.counts);
                restored = false;
            }
            if self.lifecycles.is_empty() {
                self.counts.send_replace(CallCounts::default());
                woken.notified().await;
                continue;
            }
            let done = if restored { self.step().await } else { self.restore().await };
            match done {
                Ok(()) if !restored => {
                    restored = true;
                    continue;
                }
                Ok(()) => {}
                Err(JournalError::Closed) => return,
                Err(error) => {
                    tracing::error!(%error, "calls are not watched for the moment");
                    tokio::time::sleep(ERROR_PAUSE).await;
                }
            }
            tokio::time::sleep(GATHER).await;
            tokio::select! {
                () = woken.notified() => {}
                () = tokio::time::sleep(self.sleep()) => {}
            }
        }
    }

    fn sleep(&self) -> Duration {
        let due = self.watch.poll_timeout().into_iter().chain(self.damper.poll_timeout()).chain([self.count_at]).min();
        let now = self.parts.clock.now();
        due.map_or(SLEEP_MAX, |due| due.since(now)).clamp(Duration::from_millis(1), SLEEP_MAX)
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&dyn Journal) -> Result<T, JournalError> + Send + 'static,
    ) -> Result<T, JournalError> {
        read_blocking(Arc::clone(&self.parts.journal), read).await
    }

    /// Remembers the gaps that former processes found and that are gaps still, the newest of them.
    async fn restore(&mut self) -> Result<(), JournalError> {
        let lifecycles = self.lifecycles.clone();
        let found = self.read(move |journal| {
            let (mut found, mut looked_at) = (Vec::new(), 0);
            let mut query = Query { filter: call_alerts(), after: None, newest_first: true, limit: PAGE };
            while looked_at < RESTORED_MAX {
                let page = journal.events(&query)?;
                for alert in &page.items {
                    looked_at += 1;
                    let Some((source, part, event)) = told_gap(journal, alert.head.id)? else { continue };
                    let Some(watched) = lifecycles.iter().find(|(name, _)| *name == source) else { continue };
                    found.extend(gap(journal, watched, part, event)?);
                }
                query.after = page.next;
                if query.after.is_none() {
                    break;
                }
            }
            Ok(found)
        });
        for head in found.await? {
            if let Some((call, part)) = self.watch.call(&head) {
                self.watch.handle_known_gap(call, part, head.id);
            }
        }
        Ok(())
    }

    async fn step(&mut self) -> Result<(), JournalError> {
        self.follow().await?;
        while let Some(suspect) = self.watch.poll_suspect(self.parts.clock.now()) {
            self.judge(&suspect).await?;
        }
        while let Some(sum) = self.damper.poll_sum(self.parts.clock.now()) {
            self.parts.herald.tell(&sum).await?;
        }
        self.count_undelivered().await?;
        let of = |kind| self.watch.gaps(kind).map(move |(name, count)| (name.clone(), kind, count));
        let mut incomplete: Vec<_> = of(GapKind::NeverEnded).chain(of(GapKind::EndedWithoutStart)).collect();
        incomplete.extend(self.undelivered.iter().map(|(name, count)| (name.clone(), GapKind::Undelivered, *count)));
        let unwatched = self.watch.unwatched().map(|(name, count)| (name.clone(), count)).collect();
        self.counts.send_replace(CallCounts { incomplete, unwatched });
        Ok(())
    }

    /// Tells the watch of every event since the last time.
    async fn follow(&mut self) -> Result<(), JournalError> {
        loop {
            let filter = Filter { types: self.types.clone(), ..Filter::default() };
            let query = Query { filter, after: Some(self.cursor), newest_first: false, limit: PAGE };
            let page = self.read(move |journal| {
                // Read first: whatever has a smaller id than this is in what is read next.
                let last = EventId::from_u128(journal.last_id());
                Ok((journal.events(&query)?, last))
            });
            let (page, last) = page.await?;
            page.items.iter().for_each(|view| self.watch.handle_event(&view.head));
            match page.next {
                Some(next) => self.cursor = next,
                None => {
                    let seen = page.items.last().map_or(EventId::MIN, |view| view.head.id);
                    self.cursor = self.cursor.max(last).max(seen);
                    return Ok(());
                }
            }
        }
    }

    /// Looks into the journal; what is a gap is journaled before it counts as one.
    async fn judge(&mut self, suspect: &Suspect) -> Result<(), JournalError> {
        let (Some(watched), Some(part)) = (self.watch.source(suspect.call).cloned(), suspect.kind.part()) else {
            return Ok(());
        };
        let (event, lifecycle) = (suspect.event, watched.1.clone());
        let Some(head) = self.read(move |journal| gap(journal, &watched, part, event)).await? else {
            self.watch.handle_cleared(suspect);
            return Ok(());
        };
        let wait = if part == Part::Start { lifecycle.timeout } else { START_GRACE };
        let alert = Alert {
            event: Some(head.id),
            source: Some(head.source),
            key: head.key,
            ..Alert::new(AlertKind::CallIncomplete, suspect.at.after(wait), suspect.kind.as_str())
        };
        let told = self.damper.admits(self.parts.clock.now(), &alert);
        while let Err(error) = self.parts.herald.record(&alert, told).await {
            if error == JournalError::Closed {
                return Err(error);
            }
            tracing::warn!(%error, "a call's gap could not be journaled yet");
            tokio::time::sleep(ERROR_PAUSE).await;
        }
        self.watch.handle_gap(suspect);
        Ok(())
    }

    /// Counts calls with an event that is dead or retried somewhere, if it is time to.
    async fn count_undelivered(&mut self) -> Result<(), JournalError> {
        let now = self.parts.clock.now();
        if now < self.count_at {
            return Ok(());
        }
        let mut calls: BTreeMap<Name, BTreeSet<KeyTag>> =
            self.lifecycles.iter().map(|(name, _)| (name.clone(), BTreeSet::new())).collect();
        let counted = self.read(move |journal| {
            let filter = Filter { statuses: vec![Status::Dead, Status::Retrying], ..Filter::default() };
            let mut query = Query { filter, after: None, newest_first: true, limit: PAGE };
            loop {
                let page = journal.deliveries(&query)?;
                for (head, _) in &page.items {
                    let Some((keys, key)) = calls.get_mut(&head.source).zip(head.key.as_deref()) else { continue };
                    if keys.len() < UNDELIVERED_MAX {
                        keys.insert(KeyTag::of(key));
                    }
                }
                query.after = page.next;
                if query.after.is_none() {
                    return Ok(calls.into_iter().map(|(name, keys)| (name, keys.len() as u64)).collect());
                }
            }
        });
        self.undelivered = counted.await?;
        let took = self.parts.clock.now().since(now);
        self.count_at = now.after(COUNT_PERIOD.max(took.saturating_mul(COUNT_SHARE)));
        Ok(())
    }
}
