//! Names of sources and endpoints as small numbers, so that entries and keys stay short.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{IndexResult, malformed, numbered, sled_failed};
use crate::core::name::Name;

/// The names and their numbers. A number is given once and for ever.
#[derive(Default)]
pub(super) struct Names(Mutex<Table>);

#[derive(Default)]
struct Table {
    by_name: HashMap<Name, u16>,
    by_number: Vec<Name>,
}

impl Names {
    pub(super) fn read(db: &::sled::Db) -> IndexResult<Self> {
        let names = Self::default();
        for pair in db.scan_prefix(b"n") {
            let (key, value) = pair.map_err(sled_failed)?;
            let text = std::str::from_utf8(&value).map_err(|_| malformed())?;
            let number = names.table().add(Name::new(text).map_err(|_| malformed())?);
            if *key != *numbered(b'n', number) {
                return Err(malformed()); // one is missing: every later number would mean another name
            }
        }
        Ok(names)
    }

    /// The number of a name; a new one joins the batch.
    pub(super) fn number(&self, name: &Name, batch: &mut ::sled::Batch) -> u16 {
        let mut table = self.table();
        if let Some(number) = table.by_name.get(name) {
            return *number;
        }
        let number = table.add(name.clone());
        batch.insert(numbered(b'n', number), name.as_str().as_bytes());
        number
    }

    pub(super) fn known(&self, name: &Name) -> Option<u16> {
        self.table().by_name.get(name).copied()
    }

    pub(super) fn name(&self, number: u16) -> Option<Name> {
        self.table().by_number.get(usize::from(number)).cloned()
    }

    /// The name whose number stands behind a key's first byte.
    pub(super) fn of_key(&self, key: &[u8]) -> Option<Name> {
        self.name(u16::from_be_bytes(*key.get(1..)?.first_chunk()?))
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn add(&mut self, name: Name) -> u16 {
        assert!(self.by_number.len() < usize::from(u16::MAX), "a journal names at most 65 534 sources and endpoints");
        let number = u16::try_from(self.by_number.len()).unwrap_or(u16::MAX);
        self.by_number.push(name.clone());
        self.by_name.insert(name, number);
        number
    }
}
