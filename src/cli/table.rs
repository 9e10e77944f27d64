//! Tables for people: aligned, with what stands in them coloured by what it means, and as wide as the screen at most.
//!
//! Where a row is too long for the screen, long texts are cut first; what can be asked for again (ids, names, keys) and
//! times never are: if that is not enough, a row goes on below, indented, and so does the header. On no screen, as in
//! a pipe, a row is one line however long. Cells may come from whoever sends events, see [`super::text`].

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use super::screen::{Meaning, Screen, say};
use super::text::{Text, plain};

/// Longest cell, in columns of the screen.
const CELL_MAX: usize = 60;
/// No text is cut shorter than this for want of room. A time is as long.
const CUT_MIN: usize = 24;
/// Between two cells.
const GAP: &str = "  ";
/// Columns of which nothing is cut: it is what the next command is given.
const WHOLE: &[&str] = &[
    "CALL", "DELIVERY", "ENDPOINT", "EVENT", "GROUP", "ID", "KEY", "NAME", "OBJECT", "REFUSED", "REPLAY", "SAMPLE",
    "SOURCE", "TO",
];
/// Columns of words for how something stands.
const STATES: &[&str] = &["DELIVERIES", "LAST", "NOW", "BEFORE", "OUTCOME", "REASON", "RESULT", "STATE", "STATUS"];

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

/// Which columns stand in which line of a row, and how wide each is.
#[derive(Debug, PartialEq, Eq)]
struct Layout {
    lines: Vec<Vec<(usize, usize)>>,
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
    pub(crate) fn text(self, empty: &str) -> Text {
        if self.rows.len() > 1 {
            return Text::from(self);
        }
        say(empty);
        Text::default()
    }

    /// As it is shown on `screen`.
    pub(super) fn on(&self, screen: Screen) -> String {
        let Some((header, rows)) = self.rows.split_first() else { return String::new() };
        let layout = self.layout(screen.width);
        let title = |_: &str, cell: &str| screen.tint(cell, Some(Meaning::Title));
        let cell = |column: &str, cell: &str| tinted(column, cell, screen);
        let mut text = header.lines(header, &layout, title);
        for row in rows {
            text.push_str(&row.lines(header, &layout, cell));
            row.notes.iter().for_each(|note| text.push_str(&format!("{GAP}{note}\n")));
        }
        text
    }

    fn layout(&self, room: Option<usize>) -> Layout {
        let names = self.rows.first().map(|header| &header.cells[..]).unwrap_or_default();
        let widest =
            |column: usize| self.rows.iter().filter_map(move |row| row.cells.get(column)).map(|cell| cell.width());
        let mut widths: Vec<usize> = (0..names.len()).map(|column| widest(column).max().unwrap_or_default()).collect();
        let Some(room) = room else { return Layout::of(&widths, usize::MAX) };
        let mut cut = widths.clone();
        // Column by column of the screen, from whichever is widest: so the long texts share what is missing.
        while total(&cut) > room
            && let Some((_, widest)) = names
                .iter()
                .zip(&mut cut)
                .filter(|(name, width)| **width > CUT_MIN && !WHOLE.contains(&name.as_str()))
                .max_by_key(|(_, width)| **width)
        {
            *widest -= 1;
        }
        if total(&cut) <= room {
            widths = cut;
        }
        Layout::of(&widths, room)
    }
}

impl Layout {
    /// As many columns on a line as there is room for, and at least one.
    fn of(widths: &[usize], room: usize) -> Self {
        let mut lines: Vec<Vec<(usize, usize)>> = Vec::new();
        let mut used = 0;
        for (column, width) in widths.iter().enumerate() {
            match lines.last_mut() {
                Some(line) if room.saturating_sub(used) >= GAP.len() + width => {
                    line.push((column, *width));
                    used += GAP.len() + width;
                }
                // The lines that go on are indented.
                before => {
                    used = if before.is_some() { GAP.len() + width } else { *width };
                    lines.push(vec![(column, *width)]);
                }
            }
        }
        Self { lines }
    }
}

impl Row {
    fn lines(&self, header: &Self, layout: &Layout, shown: impl Fn(&str, &str) -> String) -> String {
        let mut text = String::new();
        for (number, columns) in layout.lines.iter().enumerate() {
            if number > 0 {
                text.push_str(GAP);
            }
            let last = columns.len().saturating_sub(1);
            for (place, (column, width)) in columns.iter().enumerate() {
                let (Some(cell), Some(name)) = (self.cells.get(*column), header.cells.get(*column)) else { continue };
                let cell = fitted(cell, *width);
                text.push_str(&shown(name, &cell));
                if place < last {
                    text.extend(std::iter::repeat_n(' ', width.saturating_sub(cell.width()) + GAP.len()));
                }
            }
            text.push('\n');
        }
        text
    }
}

/// How long a row is.
fn total(widths: &[usize]) -> usize {
    widths.iter().sum::<usize>() + GAP.len() * widths.len().saturating_sub(1)
}

/// A cell in the colours of what it says, where its column says how something stands.
fn tinted(column: &str, cell: &str, screen: Screen) -> String {
    if !screen.colour || !STATES.contains(&column) {
        return cell.to_owned();
    }
    if Meaning::of(cell).is_some() {
        return screen.tint(cell, Meaning::of(cell));
    }
    // A list of what stands how, or one word first and then more about it.
    let item = |item: &str| match item.rsplit_once(' ') {
        Some((what, word)) if Meaning::of(word).is_some() => {
            format!("{what} {}", screen.tint(word, Meaning::of(word)))
        }
        _ => match item.split_once(' ') {
            Some((word, more)) => format!("{} {more}", screen.tint(word, Meaning::of(word))),
            None => item.to_owned(),
        },
    };
    cell.split(", ").map(item).collect::<Vec<_>>().join(", ")
}

/// A cell: one line, nothing that steers a terminal, cut where it is long; `-` if it is empty.
fn brief(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { fitted(&plain(text), CELL_MAX) }
}

/// `text`, if it is too wide with a `…` at its end.
fn fitted(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut used = 1;
    let fits = |letter: &char| {
        used += letter.width().unwrap_or_default();
        used <= width
    };
    text.chars().take_while(fits).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(table: Table, width: usize) -> String {
        table.text("").on(Screen { width: Some(width), colour: false })
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&["ID", "TYPE", "KEY"]);
        table.row(["1", "call_ended", ""]);
        table.row(["22", "é", "k"]);
        table.row(["3", "漢字", "k"]);
        table.note("a note\nthat aligns nothing");
        let expected = "ID  TYPE        KEY\n1   call_ended  -\n22  é           k\n3   漢字        k\n  \
                        a note·that aligns nothing\n";
        assert_eq!(table.text("").on(Screen::default()), expected);
        assert_eq!(Table::new(&["ID"]).text("none").on(Screen::default()), "");
    }

    #[test]
    fn no_cell_steers_the_terminal_or_fills_it() {
        assert_eq!(brief("a\u{1b}[2Jb\nc"), "a·[2Jb·c");
        assert_eq!(brief(&"é".repeat(61)), format!("{}…", "é".repeat(59)));
        assert_eq!(brief(&"漢".repeat(31)), format!("{}…", "漢".repeat(29)), "two columns each");
        assert_eq!(brief(&"é".repeat(60)), "é".repeat(60));
    }

    #[test]
    fn a_table_fits_the_screen_and_no_id_is_cut() {
        let make = || {
            let mut table = Table::new(&["DELIVERY", "WHAT", "SINCE", "MORE"]);
            table.row(["dlv_0123456789", &"x".repeat(50), "2026-01-31T12:00:00.000Z", &"y".repeat(40)]);
            table
        };
        let total = 14 + 2 + 50 + 2 + 24 + 2 + 40;
        assert_eq!(shown(make(), total).lines().nth(1).map(str::len), Some(total), "there is room");
        for width in 20..total {
            let text = shown(make(), width);
            assert!(text.contains("dlv_0123456789") && text.contains("2026-01-31T12:00:00.000Z"), "{text}");
            let widest = text.lines().map(|line| line.width()).max();
            // What is never cut may be wider than the narrowest of screens, with its indent.
            assert!(widest <= Some(width.max(62)), "{width}: {text}");
        }
        let cut = shown(make(), 100);
        let row = cut.lines().nth(1).unwrap();
        assert_eq!(row.width(), 100);
        assert_eq!(row.matches('…').count(), 2, "{row}");
        let folded = shown(make(), 64);
        let lines: Vec<&str> = folded.lines().collect();
        assert_eq!(lines[0], "DELIVERY");
        assert!(lines[1].starts_with("  WHAT") && lines[2].starts_with("  SINCE"), "{folded}");
    }

    #[test]
    fn what_stands_how_is_coloured_and_nothing_else() {
        let mut table = Table::new(&["KEY", "STATUS", "DELIVERIES", "STATE", "OUTCOME"]);
        table.row(["dead", "dead", "crm delivered, ok dead", "paused (canary)", "-"]);
        let text = table.text("").on(Screen { width: None, colour: true });
        let row = text.lines().nth(1).unwrap();
        let (red, green, yellow, end) = ("\u{1b}[31m", "\u{1b}[32m", "\u{1b}[33m", "\u{1b}[0m");
        let expected = format!(
            "dead  {red}dead{end}    crm {green}delivered{end}, ok {red}dead{end}  {yellow}paused{end} (canary)  -"
        );
        assert_eq!(row, expected);
    }
}
