//! What was done by whom: a log of operations, beside the journal.
//!
//! Why beside it: an operation is more than a change. It may take many commits (a thousand deliveries cancelled), or
//! none (a denied attempt, a token), and it is told before it is done: [`Operations::begin`] returns when the asking is
//! durable, and only then is anything changed; [`Operations::end`] adds what it came to. So no change is without its
//! operation, whatever happens in between; an operation without an end may have been done, or a part of it.
//!
//! It is a [`Log`] of its own, so what is said there of torn writes and damage goes here. The oldest segments go when
//! there are more bytes than allowed, or when all in them is too old. In memory is where each operation stands and
//! what it came to. It holds no body and no header, so it is not sealed. Absent: who may do what, and what is told of
//! it, which are the admin API's.

mod record;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::JournalError;
use super::disk::{Disk, Folder};
use super::log::{Findings, Log, LogError, Position};
use super::seal::Keyring;
use crate::core::operation::{Ending, Operation, OperationId, Outcome};
use crate::core::timestamp::Timestamp;
use record::Record;

/// How many segments there are at most: space is given back by whole ones.
const SEGMENTS: u64 = 8;
/// Operations looked at for one page.
const LOOK_MAX: usize = 20_000;

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes on disk.
    pub bytes_max: u64,
    /// Older ones go; `None` keeps them for as long as there is room.
    pub age_max: Option<Duration>,
}

/// An operation that was kept, and what it came to as far as that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// What it is called by.
    pub id: OperationId,
    /// What was asked for.
    pub operation: Operation,
    /// What it came to.
    pub outcome: Option<Outcome>,
}

/// Which operations are listed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wanted {
    /// By the holder of this token.
    pub who: Option<String>,
    /// Of this kind; `*` at the end stands for any ending.
    pub what: Option<String>,
    /// Done to this.
    pub object: Option<String>,
    /// That came to this.
    pub ending: Option<Ending>,
    /// At or after this.
    pub since: Option<Timestamp>,
    /// Before this.
    pub until: Option<Timestamp>,
    /// Behind this one in the order of the list.
    pub after: Option<OperationId>,
    /// Newest first, or oldest first.
    pub newest_first: bool,
    /// At most this many.
    pub limit: usize,
}

/// The operations of one directory.
#[derive(Debug)]
pub struct Operations {
    log: Log,
    limits: Limits,
    /// By position.
    known: Mutex<BTreeMap<u64, Known>>,
}

/// Where an operation's end stands, and when it began.
#[derive(Debug, Clone, Copy)]
struct Known {
    at: Timestamp,
    /// What it came to, if it did not at once.
    end: Option<Position>,
}

impl Wanted {
    fn fits(&self, kept: &Kept) -> bool {
        let Operation { at, who, what, object, .. } = &kept.operation;
        let is_what = |wanted: &String| match wanted.strip_suffix('*') {
            Some(begin) => what.starts_with(begin),
            None => what == wanted,
        };
        self.who.as_ref().is_none_or(|wanted| who.as_ref().is_some_and(|who| who.name == *wanted))
            && self.what.as_ref().is_none_or(is_what)
            && self.object.as_ref().is_none_or(|wanted| object.as_ref() == Some(wanted))
            && self.ending.is_none_or(|wanted| Ending::of(kept.outcome.as_ref()) == wanted)
            && self.since.is_none_or(|since| *at >= since)
            && self.until.is_none_or(|until| *at < until)
    }
}

impl Operations {
    /// Opens what is in `dir`, made if missing. Only one process may; the journal's lock sees to that.
    ///
    /// # Errors
    /// If the disk fails. Damage is no error: what stood there is lost, and the findings name the place.
    pub fn open(dir: &Path, limits: Limits, now: Timestamp) -> Result<(Self, Findings), JournalError> {
        let failed = |error: std::io::Error| JournalError::Open(format!("{}: {error}", dir.display()));
        Self::over(Arc::new(Folder::open(dir).map_err(failed)?), limits, now).map_err(failed)
    }

    /// The same, on any disk.
    pub(crate) fn over(disk: Arc<dyn Disk>, limits: Limits, now: Timestamp) -> std::io::Result<(Self, Findings)> {
        let mut known = BTreeMap::new();
        let (keyring, segment_bytes) = (Keyring::none(), limits.bytes_max / SEGMENTS);
        let opened = Log::open::<std::io::Error>(disk, keyring, segment_bytes, Position::NONE, |place, payload| {
            // What another version wrote is not understood, and is no loss.
            if let Some(record) = Record::decode(payload) {
                note(&mut known, place, &record);
            }
            Ok(())
        });
        let (log, findings) = opened?;
        let operations = Self { log, limits, known: Mutex::new(known) };
        operations.give_up_old(now)?;
        Ok((operations, findings))
    }

    /// Notes that something is about to be done. On `Ok` that is durable. Blocks on the disk.
    ///
    /// # Errors
    /// If it cannot be noted: then it must not be done.
    pub fn begin(&self, operation: &Operation) -> Result<OperationId, JournalError> {
        let at = operation.at;
        self.append(&Record::Begun(operation.clone(), None), at).map(|place| OperationId(place.0))
    }

    /// Notes what it came to. On `Ok` that is durable. Blocks on the disk.
    ///
    /// # Errors
    /// If it cannot be noted: nobody will know what became of it.
    pub fn end(&self, id: OperationId, outcome: &Outcome) -> Result<(), JournalError> {
        self.append(&Record::Ended(id, outcome.clone()), outcome.at).map(drop)
    }

    /// Notes what is over already. On `Ok` that is durable. Blocks on the disk.
    ///
    /// # Errors
    /// If it cannot be noted.
    pub fn note(&self, operation: &Operation, outcome: &Outcome) -> Result<OperationId, JournalError> {
        let record = Record::Begun(operation.clone(), Some(outcome.clone()));
        self.append(&record, outcome.at).map(|place| OperationId(place.0))
    }

    /// Those that fit, and behind which the next page begins. A page may be short, even empty, and still have a next.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn list(&self, wanted: &Wanted) -> Result<(Vec<Kept>, Option<OperationId>), JournalError> {
        let places = self.places(wanted);
        let (mut items, mut last) = (Vec::new(), None);
        for (place, known) in places.iter().take(LOOK_MAX) {
            last = Some(OperationId(*place));
            if let Some(kept) = self.read(*place, *known)?.filter(|kept| wanted.fits(kept)) {
                items.push(kept);
            }
            if items.len() >= wanted.limit {
                break;
            }
        }
        let end = places.last().map(|(place, _)| OperationId(*place));
        Ok((items, last.filter(|_| last != end)))
    }

    /// Where the operations stand that may fit, in the order of the list.
    fn places(&self, wanted: &Wanted) -> Vec<(u64, Known)> {
        let after = wanted.after.map(|id| id.0);
        let is_meant = |place: u64| match after {
            None => true,
            Some(after) if wanted.newest_first => place < after,
            Some(after) => place > after,
        };
        let known = self.known();
        let meant = known.iter().filter(|(place, known)| {
            let in_time = wanted.since.is_none_or(|since| known.at >= since);
            in_time && wanted.until.is_none_or(|until| known.at < until) && is_meant(**place)
        });
        let meant = meant.map(|(place, known)| (*place, *known));
        // One more than is looked at tells that there is more.
        if wanted.newest_first { meant.rev().take(LOOK_MAX + 1).collect() } else { meant.take(LOOK_MAX + 1).collect() }
    }

    /// `None` if it was given up meanwhile, or is damaged.
    fn read(&self, place: u64, known: Known) -> Result<Option<Kept>, JournalError> {
        let Some(Record::Begun(operation, at_once)) = self.record(Position(place))? else { return Ok(None) };
        let later = known.end.map(|end| self.record(end)).transpose()?.flatten();
        let outcome = match later {
            Some(Record::Ended(_, outcome)) => Some(outcome),
            _ => at_once,
        };
        Ok(Some(Kept { id: OperationId(place), operation, outcome }))
    }

    fn record(&self, place: Position) -> Result<Option<Record>, JournalError> {
        let read =
            self.log.read(place).map_err(|error| JournalError::Failed(format!("reading operations: {error}")))?;
        Ok(read.and_then(Record::decode))
    }

    fn append(&self, record: &Record, now: Timestamp) -> Result<Position, JournalError> {
        let append = || self.log.append(std::slice::from_ref(record), Record::encode);
        let appended = match append() {
            // On a full disk the oldest make room for the newest.
            Err(LogError::Full(why)) => match self.give_up_first() {
                Ok(true) => append(),
                _ => Err(LogError::Full(why)),
            },
            appended => appended,
        };
        let places = appended.map_err(|error| match error {
            LogError::Full(why) => JournalError::Full(why),
            LogError::Failed(why) => JournalError::Failed(why),
        })?;
        let place = places.first().copied().ok_or(JournalError::Closed)?;
        note(&mut self.known(), place, record);
        // What was to be noted is: that there is more than there should be is tried again with the next.
        if let Err(error) = self.give_up_old(now) {
            tracing::warn!(%error, "old operations cannot be given up");
        }
        Ok(place)
    }

    /// Gives up the oldest while there is too much of it, or all of a segment is too old.
    fn give_up_old(&self, now: Timestamp) -> std::io::Result<()> {
        while self.log.bytes() > self.limits.bytes_max {
            if !self.give_up_first()? {
                break;
            }
        }
        let Some(age_max) = self.limits.age_max else { return Ok(()) };
        let is_older = |at: Timestamp, than: Duration| now.since(at) > than;
        while let Some((end, false)) = self.log.segment_end(self.log.begin()) {
            let newest = self.known().range(..end.0).next_back().map(|(_, known)| known.at);
            if newest.is_some_and(|at| !is_older(at, age_max)) || !self.give_up_first()? {
                break;
            }
        }
        // The last segment cannot go: where little is done it is left behind, so that it can.
        let begin = self.log.begin();
        let is_last = self.log.segment_end(begin).is_some_and(|(_, is_last)| is_last);
        let oldest = self.known().range(begin.0..).next().map(|(_, known)| known.at);
        if is_last && oldest.is_some_and(|at| is_older(at, age_max)) {
            self.log.turn().map_err(std::io::Error::other)?;
        }
        Ok(())
    }

    /// Gives up the oldest segment, unless it is the only one.
    fn give_up_first(&self) -> std::io::Result<bool> {
        let Some((end, false)) = self.log.segment_end(self.log.begin()) else { return Ok(false) };
        self.log.cut(end)?;
        let mut known = self.known();
        *known = known.split_off(&end.0);
        Ok(true)
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<u64, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn note(known: &mut BTreeMap<u64, Known>, place: Position, record: &Record) {
    match record {
        Record::Begun(operation, _) => {
            known.insert(place.0, Known { at: operation.at, end: None });
        }
        Record::Ended(of, _) => {
            if let Some(known) = known.get_mut(&of.0) {
                known.end = Some(place);
            }
        }
    }
}

#[cfg(test)]
mod tests;
