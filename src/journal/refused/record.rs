//! Refused requests as bytes.
//!
//! ```text
//! byte 0    format version (1)
//! byte 1    kind: 30 a refused request, 31 an event was made of one
//! then      the kind's fields in the order of the code below, by the primitives of `codec`
//! ```

use bytes::Bytes;

use crate::core::id::{EventId, RefusalId};
use crate::core::refused::{Refused, Why};
use crate::journal::codec::{Reader, Write};

const VERSION: u8 = 1;

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Record {
    /// A request was refused.
    Refused(RefusalId, Refused),
    /// An operator had an event made of it after all.
    TakenIn(RefusalId, EventId),
}

impl Record {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.byte(VERSION);
        match self {
            Self::Refused(id, refused) => {
                out.byte(30);
                out.raw(&id.as_u128().to_be_bytes());
                out.time(refused.at);
                out.text(refused.source.as_str());
                out.byte(refused.why as u8);
                out.text(&refused.detail);
                out.option(refused.first, |out, id| out.event(id));
                out.option(refused.peer.as_deref(), |out, peer| out.text(peer));
                out.headers(&refused.headers);
                out.bytes(&refused.body);
                out.option(refused.body_bytes, |out, bytes| out.number(bytes));
            }
            Self::TakenIn(id, event) => {
                out.byte(31);
                out.raw(&id.as_u128().to_be_bytes());
                out.event(*event);
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
        let kind = from.byte()?;
        let id = RefusalId::from_u128(u128::from_be_bytes(*from.take(16)?.first_chunk()?));
        let record = match kind {
            30 => Self::Refused(
                id,
                Refused {
                    at: from.time()?,
                    source: from.name()?,
                    why: Why::from_code(from.byte()?)?,
                    detail: from.text()?,
                    first: from.option(Reader::event)?,
                    peer: from.option(Reader::text)?,
                    headers: from.headers()?,
                    body: from.bytes()?,
                    body_bytes: from.option(Reader::number)?,
                },
            ),
            31 => Self::TakenIn(id, from.event()?),
            _ => return None,
        };
        from.is_empty().then_some(record)
    }
}
