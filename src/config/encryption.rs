//! `[journal.encryption]`: the keys that seal what is written to disk.

use super::raw::Value;
use crate::core::sealing::SealingKey;

/// Most keys at a time: the one in use, and those that older files still need.
const KEYS_MAX: usize = 16;

/// The keys of the table, in their order, each of them once.
pub(super) fn keys(value: &Value<'_>) -> Option<Vec<SealingKey>> {
    let mut table = value.table()?;
    let mut keys: Vec<SealingKey> = Vec::new();
    let items = match table.get("keys") {
        Some(list) => list.items(KEYS_MAX)?,
        None => Vec::new(),
    };
    let none = items.is_empty().then(|| table.place_of("keys"));
    for item in items {
        let parse = |text: &str| SealingKey::parse(text).map_err(|error| error.to_string());
        let Some(key) = item.secret_of(parse) else { continue };
        match keys.iter().position(|other| other.id() == key.id()) {
            None => keys.push(key),
            Some(other) if keys.get(other) == Some(&key) => item.place.refuse("is listed a second time; keep one"),
            Some(_) => item.place.refuse("has by chance the same id as another key here; make another one"),
        }
    }
    table.done();
    if let Some(place) = none {
        place.refuse(
            "lists no key; name the file of one, as `keys = [\"file:/etc/backstop/journal.key\"]`, or leave \
             `encryption` out to write everything as it is",
        );
    }
    Some(keys)
}
