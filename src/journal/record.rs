//! Records: what the log holds, and their bytes.
//!
//! ```text
//! byte 0    format version of this kind of record (1; of attempts 2, of replays 3 and 2; older ones are still read)
//! byte 1    kind
//! then      the kind's fields in the order of the code below, by the primitives of `codec`
//! ```
//!
//! A record says what happened, not what was asked: reading the log again needs no decision. A kind keeps
//! its number and its fields for ever; a change of fields is a new version of that record.

mod replay;
pub mod retained;

use std::sync::Arc;

use bytes::Bytes;

use super::Settlement;
use super::codec::{Reader, Write};
use super::log::Position;
use crate::core::attempt::{Answer, Attempt, Failure, FailureClass, Outcome, Reply};
use crate::core::breaker::{Circuit, Sign, TripCause};
use crate::core::delivery::{Reason, Step};
use crate::core::event::{Dedup, Draft, Event, Fingerprint};
use crate::core::id::{DeliveryId, ReplayId};
use crate::core::name::Name;
use crate::core::replay::{Replay, Skipped, Turn};
use crate::core::standing::{Pause, PauseCause, Standing};
use crate::core::timestamp::Timestamp;
pub(crate) use replay::{VERSION as REPLAY_VERSION, decode_replay, encode_replay};
use retained::Retained;

const VERSION: u8 = 1;
/// Of the records of attempts: since 2 with [`PROBE`] and [`OUT_OF_ORDER`]; before, there was neither.
const SETTLED_VERSION: u8 = 2;
/// Flag of an attempt that was a probe.
const PROBE: u8 = 1;
/// Flag of an attempt that was sent past an earlier delivery of its key.
const OUT_OF_ORDER: u8 = 2;

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// A process began to write.
    Opened(Opened),
    /// An event was accepted, with its routing.
    Accepted(Arc<Event>),
    /// An attempt was made, and this became of its delivery.
    Settled {
        /// The attempt and the move.
        settlement: Settlement,
        /// The record of the attempt before it: attempts are read backwards along this.
        previous: Position,
    },
    /// An operator took a delivery back.
    Cancelled {
        /// Which.
        id: DeliveryId,
        /// When.
        at: Timestamp,
    },
    /// An operator had one event delivered again.
    Redelivered {
        /// The delivery that came to be.
        id: DeliveryId,
        /// Where to.
        endpoint: Name,
        /// When.
        at: Timestamp,
    },
    /// A replay began.
    ReplayOpened(Box<Replay>),
    /// A replay moved on.
    ReplayAdvanced(ReplayAdvanced),
    /// An operator stopped a replay.
    ReplayCancelled {
        /// Which.
        id: ReplayId,
        /// When.
        at: Timestamp,
    },
    /// A replay was paused, resumed, or passed its canary.
    ReplayTurned {
        /// Which.
        id: ReplayId,
        /// What happened.
        turn: Turn,
        /// When.
        at: Timestamp,
    },
    /// How an endpoint stands from now on.
    Stood {
        /// Which.
        endpoint: Name,
        /// All of it, in place of what was known before.
        standing: Standing,
    },
    /// Retention let go of events, or wrote again what stood beside them.
    Retained(Retained),
}

/// A process began to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// When.
    pub at: Timestamp,
    /// The program's version.
    pub version: String,
    /// Gaps in the last group before this, as position and length: a write that was cut off, not damage.
    pub torn: Vec<(Position, u64)>,
}

/// A replay moved on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplayAdvanced {
    /// Which.
    pub id: ReplayId,
    /// How far it has come.
    pub cursor: Option<DeliveryId>,
    /// Fitting deliveries in this slice.
    pub selected: u64,
    /// Of those, nothing was made of these.
    pub skipped: Skipped,
    /// The deliveries that came to be.
    pub made: Vec<(DeliveryId, Name)>,
    /// When.
    pub at: Timestamp,
    /// Whether this was the last slice.
    pub finished: bool,
}

impl Record {
    /// How many bytes it has.
    pub(crate) fn encoded_len(&self) -> usize {
        let mut bytes = Vec::new();
        self.encode(&mut bytes);
        bytes.len()
    }

    /// Appends the record's bytes.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.byte(self.version());
        match self {
            Self::Opened(opened) => {
                out.byte(1);
                out.time(opened.at);
                out.text(&opened.version);
                out.list(&opened.torn, |out, (position, len)| {
                    out.number(position.0);
                    out.number(*len);
                });
            }
            Self::Accepted(event) => {
                out.byte(2);
                encode_event(event, out);
            }
            Self::Settled { settlement, previous } => {
                out.byte(3);
                out.number(previous.0);
                encode_settlement(settlement, out);
            }
            Self::Cancelled { id, at } => {
                out.byte(4);
                out.delivery(*id);
                out.time(*at);
            }
            Self::Redelivered { id, endpoint, at } => {
                out.byte(5);
                out.delivery(*id);
                out.text(endpoint.as_str());
                out.time(*at);
            }
            Self::ReplayOpened(replay) => {
                out.byte(6);
                replay::encode_replay(replay, out);
            }
            Self::ReplayAdvanced(advanced) => {
                out.byte(7);
                replay::encode_advance(advanced, out);
            }
            Self::ReplayCancelled { id, at } => {
                out.byte(8);
                out.replay(*id);
                out.time(*at);
            }
            Self::ReplayTurned { id, turn, at } => {
                out.byte(10);
                out.replay(*id);
                replay::encode_turn(*turn, out);
                out.time(*at);
            }
            Self::Stood { endpoint, standing } => {
                out.byte(9);
                out.text(endpoint.as_str());
                encode_standing(standing, out);
            }
            Self::Retained(retained) => {
                out.byte(20);
                retained::encode(retained, out);
            }
        }
    }

    const fn version(&self) -> u8 {
        match self {
            Self::Settled { .. } => SETTLED_VERSION,
            Self::ReplayOpened(_) => replay::VERSION,
            Self::ReplayAdvanced(_) => replay::ADVANCE_VERSION,
            Self::Retained(retained) => retained.version(),
            _ => VERSION,
        }
    }

    /// Reads a record back. `None` if the bytes are not one: damage, or a newer version's.
    pub(crate) fn decode(bytes: Bytes) -> Option<Self> {
        let mut from = Reader::new(bytes);
        let from = &mut from;
        let (version, kind) = (from.byte()?, from.byte()?);
        let newest = match kind {
            3 => SETTLED_VERSION,
            6 => replay::VERSION,
            7 => replay::ADVANCE_VERSION,
            20 => retained::VERSION,
            _ => VERSION,
        };
        if !(VERSION..=newest).contains(&version) {
            return None;
        }
        let record = match kind {
            1 => Self::Opened(Opened {
                at: from.time()?,
                version: from.text()?,
                torn: from.list(|from| Some((Position(from.number()?), from.number()?)))?,
            }),
            2 => Self::Accepted(Arc::new(decode_event(from)?)),
            3 => {
                let previous = Position(from.number()?);
                Self::Settled { settlement: decode_settlement(from, version)?, previous }
            }
            4 => Self::Cancelled { id: from.delivery()?, at: from.time()? },
            5 => Self::Redelivered { id: from.delivery()?, endpoint: from.name()?, at: from.time()? },
            6 => Self::ReplayOpened(Box::new(replay::decode_replay(from, version)?)),
            7 => Self::ReplayAdvanced(replay::decode_advance(from, version)?),
            8 => Self::ReplayCancelled { id: from.replay()?, at: from.time()? },
            10 => Self::ReplayTurned { id: from.replay()?, turn: replay::decode_turn(from)?, at: from.time()? },
            9 => Self::Stood { endpoint: from.name()?, standing: decode_standing(from)? },
            20 => Self::Retained(retained::decode(from, version)?),
            _ => return None,
        };
        from.is_empty().then_some(record)
    }
}

fn encode_event(event: &Event, out: &mut Vec<u8>) {
    let draft = &event.draft;
    out.event(event.id);
    out.time(event.received_at);
    out.text(draft.source.as_str());
    out.text(&draft.event_type);
    out.option(draft.key.as_deref(), |out, key| out.text(key));
    out.option(draft.occurred_at, |out, time| out.time(time));
    out.option(draft.dedup, |out, dedup| {
        out.raw(&dedup.fingerprint.0);
        out.span(dedup.window);
    });
    out.list(&draft.endpoints, |out, endpoint| out.text(endpoint.as_str()));
    out.headers(&draft.headers);
    out.bytes(&draft.body);
}

fn decode_event(from: &mut Reader) -> Option<Event> {
    let (id, received_at) = (from.event()?, from.time()?);
    let source = from.name()?;
    let event_type = from.text()?;
    let key = from.option(Reader::text)?;
    let occurred_at = from.option(Reader::time)?;
    let dedup = from.option(|from| {
        let fingerprint = Fingerprint(*from.take(16)?.first_chunk()?);
        Some(Dedup { fingerprint, window: from.span()? })
    })?;
    let endpoints = from.list(Reader::name)?;
    let headers = from.headers()?;
    let body = from.bytes()?;
    let draft = Draft { source, event_type, key, occurred_at, headers, body, dedup, endpoints };
    Some(Event { id, received_at, draft })
}

fn encode_settlement(settlement: &Settlement, out: &mut Vec<u8>) {
    let attempt = &settlement.attempt;
    out.delivery(settlement.id);
    match settlement.step {
        Step::Retry { due } => {
            out.byte(1);
            out.time(due);
        }
        Step::Succeed => out.byte(2),
        // Attempts lead to nothing else; the ledger has refused the other steps.
        Step::GiveUp | Step::Dispatch { .. } | Step::Cancel | Step::Expire => out.byte(3),
    }
    out.byte(settlement.reason as u8);
    encode_attempt(attempt, out);
}

fn encode_attempt(attempt: &Attempt, out: &mut Vec<u8>) {
    out.number(u64::from(attempt.number));
    out.time(attempt.started_at);
    out.number(u64::from(attempt.took_ms));
    out.byte(attempt.outcome as u8);
    match &attempt.reply {
        Reply::Answer(answer) => {
            out.byte(1);
            out.number(u64::from(answer.status));
            out.headers(&answer.headers);
            out.bytes(&answer.body);
            out.flag(answer.body_cut);
            out.option(answer.retry_after, |out, span| out.span(span));
        }
        Reply::Failure(failure) => {
            out.byte(2);
            out.byte(failure.class as u8);
            out.text(&failure.detail);
        }
    }
    out.byte((u8::from(attempt.probe) * PROBE) | (u8::from(attempt.out_of_order) * OUT_OF_ORDER));
}

fn decode_settlement(from: &mut Reader, version: u8) -> Option<Settlement> {
    let id = from.delivery()?;
    let step = match from.byte()? {
        1 => Step::Retry { due: from.time()? },
        2 => Step::Succeed,
        3 => Step::GiveUp,
        _ => return None,
    };
    let reason = Reason::from_code(from.byte()?)?;
    Some(Settlement { id, attempt: decode_attempt(from, version)?, step, reason })
}

fn decode_attempt(from: &mut Reader, version: u8) -> Option<Attempt> {
    let (number, started_at, took_ms) = (from.small()?, from.time()?, from.small()?);
    let outcome = Outcome::from_code(from.byte()?)?;
    let reply = match from.byte()? {
        1 => Reply::Answer(Answer {
            status: from.small()?,
            headers: from.headers()?,
            body: from.bytes()?,
            body_cut: from.flag()?,
            retry_after: from.option(Reader::span)?,
        }),
        2 => Reply::Failure(Failure { class: FailureClass::from_code(from.byte()?)?, detail: from.text()? }),
        _ => return None,
    };
    let flags = if version < SETTLED_VERSION { 0 } else { from.byte()? };
    if flags & !(PROBE | OUT_OF_ORDER) != 0 {
        return None;
    }
    let (probe, out_of_order) = (flags & PROBE != 0, flags & OUT_OF_ORDER != 0);
    Some(Attempt { number, started_at, took_ms, reply, outcome, probe, out_of_order })
}

pub(crate) fn encode_standing(standing: &Standing, out: &mut Vec<u8>) {
    out.option(standing.pause.as_ref(), |out, pause| {
        out.time(pause.since);
        out.byte(pause.cause as u8);
        out.text(&pause.note);
    });
    encode_circuit(&standing.circuit, out);
    out.time(standing.held_until);
    out.time(standing.available_since);
}

pub(crate) fn decode_standing(from: &mut Reader) -> Option<Standing> {
    let pause = from.option(|from| {
        let (since, cause) = (from.time()?, PauseCause::from_code(from.byte()?)?);
        Some(Pause { since, cause, note: from.text()? })
    })?;
    let circuit = decode_circuit(from)?;
    Some(Standing { pause, circuit, held_until: from.time()?, available_since: from.time()? })
}

fn encode_circuit(circuit: &Circuit, out: &mut Vec<u8>) {
    match *circuit {
        Circuit::Closed => out.byte(1),
        Circuit::Open { since, cause, sign, probe_at, probes } => {
            out.byte(2);
            out.time(since);
            out.byte(cause as u8);
            match sign {
                Sign::Status(status) => {
                    out.byte(1);
                    out.number(u64::from(status));
                }
                Sign::Failure(class) => {
                    out.byte(2);
                    out.byte(class as u8);
                }
            }
            out.time(probe_at);
            out.number(u64::from(probes));
        }
        Circuit::HalfOpen { since, allowed } => {
            out.byte(3);
            out.time(since);
            out.number(u64::from(allowed));
        }
    }
}

fn decode_circuit(from: &mut Reader) -> Option<Circuit> {
    Some(match from.byte()? {
        1 => Circuit::Closed,
        2 => Circuit::Open {
            since: from.time()?,
            cause: TripCause::from_code(from.byte()?)?,
            sign: match from.byte()? {
                1 => Sign::Status(from.small()?),
                2 => Sign::Failure(FailureClass::from_code(from.byte()?)?),
                _ => return None,
            },
            probe_at: from.time()?,
            probes: from.small()?,
        },
        3 => Circuit::HalfOpen { since: from.time()?, allowed: from.small()? },
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
