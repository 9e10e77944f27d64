//! A lifecycle: which events begin and end a call, and the watch that finds calls that did not end, or never began.
//!
//! A state machine like the others: it is told of events in order of their receipt ([`Watch::handle_event`]) and
//! asked what looks wrong by now ([`Watch::poll_suspect`]). It only suspects: it remembers the calls that are open,
//! not those that are done, so that its memory has a bound and whoever asks looks into the journal before calling
//! anything a gap. What turned out to be one is kept ([`Watch::handle_gap`]) until its other end comes.
//!
//! All times are those of receipt, by the gateway's clock. Absent: what becomes of the events' deliveries.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::core::event::{EventHead, KeyTag};
use crate::core::id::EventId;
use crate::core::name::Name;
use crate::core::route::type_matches;
use crate::core::timestamp::Timestamp;

/// Most open calls watched at a time; those that come above it are counted and not watched.
pub const OPEN_MAX: usize = 200_000;
/// Most gaps remembered; the oldest are forgotten above it, and count no longer.
pub const GAPS_MAX: usize = 100_000;
/// How long an end waits for its beginning, which may come later than it.
pub const START_GRACE: Duration = Duration::from_secs(60);

/// How a source's calls begin and end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lifecycle {
    /// Events of this type begin a call; a trailing `*` matches any ending.
    pub start: String,
    /// Events of this type end it.
    pub end: String,
    /// A call that has not ended this long after its beginning is a gap.
    pub timeout: Duration,
}

/// Which end of a call an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// It begins the call.
    Start,
    /// It ends the call.
    End,
}

/// What is wrong with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GapKind {
    /// It began and did not end within the timeout.
    NeverEnded,
    /// It ended, and did not begin before that nor within [`START_GRACE`] after it.
    EndedWithoutStart,
    /// An event of it has not arrived at some endpoint: it is dead, or being retried.
    Undelivered,
}

/// A call that looks wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Suspect {
    /// Which.
    pub call: Call,
    /// What is wrong.
    pub kind: GapKind,
    /// The event that is there, while the other is missing.
    pub event: EventId,
    /// When that was received.
    pub at: Timestamp,
}

/// A call: a source, by its place among the watched ones, and a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Call {
    source: usize,
    key: KeyTag,
}

/// The calls that are open, and the gaps.
#[derive(Debug)]
pub struct Watch {
    sources: Vec<(Name, Lifecycle)>,
    calls: BTreeMap<Call, Standing>,
    /// When each open call becomes a suspect.
    due: BTreeSet<(Timestamp, Call)>,
    /// The gaps, oldest first.
    gaps: BTreeMap<EventId, Call>,
    /// How many of them each source has of which kind.
    counts: BTreeMap<(usize, GapKind), u64>,
    /// By source: calls that there was no room to watch.
    unwatched: BTreeMap<usize, u64>,
    open_max: usize,
    gaps_max: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// One part is there, and the other is waited for until then.
    Open { part: Part, event: EventId, at: Timestamp, due: Timestamp },
    /// Suspected: whoever asked is looking.
    Suspected(Part),
    /// The other part is missing.
    Gap(Part, EventId),
}

impl Standing {
    const fn part(self) -> Part {
        match self {
            Self::Open { part, .. } | Self::Suspected(part) | Self::Gap(part, _) => part,
        }
    }
}

impl Lifecycle {
    /// Which end of a call an event of this type is, if any. Of two patterns that fit, the exact one counts, and
    /// of two open ones the beginning's.
    #[must_use]
    pub fn part(&self, event_type: &str) -> Option<Part> {
        match (type_matches(&self.start, event_type), type_matches(&self.end, event_type)) {
            (true, true) if self.end == event_type => Some(Part::End),
            (true, _) => Some(Part::Start),
            (false, true) => Some(Part::End),
            (false, false) => None,
        }
    }
}

impl Part {
    /// What a call is that has only this.
    #[must_use]
    pub const fn alone(self) -> GapKind {
        match self {
            Self::Start => GapKind::NeverEnded,
            Self::End => GapKind::EndedWithoutStart,
        }
    }
}

impl GapKind {
    /// Every kind, in the order people read them.
    pub const ALL: [Self; 3] = [Self::NeverEnded, Self::EndedWithoutStart, Self::Undelivered];

    /// The word used in the API, the CLI and alerts.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NeverEnded => "never_ended",
            Self::EndedWithoutStart => "ended_without_start",
            Self::Undelivered => "undelivered",
        }
    }

    /// The kind with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// The end of the call that is there; `None` where both may be.
    #[must_use]
    pub const fn part(self) -> Option<Part> {
        match self {
            Self::NeverEnded => Some(Part::Start),
            Self::EndedWithoutStart => Some(Part::End),
            Self::Undelivered => None,
        }
    }
}

impl Watch {
    /// A watch over these sources' calls.
    #[must_use]
    pub fn new(sources: Vec<(Name, Lifecycle)>) -> Self {
        Self::with_room(sources, OPEN_MAX, GAPS_MAX)
    }

    fn with_room(sources: Vec<(Name, Lifecycle)>, open_max: usize, gaps_max: usize) -> Self {
        Self {
            sources,
            calls: BTreeMap::new(),
            due: BTreeSet::new(),
            gaps: BTreeMap::new(),
            counts: BTreeMap::new(),
            unwatched: BTreeMap::new(),
            open_max,
            gaps_max,
        }
    }

    /// The watched sources.
    #[must_use]
    pub fn sources(&self) -> &[(Name, Lifecycle)] {
        &self.sources
    }

    /// The source of a call, and how its calls begin and end.
    #[must_use]
    pub fn source(&self, call: Call) -> Option<&(Name, Lifecycle)> {
        self.sources.get(call.source)
    }

    /// The longest time that a call may be open.
    #[must_use]
    pub fn timeout_max(&self) -> Duration {
        self.sources.iter().map(|(_, lifecycle)| lifecycle.timeout).max().unwrap_or_default()
    }

    /// The call of an event, and which end of it the event is; `None` if it is neither, or nobody watches.
    #[must_use]
    pub fn call(&self, head: &EventHead) -> Option<(Call, Part)> {
        let source = self.sources.iter().position(|(name, _)| *name == head.source)?;
        let (_, lifecycle) = self.sources.get(source)?;
        let call = Call { source, key: KeyTag::of(head.key.as_deref()?) };
        Some((call, lifecycle.part(&head.event_type)?))
    }

    /// An event was received.
    pub fn handle_event(&mut self, head: &EventHead) {
        let Some((call, part)) = self.call(head) else { return };
        match self.calls.get(&call) {
            // The first one counts: senders repeat themselves.
            Some(known) if known.part() == part => {}
            Some(_) => self.forget(call),
            None => self.open(call, part, head),
        }
    }

    fn open(&mut self, call: Call, part: Part, head: &EventHead) {
        let wait = match part {
            Part::Start => self.source(call).map(|(_, lifecycle)| lifecycle.timeout).unwrap_or_default(),
            Part::End => START_GRACE,
        };
        if self.due.len() >= self.open_max {
            *self.unwatched.entry(call.source).or_default() += 1;
            return;
        }
        let (event, at, due) = (head.id, head.received_at, head.received_at.after(wait));
        self.calls.insert(call, Standing::Open { part, event, at, due });
        self.due.insert((due, call));
    }

    /// The other end is there, or nothing was wrong after all.
    fn forget(&mut self, call: Call) {
        match self.calls.remove(&call) {
            Some(Standing::Open { due, .. }) => {
                self.due.remove(&(due, call));
            }
            Some(Standing::Gap(part, event)) => {
                self.gaps.remove(&event);
                if let Some(count) = self.counts.get_mut(&(call.source, part.alone())) {
                    *count = count.saturating_sub(1);
                }
            }
            Some(Standing::Suspected(_)) | None => {}
        }
    }

    /// The next call that looks wrong at `now`. Whoever asks looks, and tells by [`Watch::handle_gap`] or
    /// [`Watch::handle_cleared`].
    pub fn poll_suspect(&mut self, now: Timestamp) -> Option<Suspect> {
        let (due, call) = *self.due.first()?;
        if due > now {
            return None;
        }
        self.due.remove(&(due, call));
        let standing = self.calls.get_mut(&call)?;
        let Standing::Open { part, event, at, .. } = *standing else { return None };
        *standing = Standing::Suspected(part);
        Some(Suspect { call, kind: part.alone(), event, at })
    }

    /// When to ask for suspects again even if no event comes.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        self.due.first().map(|(due, _)| *due)
    }

    /// A suspect is a gap, unless its other end has come since.
    pub fn handle_gap(&mut self, suspect: &Suspect) {
        if let (Some(Standing::Suspected(_)), Some(part)) = (self.calls.get(&suspect.call), suspect.kind.part()) {
            self.remember(suspect.call, part, suspect.event);
        }
    }

    /// A gap that a former process found is one still; `event` is the one that is there.
    pub fn handle_known_gap(&mut self, call: Call, part: Part, event: EventId) {
        if !self.calls.contains_key(&call) {
            self.remember(call, part, event);
        }
    }

    fn remember(&mut self, call: Call, part: Part, event: EventId) {
        self.calls.insert(call, Standing::Gap(part, event));
        self.gaps.insert(event, call);
        *self.counts.entry((call.source, part.alone())).or_default() += 1;
        if self.gaps.len() > self.gaps_max
            && let Some((_, oldest)) = self.gaps.first_key_value()
        {
            self.forget(*oldest);
        }
    }

    /// A suspect is in order.
    pub fn handle_cleared(&mut self, suspect: &Suspect) {
        if let Some(Standing::Suspected(_)) = self.calls.get(&suspect.call) {
            self.forget(suspect.call);
        }
    }

    /// How many gaps of this kind each source has now.
    pub fn gaps(&self, kind: GapKind) -> impl Iterator<Item = (&Name, u64)> {
        self.sources
            .iter()
            .enumerate()
            .map(move |(source, (name, _))| (name, self.counts.get(&(source, kind)).copied().unwrap_or_default()))
    }

    /// How many calls of each source there was no room to watch.
    pub fn unwatched(&self) -> impl Iterator<Item = (&Name, u64)> {
        self.sources
            .iter()
            .enumerate()
            .map(|(source, (name, _))| (name, self.unwatched.get(&source).copied().unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TIMEOUT: Duration = Duration::from_secs(100);

    fn watch() -> Watch {
        Watch::new(vec![(name("other"), lifecycle()), (name("flyflow"), lifecycle())])
    }

    fn lifecycle() -> Lifecycle {
        Lifecycle { start: "call_started".into(), end: "call_e*".into(), timeout: TIMEOUT }
    }

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    fn at(second: u64) -> Timestamp {
        Timestamp::from_millis(1_000_000 + second * 1000)
    }

    fn event(second: u64, key: &str, event_type: &str) -> EventHead {
        EventHead {
            id: EventId::from_u128(EventId::floor(at(second)).as_u128() + u128::from(KeyTag::of(key).0)),
            received_at: at(second),
            source: name("flyflow"),
            event_type: event_type.to_owned(),
            key: Some(key.to_owned()),
            occurred_at: None,
            body_bytes: 0,
        }
    }

    fn counts(watch: &Watch) -> [u64; 2] {
        [GapKind::NeverEnded, GapKind::EndedWithoutStart].map(|kind| watch.gaps(kind).map(|(_, count)| count).sum())
    }

    #[test]
    fn a_call_that_begins_and_ends_in_either_order_is_no_suspect() {
        for (first, second) in [("call_started", "call_ended"), ("call_ended", "call_started")] {
            let mut watch = watch();
            watch.handle_event(&event(0, "a", first));
            assert!(watch.poll_timeout().is_some());
            watch.handle_event(&event(59, "a", second));
            assert_eq!((watch.poll_suspect(Timestamp::MAX), watch.poll_timeout()), (None, None));
        }
    }

    #[test]
    fn what_is_missing_is_suspected_when_its_time_is_over() {
        for (there, wait, kind) in
            [("call_started", 100, GapKind::NeverEnded), ("call_error", 60, GapKind::EndedWithoutStart)]
        {
            let mut watch = watch();
            let head = event(0, "a", there);
            watch.handle_event(&head);
            watch.handle_event(&event(7, "a", there));
            watch.handle_event(&event(8, "a", "tool_call"));
            assert_eq!(watch.poll_timeout(), Some(at(wait)), "the first one counts");
            assert_eq!(watch.poll_suspect(at(wait).shifted(-1)), None);
            let suspect = watch.poll_suspect(at(wait)).unwrap();
            assert_eq!((suspect.kind, suspect.event, suspect.at), (kind, head.id, at(0)));
            assert_eq!(watch.source(suspect.call).map(|(name, _)| name.as_str()), Some("flyflow"));
            assert_eq!(watch.poll_suspect(Timestamp::MAX), None, "once");
            watch.handle_gap(&suspect);
            assert_eq!(
                watch.gaps(kind).map(|(name, count)| (name.as_str(), count)).collect::<Vec<_>>(),
                [("other", 0), ("flyflow", 1)]
            );
        }
    }

    #[test]
    fn of_two_patterns_the_exact_one_counts() {
        let part = |start: &str, end: &str, event_type| {
            Lifecycle { start: start.into(), end: end.into(), timeout: TIMEOUT }.part(event_type)
        };
        assert_eq!(part("call_*", "call_ended", "call_ended"), Some(Part::End));
        assert_eq!(part("call_started", "call_*", "call_started"), Some(Part::Start));
        assert_eq!(part("call_*", "call_e*", "call_ended"), Some(Part::Start));
        assert_eq!(part("call_*", "hangup", "hangup"), Some(Part::End));
        assert_eq!(part("call_*", "hangup", "dialing"), None);
    }

    #[test]
    fn a_gap_ends_with_the_other_end() {
        let mut watch = watch();
        watch.handle_event(&event(0, "a", "call_started"));
        watch.handle_event(&event(0, "b", "call_ended"));
        watch.handle_event(&event(1, "c", "call_started"));
        while let Some(suspect) = watch.poll_suspect(at(100)) {
            watch.handle_gap(&suspect);
        }
        assert_eq!(counts(&watch), [1, 1]);
        watch.handle_event(&event(200, "a", "call_ended"));
        watch.handle_event(&event(200, "b", "call_started"));
        assert_eq!(counts(&watch), [0, 0]);
        let suspect = watch.poll_suspect(at(200)).unwrap();
        watch.handle_event(&event(200, "c", "call_ended"));
        watch.handle_gap(&suspect);
        assert_eq!(counts(&watch), [0, 0], "it came while it was looked for");
        watch.handle_event(&event(201, "d", "call_started"));
        let suspect = watch.poll_suspect(at(400)).unwrap();
        watch.handle_cleared(&suspect);
        assert!(watch.calls.is_empty(), "{watch:?}");
    }

    #[test]
    fn a_known_gap_counts_until_its_other_end_comes() {
        let mut watch = watch();
        let head = event(0, "a", "call_started");
        let (call, part) = watch.call(&head).unwrap();
        watch.handle_known_gap(call, part, head.id);
        watch.handle_known_gap(call, part, head.id);
        assert_eq!(counts(&watch), [1, 0]);
        watch.handle_event(&event(1, "a", "call_ended"));
        assert_eq!(counts(&watch), [0, 0]);
    }

    #[test]
    fn what_nobody_watches_is_nothing() {
        let mut watch = watch();
        let head = event(0, "a", "call_started");
        watch.handle_event(&EventHead { key: None, ..head.clone() });
        watch.handle_event(&EventHead { source: name("third"), ..head.clone() });
        watch.handle_event(&EventHead { event_type: "call".into(), ..head });
        assert!(watch.calls.is_empty());
    }

    #[test]
    fn memory_has_a_bound_and_what_goes_beyond_is_counted() {
        let mut watch = Watch::with_room(vec![(name("flyflow"), lifecycle())], 3, 2);
        for (second, key) in (0..).zip(["a", "b", "c", "d", "e"]) {
            watch.handle_event(&event(second, key, "call_started"));
        }
        assert_eq!(watch.unwatched().map(|(_, count)| count).collect::<Vec<_>>(), [2]);
        while let Some(suspect) = watch.poll_suspect(Timestamp::MAX) {
            watch.handle_gap(&suspect);
        }
        assert_eq!((counts(&watch), watch.calls.len()), ([2, 0], 2), "the oldest is forgotten");
        watch.handle_event(&event(9, "a", "call_ended"));
        watch.handle_event(&event(9, "b", "call_ended"));
        assert_eq!(counts(&watch), [1, 0]);
    }

    proptest! {
        /// Whoever looks at all events knows which calls lack an end; the watch finds the same.
        #[test]
        fn the_watch_finds_what_a_look_at_everything_finds(
            steps in proptest::collection::vec((0u64..400, 0usize..6, prop::bool::ANY), 0..60),
        ) {
            const KEYS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
            let mut watch = watch();
            let (mut now, mut seen) = (0, Vec::<(usize, Part)>::new());
            for (pass, key, starts) in steps {
                now += pass;
                // The journal's word on a suspect.
                let missing = |seen: &[(usize, Part)], key: usize, part: Part| {
                    !seen.iter().any(|(other, there)| *other == key && *there != part)
                };
                while let Some(suspect) = watch.poll_suspect(at(now)) {
                    let key = KEYS.iter().position(|key| KeyTag::of(key) == suspect.call.key).unwrap();
                    if missing(&seen, key, suspect.kind.part().unwrap()) {
                        watch.handle_gap(&suspect);
                    } else {
                        watch.handle_cleared(&suspect);
                    }
                }
                let part = if starts { Part::Start } else { Part::End };
                watch.handle_event(&event(now, KEYS[key], if starts { "call_started" } else { "call_ended" }));
                seen.push((key, part));
                let gaps: Vec<Call> = watch.gaps.values().copied().collect();
                prop_assert_eq!(counts(&watch).iter().sum::<u64>(), gaps.len() as u64);
                for (index, key) in KEYS.iter().enumerate() {
                    let of_key: Vec<Part> =
                        seen.iter().filter(|(other, _)| *other == index).map(|(_, part)| *part).collect();
                    let both = of_key.contains(&Part::Start) && of_key.contains(&Part::End);
                    if gaps.iter().any(|call| call.key == KeyTag::of(key)) {
                        prop_assert!(!both && !of_key.is_empty(), "{} is whole", key);
                    }
                }
            }
            while let Some(suspect) = watch.poll_suspect(Timestamp::MAX) {
                watch.handle_gap(&suspect);
            }
            for (index, key) in KEYS.iter().enumerate() {
                let lacks = |part: Part| !seen.contains(&(index, part));
                let is_gap = watch.gaps.values().any(|call| call.key == KeyTag::of(key));
                prop_assert!(is_gap || lacks(Part::Start) == lacks(Part::End), "{} is not whole", key);
            }
        }
    }
}
