//! Operations as bytes.
//!
//! ```text
//! byte 0    format version (1)
//! byte 1    kind: 40 an operation began, or was over at once; 41 one that began before is over
//! then      the kind's fields in the order of the code below, by the primitives of `codec`
//! ```

use bytes::Bytes;

use crate::core::operation::{Operation, OperationId, Outcome, Who};
use crate::core::role::Role;
use crate::journal::codec::{Reader, Write};

const VERSION: u8 = 1;

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Record {
    /// Something was asked for; with what it came to, if that was known at once.
    Begun(Operation, Option<Outcome>),
    /// What that came to.
    Ended(OperationId, Outcome),
}

impl Record {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.byte(VERSION);
        match self {
            Self::Begun(operation, outcome) => {
                out.byte(40);
                out.time(operation.at);
                out.option(operation.who.as_ref(), |out, who| {
                    out.text(&who.name);
                    out.option(who.token.as_deref(), |out, token| out.text(token));
                    out.byte(who.role as u8);
                });
                out.option(operation.from.as_deref(), |out, from| out.text(from));
                out.text(&operation.what);
                out.option(operation.object.as_deref(), |out, object| out.text(object));
                out.text(&operation.parameters);
                out.number(operation.repeats);
                out.option(outcome.as_ref(), |out, outcome| encode_outcome(outcome, out));
            }
            Self::Ended(of, outcome) => {
                out.byte(41);
                out.number(of.0);
                encode_outcome(outcome, out);
            }
        }
    }

    /// Reads a record back; `None` if the bytes are not one.
    pub(super) fn decode(bytes: Bytes) -> Option<Self> {
        let mut from = Reader::new(bytes);
        let from = &mut from;
        if from.byte()? != VERSION {
            return None;
        }
        let record = match from.byte()? {
            40 => {
                let operation = Operation {
                    at: from.time()?,
                    who: from.option(|from| {
                        let (name, token) = (from.text()?, from.option(Reader::text)?);
                        Some(Who { name, token, role: Role::from_code(from.byte()?)? })
                    })?,
                    from: from.option(Reader::text)?,
                    what: from.text()?,
                    object: from.option(Reader::text)?,
                    parameters: from.text()?,
                    repeats: from.number()?,
                };
                Self::Begun(operation, from.option(decode_outcome)?)
            }
            41 => Self::Ended(OperationId(from.number()?), decode_outcome(from)?),
            _ => return None,
        };
        from.is_empty().then_some(record)
    }
}

fn encode_outcome(outcome: &Outcome, out: &mut Vec<u8>) {
    out.time(outcome.at);
    out.number(u64::from(outcome.status));
    out.text(&outcome.detail);
}

fn decode_outcome(from: &mut Reader) -> Option<Outcome> {
    Some(Outcome { at: from.time()?, status: from.small()?, detail: from.text()? })
}
