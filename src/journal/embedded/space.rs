//! Room on the disk: the high-water mark, the ballast, and the index's reserve.
//!
//! Below the mark the journal takes no new events but goes on settling what it has. The ballast is a file
//! that does nothing; when even a segment or the reserve cannot be allocated it is given up, piece by piece,
//! so that a full disk can still be opened and drained while others fill it. It comes back when there is
//! room for it above the mark.
//!
//! The log finds out that the disk is full before it writes: its segments are allocated. sled does not, and
//! a write of its own that fails ends it. So blocks are kept allocated behind the end of its file, and
//! nothing is handed to it while they cannot be had: what it has taken it can also write.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Settings;
use crate::journal::disk::{self, Disk};

/// Given up of the ballast besides the segment it is to make room for: the file system's own needs.
const PIECE_SLACK_BYTES: u64 = 256 << 10;
/// Allocated behind the end of sled's file when less than [`RESERVE_MIN_BYTES`] is left there.
const RESERVE_BYTES: u64 = 32 << 20;
/// Far more than sled writes of one handover, a run of tags with it, and what it still holds of the one before.
const RESERVE_MIN_BYTES: u64 = 16 << 20;
/// Unit of a file's count of blocks.
const BLOCK_BYTES: u64 = 512;

pub(super) struct Space {
    dir: PathBuf,
    /// What says how much is free.
    disk: Arc<dyn Disk>,
    free_min_bytes: u64,
    ballast_bytes: u64,
    piece_bytes: u64,
    is_full: AtomicBool,
    is_index_short: AtomicBool,
}

impl Space {
    pub(super) fn new(disk: Arc<dyn Disk>, settings: &Settings) -> Self {
        Self {
            dir: settings.dir.clone(),
            disk,
            free_min_bytes: settings.disk_free_min_bytes,
            ballast_bytes: settings.ballast_bytes,
            piece_bytes: settings.segment_bytes.saturating_add(PIECE_SLACK_BYTES),
            is_full: AtomicBool::new(false),
            is_index_short: AtomicBool::new(false),
        }
    }

    /// Whether new events should be refused, by the last measurement; measures again if so.
    pub(super) fn is_full(&self) -> bool {
        self.is_full.load(Ordering::Relaxed) && self.measure()
    }

    /// Measures; whether there is less room than the mark.
    pub(super) fn measure(&self) -> bool {
        // If the file system will not say, writing will: a failed measurement stops nothing.
        let full = self.disk.free_bytes().is_ok_and(|free| free < self.free_min_bytes);
        self.is_full.store(full, Ordering::Relaxed);
        full
    }

    /// Says so when a segment could not be allocated.
    pub(super) fn note_full(&self) {
        self.is_full.store(true, Ordering::Relaxed);
    }

    /// Gives ballast up until `bytes` are free, as far as there is any.
    pub(super) fn make_room(&self, bytes: u64) {
        while self.disk.free_bytes().is_ok_and(|free| free < bytes) && self.give_up_ballast() {}
    }

    /// Whether the index may be written to: there is a reserve for what sled makes of it.
    pub(super) fn reserve(&self, index: &Path) -> bool {
        let is_short = loop {
            match reserve(&index.join("db")) {
                Ok(()) => break false,
                Err(_) if self.give_up_ballast() => {}
                Err(_) => break true,
            }
        };
        self.is_index_short.store(is_short, Ordering::Release);
        !is_short
    }

    /// The same without giving ballast up for it.
    pub(super) fn has_reserve(&self, index: &Path) -> bool {
        reserve(&index.join("db")).is_ok()
    }

    /// Whether the index had no reserve when it was last to be written to.
    pub(super) fn is_index_short(&self) -> bool {
        self.is_index_short.load(Ordering::Acquire)
    }

    fn ballast(&self) -> PathBuf {
        self.dir.join("ballast")
    }

    /// Gives up a piece of the ballast, large enough for a segment; whether there was any.
    pub(super) fn give_up_ballast(&self) -> bool {
        let shrink = || {
            let file = OpenOptions::new().write(true).open(self.ballast())?;
            let len = file.metadata()?.len();
            if len > self.piece_bytes {
                file.set_len(len - self.piece_bytes)?;
                return file.sync_all();
            }
            std::fs::remove_file(self.ballast())
        };
        shrink().is_ok()
    }

    /// Lays the ballast again, or what is missing of it, if there is room above the mark.
    pub(super) fn lay_ballast(&self) -> io::Result<()> {
        let laid_bytes = self.ballast().metadata().map_or(0, |ballast| ballast.len());
        let room = self.disk.free_bytes()?;
        if laid_bytes >= self.ballast_bytes || room < self.free_min_bytes + self.ballast_bytes - laid_bytes {
            return Ok(());
        }
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(self.ballast())?;
        let laid = disk::allocate(&file, self.ballast_bytes);
        if laid.is_err() {
            file.set_len(laid_bytes)?;
        }
        laid
    }
}

/// Allocates blocks behind the end of sled's file, without changing its length, unless enough are there.
fn reserve(db: &Path) -> io::Result<()> {
    let file = match OpenOptions::new().write(true).open(db) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        opened => opened?,
    };
    let metadata = file.metadata()?;
    let allocated = metadata.blocks().saturating_mul(BLOCK_BYTES);
    if allocated >= metadata.len() + RESERVE_MIN_BYTES {
        return Ok(());
    }
    reserve_behind(&file, metadata.len())
}

fn reserve_behind(file: &File, len: u64) -> io::Result<()> {
    match rustix::fs::fallocate(file, rustix::fs::FallocateFlags::KEEP_SIZE, len, RESERVE_BYTES) {
        // A file system without it: then the mark alone keeps room for sled.
        Ok(()) | Err(rustix::io::Errno::OPNOTSUPP) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::timestamp::Timestamp;
    use crate::journal::disk::Folder;

    fn space(dir: &Path, ballast_bytes: u64, segment_bytes: u64) -> Space {
        let disk = Arc::new(Folder::open(dir).unwrap());
        Space::new(disk, &Settings { ballast_bytes, segment_bytes, ..Settings::small(dir, Timestamp::ZERO) })
    }

    #[test]
    fn the_ballast_is_given_up_by_pieces_and_laid_again_whole() {
        let dir = tempfile::tempdir().unwrap();
        let space = space(dir.path(), 5 << 20, 2 << 20);
        let len = || std::fs::metadata(space.ballast()).map_or(0, |ballast| ballast.len());
        space.lay_ballast().unwrap();
        assert_eq!(len(), 5 << 20);
        let piece = (2 << 20) + PIECE_SLACK_BYTES;
        for left in [(5 << 20) - piece, (5 << 20) - 2 * piece, 0] {
            assert!(space.give_up_ballast());
            assert_eq!(len(), left);
        }
        assert!(!space.give_up_ballast());
        space.lay_ballast().unwrap();
        assert_eq!(len(), 5 << 20);
    }

    #[test]
    fn the_reserve_is_allocated_behind_the_end_and_changes_no_length() {
        let dir = tempfile::tempdir().unwrap();
        let space = space(dir.path(), 0, 1 << 20);
        assert!(space.reserve(dir.path()), "an index that is not there yet needs none");
        let db = dir.path().join("db");
        std::fs::write(&db, b"0123456789").unwrap();
        assert!(space.reserve(dir.path()) && !space.is_index_short());
        let metadata = db.metadata().unwrap();
        assert_eq!(metadata.len(), 10);
        assert!(metadata.blocks() * BLOCK_BYTES >= RESERVE_BYTES);
    }
}
