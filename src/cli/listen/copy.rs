//! One copy: the event as it was accepted, sent as an endpoint would be sent it, and what came back.

use std::str::FromStr as _;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Serialize;

use crate::admin::wire::{Event, Failure as NoAnswer, Octets, Word};
use crate::cli::exit::Failure;
use crate::cli::text::{Text, plain};
use crate::core::attempt::{Outcome, Reply, StatusSet};
use crate::core::endpoint::Endpoint;
use crate::core::event;
use crate::core::event::Header;
use crate::core::id::EventId;
use crate::core::name::Name;
use crate::core::secret::Secret;
use crate::core::sign::Signing;
use crate::core::timestamp::{Timestamp, duration_millis};
use crate::deliver::HttpTransport;
use crate::egress::{self, Guard};
use crate::engine::{Clock as _, Sending, SystemClock, Transport as _};

/// What tells a receiver that this is no delivery.
const MARK: &str = "backstop-listen";
/// Bytes of a secret of one run.
const SECRET_BYTES: usize = 24;

/// Who sends copies, and where to.
pub(super) struct Copier {
    endpoint: Arc<Endpoint>,
    transport: HttpTransport,
    signed_how: String,
}

/// A copy that was sent, or was not.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Copied {
    /// `evt_…`.
    event: String,
    received_at: String,
    source: String,
    #[serde(rename = "type")]
    event_type: String,
    key: Option<String>,
    /// What an attempt would have come to.
    outcome: Option<Word>,
    /// The answer's status.
    last_status: Option<u16>,
    /// Why there was no answer, or no copy.
    failure: Option<NoAnswer>,
    took_ms: u64,
}

/// The URL that is meant by a port, a host with a port, or a URL.
pub(super) fn target(text: &str) -> Result<String, String> {
    let wrong = || "write a port like 3000, a host like localhost:3000/hook, or an http or https URL".to_owned();
    let url = match text.parse::<u16>() {
        Ok(port) => format!("http://127.0.0.1:{port}/"),
        // A number that is no port would be read as an address.
        Err(_) if text.bytes().all(|byte| byte.is_ascii_digit()) => return Err(wrong()),
        Err(_) if text.contains("://") => text.to_owned(),
        Err(_) => format!("http://{text}"),
    };
    egress::target(&url).map(String::from).map_err(|_| wrong())
}

impl Copier {
    pub(super) fn new(to: &str, secret: Option<&str>, unsigned: bool) -> Result<Self, Failure> {
        let (signing, signed_how) = match (secret, unsigned) {
            (_, true) => (Signing::Off, "unsigned".to_owned()),
            (Some(text), _) => (standard(text)?, "signed with the secret that was given".to_owned()),
            (None, _) => {
                let text = secret_of_this_run()?;
                (standard(&text)?, format!("signed with {text}, a secret of this run"))
            }
        };
        let name = Name::new("listen").map_err(|error| Failure::failed(error.to_string()))?;
        let mut endpoint = Endpoint { signing, ..Endpoint::new(name, to.to_owned()) };
        endpoint.headers.push(Header { name: MARK.to_owned(), value: "true".into() });
        let transport = HttpTransport::new(egress::native_roots(), Guard::default());
        Ok(Self { endpoint: Arc::new(endpoint), transport, signed_how })
    }

    /// How copies are signed, for whoever checks it.
    pub(super) fn signed_how(&self) -> &str {
        &self.signed_how
    }

    /// Sends a copy of an exported event, and waits for the answer.
    pub(super) async fn copy(&self, exported: Event) -> Result<(EventId, Copied), Failure> {
        let mut copied = Copied {
            event: exported.id.clone(),
            received_at: exported.received_at.clone(),
            source: exported.source.clone(),
            event_type: exported.event_type.clone(),
            key: exported.key.clone(),
            outcome: None,
            last_status: None,
            failure: None,
            took_ms: 0,
        };
        let unread = |what: String| Failure::failed(format!("what the gateway gave is no event: {what}"));
        let id = EventId::from_str(&exported.id).map_err(|error| unread(error.to_string()))?;
        let Some(event) = whole(id, exported).map_err(unread)? else {
            let detail = "its body is no longer kept, or was damaged on disk".to_owned();
            copied.failure = Some(NoAnswer { class: "not_sent".into(), detail });
            return Ok((id, copied));
        };
        let (endpoint, event) = (Arc::clone(&self.endpoint), Arc::new(event));
        let (delivery, now, began) = (id.delivery(0), SystemClock.now(), SystemClock.steady());
        let sending = Sending { endpoint, event, delivery, attempt: 1, replay: None, again: false, now };
        let reply = self.transport.send(sending).await;
        copied.took_ms = duration_millis(SystemClock.steady().saturating_sub(began));
        copied.outcome = Some(Outcome::classify(&reply, &StatusSet::default()).as_str().into());
        match reply {
            Reply::Answer(answer) => copied.last_status = Some(answer.status),
            Reply::Failure(failure) => {
                copied.failure = Some(NoAnswer { class: failure.class.as_str().into(), detail: failure.detail });
            }
        }
        Ok((id, copied))
    }
}

impl Copied {
    /// For people.
    pub(super) fn line(&self) -> Text {
        let Self { received_at, event_type, event, took_ms, .. } = self;
        let key = self.key.as_deref().unwrap_or("-");
        let mut text = Text::from(plain(&format!("{received_at}  {event_type}  {key}  {event}  ")));
        match (self.last_status, &self.failure) {
            (Some(status), _) => text.push_state(&status.to_string()),
            (None, Some(failure)) => text.push_bad(&failure.class),
            (None, None) => {}
        }
        text.push_str(&format!(" in {took_ms} ms"));
        if let Some(failure) = &self.failure {
            text.push_str(&plain(&format!("  {}", failure.detail)));
        }
        text.push_str("\n");
        text
    }
}

/// The event as it was accepted; `None` if its body is gone.
fn whole(id: EventId, exported: Event) -> Result<Option<event::Event>, String> {
    let time = |text: &str| Timestamp::parse_rfc3339(text).ok_or_else(|| format!("{text} is no time"));
    let bytes = |octets: Octets| Vec::<u8>::try_from(octets).map_err(|error| error.to_string());
    let (Some(body), Some(headers)) = (exported.body, exported.headers) else { return Ok(None) };
    let header = |(name, value)| Ok(Header { name, value: bytes(value)?.into() });
    let draft = event::Draft {
        source: Name::new(&exported.source).map_err(|error| error.to_string())?,
        event_type: exported.event_type,
        key: exported.key,
        occurred_at: exported.occurred_at.as_deref().map(time).transpose()?,
        headers: headers.into_iter().map(header).collect::<Result<_, String>>()?,
        body: bytes(body)?.into(),
        dedup: None,
        endpoints: Vec::new(),
    };
    Ok(Some(event::Event { id, received_at: time(&exported.received_at)?, draft }))
}

fn standard(text: &str) -> Result<Signing, Failure> {
    let secret = Secret::standard(text).map_err(|error| Failure::usage(format!("--secret: {error}")))?;
    Ok(Signing::Standard(vec![secret]))
}

/// A secret that nobody has had before.
fn secret_of_this_run() -> Result<String, Failure> {
    let mut bytes = [0; SECRET_BYTES];
    let source = rustls::crypto::ring::default_provider().secure_random;
    let nothing = |_| Failure::failed("this machine gives no randomness to make a secret of; give one with --secret");
    source.fill(&mut bytes).map_err(nothing)?;
    Ok(format!("whsec_{}", BASE64.encode(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_port_a_host_or_a_url() {
        let read = |text: &str| target(text).unwrap();
        assert_eq!(read("3000"), "http://127.0.0.1:3000/");
        assert_eq!(read("localhost:3000/hook?x=1"), "http://localhost:3000/hook?x=1");
        assert_eq!(read("https://dev.example.com/hook"), "https://dev.example.com/hook");
        assert_eq!(read("[::1]:3000"), "http://[::1]:3000/");
        for wrong in ["", "70000", "ftp://x/", "http://", "a b"] {
            assert!(target(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn every_run_has_a_secret_of_its_own_that_can_sign() {
        let (one, other) = (secret_of_this_run().unwrap(), secret_of_this_run().unwrap());
        assert_ne!(one, other);
        assert!(Secret::standard(&one).is_ok());
        let told = Copier::new("http://127.0.0.1:1/", Some(&one), false).unwrap().signed_how().to_owned();
        assert!(!told.contains(&one), "a secret that was given is not shown: {told}");
        assert!(Copier::new("http://127.0.0.1:1/", Some("whsec_short"), false).is_err());
    }
}
