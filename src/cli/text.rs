//! What a command says to people, before it is known where: words and tables, in order.
//!
//! Text may come from whoever sends events: [`plain`] shows what could steer a terminal, or turn its line round, as `·`.

use super::screen::{Meaning, Screen};
use super::table::Table;

/// Words and tables.
#[derive(Debug, Default)]
pub(crate) struct Text {
    parts: Vec<Part>,
}

#[derive(Debug)]
enum Part {
    Words(String),
    /// Words that mean something by themselves.
    Word(String, Option<Meaning>),
    Table(Table),
}

impl Text {
    /// Goes on with these words.
    pub(crate) fn push_str(&mut self, words: &str) {
        self.parts.push(Part::Words(words.to_owned()));
    }

    /// Goes on with a word for how something stands.
    pub(crate) fn push_state(&mut self, word: &str) {
        self.parts.push(Part::Word(word.to_owned(), Meaning::of(word)));
    }

    /// Goes on with a word for what went wrong.
    pub(crate) fn push_bad(&mut self, word: &str) {
        self.parts.push(Part::Word(word.to_owned(), Some(Meaning::Bad)));
    }

    /// Goes on with another text.
    pub(crate) fn push(&mut self, text: Self) {
        self.parts.extend(text.parts);
    }

    /// As it is shown on `screen`.
    pub(crate) fn on(&self, screen: Screen) -> String {
        let shown = |part: &Part| match part {
            Part::Words(words) => words.clone(),
            Part::Word(word, meaning) => screen.tint(word, *meaning),
            Part::Table(table) => table.on(screen),
        };
        self.parts.iter().map(shown).collect()
    }
}

impl From<String> for Text {
    fn from(words: String) -> Self {
        Self { parts: vec![Part::Words(words)] }
    }
}

impl From<Table> for Text {
    fn from(table: Table) -> Self {
        Self { parts: vec![Part::Table(table)] }
    }
}

/// `text` with every character that a terminal would take for more than itself shown as `·`: control characters, line
/// breaks of Unicode's own, and those that turn the direction of writing.
pub(crate) fn plain(text: &str) -> String {
    let steers = |char: char| {
        char.is_control() || matches!(char, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|char| if steers(char) { '·' } else { char }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_steers_a_terminal() {
        assert_eq!(plain("a\u{1b}[2Jb\nc\u{9b}d\u{202e}e"), "a·[2Jb·c·d·e");
        assert_eq!(plain("é 漢 \u{1f600}"), "é 漢 \u{1f600}");
    }

    #[test]
    fn words_and_tables_stand_in_their_order() {
        let mut table = Table::new(&["ID"]);
        table.row(["1"]);
        let mut text = Text::from("one: ".to_owned());
        text.push_state("dead");
        text.push_str("\n");
        text.push(table.text(""));
        assert_eq!(text.on(Screen::default()), "one: dead\nID\n1\n");
        let coloured = text.on(Screen { width: None, colour: true });
        assert!(coloured.starts_with("one: \u{1b}[31mdead\u{1b}[0m\n"), "{coloured:?}");
    }
}
