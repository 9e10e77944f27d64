//! The stage: where a batch is decided before anything is written.
//!
//! Each change is decided against what is there and what the batch's earlier changes did. Nothing here
//! outlives the batch: once its records are durable they are applied to the overlay.

use std::collections::HashMap;
use std::sync::Arc;

use super::Inner;
use crate::core::event::{Event, Fingerprint};
use crate::core::id::{EventId, ReplayId};
use crate::core::name::Name;
use crate::core::replay::Replay;
use crate::core::standing::Standing;
use crate::journal::entry::Entry;
use crate::journal::ledger::{self, Apply, Lookup};
use crate::journal::log::Position;
use crate::journal::record::Record;
use crate::journal::record::retained::{Carried, Remains};
use crate::journal::{Change, Counters, JournalError, Receipt};

pub(super) struct Stage<'a> {
    journal: &'a Inner,
    entries: HashMap<EventId, Entry>,
    /// The batch's own events whose entries nobody has asked for.
    accepted: Vec<Arc<Event>>,
    prints: HashMap<(Name, Fingerprint), EventId>,
    replays: HashMap<ReplayId, Replay>,
    standings: HashMap<Name, Standing>,
    /// No record stands behind this yet.
    stored: u64,
    /// Stands in for the places that only writing gives; greater than every real one so far.
    next_place: u64,
}

impl<'a> Stage<'a> {
    pub(super) fn new(journal: &'a Inner) -> Self {
        let stored = journal.log.end().0;
        Self {
            journal,
            entries: HashMap::new(),
            accepted: Vec::new(),
            prints: HashMap::new(),
            replays: HashMap::new(),
            standings: HashMap::new(),
            stored,
            next_place: stored,
        }
    }

    /// Decides a change; the record to be written for it.
    pub(super) fn decide(&mut self, change: &Change) -> Result<(Receipt, Option<Record>), JournalError> {
        let (receipt, record) = ledger::decide(change, self)?;
        match &record {
            None => {}
            // Most of a batch is this: its entry is made only if a later change asks for it.
            Some(Record::Accepted(event)) => self.note_accepted(event),
            Some(record) => {
                self.next_place += 1;
                ledger::apply(record, Position(self.next_place), self)?;
            }
        }
        Ok((receipt, record))
    }

    fn note_accepted(&mut self, event: &Arc<Event>) {
        if let Some(dedup) = event.draft.dedup {
            self.prints.insert((event.draft.source.clone(), dedup.fingerprint), event.id);
        }
        self.accepted.push(Arc::clone(event));
    }

    fn load(&mut self, id: EventId) -> Result<bool, JournalError> {
        if let Some(at) = self.accepted.iter().position(|event| event.id == id) {
            let event = self.accepted.swap_remove(at);
            self.entries.insert(id, Entry::accepted(&event, Position(self.next_place)));
        }
        if !self.entries.contains_key(&id) {
            let Some(entry) = self.journal.load(id)? else { return Ok(false) };
            self.entries.insert(id, entry);
        }
        Ok(true)
    }

    fn load_replay(&mut self, id: ReplayId) {
        if !self.replays.contains_key(&id)
            && let Some(replay) = self.journal.overlay().replay(id)
        {
            self.replays.insert(id, replay.clone());
        }
    }
}

impl Lookup for Stage<'_> {
    type Error = JournalError;

    fn entry(&mut self, id: EventId) -> Result<Option<&Entry>, JournalError> {
        self.load(id)?;
        Ok(self.entries.get(&id))
    }

    fn replay(&mut self, id: ReplayId) -> Result<Option<&Replay>, JournalError> {
        self.load_replay(id);
        Ok(self.replays.get(&id))
    }

    fn duplicate(&mut self, event: &Event) -> Result<Option<EventId>, JournalError> {
        let Some(dedup) = event.draft.dedup else { return Ok(None) };
        let source = &event.draft.source;
        match self.prints.get(&(source.clone(), dedup.fingerprint)).copied() {
            Some(first) => {
                let received_at = self.entry(first)?.map(|entry| entry.head.received_at);
                Ok(received_at.filter(|received| event.received_at < received.after(dedup.window)).map(|_| first))
            }
            None => self.journal.duplicate(event, dedup),
        }
    }

    fn is_stored(&self, place: Position) -> bool {
        place.0 <= self.stored
    }

    fn standing(&mut self, endpoint: &Name) -> Option<Standing> {
        let staged = self.standings.get(endpoint).cloned();
        staged.or_else(|| self.journal.overlay().standing(endpoint).cloned())
    }

    fn dropped(&mut self) -> Counters {
        self.journal.overlay().remains().counters.clone()
    }

    fn last_id(&mut self) -> u128 {
        self.journal.overlay().last_id()
    }
}

impl Apply for Stage<'_> {
    type Error = JournalError;

    fn contains(&mut self, id: EventId) -> Result<bool, JournalError> {
        Ok(id.as_u128() <= self.journal.overlay().last_id() && self.load(id)?)
    }

    fn insert(&mut self, event: &Arc<Event>, _: Entry) {
        self.note_accepted(event);
    }

    fn change(&mut self, id: EventId, _: Position, change: impl FnOnce(&mut Entry)) -> Result<(), JournalError> {
        self.load(id)?;
        self.entries.get_mut(&id).map(change);
        Ok(())
    }

    fn insert_replay(&mut self, replay: &Replay) -> Result<(), JournalError> {
        self.replays.insert(replay.id, replay.clone());
        Ok(())
    }

    fn change_replay(&mut self, id: ReplayId, change: impl FnOnce(&mut Replay)) -> Result<(), JournalError> {
        self.load_replay(id);
        self.replays.get_mut(&id).map(change);
        Ok(())
    }

    fn stand(&mut self, endpoint: &Name, standing: &Standing) {
        self.standings.insert(endpoint.clone(), standing.clone());
    }

    /// Retention is the last of its batch: nothing is decided by this, nor by what follows.
    fn carry(&mut self, _: &Carried, _: Position) -> Result<(), JournalError> {
        Ok(())
    }

    fn forget(&mut self, _: EventId, _: Position) -> Result<(), JournalError> {
        Ok(())
    }

    fn remain(&mut self, _: &Remains) {}

    fn forget_replay(&mut self, _: ReplayId) {}

    fn note_id(&mut self, _: u128) {}
}
