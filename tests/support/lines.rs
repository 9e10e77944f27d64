//! The lines that a process writes, as they come.

use std::io::{BufRead as _, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex};

use crate::place::LONG;

/// What was read of a pipe.
#[derive(Clone, Default)]
pub(crate) struct Lines {
    shared: Arc<(Mutex<Collected>, Condvar)>,
}

#[derive(Default)]
struct Collected {
    lines: Vec<String>,
    ended: bool,
}

impl Lines {
    /// Begins to read.
    pub(crate) fn of(pipe: impl Read + Send + 'static) -> Self {
        let lines = Self::default();
        let shared = Arc::clone(&lines.shared);
        std::thread::spawn(move || {
            let (collected, grown) = &*shared;
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                collected.lock().unwrap().lines.push(line);
                grown.notify_all();
            }
            collected.lock().unwrap().ended = true;
            grown.notify_all();
        });
        lines
    }

    /// What `find` finds in the first line in which it finds anything, waited for; `None` if none comes.
    pub(crate) fn first<T>(&self, find: impl Fn(&str) -> Option<T>) -> Option<T> {
        self.nth(0, find)
    }

    /// The same for the line so many after that.
    pub(crate) fn nth<T>(&self, count: usize, find: impl Fn(&str) -> Option<T>) -> Option<T> {
        let search = |collected: &Collected| collected.lines.iter().filter_map(|line| find(line)).nth(count);
        let (collected, grown) = &*self.shared;
        let unfinished = |collected: &mut Collected| !collected.ended && search(collected).is_none();
        let (collected, _) = grown.wait_timeout_while(collected.lock().unwrap(), LONG, unfinished).unwrap();
        search(&collected)
    }

    /// All lines, once the process has written its last.
    pub(crate) fn all(&self) -> Vec<String> {
        let (collected, grown) = &*self.shared;
        let more = |collected: &mut Collected| !collected.ended;
        let (collected, waited) = grown.wait_timeout_while(collected.lock().unwrap(), LONG, more).unwrap();
        assert!(!waited.timed_out(), "the process does not end; it wrote: {:#?}", collected.lines);
        collected.lines.clone()
    }

    /// The lines written so far.
    pub(crate) fn so_far(&self) -> Vec<String> {
        self.shared.0.lock().unwrap().lines.clone()
    }
}
