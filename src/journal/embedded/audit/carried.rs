//! What retention has carried, in an audit: the record that carries an event says all that is known of it by then.

use super::missing::Speaks;
use super::{Auditor, deliveries};
use crate::core::id::{DeliveryId, EventId};
use crate::journal::JournalError;
use crate::journal::audit::{Subject, What};
use crate::journal::entry::{Entry, Sign, Slot};
use crate::journal::log::Position;
use crate::journal::record::Record;
use crate::journal::record::retained::{Carried, Retained};

impl Auditor<'_> {
    /// Whether what the record at `place` says of the event is in a later record that carries it.
    pub(super) fn is_superseded(&self, entry: &Entry, place: Position) -> Result<bool, JournalError> {
        Ok(entry.place > place && self.carried(entry.head.id, entry.place)?.is_some())
    }

    /// What the record at `place` carries of an event.
    pub(super) fn carried(&self, id: EventId, place: Position) -> Result<Option<Carried>, JournalError> {
        Ok(match self.inner.read(place)? {
            Some(Record::Retained(retained)) => retained.of(id).cloned(),
            _ => None,
        })
    }

    /// The delivery as the record at `place` carries it.
    pub(super) fn carried_slot(&self, id: DeliveryId, place: Position) -> Result<Option<Slot>, JournalError> {
        let carried = self.carried(id.event, place)?;
        Ok(carried.and_then(|carried| carried.entry_at(place).slot(id.slot).cloned()))
    }

    pub(super) fn retained(&mut self, place: Position, retained: &Retained) -> Result<(), JournalError> {
        self.have_gone(&retained.forgotten, &retained.forgotten_replays);
        self.remains_told.raise(&retained.remains);
        for replay in &retained.forgotten_replays {
            self.remains_told.counters.replays.remove(replay);
        }
        for record in &retained.again {
            self.record(place, record)?;
        }
        for carried in &retained.carried {
            self.carried_on(place, carried)?;
        }
        Ok(())
    }

    fn carried_on(&mut self, place: Position, carried: &Carried) -> Result<(), JournalError> {
        let head = &carried.entry.head;
        if !self.span.admits(head.received_at) {
            return Ok(());
        }
        let (id, told) = (head.id, carried.entry_at(place));
        let Some(entry) = self.entry(id)? else {
            self.note_missing(id, None, place, Speaks::Carries);
            return Ok(());
        };
        if self.is_superseded(&entry, place)? {
            return Ok(());
        }
        self.told.add(&told, Sign::Plus);
        let known = (&entry.head, entry.place, entry.has_payload);
        if known != (&told.head, place, told.has_payload) {
            let detail = format!("the index has it otherwise than the record at {} that carries it", place.0);
            self.audit.note(What::Astray, Some(Subject::Event(id)), None, detail);
            return Ok(());
        }
        self.confirmed.accepted += 1;
        for ((id, slot), told) in deliveries(&entry).zip(&told.slots) {
            self.confirmed.made += u64::from(slot.made_by == place);
            self.confirmed.ended += u64::from(slot.ended_by == place);
            self.confirmed.attempted += u64::from(slot.last_place == place);
            let has_moved = slot.last_place > place || slot.ended_by > place;
            if !has_moved && slot != told {
                let detail = format!("it does not stand where the record at {} that carries it says", place.0);
                self.audit.note(What::Astray, Some(Subject::Delivery(id)), Some(&slot.endpoint), detail);
            }
        }
        Ok(())
    }
}
