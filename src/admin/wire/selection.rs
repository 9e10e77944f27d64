//! Which events or deliveries are meant: the fields of a filter, in a body or as a list's query parameters.

use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use super::is_false;
use crate::core::failure::FailureGroup;
use crate::core::filter::{Filter, Pick};
use crate::core::id::ReplayId;
use crate::core::name::Name;
use crate::core::timestamp::Timestamp;

/// Which events or deliveries are meant. The same fields are a list's query parameters.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Selection {
    /// Deliveries to this endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Events of this source.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Events of any of these types; a trailing `*` matches any ending.
    #[serde(rename = "type", skip_serializing_if = "Vec::is_empty")]
    pub types: Vec<String>,
    /// Events with any of these keys.
    #[serde(rename = "key", skip_serializing_if = "Vec::is_empty", deserialize_with = "one_or_many")]
    pub keys: Vec<String>,
    /// Only these: `evt_…` with all its deliveries, or `dlv_…`; at most 1000.
    #[serde(rename = "id", skip_serializing_if = "Vec::is_empty", deserialize_with = "one_or_many")]
    pub ids: Vec<String>,
    /// Deliveries in any of these; `failed` is another word for `dead`.
    #[serde(rename = "status", skip_serializing_if = "Vec::is_empty")]
    pub statuses: Vec<String>,
    /// Deliveries that stand where they stand for this reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Deliveries whose last attempt failed like those of this group; without a status the dead and the retrying.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Events received at or after this time, or within this span before now (`2h`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Events received before this time, or longer ago than this span.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// Events that happened then or later, by their own word or else by when they were received.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub occurred_since: Option<String>,
    /// Events that happened before then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub occurred_until: Option<String>,
    /// Deliveries that this replay made: `rpl_…`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replay: Option<String>,
    /// Also deliveries that a later one has taken the place of.
    #[serde(skip_serializing_if = "is_false")]
    pub include_superseded: bool,
    /// Only events that were routed nowhere.
    #[serde(skip_serializing_if = "is_false")]
    pub unrouted: bool,
}

impl Selection {
    /// The selection as a list's query parameters.
    #[must_use]
    pub fn parameters(&self) -> Vec<(&'static str, String)> {
        let one = |name, value: &Option<String>| value.clone().map(|value| (name, value));
        let flag = |name, set: bool| set.then(|| (name, "true".to_owned()));
        let several = |name, values: &[String]| values.iter().map(|value| (name, value.clone())).collect::<Vec<_>>();
        let mut parameters = several("type", &self.types);
        parameters.extend(several("status", &self.statuses));
        parameters.extend(several("key", &self.keys));
        parameters.extend(several("id", &self.ids));
        parameters.extend(
            [
                one("endpoint", &self.endpoint),
                one("source", &self.source),
                one("reason", &self.reason),
                one("group", &self.group),
                one("since", &self.since),
                one("until", &self.until),
                one("occurred_since", &self.occurred_since),
                one("occurred_until", &self.occurred_until),
                one("replay", &self.replay),
                flag("include_superseded", self.include_superseded),
                flag("unrouted", self.unrouted),
            ]
            .into_iter()
            .flatten(),
        );
        parameters
    }
}

impl From<&Filter> for Selection {
    fn from(filter: &Filter) -> Self {
        Self {
            endpoint: filter.endpoint.as_ref().map(Name::to_string),
            source: filter.source.as_ref().map(Name::to_string),
            types: filter.types.clone(),
            keys: filter.keys.clone(),
            ids: filter.picks.iter().map(pick).collect(),
            occurred_since: filter.occurred_since.as_ref().map(Timestamp::to_string),
            occurred_until: filter.occurred_until.as_ref().map(Timestamp::to_string),
            replay: filter.replay.as_ref().map(ReplayId::to_string),
            statuses: filter.statuses.iter().map(|status| status.as_str().to_owned()).collect(),
            reason: filter.reason.map(|reason| reason.as_str().to_owned()),
            group: filter.group.as_ref().map(FailureGroup::to_string),
            since: filter.since.as_ref().map(Timestamp::to_string),
            until: filter.until.as_ref().map(Timestamp::to_string),
            include_superseded: filter.superseded,
            unrouted: filter.unrouted,
        }
    }
}

fn pick(pick: &Pick) -> String {
    match pick {
        Pick::Event(id) => id.to_string(),
        Pick::Delivery(id) => id.to_string(),
    }
}

/// A selection that is written as an object: serde would take an empty list for one that means everything.
pub(super) fn object<'de, D: Deserializer<'de>>(input: D) -> Result<Selection, D::Error> {
    let object = serde_json::Map::deserialize(input)?;
    serde_json::from_value(object.into()).map_err(D::Error::custom)
}

/// A whole number, which some clients write with a point.
pub(super) fn whole<'de, D, T>(input: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<u64>,
{
    let Some(number) = Option::<serde_json::Number>::deserialize(input)? else { return Ok(None) };
    let text = number.to_string();
    let whole = text.strip_suffix(".0").unwrap_or(&text).parse::<u64>().ok().and_then(|whole| T::try_from(whole).ok());
    whole.map(Some).ok_or_else(|| D::Error::custom(format!("{number} is no whole number that fits here")))
}

/// One text, or a list of them.
fn one_or_many<'de, D: Deserializer<'de>>(input: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a text or a list of texts")]
    enum OneOrMany {
        One(String),
        Many(Vec<String>),
    }
    Ok(match OneOrMany::deserialize(input)? {
        OneOrMany::One(text) => vec![text],
        OneOrMany::Many(texts) => texts,
    })
}
