//! What commands print: plain tables for people, the API's own JSON for programs.
//!
//! Cells may come from whoever sends events: control characters, with which a terminal could be steered,
//! are shown as `·`, and long cells are cut. A reader that goes away (`| head`) is no error.

use std::io::{self, Write as _};

use serde::Serialize;

use super::exit::Failure;

/// Longest cell, in characters.
const CELL_MAX: usize = 60;

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum Output {
    /// For people.
    #[default]
    Table,
    /// The admin API's own JSON.
    Json,
}

/// Rows of cells under a header, aligned; notes stand below their row, unaligned.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    cells: Vec<String>,
    notes: Vec<String>,
}

impl Output {
    /// Prints `value` as asked.
    pub(crate) fn show<T: Serialize>(self, value: &T, as_text: impl FnOnce(&T) -> String) -> Result<(), Failure> {
        match self {
            Self::Table => print(as_text(value).as_bytes()),
            Self::Json => {
                let json = serde_json::to_string_pretty(value);
                let json = json.map_err(|error| Failure::failed(format!("the answer cannot be printed: {error}")))?;
                print(format!("{json}\n").as_bytes())
            }
        }
    }
}

impl Table {
    /// A table with this header and no rows.
    pub(crate) fn new(header: &[&str]) -> Self {
        let cells = header.iter().map(|&cell| cell.to_owned()).collect();
        Self { rows: vec![Row { cells, notes: vec![] }] }
    }

    /// Adds a row.
    pub(crate) fn row<const N: usize>(&mut self, cells: [&str; N]) {
        self.rows.push(Row { cells: cells.iter().map(|cell| brief(cell)).collect(), notes: vec![] });
    }

    /// Adds a line below the last row.
    pub(crate) fn note(&mut self, text: &str) {
        if let Some(row) = self.rows.last_mut() {
            row.notes.push(plain(text));
        }
    }

    /// The table as text. Without rows there is none, and `empty` is said on stderr.
    pub(crate) fn text(&self, empty: &str) -> String {
        if self.rows.len() <= 1 {
            eprintln!("{empty}");
            return String::new();
        }
        let columns = self.rows.iter().map(|row| row.cells.len()).max().unwrap_or_default();
        let width = |column: usize| {
            self.rows
                .iter()
                .filter_map(|row| row.cells.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or_default()
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        self.rows.iter().map(|row| line(row, &widths)).collect()
    }
}

fn line(row: &Row, widths: &[usize]) -> String {
    let cells: Vec<String> = row.cells.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
    let notes: String = row.notes.iter().map(|note| format!("  {note}\n")).collect();
    format!("{}\n{notes}", cells.join("  ").trim_end())
}

/// A cell: one line, nothing that steers a terminal, cut where it is long; `-` if it is empty.
fn brief(text: &str) -> String {
    if text.is_empty() {
        return "-".to_owned();
    }
    let plain = plain(text);
    match plain.char_indices().nth(CELL_MAX) {
        Some((end, _)) => format!("{}…", plain.get(..end).unwrap_or_default()),
        None => plain,
    }
}

/// `text` with every control character shown as `·`.
pub(crate) fn plain(text: &str) -> String {
    text.chars().map(|char| if char.is_control() { '·' } else { char }).collect()
}

/// Writes to stdout.
pub(crate) fn print(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::failed(format!("the result cannot be written: {error}")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&["ID", "TYPE", "KEY"]);
        table.row(["1", "call_ended", ""]);
        table.row(["22", "é", "k"]);
        assert_eq!(table.text(""), "ID  TYPE        KEY\n1   call_ended  -\n22  é           k\n");
        assert_eq!(Table::new(&["ID"]).text("none"), "");
        table.note("a note\nthat aligns nothing");
        assert!(table.text("").ends_with("22  é           k\n  a note·that aligns nothing\n"));
    }

    #[test]
    fn no_cell_steers_the_terminal_or_fills_it() {
        assert_eq!(brief("a\u{1b}[2Jb\nc"), "a·[2Jb·c");
        assert_eq!(brief(&"é".repeat(61)), format!("{}…", "é".repeat(60)));
    }
}
