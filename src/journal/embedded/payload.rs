//! What is read from the log by position: bodies, attempts, fingerprints.
//!
//! Retention moves records while they are looked for. Who finds nothing where an entry says looks at the entry
//! once more: if it says so still, there is nothing.

use std::sync::Arc;
use std::time::Duration;

use super::Inner;
use crate::core::attempt::Attempt;
use crate::core::event::{Dedup, Event};
use crate::core::filter::ID_SLACK_MS;
use crate::core::id::{DeliveryId, EventId};
use crate::core::timestamp::{Timestamp, duration_millis};
use crate::journal::JournalError;
use crate::journal::entry::{Entry, print_tag};
use crate::journal::log::Position;
use crate::journal::record::Record;
use crate::journal::sled::Among;

impl Inner {
    /// The whole event, if its payload is kept and its record is not damaged.
    pub(super) fn event(&self, id: EventId) -> Result<Option<Arc<Event>>, JournalError> {
        let mut looked_at = None;
        loop {
            let Some(entry) = self.load(id)?.filter(|entry| entry.has_payload) else { return Ok(None) };
            if looked_at == Some(entry.place) {
                return Ok(None);
            }
            let found = match self.read(entry.place)? {
                Some(Record::Accepted(event)) if event.id == id => Some(event),
                Some(Record::Retained(retained)) => retained.of(id).and_then(|carried| carried.event()),
                _ => None,
            };
            if found.is_some() {
                return Ok(found);
            }
            looked_at = Some(entry.place);
        }
    }

    /// The attempts of a delivery, first to last, as far as they are kept.
    pub(super) fn attempts(&self, id: DeliveryId) -> Result<Vec<Attempt>, JournalError> {
        let mut looked_at = None;
        loop {
            let entry = self.load(id.event)?;
            let Some(slot) = entry.as_ref().and_then(|entry| entry.slot(id.slot)) else { return Ok(Vec::new()) };
            let attempts = self.attempts_from(id, slot.last_place)?;
            let is_whole = attempts.len() >= usize::try_from(slot.attempts).unwrap_or(usize::MAX);
            if is_whole || looked_at == Some(slot.last_place) {
                return Ok(attempts);
            }
            looked_at = Some(slot.last_place);
        }
    }

    /// The attempts up to the one whose record is at `place`.
    fn attempts_from(&self, id: DeliveryId, mut place: Position) -> Result<Vec<Attempt>, JournalError> {
        let mut attempts = Vec::new();
        while place != Position::NONE {
            // What is damaged or out of retention ends the list early.
            match self.read(place)? {
                Some(Record::Settled { settlement, previous }) if settlement.id == id && previous < place => {
                    attempts.push(settlement.attempt);
                    place = previous;
                }
                Some(Record::Retained(retained)) => {
                    let carried = retained.of(id.event);
                    attempts.extend(carried.into_iter().flat_map(|it| it.attempts(id.slot).iter().rev().cloned()));
                    break;
                }
                _ => break,
            }
        }
        attempts.reverse();
        Ok(attempts)
    }

    /// The newest event with the same fingerprint within the window before `event`.
    pub(super) fn duplicate(&self, event: &Event, dedup: Dedup) -> Result<Option<EventId>, JournalError> {
        let source = &event.draft.source;
        let tag = print_tag(source, dedup.fingerprint);
        let window = dedup.window.saturating_add(Duration::from_millis(ID_SLACK_MS));
        let oldest =
            EventId::floor(Timestamp::from_millis(event.received_at.millis().saturating_sub(duration_millis(window))));
        for entry in self.entries(&Among::Tag(tag), (oldest, EventId::MAX), true)? {
            let entry = entry?;
            // A tag is 64 bits: before an event is called a duplicate its whole fingerprint is compared.
            let known = self.dedup(&entry)?;
            if known.is_some_and(|known| known.fingerprint == dedup.fingerprint) && entry.head.source == *source {
                let is_recent = event.received_at < entry.head.received_at.after(dedup.window);
                return Ok(is_recent.then_some(entry.head.id));
            }
        }
        Ok(None)
    }

    /// The duplicate test an event was admitted under. Records move between commits only: none is missed here.
    fn dedup(&self, entry: &Entry) -> Result<Option<Dedup>, JournalError> {
        Ok(match self.read(entry.place)? {
            Some(Record::Accepted(event)) => event.draft.dedup,
            Some(Record::Retained(retained)) => retained.of(entry.head.id).and_then(|carried| carried.dedup),
            _ => None,
        })
    }
}
