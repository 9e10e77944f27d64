//! Room on the disk: the high-water mark, and the ballast that is given up when even that is crossed.
//!
//! Below the mark the journal takes no new events but goes on settling what it has. The ballast is a file
//! that does nothing; when a segment cannot be allocated it is removed, so that a full disk can still be
//! opened and drained. It comes back when there is room for it above the mark.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::journal::disk;

#[derive(Debug)]
pub(super) struct Space {
    dir: PathBuf,
    free_min_bytes: u64,
    ballast_bytes: u64,
    is_full: AtomicBool,
}

impl Space {
    pub(super) fn new(dir: &Path, free_min_bytes: u64, ballast_bytes: u64) -> Self {
        Self { dir: dir.to_owned(), free_min_bytes, ballast_bytes, is_full: AtomicBool::new(false) }
    }

    /// Whether new events should be refused, by the last measurement; measures again if so.
    pub(super) fn is_full(&self) -> bool {
        self.is_full.load(Ordering::Relaxed) && self.measure()
    }

    /// Measures; whether there is less room than the mark.
    pub(super) fn measure(&self) -> bool {
        // If the file system will not say, writing will: a failed measurement stops nothing.
        let full = disk::free_bytes(&self.dir).is_ok_and(|free| free < self.free_min_bytes);
        self.is_full.store(full, Ordering::Relaxed);
        full
    }

    /// Says so when a segment could not be allocated.
    pub(super) fn note_full(&self) {
        self.is_full.store(true, Ordering::Relaxed);
    }

    fn ballast(&self) -> PathBuf {
        self.dir.join("ballast")
    }

    /// Gives the ballast up; whether there was one.
    pub(super) fn drop_ballast(&self) -> bool {
        std::fs::remove_file(self.ballast()).is_ok()
    }

    /// Lays the ballast again if there is room for it above the mark.
    pub(super) fn lay_ballast(&self) -> io::Result<()> {
        let room = disk::free_bytes(&self.dir)?;
        if self.ballast_bytes == 0 || self.ballast().exists() || room < self.free_min_bytes + self.ballast_bytes {
            return Ok(());
        }
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(self.ballast())?;
        let laid = disk::allocate(&file, self.ballast_bytes);
        if laid.is_err() {
            self.drop_ballast();
        }
        laid
    }
}
