//! Telemetry: structured logs, with one wide line per attempt; the counts of what came to the door ([`Intake`]),
//! what is measured where it happens ([`measures`]), and our part in traces ([`spans`]).
//!
//! No line holds a secret, a body, or a header's value. Metrics are the admin API's: most are read where things stand,
//! not counted here.

mod intake;
pub mod measures;
#[cfg(feature = "otlp")]
pub mod otlp;
pub mod spans;

use crate::core::attempt::{Attempt, FailureClass, Outcome, Reply};
use crate::core::breaker::Circuit;
use crate::core::delivery::{Reason, Step};
use crate::core::id::DeliveryId;
use crate::core::name::Name;
use crate::core::standing::Standing;
use crate::core::timestamp::Timestamp;
use crate::core::trace::TraceId;
pub use intake::{Intake, Turned};

/// Begins to write logs to stderr: one JSON object a line, or text for people.
///
/// `level` is `off`, `error`, `warn`, `info`, `debug`, `trace`, or a filter by target as the `tracing` tools
/// take it. An error if it is none, or if logs are written already.
pub fn init(json: bool, level: &str) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let filter = tracing_subscriber::EnvFilter::builder().parse(level)?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if json {
        lines.json().flatten_event(true).try_init()
    } else {
        lines.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).try_init()
    }
}

/// Whose attempt a line tells of.
#[derive(Debug, Clone)]
pub struct About {
    /// The delivery.
    pub delivery: DeliveryId,
    /// Where to.
    pub endpoint: Name,
    /// The event's source, type and key, where the event could be read.
    pub event: Option<(Name, String, Option<String>)>,
    /// Length of the body, in bytes.
    pub body_bytes: usize,
    /// Whether the delivery repeats an earlier one, by a replay or by hand.
    pub again: bool,
    /// The sender's trace, if there is one.
    pub trace: Option<TraceId>,
}

impl About {
    /// An attempt of which nothing else is known yet.
    #[must_use]
    pub const fn new(delivery: DeliveryId, endpoint: Name) -> Self {
        Self { delivery, endpoint, event: None, body_bytes: 0, again: false, trace: None }
    }
}

/// Writes the one line of an attempt.
pub fn attempt(about: &About, attempt: &Attempt, step: Step, reason: Reason) {
    let (source, event_type, key) = match &about.event {
        Some((source, event_type, key)) => (Some(source.as_str()), Some(event_type.as_str()), key.as_deref()),
        None => (None, None, None),
    };
    let trace_id = about.trace.map(|trace| trace.to_string());
    let failure = match &attempt.reply {
        Reply::Answer(_) => None,
        Reply::Failure(failure) => Some(failure),
    };
    let due = match step {
        Step::Retry { due } => Some(due.to_string()),
        _ => None,
    };
    let next = match step {
        Step::Succeed => "delivered",
        Step::Retry { .. } => "retry",
        _ => "dead",
    };
    macro_rules! line {
        ($level:ident) => {
            tracing::$level!(
                delivery = %about.delivery,
                endpoint = %about.endpoint,
                source,
                event_type,
                key,
                body_bytes = about.body_bytes,
                trace_id,
                attempt = attempt.number,
                status = attempt.status(),
                failure = failure.map(|failure| failure.class.as_str()),
                detail = failure.map(|failure| failure.detail.as_str()),
                outcome = attempt.outcome.as_str(),
                probe = attempt.probe,
                out_of_order = attempt.out_of_order,
                took_ms = attempt.took_ms,
                next,
                reason = reason.as_str(),
                due,
                "attempt"
            )
        };
    }
    if attempt.outcome == Outcome::Delivered { line!(info) } else { line!(warn) }
}

/// A line for every change of how an endpoint stands.
pub fn standing(endpoint: &Name, standing: &Standing) {
    let Standing { pause, circuit, held_until, .. } = standing;
    let paused = pause.as_ref().map(|pause| pause.cause.as_str());
    let note = pause.as_ref().map(|pause| pause.note.as_str()).filter(|note| !note.is_empty());
    let silent_until = Some(held_until.to_string()).filter(|_| *held_until > Timestamp::ZERO);
    match circuit {
        Circuit::Closed => tracing::info!(%endpoint, circuit = "closed", paused, note, silent_until, "endpoint"),
        Circuit::HalfOpen { allowed, .. } => {
            tracing::info!(%endpoint, circuit = "half_open", allowed, paused, note, silent_until, "endpoint");
        }
        Circuit::Open { since, cause, sign, probe_at, probes } => tracing::warn!(
            %endpoint,
            circuit = "open",
            cause = cause.as_str(),
            status = sign.status(),
            failure = sign.failure().map(FailureClass::as_str),
            %since,
            %probe_at,
            probes,
            paused,
            note,
            silent_until,
            "endpoint"
        ),
    }
}
