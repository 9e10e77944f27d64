//! What the log speaks of and the index does not have. It may turn out to have been let go of: a later record says
//! so. Until then it is remembered, but no more of it than fits: the smallest ids first, and the rest in another
//! walk along the log.

use std::collections::BTreeMap;

use super::Auditor;
use crate::core::id::{EventId, ReplayId};
use crate::journal::JournalError;
use crate::journal::audit::{Subject, What};
use crate::journal::log::Position;

/// Records remembered at a time.
pub(super) const NOTES_MAX: usize = 100_000;

/// What is missing, by event: which record speaks of it, of which delivery, and how.
#[derive(Debug)]
pub(super) struct Missing {
    notes: BTreeMap<(EventId, Position, Option<u16>), Speaks>,
    replays: BTreeMap<ReplayId, Position>,
    /// Events before this were looked at in an earlier walk.
    from: EventId,
    /// Events from this on have to be looked at in another one.
    up_to: Option<EventId>,
    max: usize,
}

/// How a record speaks of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Speaks {
    Accepts,
    Carries,
    Changes,
}

impl Missing {
    pub(super) const fn new(from: EventId, max: usize) -> Self {
        Self { notes: BTreeMap::new(), replays: BTreeMap::new(), from, up_to: None, max }
    }

    fn note(&mut self, event: EventId, slot: Option<u16>, place: Position, how: Speaks) {
        if event < self.from || self.up_to.is_some_and(|up_to| event >= up_to) {
            return;
        }
        self.notes.insert((event, place, slot), how);
        let ends = self.notes.first_key_value().zip(self.notes.last_key_value());
        // One event is remembered, however much there is of it: or no walk would get past it.
        if self.notes.len() > self.max
            && let Some((((first, ..), _), ((last, ..), _))) = ends
            && first != last
        {
            let last = *last;
            drop(self.notes.split_off(&(last, Position::NONE, None)));
            self.up_to = Some(last);
        }
    }

    fn remove(&mut self, event: EventId) {
        let first = (event, Position::NONE, None);
        while let Some((key, _)) = self.notes.range(first..).next().filter(|((id, ..), _)| *id == event) {
            let key = *key;
            self.notes.remove(&key);
        }
    }
}

impl Auditor<'_> {
    /// Notes that the index has nothing of what a record speaks of.
    pub(super) fn note_missing(&mut self, event: EventId, slot: Option<u16>, place: Position, how: Speaks) {
        self.missing.note(event, slot, place, how);
    }

    pub(super) fn note_missing_replay(&mut self, id: ReplayId, place: Position) {
        self.missing.replays.insert(id, place);
    }

    /// These were let go of.
    pub(super) fn have_gone(&mut self, events: &[EventId], replays: &[ReplayId]) {
        events.iter().for_each(|id| self.missing.remove(*id));
        self.missing.replays.retain(|id, _| !replays.contains(id));
    }

    /// What stayed missing.
    pub(super) fn conclude_missing(&mut self) -> Result<(), JournalError> {
        for (id, place) in std::mem::take(&mut self.missing.replays) {
            let detail = format!("its record is at {}, the index does not have it", place.0);
            self.audit.note(What::Missing, Some(Subject::Replay(id)), None, detail);
        }
        loop {
            for ((event, place, slot), how) in std::mem::take(&mut self.missing.notes) {
                let subject = slot.map_or(Subject::Event(event), |slot| Subject::Delivery(event.delivery(slot)));
                let detail = match how {
                    Speaks::Accepts => format!("its record is at {}, the index does not have it", place.0),
                    Speaks::Carries => format!("the record at {} carries it, the index does not have it", place.0),
                    Speaks::Changes => format!("the record at {} speaks of it, the index does not have it", place.0),
                };
                self.audit.note(What::Missing, Some(subject), None, detail);
            }
            let Some(next) = self.missing.up_to else { return Ok(()) };
            let mut again = Auditor::new(self.inner, self.span, self.moment.clone());
            again.missing = Missing::new(next, self.missing.max);
            again.walk_log()?;
            again.missing.replays.clear();
            self.missing = again.missing;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_remembers_the_smallest_and_where_to_go_on() {
        let id = EventId::from_u128;
        let mut missing = Missing::new(id(2), 4);
        for (event, place) in [(9, 1), (1, 2), (5, 3), (9, 4), (4, 5), (7, 6), (3, 7), (8, 8)] {
            missing.note(id(event), None, Position(place), Speaks::Accepts);
        }
        let noted = |missing: &Missing| missing.notes.keys().map(|(id, ..)| id.as_u128()).collect::<Vec<_>>();
        assert_eq!((noted(&missing), missing.up_to), (vec![3, 4, 5, 7], Some(id(8))), "1 is of an earlier walk");
        missing.note(id(3), Some(2), Position(9), Speaks::Changes);
        assert_eq!((noted(&missing), missing.up_to), (vec![3, 3, 4, 5], Some(id(7))));
        missing.remove(id(3));
        missing.note(id(7), None, Position(10), Speaks::Accepts);
        assert_eq!(noted(&missing), [4, 5], "7 is of a later walk, even if there is room now");
    }
}
