//! A source: who may send, and how its events are read.
//!
//! Reading is by JSON pointer (RFC 6901), so that any sender's layout fits; the parsing itself is the
//! caller's, which hands in a lookup. A body that is not JSON or lacks the fields is still an event,
//! of type `unknown`, unless the source is strict. Absent here: verification of the sender (later, in
//! `verify`), and how the bytes arrived.

use std::time::Duration;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::core::event::{Dedup, Draft, Fingerprint, Header, KEY_LEN_MAX, TYPE_LEN_MAX, UNKNOWN_TYPE, cut};
use crate::core::lifecycle::Lifecycle;
use crate::core::name::Name;
use crate::core::rate::Rate;
use crate::core::timestamp::Timestamp;

/// The source of the gateway's own events: what happened to endpoints, deliveries and calls. Nobody can send as it.
pub const ALERTS: &str = "backstop";

/// The rules of one named inbound path, valid by construction of the config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Its path is `/in/<name>`.
    pub name: Name,
    /// Where the event type stands in a JSON body, e.g. `/event_type`.
    pub type_pointer: Option<String>,
    /// Where the key stands, e.g. `/call_id`.
    pub key_pointer: Option<String>,
    /// Where the sender's RFC 3339 time stands, e.g. `/timestamp`.
    pub time_pointer: Option<String>,
    /// Refuse with 422 what is not JSON or lacks a field that a pointer names.
    pub strict: bool,
    /// What makes two posts the same event.
    pub dedup: DedupRule,
    /// For how long an equal fingerprint is a duplicate.
    pub dedup_window: Duration,
    /// Largest body accepted, in bytes; above it 413.
    pub body_max_bytes: usize,
    /// Longest time a body may take to arrive; after it 408.
    pub body_timeout: Duration,
    /// How often it may send; above it 429.
    pub rate: Option<Rate>,
    /// How an accepted event is answered.
    pub ack: Ack,
    /// How calls begin and end, where somebody should watch over that.
    pub lifecycle: Option<Lifecycle>,
}

/// What makes two posts the same event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DedupRule {
    /// Every post is an event.
    Off,
    /// Posts with an equal value of this header (lower case); a post without it is always new.
    Header(String),
    /// Posts with equal values at these JSON pointers and, if asked, an equal body.
    Fields {
        /// JSON pointers; a field that is absent counts as absent, not as a wildcard. A post with none of
        /// them is always new, unless it has a body and that is hashed, too.
        pointers: Vec<String>,
        /// Also hash the whole body.
        body: bool,
    },
}

/// How an accepted event is answered. Duplicates get the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ack {
    /// A 2xx status.
    pub status: u16,
    /// The body; `None` is `{"id": "evt_…"}`. `{id}` in it is replaced by the event's id.
    pub body: Option<String>,
    /// The body's content type.
    pub content_type: String,
}

/// Why a strict source refuses a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The body is not JSON.
    NotJson,
    /// The field at this pointer is missing or not a text.
    Field {
        /// `event type`, `key` or `time`.
        what: &'static str,
        /// Where it was looked for.
        pointer: String,
    },
}

/// A parsed JSON body, as far as a source needs it.
pub trait Fields {
    /// The scalar at `pointer` as text (strings bare, numbers and booleans as JSON writes them).
    fn text(&self, pointer: &str) -> Option<String>;
}

impl Source {
    /// The event in a request, routed nowhere yet. `fields` is `None` where the body is not JSON.
    ///
    /// Refuses only if the source is strict.
    pub fn admit(&self, fields: Option<&dyn Fields>, headers: Vec<Header>, body: Bytes) -> Result<Draft, Refusal> {
        if self.strict && fields.is_none() {
            return Err(Refusal::NotJson);
        }
        let read = |what: &'static str, pointer: &Option<String>| -> Result<Option<String>, Refusal> {
            let Some(pointer) = pointer else { return Ok(None) };
            let found = fields.and_then(|fields| fields.text(pointer)).filter(|text| !text.is_empty());
            match found {
                None if self.strict => Err(Refusal::Field { what, pointer: pointer.clone() }),
                found => Ok(found),
            }
        };
        let event_type = read("event type", &self.type_pointer)?;
        let key = read("key", &self.key_pointer)?;
        let occurred_at = self.read_time(read("time", &self.time_pointer)?)?;
        Ok(Draft {
            source: self.name.clone(),
            event_type: cut(event_type.as_deref().unwrap_or(UNKNOWN_TYPE), TYPE_LEN_MAX).to_owned(),
            key: key.map(|key| cut(&key, KEY_LEN_MAX).to_owned()),
            occurred_at,
            dedup: self.fingerprint(fields, &headers, &body),
            headers,
            body,
            endpoints: Vec::new(),
        })
    }

    fn read_time(&self, text: Option<String>) -> Result<Option<Timestamp>, Refusal> {
        let time = text.as_deref().and_then(Timestamp::parse_rfc3339);
        match (&self.time_pointer, time) {
            (Some(pointer), None) if self.strict => Err(Refusal::Field { what: "time", pointer: pointer.clone() }),
            _ => Ok(time),
        }
    }

    fn fingerprint(&self, fields: Option<&dyn Fields>, headers: &[Header], body: &Bytes) -> Option<Dedup> {
        let mut hash = Sha256::new();
        match &self.dedup {
            DedupRule::Off => return None,
            DedupRule::Header(name) => {
                let header = headers.iter().find(|header| header.name == *name)?;
                update_framed(&mut hash, Some(&header.value));
            }
            DedupRule::Fields { pointers, body: whole_body } => {
                let texts: Vec<Option<String>> =
                    pointers.iter().map(|pointer| fields.and_then(|fields| fields.text(pointer))).collect();
                // Posts that say nothing of what they are may well be two events.
                let says_nothing = texts.iter().all(Option::is_none) && (body.is_empty() || !whole_body);
                if says_nothing && !texts.is_empty() {
                    return None;
                }
                for text in &texts {
                    update_framed(&mut hash, text.as_deref().map(str::as_bytes));
                }
                if *whole_body {
                    update_framed(&mut hash, Some(body));
                }
            }
        }
        let digest: [u8; 32] = hash.finalize().into();
        let mut print = [0; 16];
        print.copy_from_slice(digest.first_chunk::<16>()?);
        Some(Dedup { fingerprint: Fingerprint(print), window: self.dedup_window })
    }
}

/// Hashes one part with its presence and length before it, so that no two lists of parts collide.
fn update_framed(hash: &mut Sha256, part: Option<&[u8]>) {
    match part {
        None => hash.update([0]),
        Some(bytes) => {
            hash.update([1]);
            hash.update(bytes.len().to_be_bytes());
            hash.update(bytes);
        }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotJson => f.write_str("the body is not JSON, and this source is strict"),
            Self::Field { what, pointer } => {
                write!(f, "the {what} at {pointer} is missing or not readable, and this source is strict")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    struct Flat(HashMap<&'static str, &'static str>);

    impl Fields for Flat {
        fn text(&self, pointer: &str) -> Option<String> {
            self.0.get(pointer).map(|text| (*text).to_owned())
        }
    }

    fn flyflow() -> Source {
        Source {
            name: Name::new("flyflow").unwrap(),
            type_pointer: Some("/event_type".into()),
            key_pointer: Some("/call_id".into()),
            time_pointer: Some("/timestamp".into()),
            strict: false,
            dedup: DedupRule::Fields {
                pointers: vec!["/event_type".into(), "/call_id".into(), "/timestamp".into()],
                body: true,
            },
            dedup_window: Duration::from_secs(86_400),
            body_max_bytes: 1 << 20,
            body_timeout: Duration::from_secs(10),
            rate: None,
            ack: Ack { status: 202, body: None, content_type: "application/json".into() },
            lifecycle: None,
        }
    }

    fn call_ended() -> Flat {
        Flat(HashMap::from([
            ("/event_type", "call_ended"),
            ("/call_id", "abc123"),
            ("/timestamp", "2023-06-08T10:30:00Z"),
        ]))
    }

    #[test]
    fn a_flyflow_body_is_read() {
        let draft = flyflow().admit(Some(&call_ended()), vec![], Bytes::from_static(b"{}")).unwrap();
        assert_eq!(draft.event_type, "call_ended");
        assert_eq!(draft.key.as_deref(), Some("abc123"));
        assert_eq!(draft.occurred_at, Timestamp::parse_rfc3339("2023-06-08T10:30:00Z"));
    }

    #[test]
    fn what_is_not_json_is_still_an_event() {
        let draft = flyflow().admit(None, vec![], Bytes::from_static(b"\xff\x00 not json")).unwrap();
        assert_eq!(draft.event_type, UNKNOWN_TYPE);
        assert_eq!(draft.key, None);
        assert_eq!(&draft.body[..], b"\xff\x00 not json");
    }

    #[test]
    fn a_strict_source_names_the_missing_field() {
        let strict = Source { strict: true, ..flyflow() };
        assert_eq!(strict.admit(None, vec![], Bytes::new()), Err(Refusal::NotJson));
        for (pointer, what) in [("/event_type", "event type"), ("/call_id", "key"), ("/timestamp", "time")] {
            let mut fields = call_ended();
            fields.0.remove(pointer);
            let refusal = strict.admit(Some(&fields), vec![], Bytes::new()).unwrap_err();
            assert_eq!(refusal, Refusal::Field { what, pointer: pointer.into() });
        }
        let mut fields = call_ended();
        fields.0.insert("/timestamp", "yesterday");
        assert!(strict.admit(Some(&fields), vec![], Bytes::new()).is_err());
    }

    #[test]
    fn equal_posts_have_equal_prints_and_any_difference_shows() {
        let print = |fields: Option<&dyn Fields>, body: &'static [u8]| {
            flyflow().admit(fields, vec![], Bytes::from_static(body)).unwrap().dedup.unwrap().fingerprint
        };
        let same = print(Some(&call_ended()), b"x");
        assert_eq!(same, print(Some(&call_ended()), b"x"));
        assert_ne!(same, print(Some(&call_ended()), b"y"));
        let mut other_call = call_ended();
        other_call.0.insert("/call_id", "abc124");
        assert_ne!(same, print(Some(&other_call), b"x"));
        assert_ne!(same, print(None, b"x"));
        assert_eq!(print(None, b"x"), print(None, b"x"));
        let empty = flyflow().admit(None, vec![], Bytes::new()).unwrap();
        assert_eq!(empty.dedup, None, "a post that says nothing is always new");
        let mut no_call = call_ended();
        no_call.0.remove("/call_id");
        assert_ne!(same, print(Some(&no_call), b"x"));
    }

    #[test]
    fn without_the_dedup_header_every_post_is_new() {
        let source = Source { dedup: DedupRule::Header("x-id".into()), ..flyflow() };
        let with = |headers| source.admit(None, headers, Bytes::new()).unwrap().dedup;
        let header =
            |value: &'static str| vec![Header { name: "x-id".into(), value: Bytes::from_static(value.as_bytes()) }];
        assert_eq!(with(vec![]), None);
        assert_eq!(with(header("1")), with(header("1")));
        assert_ne!(with(header("1")), with(header("2")));
    }

    #[test]
    fn long_types_and_keys_are_cut_at_a_character() {
        let long: &'static str = Box::leak("é".repeat(300).into_boxed_str());
        let fields = Flat(HashMap::from([("/event_type", long), ("/call_id", long)]));
        let draft = flyflow().admit(Some(&fields), vec![], Bytes::new()).unwrap();
        assert_eq!(draft.event_type.len(), TYPE_LEN_MAX);
        assert_eq!(draft.key.unwrap().len(), KEY_LEN_MAX);
    }
}
