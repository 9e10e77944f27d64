//! A source: who may send, and how its events are read.
//!
//! Reading is by [`Place`]: a JSON pointer (RFC 6901), a header, a field of a form; the parsing of JSON is the
//! caller's, which hands in a lookup. A body that is not JSON or lacks the fields is still an event,
//! of type `unknown`, unless the source is strict. Who the sender is was asked before ([`verify`](super::verify));
//! what that proved tells duplicates where the source's rule finds nothing. Absent here: how the bytes arrived.

mod place;

use std::time::Duration;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::core::event::{Dedup, Draft, Fingerprint, Header, KEY_LEN_MAX, TYPE_LEN_MAX, UNKNOWN_TYPE, cut};
use crate::core::lifecycle::Lifecycle;
use crate::core::name::Name;
use crate::core::rate::Rate;
use crate::core::timestamp::Timestamp;
use crate::core::verify::{Headers, Proof, Verification};
pub use place::Place;

/// The source of the gateway's own events: what happened to endpoints, deliveries and calls. Nobody can send as it.
pub const ALERTS: &str = "backstop";

/// The rules of one named inbound path, valid by construction of the config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Its path is `/in/<name>`.
    pub name: Name,
    /// How it knows its sender.
    pub verification: Verification,
    /// Where the event type stands; the first place that has one counts.
    pub type_at: Vec<Place>,
    /// Where the key stands.
    pub key_at: Vec<Place>,
    /// Where the sender's time stands: RFC 3339, or seconds or milliseconds since 1970.
    pub time_at: Vec<Place>,
    /// Refuse with 422 what lacks a field that is to be read, or is not JSON where it should be.
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
    /// Posts with an equal value of this header (lower case); a post without it is always new, or if it is signed,
    /// as [`Message`](Self::Message) has it.
    Header(String),
    /// Posts with an equal id that is signed, or equal in all that is signed; what is not signed is always new.
    Message,
    /// Posts with equal values at these JSON pointers and, if asked, an equal body.
    Fields {
        /// JSON pointers; a field that is absent counts as absent, not as a wildcard. A post with none of
        /// them is always new, unless it has a body and that is hashed, too, or it is signed.
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
        place: String,
    },
}

/// A parsed JSON body, as far as a source needs it.
pub trait Fields {
    /// The scalar at `pointer` as text (strings bare, numbers and booleans as JSON writes them).
    fn text(&self, pointer: &str) -> Option<String>;

    /// How many items the array at `pointer` has.
    fn items(&self, pointer: &str) -> Option<usize>;
}

/// What a request says of itself.
struct Said<'a> {
    fields: Option<&'a dyn Fields>,
    headers: &'a [Header],
    body: &'a [u8],
}

impl Source {
    /// The event in a request, routed nowhere yet. `fields` is `None` where the body is not JSON, `proof` where
    /// nobody was asked for one.
    ///
    /// Refuses only if the source is strict.
    pub fn admit(
        &self,
        proof: Option<&Proof>,
        fields: Option<&dyn Fields>,
        headers: Vec<Header>,
        body: Bytes,
    ) -> Result<Draft, Refusal> {
        if self.strict && fields.is_none() && self.expects_json() {
            return Err(Refusal::NotJson);
        }
        let said = Said { fields, headers: &headers, body: &body };
        let read = |what: &'static str, places: &[Place]| -> Result<Option<String>, Refusal> {
            let found = places.iter().find_map(|place| place.read(&said));
            match found {
                None if self.strict && !places.is_empty() => Err(Refusal::field(what, places)),
                found => Ok(found),
            }
        };
        let event_type = read("event type", &self.type_at)?;
        let key = read("key", &self.key_at)?;
        let occurred_at = self.read_time(read("time", &self.time_at)?)?;
        Ok(Draft {
            source: self.name.clone(),
            event_type: cut(event_type.as_deref().unwrap_or(UNKNOWN_TYPE), TYPE_LEN_MAX).to_owned(),
            key: key.map(|key| cut(&key, KEY_LEN_MAX).to_owned()),
            occurred_at,
            dedup: self.fingerprint(proof, &said),
            headers,
            body,
            endpoints: Vec::new(),
        })
    }

    /// Whether a body that is not JSON lacks something: all but where everything is read elsewhere.
    fn expects_json(&self) -> bool {
        let mut places = [&self.type_at, &self.key_at, &self.time_at].into_iter().flatten().peekable();
        places.peek().is_none() || places.any(|place| matches!(place, Place::Pointer(_)))
    }

    fn read_time(&self, text: Option<String>) -> Result<Option<Timestamp>, Refusal> {
        let time = text.as_deref().and_then(place::time);
        if time.is_none() && self.strict && !self.time_at.is_empty() {
            return Err(Refusal::field("time", &self.time_at));
        }
        Ok(time)
    }

    fn fingerprint(&self, proof: Option<&Proof>, said: &Said<'_>) -> Option<Dedup> {
        let Said { fields, headers, body } = said;
        let mut hash = Sha256::new();
        match &self.dedup {
            DedupRule::Off => return None,
            DedupRule::Message => self.update_message(&mut hash, proof, said)?,
            DedupRule::Header(name) => match headers.iter().find(|header| header.name == *name) {
                Some(header) => update_framed(&mut hash, Some(&header.value)),
                None => self.update_message(&mut hash, proof, said)?,
            },
            DedupRule::Fields { pointers, body: whole_body } => {
                let texts: Vec<Option<String>> =
                    pointers.iter().map(|pointer| fields.and_then(|fields| fields.text(pointer))).collect();
                // Posts that say nothing of what they are may well be two events.
                let says_nothing = texts.iter().all(Option::is_none) && (body.is_empty() || !whole_body);
                if says_nothing && !texts.is_empty() {
                    self.update_message(&mut hash, proof, said)?;
                } else {
                    for text in &texts {
                        update_framed(&mut hash, text.as_deref().map(str::as_bytes));
                    }
                    if *whole_body {
                        update_framed(&mut hash, Some(body));
                    }
                }
            }
        }
        let digest: [u8; 32] = hash.finalize().into();
        let mut print = [0; 16];
        print.copy_from_slice(digest.first_chunk::<16>()?);
        Some(Dedup { fingerprint: Fingerprint(print), window: self.dedup_window })
    }

    /// Hashes what is signed of a message: its id, or else its time and body. `None` if nothing is.
    ///
    /// Of a message that an operator takes in nothing is proven, but its id is believed: the sender may bring it again.
    fn update_message(&self, hash: &mut Sha256, proof: Option<&Proof>, said: &Said<'_>) -> Option<()> {
        let claimed = || self.verification.claimed_id(&said.headers);
        let id = proof.map_or_else(claimed, |proof| proof.id.clone());
        match id {
            Some(id) => {
                update_framed(hash, Some(b"message"));
                update_framed(hash, Some(id.as_bytes()));
            }
            None => {
                let time_ms = proof?.signed?;
                update_framed(hash, Some(b"signed"));
                update_framed(hash, time_ms.map(u64::to_be_bytes).as_ref().map(<[u8; 8]>::as_slice));
                update_framed(hash, Some(said.body));
            }
        }
        Some(())
    }
}

/// Of the headers that were kept.
impl Headers for &[Header] {
    fn values<'a>(&'a self, name: &str) -> Vec<&'a [u8]> {
        self.iter().filter(|header| header.name == name).map(|header| &header.value[..]).collect()
    }
}

impl Refusal {
    fn field(what: &'static str, places: &[Place]) -> Self {
        let places: Vec<String> = places.iter().map(Place::to_string).collect();
        Self::Field { what, place: places.join(" or ") }
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
            Self::Field { what, place } => {
                write!(f, "the {what} at {place} is missing or not readable, and this source is strict")
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
        fn items(&self, _: &str) -> Option<usize> {
            None
        }
    }

    fn flyflow() -> Source {
        Source {
            name: Name::new("flyflow").unwrap(),
            verification: Verification::default(),
            type_at: vec![Place::Pointer("/event_type".into())],
            key_at: vec![Place::Pointer("/call_id".into())],
            time_at: vec![Place::Pointer("/timestamp".into())],
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
        let draft = flyflow().admit(None, Some(&call_ended()), vec![], Bytes::from_static(b"{}")).unwrap();
        assert_eq!(draft.event_type, "call_ended");
        assert_eq!(draft.key.as_deref(), Some("abc123"));
        assert_eq!(draft.occurred_at, Timestamp::parse_rfc3339("2023-06-08T10:30:00Z"));
    }

    #[test]
    fn what_is_not_json_is_still_an_event() {
        let draft = flyflow().admit(None, None, vec![], Bytes::from_static(b"\xff\x00 not json")).unwrap();
        assert_eq!(draft.event_type, UNKNOWN_TYPE);
        assert_eq!(draft.key, None);
        assert_eq!(&draft.body[..], b"\xff\x00 not json");
    }

    #[test]
    fn a_strict_source_names_the_missing_field() {
        let strict = Source { strict: true, ..flyflow() };
        assert_eq!(strict.admit(None, None, vec![], Bytes::new()), Err(Refusal::NotJson));
        for (pointer, what) in [("/event_type", "event type"), ("/call_id", "key"), ("/timestamp", "time")] {
            let mut fields = call_ended();
            fields.0.remove(pointer);
            let refusal = strict.admit(None, Some(&fields), vec![], Bytes::new()).unwrap_err();
            assert_eq!(refusal, Refusal::Field { what, place: pointer.into() });
        }
        let mut fields = call_ended();
        fields.0.insert("/timestamp", "yesterday");
        assert!(strict.admit(None, Some(&fields), vec![], Bytes::new()).is_err());
    }

    #[test]
    fn equal_posts_have_equal_prints_and_any_difference_shows() {
        let print = |fields: Option<&dyn Fields>, body: &'static [u8]| {
            flyflow().admit(None, fields, vec![], Bytes::from_static(body)).unwrap().dedup.unwrap().fingerprint
        };
        let same = print(Some(&call_ended()), b"x");
        assert_eq!(same, print(Some(&call_ended()), b"x"));
        assert_ne!(same, print(Some(&call_ended()), b"y"));
        let mut other_call = call_ended();
        other_call.0.insert("/call_id", "abc124");
        assert_ne!(same, print(Some(&other_call), b"x"));
        assert_ne!(same, print(None, b"x"));
        assert_eq!(print(None, b"x"), print(None, b"x"));
        let empty = flyflow().admit(None, None, vec![], Bytes::new()).unwrap();
        assert_eq!(empty.dedup, None, "a post that says nothing is always new");
        let mut no_call = call_ended();
        no_call.0.remove("/call_id");
        assert_ne!(same, print(Some(&no_call), b"x"));
    }

    #[test]
    fn without_the_dedup_header_every_post_is_new() {
        let source = Source { dedup: DedupRule::Header("x-id".into()), ..flyflow() };
        let with = |headers| source.admit(None, None, headers, Bytes::new()).unwrap().dedup;
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
        let draft = flyflow().admit(None, Some(&fields), vec![], Bytes::new()).unwrap();
        assert_eq!(draft.event_type.len(), TYPE_LEN_MAX);
        assert_eq!(draft.key.unwrap().len(), KEY_LEN_MAX);
    }
}
