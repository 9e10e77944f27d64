//! The indexer: a thread that hands the overlay's entries to the index in its own time.

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::Inner;
use crate::journal::JournalError;

/// How often settled entries are taken over.
const PERIOD: Duration = Duration::from_millis(50);
/// Every so many periods the overlay is told that half a second has passed.
const PERIODS_PER_TICK: u32 = 10;

/// The running thread; ends when dropped, after the batch at hand.
pub(super) struct Indexer {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Indexer {
    pub(super) fn start(inner: Arc<Inner>) -> Result<Self, JournalError> {
        let (stop, stopped) = channel::<()>();
        let run = move || {
            let mut periods = 0u32;
            while stopped.recv_timeout(PERIOD) == Err(RecvTimeoutError::Timeout) {
                periods = periods.wrapping_add(1);
                if periods.is_multiple_of(PERIODS_PER_TICK) {
                    inner.overlay().tick();
                    // Failing to lay it only means that there is none when it is needed.
                    let _laid = inner.space.lay_ballast().is_ok();
                }
                match inner.hand_over(false).and_then(|()| inner.tidy()) {
                    // Without room everything stays in the overlay until there is some.
                    Ok(()) | Err(JournalError::Full(_)) => {}
                    Err(_) => return, // the journal has noted why, and refuses commits
                }
            }
        };
        let thread = std::thread::Builder::new().name("indexer".to_owned()).spawn(run);
        let thread = thread.map_err(|error| JournalError::Open(format!("no thread for the index: {error}")))?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Indexer {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join().is_ok();
        }
    }
}
