//! Metrics: how everything stands, for Prometheus (its text format, version 0.0.4).
//!
//! Each scrape is written from the same looks at config, journal and scheduler that the lists are; only what has to be
//! measured where it happens is ([`crate::telemetry::measures`]). Labels are bounded: names of endpoints and sources,
//! and the few words of the core. Base units; times are seconds since 1970. What does not apply (the next probe of a
//! closed circuit) has no line. One file a noun; the README lists all of them, and a test holds it to that.

mod calls;
mod doors;
mod endpoints;
mod journal;
mod process;
mod reloads;
mod replays;
mod retention;

use std::fmt;
use std::sync::Arc;

use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use prometheus_client::encoding::prometheus_text::{self, CONTENT_TYPE as TEXT_FORMAT};
use prometheus_client::encoding::{DescriptorEncoder, EncodeCounterValue, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use super::problem::{Answer, Problem};
use super::{AdminState, GET, only, pulse, respond, site, with};
use crate::core::timestamp::Timestamp;
use calls::Calls;
use doors::{AtTheDoor, Denied};
use endpoints::Snapshot;
use journal::{OnDisk, Stored};
use process::Process;
use reloads::Reloads;
use replays::Replaying;
use retention::Retained;

pub(super) fn routes(state: &AdminState) -> BoxedFilter<(Response,)> {
    let scraped = warp::path!("metrics").and(only(GET)).and(with(state)).then(scrape);
    scraped.map(respond).boxed()
}

async fn scrape(state: AdminState) -> Answer {
    let mut registry = Registry::default();
    registry.sub_registry_with_prefix("process").register_collector(Box::new(Process(state.started_at)));
    let own = registry.sub_registry_with_prefix("backstop");
    own.register("build", "The version that runs", Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]));
    let snapshot = snapshot(&state).await?;
    own.sub_registry_with_prefix("endpoint").register_collector(Box::new(snapshot));
    let kept =
        state.engine.read(|journal| Ok((journal.counters(), journal.oldest()?, journal.size(), journal.replays()?)));
    let (counters, oldest, size, replays) = kept.await?;
    own.register_collector(Box::new(Stored {
        accepted: counters.accepted,
        unrouted: counters.unrouted,
        commits: Arc::clone(state.engine.commits()),
        size,
    }));
    let replaying = Replaying { replays, tallies: counters.replays.clone() };
    own.sub_registry_with_prefix("replays").register_collector(Box::new(replaying));
    let retained = Retained { counters, oldest, freed_bytes: state.engine.freed_bytes() };
    own.sub_registry_with_prefix("retention").register_collector(Box::new(retained));
    own.sub_registry_with_prefix("disk").register_collector(Box::new(OnDisk(site::room(&state).await.ok())));
    own.sub_registry_with_prefix("calls").register_collector(Box::new(Calls(state.engine.call_counts())));
    let (turned_away, not_kept) = (state.intake.counts(), state.refused.lost());
    own.register_collector(Box::new(AtTheDoor { turned_away, not_kept, taken: state.intake.taken.all() }));
    own.sub_registry_with_prefix("admin").register_collector(Box::new(Denied(state.register.denied().collect())));
    own.sub_registry_with_prefix("config").register_collector(Box::new(Reloads(state.reload.last())));
    let mut text = String::new();
    prometheus_text::encode(&mut text, &registry)
        .map_err(|_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be written"))?;
    let mut response = Response::new(text.into());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, http::HeaderValue::from_static(TEXT_FORMAT));
    headers.insert(CACHE_CONTROL, http::HeaderValue::from_static("no-store"));
    Ok(response)
}

async fn snapshot(state: &AdminState) -> Result<Snapshot, Problem> {
    let known = super::endpoints::known(state).await?;
    let has_backlog = known.iter().filter(|(_, known)| known.tally.scheduled + known.tally.retrying > 0);
    let waiting = has_backlog.map(|(name, _)| name.clone()).collect();
    let oldest = state.engine.read(move |journal| pulse::oldest(journal, waiting)).await?;
    // Those of the config have a line before anything was sent to them.
    let attempts = state.engine.attempts();
    state.engine.endpoints().for_each(|endpoint| drop(attempts.of(&endpoint.name)));
    Ok(Snapshot { at: state.engine.now(), known, oldest, tried: attempts.all() })
}

/// A gauge without labels.
fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: f64) -> fmt::Result {
    ConstGauge::new(value).encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
}

/// A counter without labels; `_total` is put behind its name.
fn counter(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, total: impl EncodeCounterValue) -> fmt::Result {
    ConstCounter::new(total).encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)
}

fn seconds(time: Timestamp) -> f64 {
    time.since(Timestamp::ZERO).as_secs_f64()
}

fn whole(number: usize) -> f64 {
    u64::try_from(number).map_or(f64::INFINITY, count)
}

/// Exact up to 2^53, which no backlog reaches.
#[allow(clippy::cast_precision_loss, reason = "a gauge is a float, and what is counted here is below 2^53")]
const fn count(number: u64) -> f64 {
    number as f64
}
