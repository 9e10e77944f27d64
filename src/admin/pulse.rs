//! The pulse: looks at how everything stands once in a while, remembers two hours of it, and tells whoever watches.
//!
//! Every second while somebody watches, else every ten: what is watched costs the same whether one watches or thirty. Promises:
//! memory is bounded ([`MINUTES`], [`ENDPOINTS_MAX`]), whoever falls behind misses beats and learns so, nobody is
//! waited for, and the looking ends with the engine. What it remembers begins with the process: it is for seeing what is
//! going on, and metrics are for keeping. Absent: HTTP, which is [`super::live`]'s.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast};

use super::endpoints::{self, Known};
use super::wire::{Beat, BeatOf, History, Series};
use crate::core::breaker::Circuit;
use crate::core::delivery::Status;
use crate::core::filter::Filter;
use crate::core::name::Name;
use crate::core::timestamp::Timestamp;
use crate::engine::{Engine, Health};
use crate::journal::{Journal, JournalError, Query, Tally};
use crate::telemetry::Intake;

/// Minutes that are remembered.
pub(super) const MINUTES: usize = 120;
/// Endpoints that are told of and remembered, the first by name.
pub(super) const ENDPOINTS_MAX: usize = 500;
/// Most who watch at a time.
const WATCHERS_MAX: usize = 32;
/// Beats that one who watches may be behind.
const BEHIND_MAX: usize = 16;
/// How often it is looked while somebody watches.
const TICK: Duration = Duration::from_secs(1);
/// Of those ticks, how many pass while nobody does; and how many between two looks for who waits longest.
const TICKS_UNWATCHED: u64 = 10;
const TICKS_OLDEST: u64 = 5;
const MINUTE_MILLIS: u64 = 60_000;

/// What somebody who watches is told next.
pub(super) type Told = Arc<Beat>;

/// How everything stood.
#[derive(Debug)]
pub struct Pulse {
    beats: broadcast::Sender<Told>,
    watchers: Arc<Semaphore>,
    seen: Mutex<Seen>,
}

/// Somebody who watches; gives its place back in the end.
#[derive(Debug)]
pub(super) struct Watcher {
    pub(super) beats: broadcast::Receiver<Told>,
    pub(super) now: Told,
    _place: OwnedSemaphorePermit,
}

#[derive(Debug, Default)]
struct Seen {
    last: Arc<Beat>,
    /// When each minute began, oldest first.
    minutes: VecDeque<u64>,
    /// Totals, and by endpoint.
    of: BTreeMap<Option<String>, Track>,
}

/// What is remembered of one thing.
#[derive(Debug, Default)]
struct Track {
    /// The sums up to the minute that is not over: accepted, delivered, failed attempts.
    base: [u64; 3],
    /// The sums when it was last looked.
    last: [u64; 3],
    /// What came in each minute, and the backlog at its end. As many as there are minutes.
    minutes: VecDeque<([u64; 3], u64)>,
}

impl Pulse {
    /// Begins to look, on the current runtime. It ends when the engine does.
    #[must_use]
    pub fn start(engine: &Engine, intake: &Arc<Intake>) -> Arc<Self> {
        let (beats, _) = broadcast::channel(BEHIND_MAX);
        let watchers = Arc::new(Semaphore::new(WATCHERS_MAX));
        let pulse = Arc::new(Self { beats, watchers, seen: Mutex::default() });
        tokio::spawn(Arc::clone(&pulse).run(engine.clone(), Arc::clone(intake)));
        pulse
    }

    async fn run(self: Arc<Self>, engine: Engine, intake: Arc<Intake>) {
        let mut health = engine.health();
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let mut count = 0;
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                _ = health.wait_for(|health| *health != Health::Running) => return,
            }
            if count % TICKS_UNWATCHED == 0 || self.beats.receiver_count() > 0 {
                self.look(&engine, &intake, count % TICKS_OLDEST == 0).await;
            }
            count += 1;
        }
    }

    /// Looks, remembers and tells. What cannot be read is read next time.
    async fn look(&self, engine: &Engine, intake: &Intake, for_oldest: bool) {
        let now = engine.now();
        let before = self.last();
        match beat(engine, intake, &before, for_oldest).await {
            Ok(beat) => self.note(now, beat),
            Err(error) => tracing::debug!(%error, "how everything stands cannot be read"),
        }
    }

    fn note(&self, now: Timestamp, beat: Beat) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = seen.note(now, beat);
        if let Some(changed) = changed {
            // Nobody watching is no error.
            let _told = self.beats.send(Arc::new(changed)).is_ok();
        }
    }

    fn last(&self) -> Arc<Beat> {
        Arc::clone(&self.seen.lock().unwrap_or_else(PoisonError::into_inner).last)
    }

    /// How everything stands.
    pub(super) async fn now(&self, engine: &Engine, intake: &Intake) -> Told {
        if self.last().at.is_empty() {
            self.look(engine, intake, true).await;
        }
        self.last()
    }

    /// A place to watch from; `None` if all are taken.
    pub(super) async fn watch(&self, engine: &Engine, intake: &Intake) -> Option<Watcher> {
        let place = Arc::clone(&self.watchers).try_acquire_owned().ok()?;
        let beats = self.beats.subscribe();
        self.look(engine, intake, false).await;
        Some(Watcher { beats, now: self.now(engine, intake).await, _place: place })
    }

    /// What is remembered.
    pub(super) fn history(&self) -> History {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let minutes = seen.minutes.iter().map(|at| Timestamp::from_millis(*at).to_string()).collect();
        let mut history = History { minutes, ..History::default() };
        for (name, track) in &seen.of {
            match name {
                None => history.total = track.series(seen.minutes.len()),
                Some(name) => {
                    history.endpoints.insert(name.clone(), track.series(seen.minutes.len()));
                }
            }
        }
        history
    }
}

impl Seen {
    /// Remembers a beat; what is to be told of it, if anything has changed.
    fn note(&mut self, now: Timestamp, beat: Beat) -> Option<Beat> {
        let minute = now.millis() - now.millis() % MINUTE_MILLIS;
        // A clock that was set back goes on with the minute that it was in.
        let is_new = self.minutes.back().is_none_or(|last| *last < minute);
        if is_new {
            self.minutes.push_back(minute);
            if self.minutes.len() > MINUTES {
                self.minutes.pop_front();
            }
        }
        self.track(
            None,
            is_new,
            [beat.accepted, beat.delivered, beat.attempts - beat.delivered.min(beat.attempts)],
            beat.backlog,
        );
        for (name, of) in &beat.endpoints {
            let made = of.delivered + of.failed + of.backlog;
            let failed = of.attempts - of.delivered.min(of.attempts);
            self.track(Some(name.clone()), is_new, [made, of.delivered, failed], of.backlog);
        }
        self.of.retain(|name, _| name.as_ref().is_none_or(|name| beat.endpoints.contains_key(name)));
        let (before, beat) = (Arc::clone(&self.last), Arc::new(beat));
        self.last = Arc::clone(&beat);
        let has_changed = |of: &(&String, &BeatOf)| before.endpoints.get(of.0) != Some(of.1);
        let endpoints =
            beat.endpoints.iter().filter(has_changed).map(|(name, of)| (name.clone(), of.clone())).collect();
        let changed = Beat { endpoints, ..(*beat).clone() };
        let unchanged = Beat { at: beat.at.clone(), endpoints: BTreeMap::new(), ..(*before).clone() };
        (changed != unchanged).then_some(changed)
    }

    fn track(&mut self, of: Option<String>, is_new: bool, sums: [u64; 3], backlog: u64) {
        let track = self.of.entry(of).or_insert_with(|| Track { base: sums, last: sums, ..Track::default() });
        if is_new || track.minutes.is_empty() {
            track.base = track.last;
            track.minutes.push_back(([0; 3], 0));
        }
        if track.minutes.len() > MINUTES {
            track.minutes.pop_front();
        }
        let [accepted, delivered, failed] = [0, 1, 2].map(|at: usize| {
            let of = |sums: &[u64; 3]| sums.get(at).copied().unwrap_or_default();
            of(&sums).saturating_sub(of(&track.base))
        });
        if let Some(minute) = track.minutes.back_mut() {
            *minute = ([accepted, delivered, failed], backlog);
        }
        track.last = sums;
    }
}

impl Track {
    /// As one number a minute; nought for those before it was there.
    fn series(&self, minutes: usize) -> Series {
        let column = |value: fn(&([u64; 3], u64)) -> u64| {
            let absent = minutes.saturating_sub(self.minutes.len());
            std::iter::repeat_n(0, absent).chain(self.minutes.iter().map(value)).collect()
        };
        Series {
            accepted: column(|([accepted, _, _], _)| *accepted),
            delivered: column(|([_, delivered, _], _)| *delivered),
            failed: column(|([_, _, failed], _)| *failed),
            backlog: column(|(_, backlog)| *backlog),
        }
    }
}

async fn beat(engine: &Engine, intake: &Intake, before: &Beat, for_oldest: bool) -> Result<Beat, JournalError> {
    let at = engine.now().to_string();
    let (counters, standings, replays) =
        engine.read(|journal| Ok((journal.counters(), journal.standings(), journal.replays()?))).await?;
    let all = endpoints::all(engine, counters.endpoints, standings).await;
    let sum = |part: fn(&Tally) -> u64| all.values().map(|known| part(&known.tally)).sum();
    let mut beat = Beat {
        at,
        accepted: counters.accepted,
        turned_away: intake.counts().values().sum(),
        attempts: sum(|tally| tally.attempts),
        delivered: sum(|tally| tally.delivered),
        dead: sum(|tally| tally.dead),
        failed: sum(|tally| tally.failed),
        backlog: sum(|tally| tally.scheduled + tally.retrying),
        retrying: sum(|tally| tally.retrying),
        in_flight: all.values().filter_map(|known| known.lane.as_ref()).map(|lane| lane.in_flight).sum(),
        replays_open: replays.iter().filter(|replay| !replay.state.has_ended()).count(),
        oldest_waiting_at: None,
        full: engine.is_full(),
        endpoints_left_out: all.len().saturating_sub(ENDPOINTS_MAX),
        endpoints: BTreeMap::new(),
    };
    let shown: Vec<(&Name, BeatOf)> =
        all.iter().take(ENDPOINTS_MAX).map(|(name, known)| (name, beat_of(known))).collect();
    let waiting: Vec<Name> = shown.iter().filter(|(_, of)| of.backlog > 0).map(|(name, _)| (*name).clone()).collect();
    let oldest = if for_oldest { Some(engine.read(move |journal| oldest(journal, waiting)).await?) } else { None };
    for (name, mut of) in shown {
        of.oldest_waiting_at = match &oldest {
            Some(found) => found.get(name).map(ToString::to_string),
            None => before.endpoints.get(name.as_str()).and_then(|of| of.oldest_waiting_at.clone()),
        };
        of.oldest_waiting_at = of.oldest_waiting_at.filter(|_| of.backlog > 0);
        beat.endpoints.insert(name.to_string(), of);
    }
    beat.oldest_waiting_at = beat.endpoints.values().filter_map(|of| of.oldest_waiting_at.clone()).min();
    Ok(beat)
}

fn beat_of(known: &Known) -> BeatOf {
    let Known { tally, standing, lane, .. } = known;
    BeatOf {
        attempts: tally.attempts,
        delivered: tally.delivered,
        failed: tally.failed,
        backlog: tally.scheduled + tally.retrying,
        in_flight: lane.as_ref().map_or(0, |lane| lane.in_flight),
        window: lane.as_ref().map(|lane| lane.window),
        circuit: word(standing.circuit),
        paused: standing.pause.is_some(),
        oldest_waiting_at: None,
    }
}

const fn word(circuit: Circuit) -> super::wire::Word {
    std::borrow::Cow::Borrowed(match circuit {
        Circuit::Closed => "closed",
        Circuit::HalfOpen { .. } => "half_open",
        Circuit::Open { .. } => "open",
    })
}

/// By endpoint, when the oldest event was received of which it waits for a delivery: the first that was not tried, or the
/// first exception. One bounded scan each.
pub(super) fn oldest(journal: &dyn Journal, endpoints: Vec<Name>) -> Result<BTreeMap<Name, Timestamp>, JournalError> {
    let mut found = BTreeMap::new();
    for endpoint in endpoints {
        let fresh = journal.fresh(&endpoint, journal.mark(&endpoint), 1)?;
        let filter = Filter { endpoint: Some(endpoint.clone()), statuses: vec![Status::Retrying], ..Filter::default() };
        let retrying = journal.deliveries(&Query { filter, after: None, newest_first: false, limit: 1 })?;
        let fresh = fresh.deliveries.first().map(|active| active.born_at);
        let retrying = retrying.items.first().map(|(head, _)| head.received_at);
        if let Some(at) = fresh.into_iter().chain(retrying).min() {
            found.insert(endpoint, at);
        }
    }
    Ok(found)
}
