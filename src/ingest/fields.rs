//! What a source reads of a JSON body.

use serde_json::Value;

use crate::core::source::{DedupRule, Fields, Source};

/// A parsed body. Of a name that an object has twice, the last counts.
pub(super) struct Json(Value);

impl Json {
    /// The body, parsed once, if `source` wants to know anything of it and it is JSON.
    ///
    /// Text nested deeper than 128 levels is taken for no JSON, which bounds the parser's stack.
    pub(super) fn read(source: &Source, body: &[u8]) -> Option<Self> {
        if !wants_fields(source) || body.is_empty() {
            return None;
        }
        serde_json::from_slice(body).ok().map(Self)
    }
}

fn wants_fields(source: &Source) -> bool {
    let Source { type_pointer, key_pointer, time_pointer, .. } = source;
    let reads = [type_pointer, key_pointer, time_pointer].into_iter().any(Option::is_some);
    // Also fields that are only asked whether they are there: a body that is not JSON is hashed otherwise.
    source.strict || reads || matches!(source.dedup, DedupRule::Fields { .. })
}

impl Fields for Json {
    fn text(&self, pointer: &str) -> Option<String> {
        match self.0.pointer(pointer)? {
            Value::String(text) => Some(text.clone()),
            scalar @ (Value::Number(_) | Value::Bool(_)) => Some(scalar.to_string()),
            Value::Null | Value::Array(_) | Value::Object(_) => None,
        }
    }
}
