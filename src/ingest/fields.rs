//! What is read of a JSON body: parsed once, when somebody first asks.

use std::cell::OnceCell;

use serde_json::Value;

use crate::core::source::{DedupRule, Fields, Place, Source};

/// A body that may be JSON. Of a name that an object has twice, the last counts.
///
/// Text nested deeper than 128 levels is taken for no JSON, which bounds the parser's stack.
pub(super) struct Json<'a> {
    body: &'a [u8],
    parsed: OnceCell<Option<Value>>,
}

impl<'a> Json<'a> {
    pub(super) const fn new(body: &'a [u8]) -> Self {
        Self { body, parsed: OnceCell::new() }
    }

    /// This, if `source` wants to know anything of it and it is JSON.
    pub(super) fn wanted(&self, source: &Source) -> Option<&dyn Fields> {
        (wants_fields(source) && self.value().is_some()).then_some(self as &dyn Fields)
    }

    fn value(&self) -> Option<&Value> {
        let parse = || serde_json::from_slice(self.body).ok();
        self.parsed.get_or_init(|| if self.body.is_empty() { None } else { parse() }).as_ref()
    }
}

fn wants_fields(source: &Source) -> bool {
    let Source { type_at, key_at, time_at, .. } = source;
    let mut places = [type_at, key_at, time_at].into_iter().flatten();
    let reads = places.any(|place| matches!(place, Place::Pointer(_)));
    // Also fields that are only asked whether they are there: a body that is not JSON is hashed otherwise.
    source.strict || reads || matches!(source.dedup, DedupRule::Fields { .. })
}

impl Fields for Json<'_> {
    fn text(&self, pointer: &str) -> Option<String> {
        match self.value()?.pointer(pointer)? {
            Value::String(text) => Some(text.clone()),
            scalar @ (Value::Number(_) | Value::Bool(_)) => Some(scalar.to_string()),
            Value::Null | Value::Array(_) | Value::Object(_) => None,
        }
    }

    fn items(&self, pointer: &str) -> Option<usize> {
        self.value()?.pointer(pointer)?.as_array().map(Vec::len)
    }
}
