//! How results are printed: for people as text, for programs as the admin API's own JSON.
//!
//! `json` is what the API answers, whole. `jsonl` is one object a line: of a list each of its items, as soon as its page
//! is there; of anything else the answer. Field names and their meaning are the API's, and stay.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::client::Client;
use super::exit::Failure;
use super::filters::Extent;
use super::screen::{Screen, print, put, say};
use super::text::{Text, plain};
use crate::admin::wire::Page;

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum Output {
    /// For people
    #[default]
    Table,
    /// The admin API's own JSON
    Json,
    /// The same, one object a line: of a list, each of its items
    Jsonl,
}

impl Output {
    /// Prints `value` as asked.
    pub(crate) fn show<T: Serialize, W: Into<Text>>(
        self,
        value: &T,
        as_text: impl FnOnce(&T) -> W,
    ) -> Result<(), Failure> {
        match self {
            Self::Table => print(as_text(value).into().on(Screen::stdout()).as_bytes()),
            Self::Json => {
                let json = serde_json::to_string_pretty(value).map_err(unprintable)?;
                print(format!("{json}\n").as_bytes())
            }
            Self::Jsonl => print(lines(value)?.as_bytes()),
        }
    }

    /// The same of a part, with how it goes on if there is more.
    pub(crate) fn show_part<T: Serialize, W: Into<Text>>(
        self,
        part: &T,
        next: Option<&str>,
        as_text: impl FnOnce(&T) -> W,
    ) -> Result<(), Failure> {
        self.show(part, as_text)?;
        self.say_where_it_goes_on(next);
        Ok(())
    }

    /// Prints a list, page after page, as far as `extent` goes.
    pub(crate) async fn show_list<T: Serialize + DeserializeOwned>(
        self,
        client: &Client,
        (path, parameters): (&[&str], &[(&'static str, String)]),
        extent: &Extent,
        as_text: impl FnOnce(&[T]) -> Text,
    ) -> Result<(), Failure> {
        let mut left = extent.limit();
        let mut page = Page { items: vec![], next: extent.cursor.clone() };
        loop {
            let next: Page<T> = client.page(path, parameters, left, page.next.take()).await?;
            left = left.saturating_sub(next.items.len());
            page.next = next.next;
            if self == Self::Jsonl {
                if put(lines(&Page { items: next.items, next: None })?.as_bytes())?.is_break() {
                    return Ok(());
                }
            } else {
                page.items.extend(next.items);
            }
            if page.next.is_none() || left == 0 {
                break;
            }
        }
        if self != Self::Jsonl {
            self.show(&page, |page| as_text(&page.items))?;
        }
        self.say_where_it_goes_on(page.next.as_deref());
        Ok(())
    }

    /// Tells people, on stderr, that a list has more; JSON says so itself.
    fn say_where_it_goes_on(self, next: Option<&str>) {
        if let Some(cursor) = next.filter(|_| self != Self::Json) {
            say(&format!("there may be more: --cursor {}", plain(cursor)));
        }
    }
}

/// One object a line.
pub(crate) fn lines<T: Serialize>(value: &T) -> Result<String, Failure> {
    let whole = serde_json::to_string(value).map_err(unprintable)?;
    Ok(match serde_json::from_str::<List<'_>>(&whole) {
        Ok(List { items }) => items.iter().map(|item| format!("{item}\n")).collect(),
        Err(_) => whole + "\n",
    })
}

/// The items of a list, as they are written.
#[derive(Deserialize)]
struct List<'a> {
    #[serde(borrow)]
    items: Vec<&'a RawValue>,
}

fn unprintable(error: serde_json::Error) -> Failure {
    Failure::failed(format!("the answer cannot be printed: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn a_list_is_a_line_an_item_and_anything_else_one_line() {
        let of = |value: Value| lines(&value).unwrap();
        assert_eq!(
            of(json!({ "items": [{ "a": 1 }, { "a": "x\ny" }], "next": null })),
            "{\"a\":1}\n{\"a\":\"x\\ny\"}\n"
        );
        assert_eq!(of(json!({ "items": [] })), "");
        assert_eq!(of(json!({ "b": 1, "a": [1, 2] })), "{\"a\":[1,2],\"b\":1}\n");
        assert_eq!(of(json!({ "items": 3 })), "{\"items\":3}\n");
    }
}
