//! Taking events out of the index: their own records, their places on pages, and their tags in time.
//!
//! Events that go mostly go together, oldest first: then whole pages and whole runs of tags go with one
//! removal each. Tags of events that are gone find nothing and are left out when their run is merged.

use std::sync::PoisonError;

use super::entries::{self, Page};
use super::tags;
use super::{Index, IndexResult, entry_key, event_key, event_of, malformed, reader, sled_failed};
use crate::core::id::EventId;

/// The entries of a page.
type Paged = Vec<(EventId, Vec<u8>)>;

impl Index {
    /// Takes these events, in order, out of the pages and removes what they have of their own.
    pub(super) fn remove_paged(
        &self,
        ids: impl Iterator<Item = EventId>,
        batch: &mut ::sled::Batch,
    ) -> IndexResult<()> {
        let mut open: Option<(::sled::IVec, Paged)> = None;
        for id in ids {
            for key in self.db.range(entry_key(id, 0)..=entry_key(id, u16::MAX)).keys() {
                batch.remove(key.map_err(sled_failed)?);
            }
            let up_to = event_key(b"b".to_vec(), EventId::MIN)..=event_key(b"b".to_vec(), id);
            let Some(pair) = self.db.range(up_to).next_back() else { continue };
            let (key, value) = pair.map_err(sled_failed)?;
            if open.as_ref().is_none_or(|(opened, _)| *opened != key) {
                open.take().into_iter().for_each(|(key, left)| rewrite(&key, &left, batch));
                let page = entries::read_page(reader(&value)).ok_or_else(malformed)?;
                let left = page.into_iter().map(|(id, chunk)| (id, chunk.rest().to_vec())).collect();
                open = Some((key, left));
            }
            if let Some((_, left)) = &mut open {
                left.retain(|(paged, _)| *paged != id);
            }
        }
        open.into_iter().for_each(|(key, left)| rewrite(&key, &left, batch));
        Ok(())
    }

    /// Notes the oldest event there is, after removals; `held` is the oldest that the index is still to take over.
    pub(super) fn note_oldest(&self, has_removed: bool, held: Option<EventId>) {
        let first = |kind: u8| {
            let key = self.db.scan_prefix([kind]).keys().next()?.ok()?;
            event_of(key.get(1..)?)
        };
        let mut oldest = self.lock_oldest();
        if has_removed {
            *oldest = first(b'e').into_iter().chain(first(b'b')).min().unwrap_or(*oldest);
        }
        *oldest = held.map_or(*oldest, |held| held.min(*oldest));
    }

    /// Removes runs of tags all of whose events are gone.
    pub(super) fn forget_tags(&self) -> IndexResult<()> {
        let oldest = *self.lock_oldest();
        if !self.tags.read().unwrap_or_else(PoisonError::into_inner).has_run_before(oldest) {
            return Ok(());
        }
        let mut batch = ::sled::Batch::default();
        let mut manifest = self.manifest();
        let gone = manifest.remove_runs_before(oldest, &mut batch);
        self.db.apply_batch(batch).map_err(sled_failed)?;
        self.publish(manifest);
        gone.into_iter().try_for_each(|run| tags::remove_run(&self.db, run))
    }
}

/// Writes a page with what is left of it. Its key stays: it is not greater than any event left.
fn rewrite(key: &::sled::IVec, left: &[(EventId, Vec<u8>)], batch: &mut ::sled::Batch) {
    let mut page = Page::default();
    for (id, chunk) in left {
        let fits = page.add(*id, chunk);
        assert!(fits, "a page that has lost entries has room for the rest");
    }
    if left.is_empty() { batch.remove(key) } else { batch.insert(key, page.bytes()) }
}
