//! How an endpoint's deliveries flow: how many at a time, how many in a span, when none, in which order.
//!
//! Read from the endpoint's own table. What is left out has the core's default; what could not work, such
//! as a window that ends below where it begins, is refused. Absent: what any of it does, which is the
//! core's `window`, `rate`, `breaker` and `scheduler`.

use std::time::Duration;

use super::raw::{Table, Value};
use super::scalar;
use crate::core::breaker::BreakerPolicy;
use crate::core::endpoint::{ORDER_HOLD_MAX_DEFAULT, Order};
use crate::core::rate::Rate;
use crate::core::window::Concurrency;

/// Most attempts of one endpoint on their way at a time.
const CONCURRENCY_MAX: u32 = 10_000;
/// Most attempts a second: one a microsecond, which is as fine as a rate is kept.
const RATE_PER_SEC_MAX: u32 = 1_000_000;
/// Most attempts that may begin at once after a silence.
const BURST_MAX: u32 = 1_000_000;
/// Most failures in a row until the circuit opens.
const FAILURES_MAX: u32 = 10_000;
/// Most attempts that a failure rate may wait for.
const SAMPLES_MAX: u32 = 1_000_000;
/// The shortest span over which a failure rate says anything.
const WINDOW_MIN: Duration = Duration::from_secs(1);

/// What an endpoint has that names no window: the core's, as far as `most` allows.
pub(super) fn concurrency_default(most: usize) -> Concurrency {
    let Concurrency { min, max } = Concurrency::default();
    Concurrency { min: min.min(most), max: max.min(most) }
}

/// A number, or `{ min, max }`; no more than `most`, which the gateway lets one endpoint have.
pub(super) fn concurrency(value: &Value<'_>, most: usize) -> Option<Concurrency> {
    let beyond =
        format!("is more than one endpoint may have, {most}: half of delivery.in_flight_max; raise that or lower this");
    if value.is_integer() {
        let fixed = usize::try_from(value.integer(1..=CONCURRENCY_MAX)?).ok()?;
        if fixed > most {
            value.place.refuse(beyond);
            return None;
        }
        return Some(Concurrency { min: fixed, max: fixed });
    }
    if !value.is_table() {
        return value.wrong_type("a whole number or a table like { min = 1, max = 16 }");
    }
    let mut table = value.table()?;
    let default = concurrency_default(most);
    let min = table.count("min", 1..=CONCURRENCY_MAX, default.min);
    let max = table.count("max", 1..=CONCURRENCY_MAX, default.max.max(min));
    if min > max {
        table.place_of("min").refuse("is more than max; lower it or raise max");
    } else if max > most {
        table.place_of(if min > most { "min" } else { "max" }).refuse(beyond);
    }
    table.done();
    Some(Concurrency { min, max })
}

/// A text like `"10/s"`, or `{ limit, burst }`.
pub(super) fn rate(value: &Value<'_>) -> Option<Rate> {
    if value.is_text() {
        let (count, per) = value.parsed(limit)?;
        return Some(Rate { count, per, burst: burst(count, per) });
    }
    if !value.is_table() {
        return value.wrong_type("a text like \"10/s\" or a table like { limit = \"600/min\", burst = 20 }");
    }
    let mut table = value.table()?;
    let asked = table.get("limit");
    if asked.is_none() {
        table.place_of("limit").refuse("is missing; write limit = \"600/min\"");
    }
    let limit = asked.and_then(|value| value.parsed(limit));
    let given = table.read("burst", |value| value.integer(1..=BURST_MAX));
    table.done();
    limit.map(|(count, per)| Rate { count, per, burst: given.unwrap_or_else(|| burst(count, per)) })
}

fn limit(text: &str) -> Result<(u32, Duration), String> {
    let (count, per) = Rate::parse(text)?;
    if u64::from(count) > per.as_secs().saturating_mul(u64::from(RATE_PER_SEC_MAX)) {
        return Err(format!("must be at most {RATE_PER_SEC_MAX}/s; leave it out for no limit"));
    }
    Ok((count, per))
}

/// What comes in a second, but one at least.
fn burst(count: u32, per: Duration) -> u32 {
    let secs = u32::try_from(per.as_secs()).unwrap_or(u32::MAX);
    count.checked_div(secs).unwrap_or(count).max(1)
}

/// `"off"`, which is no policy, or a table.
pub(super) fn breaker(value: &Value<'_>) -> Option<Option<BreakerPolicy>> {
    const SHAPE: &str = "\"off\" or a table like { failures = 5, probe_max = \"5m\" }";
    if value.is_text() {
        return value.parsed(|text| if text == "off" { Ok(None) } else { Err(format!("must be {SHAPE}")) });
    }
    if !value.is_table() {
        return value.wrong_type(SHAPE);
    }
    value.table().map(|table| Some(policy(table)))
}

fn policy(mut table: Table<'_>) -> BreakerPolicy {
    let default = BreakerPolicy::default();
    let probe_max = table.duration("probe_max", default.probe_max);
    let policy = BreakerPolicy {
        failures: table.count("failures", 1..=FAILURES_MAX, default.failures),
        failure_rate: table.read("failure_rate", failure_rate).unwrap_or(default.failure_rate),
        samples_min: table.count("samples_min", 1..=SAMPLES_MAX, default.samples_min),
        window: table.duration("window", default.window),
        probe_initial: table.duration("probe_initial", default.probe_initial.min(probe_max)),
        probe_max,
    };
    if policy.window < WINDOW_MIN {
        table.place_of("window").refuse("must be at least 1s");
    }
    if policy.probe_initial > policy.probe_max {
        table.place_of("probe_initial").refuse("is longer than probe_max; lower it or raise probe_max");
    }
    table.done();
    policy
}

fn failure_rate(value: &Value<'_>) -> Option<f64> {
    let part = value.number(0.0..=1.0)?;
    if part > 0.0 {
        return Some(part);
    }
    value.place.refuse("must be above 0, or the circuit would open without a failure");
    None
}

/// Which deliveries wait for each other, and for how long at most.
pub(super) fn order(table: &mut Table<'_>) -> (Order, Duration) {
    let order = match table.get("order") {
        None => Some(Order::None),
        Some(value) => value.parsed(order_word),
    };
    let hold_max = table.get("order_hold_max").and_then(|value| {
        if order == Some(Order::None) {
            value
                .place
                .refuse("holds nothing, for order is \"none\"; remove it or set order = \"key\" or \"endpoint\"");
        }
        value.parsed(scalar::duration)
    });
    (order.unwrap_or_default(), hold_max.unwrap_or(ORDER_HOLD_MAX_DEFAULT))
}

fn order_word(text: &str) -> Result<Order, String> {
    let found = Order::ALL.into_iter().find(|order| order.as_str() == text);
    found.ok_or_else(|| "must be \"none\", \"key\" or \"endpoint\"".to_owned())
}
