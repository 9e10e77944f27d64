//! Tags: which events have this key, which one had this fingerprint.
//!
//! A tag is 64 bits of a hash; what is found by it is checked against the event itself. Tags come at random,
//! and sled is slow at random inserts, so they are kept as sorted runs: the overlay gathers new ones in
//! memory and hands them over as one run of full pages; [`RUNS_PER_MERGE`] runs of a level become one of
//! the next. A look-up asks each run once, and their number grows with the logarithm of the history.
//!
//! ```text
//! h run(4) tag(8) event(16)    a page: the tags from this one on, as tag(8) event(16) each
//! g                            the manifest: the runs, and the event up to which all tags are in them
//! ```

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use super::filter::{FILTERS_MAX_BYTES, Filter};
use super::{IndexResult, malformed, sled_failed};
use crate::core::id::EventId;
use crate::journal::codec::{Reader, Write};

/// A tag and an event that has it.
pub(crate) type Tag = (u64, EventId);

const TAGS_PER_PAGE: usize = 80;
const TAG_BYTES: usize = 24;
/// Runs of one level that are merged into one of the next.
const RUNS_PER_MERGE: usize = 8;
/// Pages that one step of a merge writes.
const PAGES_PER_STEP: usize = 64;

/// A sorted run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Run {
    number: u32,
    level: u32,
    newest: EventId,
    filter: Option<Arc<Filter>>,
}

/// The runs there are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Manifest {
    runs: Vec<Run>,
    next_number: u32,
    /// Events up to this one have their tags in the runs.
    pub(super) through: EventId,
}

/// A merge under way.
pub(super) struct Merge {
    from: Vec<Run>,
    into: Run,
    /// Of all merged tags, if every source has one: else their number is not known.
    filter: Option<Filter>,
    /// The next tag of each source. Two may have the same: a killed process's last run is read from the log again.
    heads: BTreeSet<(Tag, usize)>,
    sources: Vec<Box<dyn Iterator<Item = IndexResult<Tag>> + Send>>,
}

fn page_key(run: u32, (tag, event): Tag) -> Vec<u8> {
    let mut key = vec![b'h'];
    key.extend_from_slice(&run.to_be_bytes());
    key.extend_from_slice(&tag.to_be_bytes());
    key.extend_from_slice(&event.as_u128().to_be_bytes());
    key
}

fn encode_page(tags: &[Tag]) -> Vec<u8> {
    let mut value = Vec::with_capacity(tags.len() * TAG_BYTES);
    for (tag, event) in tags {
        value.raw(&tag.to_be_bytes());
        value.event(*event);
    }
    value
}

/// The tags of a page, in order. What is no whole tag at its end is damage, and left out.
fn tags_in(page: &[u8]) -> impl DoubleEndedIterator<Item = Tag> {
    page.chunks_exact(TAG_BYTES).filter_map(|bytes| {
        let (tag, event) = bytes.split_first_chunk::<8>()?;
        Some((u64::from_be_bytes(*tag), EventId::from_u128(u128::from_be_bytes(*event.first_chunk()?))))
    })
}

impl Manifest {
    pub(super) fn read(db: &::sled::Db) -> IndexResult<Self> {
        let Some(value) = db.get(b"g").map_err(sled_failed)? else { return Ok(Self::default()) };
        let mut from = Reader::new(Bytes::copy_from_slice(&value));
        let from = &mut from;
        let mut read = || {
            let next_number = from.small()?;
            let through = from.event()?;
            let runs = from.list(|from| {
                Some(Run { number: from.small()?, level: from.small()?, newest: from.event()?, filter: None })
            })?;
            Some(Self { runs, next_number, through })
        };
        read().ok_or_else(malformed)
    }

    fn write(&self, batch: &mut ::sled::Batch) {
        let mut value = Vec::new();
        value.number(u64::from(self.next_number));
        value.event(self.through);
        value.list(&self.runs, |out, run| {
            out.number(u64::from(run.number));
            out.number(u64::from(run.level));
            out.event(run.newest);
        });
        batch.insert(b"g", value);
    }

    /// Adds a run of `tags` (sorted), which are all of the events after `through` up to `up_to`.
    pub(super) fn add_run(&mut self, tags: &[Tag], up_to: EventId, batch: &mut ::sled::Batch) {
        if !tags.is_empty() {
            let mut run = self.new_run(0, tags.iter().map(|(_, event)| *event).max().unwrap_or(up_to));
            let mut filter = Filter::for_tags(tags.len());
            tags.iter().for_each(|(tag, _)| filter.add(*tag));
            run.filter = Some(Arc::new(filter));
            for page in tags.chunks(TAGS_PER_PAGE) {
                let Some(first) = page.first() else { continue };
                batch.insert(page_key(run.number, *first), encode_page(page));
            }
            self.runs.push(run);
            self.bound_filters();
        }
        self.through = self.through.max(up_to);
        self.write(batch);
    }

    fn new_run(&mut self, level: u32, newest: EventId) -> Run {
        self.next_number += 1;
        Run { number: self.next_number, level, newest, filter: None }
    }

    /// Lets the filters of the oldest runs go once there are too many bytes of them.
    fn bound_filters(&mut self) {
        let mut bytes = 0;
        self.runs.sort_by_key(|run| std::cmp::Reverse(run.newest));
        for run in &mut self.runs {
            bytes += run.filter.as_ref().map_or(0, |filter| filter.bytes());
            if bytes > FILTERS_MAX_BYTES {
                run.filter = None;
            }
        }
    }

    /// Events with `tag` in `low..high`, at most `max`, newest or oldest first.
    pub(super) fn events(
        &self,
        db: &::sled::Db,
        tag: u64,
        (low, high): (EventId, EventId),
        newest_first: bool,
        max: usize,
    ) -> IndexResult<Vec<EventId>> {
        let mut found = Vec::new();
        let may_have = |run: &&Run| run.filter.as_ref().is_none_or(|filter| filter.may_have(tag));
        for run in self.runs.iter().filter(|run| run.newest >= low).filter(may_have) {
            find(db, run.number, tag, (low, high), newest_first, max, &mut found)?;
        }
        found.sort_unstable();
        found.dedup();
        if newest_first {
            found.reverse();
        }
        found.truncate(max);
        Ok(found)
    }

    /// Whether the events of some run are all before `oldest`.
    pub(super) fn has_run_before(&self, oldest: EventId) -> bool {
        self.runs.iter().any(|run| run.newest < oldest)
    }

    /// Takes the runs out whose events are all before `oldest`; their pages are then nobody's.
    pub(super) fn remove_runs_before(&mut self, oldest: EventId, batch: &mut ::sled::Batch) -> Vec<u32> {
        let gone: Vec<u32> = self.runs.iter().filter(|run| run.newest < oldest).map(|run| run.number).collect();
        self.runs.retain(|run| run.newest >= oldest);
        self.write(batch);
        gone
    }

    /// The merge that is due, if one is. Tags of events before `oldest` are left out of it.
    pub(super) fn merge_due(&mut self, db: &::sled::Db, oldest: EventId) -> IndexResult<Option<Merge>> {
        let levels: BTreeSet<u32> = self.runs.iter().map(|run| run.level).collect();
        for level in levels {
            let from: Vec<Run> = self.runs.iter().filter(|run| run.level == level).cloned().collect();
            if from.len() >= RUNS_PER_MERGE {
                let newest = from.iter().map(|run| run.newest).max().unwrap_or(EventId::MIN);
                let into = self.new_run(level + 1, newest);
                return Merge::start(db, from, into, oldest).map(Some);
            }
        }
        Ok(None)
    }

    /// Puts a finished merge in place of its sources, whose pages are then nobody's.
    pub(super) fn finish_merge(&mut self, merge: Merge, batch: &mut ::sled::Batch) -> Vec<u32> {
        let replaced: Vec<u32> = merge.from.iter().map(|run| run.number).collect();
        self.runs.retain(|run| !replaced.contains(&run.number));
        self.runs.push(Run { filter: merge.filter.map(Arc::new), ..merge.into });
        self.bound_filters();
        self.write(batch);
        replaced
    }

    /// Runs whose pages are there without being in the manifest: what a crash left of a merge.
    pub(super) fn strays(&self, db: &::sled::Db) -> IndexResult<Vec<u32>> {
        let (mut strays, mut next) = (Vec::new(), 0u32);
        loop {
            let Some(pair) = db.range(page_key(next, (0, EventId::MIN))..b"i".to_vec()).next() else {
                return Ok(strays);
            };
            let (key, _) = pair.map_err(sled_failed)?;
            let number = key.get(1..).and_then(<[u8]>::first_chunk).map(|bytes| u32::from_be_bytes(*bytes));
            let number = number.ok_or_else(malformed)?;
            if !self.runs.iter().any(|run| run.number == number) {
                strays.push(number);
            }
            next = number + 1;
        }
    }
}

/// Removes a run's pages.
pub(super) fn remove_run(db: &::sled::Db, run: u32) -> IndexResult<()> {
    let (low, high) = (page_key(run, (0, EventId::MIN)), page_key(run + 1, (0, EventId::MIN)));
    for key in db.range(low..high).keys() {
        db.remove(key.map_err(sled_failed)?).map_err(sled_failed)?;
    }
    Ok(())
}

/// Adds the events of one run with `tag` in `low..high` to `found`, in the asked order, at most `max`.
fn find(
    db: &::sled::Db,
    run: u32,
    tag: u64,
    (low, high): (EventId, EventId),
    newest_first: bool,
    max: usize,
    found: &mut Vec<EventId>,
) -> IndexResult<()> {
    let fits = |other: &Tag| (tag, low) <= *other && *other < (tag, high);
    let begin = page_key(run, (0, EventId::MIN));
    let end = page_key(run, (tag, high));
    let enough = found.len() + max;
    if newest_first {
        // Downwards from the last page that can hold a fitting tag, until one begins before the first fitting one.
        for pair in db.range(begin..end).rev() {
            let (_, page) = pair.map_err(sled_failed)?;
            found.extend(tags_in(&page).rev().filter(fits).map(|(_, event)| event));
            if found.len() >= enough || tags_in(&page).next().is_some_and(|first| first < (tag, low)) {
                break;
            }
        }
        return Ok(());
    }
    // Upwards from the page whose first tag is the greatest not above the first fitting one.
    let first = db.range(begin.clone()..=page_key(run, (tag, low))).keys().next_back();
    let start = first.transpose().map_err(sled_failed)?.map_or(begin, |key| key.to_vec());
    for pair in db.range(start..end) {
        let (_, page) = pair.map_err(sled_failed)?;
        found.extend(tags_in(&page).filter(fits).map(|(_, event)| event));
        if found.len() >= enough {
            break;
        }
    }
    Ok(())
}

impl Merge {
    fn start(db: &::sled::Db, from: Vec<Run>, into: Run, oldest: EventId) -> IndexResult<Self> {
        let bytes: Option<usize> = from.iter().map(|run| run.filter.as_ref().map(|filter| filter.bytes())).sum();
        let filter = bytes.filter(|bytes| *bytes <= FILTERS_MAX_BYTES).map(Filter::with_bytes);
        let mut merge = Self { from, into, filter, heads: BTreeSet::new(), sources: Vec::new() };
        for run in &merge.from {
            let range = page_key(run.number, (0, EventId::MIN))..page_key(run.number + 1, (0, EventId::MIN));
            let tags = db.range(range).flat_map(move |pair| match pair.map_err(sled_failed) {
                Ok((_, page)) => tags_in(&page).filter(|(_, event)| *event >= oldest).map(Ok).collect::<Vec<_>>(),
                Err(error) => vec![Err(error)],
            });
            merge.sources.push(Box::new(tags));
        }
        for source in 0..merge.sources.len() {
            merge.advance(source)?;
        }
        Ok(merge)
    }

    fn advance(&mut self, source: usize) -> IndexResult<()> {
        if let Some(tags) = self.sources.get_mut(source)
            && let Some(tag) = tags.next()
        {
            self.heads.insert((tag?, source));
        }
        Ok(())
    }

    /// Writes some more pages into the batch; whether all are written.
    pub(super) fn step(&mut self, batch: &mut ::sled::Batch) -> IndexResult<bool> {
        for _ in 0..PAGES_PER_STEP {
            let mut page = Vec::with_capacity(TAGS_PER_PAGE);
            while page.len() < TAGS_PER_PAGE
                && let Some((tag, source)) = self.heads.pop_first()
            {
                self.advance(source)?;
                if self.heads.first().is_some_and(|(next, _)| *next == tag) {
                    continue;
                }
                page.push(tag);
                if let Some(filter) = &mut self.filter {
                    filter.add(tag.0);
                }
            }
            let Some(first) = page.first() else { return Ok(true) };
            batch.insert(page_key(self.into.number, *first), encode_page(&page));
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn db() -> (tempfile::TempDir, ::sled::Db) {
        let folder = tempfile::tempdir().unwrap();
        let db = ::sled::open(folder.path()).unwrap();
        (folder, db)
    }

    /// What a killed process had handed over and the next one reads from the log again stands in two runs.
    #[test]
    fn a_tag_in_two_runs_is_found_once_and_costs_no_other() {
        let (_folder, db) = db();
        let mut manifest = Manifest::default();
        let tag = |event| (7, EventId::from_u128(event));
        for run in 0..RUNS_PER_MERGE as u128 {
            let mut batch = ::sled::Batch::default();
            manifest.add_run(&[tag(1), tag(10 + run), tag(30 + run)], EventId::from_u128(50), &mut batch);
            db.apply_batch(batch).unwrap();
        }
        let find = |manifest: &Manifest| manifest.events(&db, 7, (EventId::MIN, EventId::MAX), false, 100).unwrap();
        let before = find(&manifest);
        assert_eq!(before.len(), 1 + 2 * RUNS_PER_MERGE);
        let mut merge = manifest.merge_due(&db, EventId::MIN).unwrap().unwrap();
        let mut batch = ::sled::Batch::default();
        assert!(merge.step(&mut batch).unwrap());
        manifest.finish_merge(merge, &mut batch);
        db.apply_batch(batch).unwrap();
        assert_eq!(find(&manifest), before);
    }

    /// Random tags over few values, added in runs and merged at random: every look-up equals a plain filter.
    #[test]
    fn look_ups_equal_a_plain_filter_before_and_after_merges() {
        let (_folder, db) = db();
        let rng = &mut fastrand::Rng::with_seed(11);
        let mut manifest = Manifest::default();
        let mut all: BTreeSet<Tag> = BTreeSet::new();
        let mut event = 0u128;
        for round in 0..70 {
            let mut tags: Vec<Tag> = (0..rng.usize(1..400))
                .map(|_| {
                    event += 1;
                    (rng.u64(0..9), EventId::from_u128(event))
                })
                .collect();
            tags.sort_unstable();
            all.extend(&tags);
            let mut batch = ::sled::Batch::default();
            manifest.add_run(&tags, EventId::from_u128(event), &mut batch);
            db.apply_batch(batch).unwrap();
            while round % 3 == 0
                && let Some(mut merge) = manifest.merge_due(&db, EventId::MIN).unwrap()
            {
                loop {
                    let mut batch = ::sled::Batch::default();
                    let finished = merge.step(&mut batch).unwrap();
                    db.apply_batch(batch).unwrap();
                    if finished {
                        break;
                    }
                }
                let mut batch = ::sled::Batch::default();
                let replaced = manifest.finish_merge(merge, &mut batch);
                db.apply_batch(batch).unwrap();
                let strays: BTreeSet<u32> = manifest.strays(&db).unwrap().into_iter().collect();
                assert_eq!(strays, replaced.iter().copied().collect());
                replaced.into_iter().for_each(|run| remove_run(&db, run).unwrap());
            }
            let numbers = |manifest: &Manifest| manifest.runs.iter().map(|run| run.number).collect::<BTreeSet<_>>();
            assert_eq!(numbers(&Manifest::read(&db).unwrap()), numbers(&manifest));
            let (low, high) = (rng.u128(0..event + 2), rng.u128(0..event + 2));
            let (low, high) = (EventId::from_u128(low.min(high)), EventId::from_u128(low.max(high)));
            for tag in 0..9 {
                let plain: Vec<EventId> = all
                    .iter()
                    .filter(|(found, event)| *found == tag && (low..high).contains(event))
                    .map(|(_, event)| *event)
                    .collect();
                let max = rng.usize(1..200);
                let up = manifest.events(&db, tag, (low, high), false, max).unwrap();
                assert_eq!(up, plain.iter().copied().take(max).collect::<Vec<_>>());
                let down = manifest.events(&db, tag, (low, high), true, max).unwrap();
                assert_eq!(down, plain.iter().rev().copied().take(max).collect::<Vec<_>>());
            }
        }
        assert!(manifest.runs.len() < 20, "{} runs", manifest.runs.len());
    }
}
