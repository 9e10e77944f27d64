//! The register: notes who had what done, before it is done, and what it came to.
//!
//! Promises: nothing is changed through the admin API before that it was asked for is durable; what cannot be noted
//! is not done. What is noted holds no secret: of a URL only the origin is kept, and no value of a field whose name
//! says that it is one. Who is turned away is counted every time and noted, but alike at most once in
//! [`DENIED_EVERY`], with how often it was in between: nobody without a token can fill a disk, or push out what was
//! noted of others.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Map, Value};
use warp::reply::Response;

use crate::core::event::cut;
use crate::core::operation::{Operation, OperationId, Outcome, PARAMETERS_LEN_MAX};
use crate::core::timestamp::Timestamp;
use crate::journal::JournalError;
use crate::journal::operations::{Operations, Wanted};

/// What is like what was noted so long ago is noted again.
const DENIED_EVERY: Duration = Duration::from_secs(600);
/// Kinds of denied attempts that are told apart at a time.
const DENIED_KINDS_MAX: usize = 1000;
/// Parts of names whose values are secrets.
const SECRET_WORDS: [&str; 5] = ["secret", "token", "password", "authorization", "credential"];

/// Why somebody was turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub(super) enum Denied {
    /// No token was shown.
    NoToken,
    /// The token is nobody's.
    WrongToken,
    /// The token is worth nothing any more.
    Expired,
    /// The token's role may not.
    Role,
}

impl Denied {
    pub(super) const ALL: [Self; 4] = [Self::NoToken, Self::WrongToken, Self::Expired, Self::Role];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::NoToken => "no_token",
            Self::WrongToken => "wrong_token",
            Self::Expired => "expired",
            Self::Role => "role",
        }
    }
}

/// What an answer has to say of what it did, for the register; it goes with the response.
#[derive(Debug, Clone)]
pub(super) struct Told(pub(super) String);

/// Who was denied what.
type Kind = (Option<String>, String);

/// Notes operations.
#[derive(Debug)]
pub struct Register {
    /// Or why they cannot be noted.
    operations: Result<Operations, String>,
    denied: [AtomicU64; Denied::ALL.len()],
    /// By who and what: when it was last noted, and how often it was since.
    noted: Mutex<HashMap<Kind, (Timestamp, u64)>>,
}

impl Register {
    /// A register in `operations`; if those cannot be had nothing can be changed, which is not to stop deliveries.
    #[must_use]
    pub fn new(operations: Result<Operations, String>) -> Self {
        Self { operations, denied: Default::default(), noted: Mutex::default() }
    }

    /// Notes that something is about to be done.
    pub(super) async fn begin(self: &Arc<Self>, operation: Operation) -> Result<OperationId, JournalError> {
        self.on_disk(move |operations| operations.begin(&operation.bounded())).await
    }

    /// Notes what it came to; if it cannot be noted that is logged, for it was done.
    pub(super) async fn end(self: &Arc<Self>, id: OperationId, at: Timestamp, response: &Response) {
        let detail = response.extensions().get::<Told>().map_or("", |told| &told.0);
        let outcome = Outcome::new(at, response.status().as_u16(), detail);
        if let Err(error) = self.on_disk(move |operations| operations.end(id, &outcome)).await {
            tracing::error!(%error, operation = %id, "what an operation came to cannot be noted");
        }
    }

    /// Counts that somebody is turned away, and notes it if nothing like it was lately.
    pub(super) async fn deny(self: &Arc<Self>, why: Denied, operation: Operation, outcome: Outcome) {
        if let Some(count) = self.denied.get(why as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        // Who shows no token at all is mostly a browser or a probe.
        if why == Denied::NoToken {
            return;
        }
        let Some(repeats) = self.due(&operation) else { return };
        let operation = Operation { repeats, ..operation.bounded() };
        if let Err(error) = self.on_disk(move |operations| operations.note(&operation, &outcome)).await {
            tracing::warn!(%error, "a denied attempt cannot be noted");
        }
    }

    /// Whether a denied attempt is to be noted; with how many like it were not.
    fn due(&self, operation: &Operation) -> Option<u64> {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        let is_recent = |at: Timestamp| at <= operation.at && operation.at.since(at) < DENIED_EVERY;
        if noted.len() >= DENIED_KINDS_MAX {
            noted.retain(|_, (at, _)| is_recent(*at));
        }
        let is_full = noted.len() >= DENIED_KINDS_MAX;
        let kind = (operation.who.as_ref().map(|who| who.name.clone()), operation.what.clone());
        match noted.get_mut(&kind) {
            Some((at, repeats)) if is_recent(*at) => {
                *repeats += 1;
                None
            }
            Some(last) => Some(std::mem::replace(last, (operation.at, 0)).1),
            None if is_full => None,
            None => {
                noted.insert(kind, (operation.at, 0));
                Some(0)
            }
        }
    }

    /// How often somebody was turned away since the process began, by why.
    pub(super) fn denied(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Denied::ALL.iter().zip(&self.denied).map(|(why, count)| (why.as_str(), count.load(Ordering::Relaxed)))
    }

    pub(super) async fn list(
        self: &Arc<Self>,
        wanted: Wanted,
    ) -> Result<(Vec<crate::journal::operations::Kept>, Option<OperationId>), JournalError> {
        self.on_disk(move |operations| operations.list(&wanted)).await
    }

    async fn on_disk<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Operations) -> Result<T, JournalError> + Send + 'static,
    ) -> Result<T, JournalError> {
        let register = Arc::clone(self);
        let working = tokio::task::spawn_blocking(move || match &register.operations {
            Ok(operations) => work(operations),
            Err(why) => Err(JournalError::Open(why.clone())),
        });
        working.await.unwrap_or_else(|error| Err(JournalError::Failed(error.to_string())))
    }
}

/// What is noted of a request's query and body: JSON without secrets, or nothing if there was nothing.
pub(super) fn parameters(query: Option<&str>, body: &[u8]) -> String {
    let mut all = Map::new();
    if let Some(query) = query.filter(|query| !query.is_empty()) {
        all.insert("query".to_owned(), told("query", Value::String(query.to_owned())));
    }
    match serde_json::from_slice(body) {
        Ok(Value::Object(fields)) => all.extend(fields.into_iter().map(|(name, value)| {
            let value = told(&name, value);
            (name, value)
        })),
        _ if body.is_empty() => {}
        _ => {
            all.insert("unreadable_bytes".to_owned(), Value::from(body.len()));
        }
    }
    if all.is_empty() {
        return String::new();
    }
    let text = Value::Object(all).to_string();
    if text.len() <= PARAMETERS_LEN_MAX {
        return text;
    }
    // Escaped once more it must still fit.
    let begin = cut(&text, PARAMETERS_LEN_MAX / 3).to_owned();
    Value::Object(Map::from_iter([("cut".to_owned(), Value::String(begin))])).to_string()
}

/// A value without what may be secret in it.
fn told(name: &str, value: Value) -> Value {
    let is_secret = SECRET_WORDS.iter().any(|word| name.to_ascii_lowercase().contains(word));
    match value {
        Value::Null | Value::Bool(_) => value,
        _ if is_secret => Value::String("***".to_owned()),
        Value::String(text) if text.contains("://") => Value::String(origin(&text)),
        Value::Array(items) => Value::Array(items.into_iter().map(|item| told("", item)).collect()),
        Value::Object(fields) => Value::Object(
            fields
                .into_iter()
                .map(|(name, value)| {
                    let value = told(&name, value);
                    (name, value)
                })
                .collect(),
        ),
        other => other,
    }
}

/// Where a URL leads, without what it may tell: user, path and query.
fn origin(text: &str) -> String {
    let origin = reqwest::Url::parse(text.trim()).ok().map(|url| url.origin().ascii_serialization());
    origin.unwrap_or_else(|| "***".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_noted_of_a_request_tells_no_secret() {
        let body = br#"{"to_url":"https://user:pw@hooks.example.com:8443/T0/SECRET?key=SECRET","note":"a while",
            "filter":{"endpoint":"crm","ids":["evt_1"],"deep":[{"apiToken":"SECRET"}]},"token":"SECRET","force":true,
            "odd":"://SECRET"}"#;
        let noted = parameters(Some("source=x&route=true"), body);
        assert!(!noted.contains("SECRET") && !noted.contains("pw"), "{noted}");
        let noted: Value = serde_json::from_str(&noted).unwrap();
        assert_eq!(noted["to_url"], "https://hooks.example.com:8443");
        assert_eq!((&noted["note"], &noted["force"]), (&Value::from("a while"), &Value::from(true)));
        assert_eq!(noted["filter"]["ids"][0], "evt_1");
        assert_eq!(noted["query"], "source=x&route=true");
        assert_eq!(parameters(None, b""), "");
        assert_eq!(parameters(Some(""), b"{}"), "");
        assert_eq!(parameters(None, b"[1]"), r#"{"unreadable_bytes":3}"#);
    }

    #[test]
    fn what_is_long_is_cut_and_stays_json() {
        for filler in ["x", "\\\"", "é"] {
            let noted = parameters(None, format!(r#"{{"note":"{}"}}"#, filler.repeat(30_000)).as_bytes());
            assert!(noted.len() <= PARAMETERS_LEN_MAX, "{}", noted.len());
            let noted: Value = serde_json::from_str(&noted).unwrap();
            assert!(noted["cut"].as_str().unwrap().starts_with(r#"{"note":"#));
        }
    }

    #[test]
    fn denied_attempts_alike_are_noted_once_in_a_while() {
        let register = Register::new(Err(String::new()));
        let attempt = |millis: u64, what: &str| {
            register.due(&Operation {
                at: Timestamp::from_millis(millis),
                who: None,
                from: None,
                what: what.to_owned(),
                object: None,
                parameters: String::new(),
                repeats: 0,
            })
        };
        let span = u64::try_from(DENIED_EVERY.as_millis()).unwrap();
        assert_eq!(attempt(1000, "a"), Some(0));
        assert_eq!([attempt(1001, "a"), attempt(1000 + span - 1, "a")], [None, None]);
        assert_eq!(attempt(1001, "b"), Some(0));
        assert_eq!(attempt(1000 + span, "a"), Some(2));
        assert_eq!(attempt(1001 + span, "a"), None);
        // A clock that was set back is no reason to note nothing.
        assert_eq!(attempt(5, "a"), Some(1));
        for kind in 0..2 * DENIED_KINDS_MAX {
            attempt(span * 3, &kind.to_string());
        }
        assert!(register.noted.lock().unwrap().len() <= DENIED_KINDS_MAX);
    }
}
