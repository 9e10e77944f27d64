//! The audit as it is said, by the gateway and by `backstop audit --offline` alike.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Tally, Word};
use crate::journal::audit::{self, Span};

/// Every delivery that ever came to be, and where it stands, held against what is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Audit {
    /// Whether nothing differs.
    pub ok: bool,
    /// Of events received at or after this; `null` is from the beginning.
    pub since: Option<String>,
    /// Of events received before this; `null` is up to the moment the audit began.
    pub until: Option<String>,
    /// Records of the log that were looked at.
    pub records: u64,
    /// Events accepted.
    pub events: u64,
    /// Of those, routed nowhere.
    pub unrouted: u64,
    /// Deliveries that came to be.
    pub deliveries: u64,
    /// By endpoint. `routed + replayed` is the sum of the statuses, or there is a difference.
    pub endpoints: BTreeMap<String, Tally>,
    /// What differs; at most 1000 are named.
    pub differences: Vec<Difference>,
    /// How many differences there are.
    pub differences_total: u64,
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Difference {
    /// `missing`, `unfounded`, `misrouted`, `behind`, `astray`, `unfindable`, `lost` or `count`.
    pub what: Word,
    /// `evt_…`, `dlv_…` or `rpl_…`; `null` for a sum, or for a place in the log.
    pub id: Option<String>,
    /// Of which endpoint, if of one.
    pub endpoint: Option<String>,
    /// In words.
    pub detail: String,
}

impl Audit {
    /// What an audit of `span` found.
    #[must_use]
    pub fn new(span: Span, audit: &audit::Audit) -> Self {
        let counters = &audit.counters;
        let differences = audit.differences.iter().map(|difference| Difference {
            what: difference.what.as_str().into(),
            id: difference.id.map(|id| id.to_string()),
            endpoint: difference.endpoint.as_ref().map(ToString::to_string),
            detail: difference.detail.clone(),
        });
        Self {
            ok: audit.is_clean(),
            since: span.since.map(|time| time.to_string()),
            until: span.until.map(|time| time.to_string()),
            records: audit.records,
            events: counters.accepted,
            unrouted: counters.unrouted,
            deliveries: counters.endpoints.values().map(|tally| tally.routed + tally.replayed).sum(),
            endpoints: counters.endpoints.iter().map(|(name, tally)| (name.to_string(), tally.into())).collect(),
            differences: differences.collect(),
            differences_total: audit.found,
        }
    }
}
