//! Refused requests as they are said.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::from_core::headers;
use super::{Octets, Word};
use crate::journal::refused::Kept;

/// A request that became no event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Refusal {
    /// `ref_…`.
    pub id: String,
    /// When it was refused.
    pub at: String,
    /// Which source it was for.
    pub source: String,
    /// `duplicate`, `too_large`, `headers_too_large`, `malformed`, `unverified` or `quarantined`.
    pub reason: Word,
    /// What was wrong with it.
    pub detail: String,
    /// Of a duplicate, the event that was there already.
    pub duplicate_of: Option<String>,
    /// Who sent it, as far as the network knows.
    pub peer: Option<String>,
    /// The body's length; `null` if its end was not seen.
    pub body_bytes: Option<u64>,
    /// How much of the body was kept.
    pub body_kept_bytes: usize,
    /// Whether all of it was kept: only then can it be taken in.
    pub whole: bool,
    /// The event that was made of it after all.
    pub event: Option<String>,
    /// The headers that an event would have kept. Only where one is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub headers: Option<Vec<(String, Octets)>>,
    /// What was kept of the body. Only where one is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Octets>,
}

/// The body of `POST /refusals/{id}/ingest`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct IngestRefusal {
    /// Also if the same event is there, or was made of it already.
    pub force: bool,
}

impl Refusal {
    /// As it is listed.
    #[must_use]
    pub fn listed(kept: &Kept) -> Self {
        let refused = &kept.refused;
        Self {
            id: kept.id.to_string(),
            at: refused.at.to_string(),
            source: refused.source.to_string(),
            reason: refused.why.as_str().into(),
            detail: refused.detail.clone(),
            duplicate_of: refused.first.map(|id| id.to_string()),
            peer: refused.peer.clone(),
            body_bytes: refused.body_bytes,
            body_kept_bytes: kept.kept_bytes,
            whole: kept.whole,
            event: kept.became.map(|id| id.to_string()),
            headers: None,
            body: None,
        }
    }

    /// All of it.
    #[must_use]
    pub fn shown(kept: &Kept) -> Self {
        let refused = &kept.refused;
        let body = Octets::kept(&refused.body, !kept.whole);
        Self { headers: Some(headers(&refused.headers)), body: Some(body), ..Self::listed(kept) }
    }
}
