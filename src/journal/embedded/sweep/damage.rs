//! Damage in a segment that is to go: what the index still has of the events whose records are damaged is carried,
//! the rest is counted, and nothing of it goes unsaid.
//!
//! An event whose record is damaged has lost its payload, but the index may know that it was and what became of it.
//! Such a one is found by looking through all entries for those that name a place in the segment after all whole
//! records there have been worked off. What else the damaged records said is in the state of replays, endpoints and
//! deliveries, as far as the index learnt of it; so all replays and endpoints are written again. What was never in
//! the index, because it was built again since, is lost: the bytes are counted for good.

use std::collections::BTreeSet;

use super::{Go, Stage};
use crate::core::id::EventId;
use crate::core::retention::Retention;
use crate::core::timestamp::Timestamp;
use crate::journal::JournalError;
use crate::journal::embedded::Inner;
use crate::journal::log::{Part, Position};
use crate::journal::record::Record;
use crate::journal::retention::{RetainItem, STEP_EVENTS_MAX, Sweep};
use crate::journal::sled::Among;

/// Entries that one step looks through.
const STEP_LOOKS_MAX: usize = 8192;

/// What is known of a segment's damage.
#[derive(Default)]
pub(super) struct Damage {
    gaps: BTreeSet<(Position, u64)>,
    /// Stretches that a start took for writes that were cut off: nothing was ever there.
    torn: BTreeSet<(Position, u64)>,
    /// What is damaged, once all of the segment has been read.
    found: Vec<(Position, u64)>,
}

impl Damage {
    /// Notes what a part of the log tells.
    pub(super) fn note(&mut self, part: &Part) {
        self.gaps.extend(&part.gaps);
        self.torn.extend(torn_of(part));
    }

    pub(super) fn found(&self) -> &[(Position, u64)] {
        &self.found
    }

    fn has_gaps(&self) -> bool {
        self.gaps.iter().any(|gap| !self.torn.contains(gap))
    }
}

impl Inner {
    /// All records of the segment have been worked off: what is left is what was damaged.
    pub(super) fn meet_damage(&self, go: &mut Go) -> Result<Sweep, JournalError> {
        go.stage = Stage::Last;
        let up_to = self.overlay().remains().up_to;
        let begin = self.log.begin();
        // A segment is missing that nobody has cut.
        if begin > up_to {
            go.damage.gaps.insert((up_to, begin.0 - up_to.0));
        }
        if go.damage.has_gaps() {
            // A start notes cut-off writes right behind them, which may be in the next segment.
            go.damage.torn.extend(torn_of(&self.log_part(go.end)?));
        }
        if !go.damage.has_gaps() {
            return Ok(Sweep::Looked);
        }
        let Damage { gaps, torn, .. } = &go.damage;
        go.damage.found = gaps.difference(torn).copied().collect();
        let overlay = self.overlay();
        go.noted.replays.extend(overlay.replays().map(|replay| replay.id));
        go.noted.standings.extend(overlay.standings().keys().cloned());
        go.stage = Stage::Damaged(EventId::MIN);
        Ok(Sweep::Damaged(go.damage.found.clone()))
    }

    /// What is to become of the next events that the index has and the segment has lost, and where to go on.
    #[allow(clippy::type_complexity, reason = "a pair of what is said right above")]
    pub(super) fn salvage(
        &self,
        from: EventId,
        end: Position,
        retention: &Retention,
        now: Timestamp,
    ) -> Result<(Vec<(Position, RetainItem)>, Option<EventId>), JournalError> {
        let mut items = Vec::new();
        for (looked_at, entry) in self.entries(&Among::All, (from, EventId::MAX), false)?.enumerate() {
            let entry = entry?;
            if looked_at == STEP_LOOKS_MAX || items.len() == STEP_EVENTS_MAX {
                return Ok((items, Some(entry.head.id)));
            }
            if entry.place >= end {
                continue;
            }
            let seen = entry.view();
            let verdict = retention.judge(&seen.head, &seen.deliveries, Timestamp::ZERO, false, now);
            let (dedup, payload) = (None, None);
            items.push((entry.place, RetainItem { seen, verdict, at: now, dedup, payload, is_damaged: true }));
        }
        Ok((items, None))
    }
}

/// What starts whose notes stand there took for cut-off writes.
fn torn_of(part: &Part) -> Vec<(Position, u64)> {
    let records = part.records.iter().filter_map(|(_, payload)| Record::decode(payload.clone()));
    records.flat_map(|record| if let Record::Opened(opened) = record { opened.torn } else { Vec::new() }).collect()
}
