//! What is wrong with a config file: every problem at once, each with its line and key.
//!
//! No message quotes a value: any text of the file may be a secret, in its right place or by mistake.
//! The line and the key are enough to find it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// One thing wrong, or doubtful, in a config file. Never holds a value of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file.
    pub file: Arc<Path>,
    /// The line, from 1; `None` where the file as a whole is meant.
    pub line: Option<usize>,
    /// The dotted key, e.g. `endpoints.crm.url`; empty where the text is not TOML.
    pub key: String,
    /// What is wrong, and what to do.
    pub message: String,
}

/// Why a config file is refused. At least one problem, in the file's order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors {
    /// The file.
    pub file: PathBuf,
    /// All that is wrong with it, as far as it could be read.
    pub problems: Vec<Problem>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, "{line}:")?;
        }
        if !self.key.is_empty() {
            write!(f, " {}:", self.key)?;
        }
        write!(f, " {}", self.message)
    }
}

impl fmt::Display for ConfigErrors {
    /// One problem a line, then their count.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.problems {
            writeln!(f, "{problem}")?;
        }
        match self.problems.len() {
            1 => write!(f, "1 problem in {}", self.file.display()),
            count => write!(f, "{count} problems in {}", self.file.display()),
        }
    }
}

impl std::error::Error for ConfigErrors {}

/// The one of `known` that `word` was probably meant to be.
pub(super) fn near<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    /// No key is longer; a longer word is not a slip, and the distance's cost is quadratic.
    const WORD_LEN_MAX: usize = 64;
    if word.len() > WORD_LEN_MAX {
        return None;
    }
    let slips_max = (word.chars().count() / 3).max(1);
    known
        .into_iter()
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(slips, candidate)| *slips <= slips_max && *slips < candidate.len())
        .min_by_key(|(slips, _)| *slips)
        .map(|(_, candidate)| candidate)
}

/// How many characters must be added, removed or changed (Levenshtein), keeping one row of the table.
fn distance(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (0..=to.chars().count()).collect();
    for (index, from_char) in from.chars().enumerate() {
        let mut diagonal = index;
        let mut left = index + 1;
        let mut next = vec![left];
        for (to_char, above) in to.chars().zip(row.iter().skip(1)) {
            let changed = diagonal + usize::from(from_char != to_char);
            left = (left + 1).min(above + 1).min(changed);
            diagonal = *above;
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_slips() {
        for (from, to, slips) in
            [("", "", 0), ("", "abc", 3), ("abc", "", 3), ("kitten", "sitting", 3), ("url", "urls", 1), ("é", "e", 1)]
        {
            assert_eq!(distance(from, to), slips, "{from} {to}");
        }
    }

    #[test]
    fn only_what_is_near_is_suggested() {
        let known = ["listen", "connections_max", "header_timeout"];
        assert_eq!(near("lisen", known), Some("listen"));
        assert_eq!(near("connection_max", known), Some("connections_max"));
        assert_eq!(near("colour", known), None);
        assert_eq!(near("a", ["b"]), None);
        assert_eq!(near(&"x".repeat(100_000), known), None);
    }
}
