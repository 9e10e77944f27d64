//! What a delivery waits for, in one plain line.

use crate::admin::wire::{Delivery, On, WaitsFor};

/// The line for a delivery; `None` if it waits for nothing.
pub(super) fn line(delivery: &Delivery) -> Option<String> {
    let WaitsFor { on, since } = delivery.waits_for.as_ref()?;
    Some(format!("waits for {}; since {since}", what(on, &delivery.endpoint)))
}

fn what(on: &On, endpoint: &str) -> String {
    match on {
        On::Attempt => "the attempt that is on its way".to_owned(),
        On::Pause { cause } if cause == "gone" => format!("{endpoint} to be resumed, paused as it answered 410 Gone"),
        On::Pause { .. } => format!("{endpoint} to be resumed, paused by an operator"),
        On::Circuit { probe_at, .. } => format!("the circuit of {endpoint}, which is open, next probe {probe_at}"),
        On::Ramp { allowed } => format!("its turn while {endpoint} comes back, {allowed} at a time"),
        On::Silence { until } => format!("the end of the silence that {endpoint} asked for, {until}"),
        On::Due { at } => format!("its due time, {at}"),
        On::Line { behind, until: None } => format!("{behind}, which goes before it"),
        On::Line { behind, until: Some(until) } => {
            format!("{behind}, which goes before it, at the latest until {until}")
        }
        On::Window { limit } => format!("the window of {endpoint}, full with {limit} on their way"),
        On::Rate { next_at } => format!("the rate of {endpoint}, next at {next_at}"),
        On::Gateway { limit } => format!("the gateway: it or its share of {limit} places is full"),
        On::Turn { ahead: 1 } => format!("its turn, with 1 other for {endpoint}"),
        On::Turn { ahead } => format!("its turn, with {ahead} others for {endpoint}"),
        On::Journal => format!("those for {endpoint} before it; it is in the journal until they have gone"),
        On::Parked => format!("{endpoint} to be in the config"),
        On::Unknown => "something that this version does not know".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_wait_is_one_plain_line() {
        let at = || "T".to_owned();
        let lines = [
            (On::Attempt, "the attempt that is on its way"),
            (On::Pause { cause: "gone".into() }, "crm to be resumed, paused as it answered 410 Gone"),
            (On::Pause { cause: "operator".into() }, "crm to be resumed, paused by an operator"),
            (
                On::Circuit { cause: "failure_rate".into(), probe_at: at() },
                "the circuit of crm, which is open, next probe T",
            ),
            (On::Ramp { allowed: 2 }, "its turn while crm comes back, 2 at a time"),
            (On::Silence { until: at() }, "the end of the silence that crm asked for, T"),
            (On::Due { at: at() }, "its due time, T"),
            (On::Line { behind: "dlv_1_0".into(), until: None }, "dlv_1_0, which goes before it"),
            (
                On::Line { behind: "dlv_1_0".into(), until: Some(at()) },
                "dlv_1_0, which goes before it, at the latest until T",
            ),
            (On::Window { limit: 4 }, "the window of crm, full with 4 on their way"),
            (On::Rate { next_at: at() }, "the rate of crm, next at T"),
            (On::Gateway { limit: 9 }, "the gateway: it or its share of 9 places is full"),
            (On::Turn { ahead: 1 }, "its turn, with 1 other for crm"),
            (On::Turn { ahead: 3 }, "its turn, with 3 others for crm"),
            (On::Journal, "those for crm before it; it is in the journal until they have gone"),
            (On::Parked, "crm to be in the config"),
        ];
        for (on, expected) in lines {
            assert_eq!(what(&on, "crm"), expected);
        }
    }
}
