//! An alert as the body of an event: a JSON object in which every field is there, `null` where it says nothing.

use serde::{Deserialize, Serialize};

use crate::core::alert::{Alert, AlertKind};
use crate::core::name::Name;
use crate::core::timestamp::Timestamp;

/// What an alert's receiver reads. Fields may be added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Body {
    /// What happened: the event's type.
    #[serde(rename = "type")]
    pub event_type: String,
    /// When; of several, the first. RFC 3339.
    pub at: String,
    /// At which endpoint.
    pub endpoint: Option<String>,
    /// With which delivery, `dlv_…`.
    pub delivery: Option<String>,
    /// With which event, `evt_…`; of a call, the one that is there.
    pub event: Option<String>,
    /// That event's source.
    pub source: Option<String>,
    /// That event's key: for Flyflow the call.
    pub key: Option<String>,
    /// Why, in a word of the API: a delivery's reason, a circuit's or a pause's cause, the kind of a gap; `many`
    /// where several are told as one.
    pub reason: String,
    /// How many are told as one.
    pub count: u64,
    /// When the last of several happened.
    pub until: Option<String>,
    /// Where the admin API tells more.
    pub path: String,
}

impl From<&Alert> for Body {
    fn from(alert: &Alert) -> Self {
        Self {
            event_type: alert.kind.event_type().to_owned(),
            at: alert.at.to_string(),
            endpoint: alert.endpoint.as_ref().map(Name::to_string),
            delivery: alert.delivery.as_ref().map(ToString::to_string),
            event: alert.event.as_ref().map(ToString::to_string),
            source: alert.source.as_ref().map(Name::to_string),
            key: alert.key.clone(),
            reason: alert.reason.to_owned(),
            count: alert.count,
            until: alert.until.as_ref().map(Timestamp::to_string),
            path: path(alert),
        }
    }
}

fn path(alert: &Alert) -> String {
    match (alert.kind, &alert.delivery, &alert.key, &alert.endpoint) {
        (AlertKind::DeliveryDead, Some(delivery), ..) => format!("/api/v1/deliveries/{delivery}"),
        (AlertKind::DeliveryDead, None, _, Some(endpoint)) => format!("/api/v1/failures?endpoint={endpoint}"),
        (AlertKind::DeliveryDead, ..) => "/api/v1/failures".to_owned(),
        (AlertKind::CallIncomplete, _, Some(key), _) => format!("/api/v1/keys/{}", escaped(key)),
        (AlertKind::CallIncomplete, ..) => "/api/v1/gaps".to_owned(),
        (AlertKind::HighWater, ..) => "/api/v1/counters".to_owned(),
        (.., Some(endpoint)) => format!("/api/v1/endpoints/{endpoint}"),
        (.., None) => "/api/v1/endpoints".to_owned(),
    }
}

/// A text as a part of a path (RFC 3986, 3.3).
fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let escape = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::id::EventId;

    #[test]
    fn a_path_leads_to_what_is_meant() {
        let crm = || Some(Name::new("crm").unwrap());
        let alert = |kind| Alert::new(kind, Timestamp::ZERO, "gone");
        let event = EventId::from_u128(7);
        let dead = Alert { endpoint: crm(), ..alert(AlertKind::DeliveryDead) };
        let call = Alert { key: Some("a/é".into()), ..alert(AlertKind::CallIncomplete) };
        let paths = [
            (
                Alert { delivery: Some(event.delivery(3)), ..dead.clone() },
                format!("/api/v1/deliveries/{}", event.delivery(3)),
            ),
            (dead, "/api/v1/failures?endpoint=crm".to_owned()),
            (call, "/api/v1/keys/a%2F%C3%A9".to_owned()),
            (alert(AlertKind::CallIncomplete), "/api/v1/gaps".to_owned()),
            (Alert { endpoint: crm(), ..alert(AlertKind::Paused) }, "/api/v1/endpoints/crm".to_owned()),
            (alert(AlertKind::HighWater), "/api/v1/counters".to_owned()),
        ];
        for (alert, path) in paths {
            assert_eq!(Body::from(&alert).path, path);
        }
    }
}
