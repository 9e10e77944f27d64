//! `[sources.<name>]`: who may send, from a preset or from nothing, each key set by hand winning.

use std::collections::BTreeMap;
use std::time::Duration;

use super::presets::{At, PLAIN, preset};
use super::raw::{Table, Value};
use super::{flow, retention, scalar, verify};
use crate::core::lifecycle::Lifecycle;
use crate::core::name::Name;
use crate::core::retention::Keep;
use crate::core::source::{ALERTS, Ack, DedupRule, Place, Source};

/// Largest body any source may accept, in bytes: what one delivery may hold in memory.
const BODY_MAX_BYTES: u32 = 64 << 20;
/// How many bodies of the largest kind a log segment must hold.
const BODIES_PER_SEGMENT_MIN: u64 = 4;
/// How long a call may take where the config does not say.
const LIFECYCLE_TIMEOUT: Duration = Duration::from_secs(2 * 3600);
/// Most places where one thing can stand.
const PLACES_MAX: usize = 8;
/// Most fields that can tell duplicates.
const DEDUP_FIELDS_MAX: usize = 16;
/// Longest configured answer, in bytes.
const ACK_BODY_MAX_BYTES: usize = 64 << 10;

/// Every source of the table, as far as their names are right, and how long those with a rule of their own keep.
pub(super) fn read(table: &Table<'_>, segment_bytes: u64, keep: Keep) -> (Vec<Source>, BTreeMap<Name, Keep>) {
    let mut keeps = BTreeMap::new();
    let named = |(text, value): (&str, Value<'_>)| match scalar::name(text) {
        Ok(name) if name.as_str() == ALERTS => {
            value.place.refuse("is the name of backstop's own events; choose another, and route this one as it is");
            None
        }
        Ok(name) => value.table().map(|mut table| {
            if let Some(own) = table.get("retention").and_then(|value| value.table()) {
                keeps.insert(name.clone(), retention::keep(own, keep, segment_bytes));
            }
            source(name, table, segment_bytes)
        }),
        Err(message) => {
            value.place.refuse(message);
            None
        }
    };
    let sources = table.entries().into_iter().filter_map(named).collect();
    (sources, keeps)
}

fn source(name: Name, mut table: Table<'_>, segment_bytes: u64) -> Source {
    let preset = table.parsed("preset", preset).unwrap_or(&PLAIN);
    let verification = verify::read(&mut table, preset);
    let type_at = places(&mut table, "type", preset.type_at);
    let key_at = places(&mut table, "key", preset.key_at);
    let time_at = places(&mut table, "time", preset.time_at);
    let (dedup, dedup_window) =
        table.read("dedup", dedup).unwrap_or_else(|| (preset.dedup(&verification.scheme), DEDUP_WINDOW));
    verify::check_window(&table, &verification, &dedup, dedup_window);
    let source = Source {
        name,
        verification,
        type_at,
        key_at,
        time_at,
        strict: table.flag("strict", false),
        dedup,
        dedup_window,
        body_max_bytes: body_max(&mut table, preset.body_max, segment_bytes),
        body_timeout: table.duration("body_timeout", Duration::from_secs(10)),
        rate: table.read("rate", flow::rate),
        ack: table.read("ack", |value| value.table().map(ack)).unwrap_or_else(|| preset.ack()),
        lifecycle: table.read("lifecycle", |value| value.table().and_then(lifecycle)),
    };
    table.done();
    source
}

/// One place, or several of which the first that has it counts.
fn places(table: &mut Table<'_>, key: &'static str, default: &[At]) -> Vec<Place> {
    let read = |value: &Value<'_>| {
        if value.is_text() {
            return value.parsed(scalar::place).map(|place| vec![place]);
        }
        let items = value.items(PLACES_MAX)?;
        if items.is_empty() {
            value.place.refuse("lists no place; write one like \"/event_type\", or remove it");
        }
        Some(items.iter().filter_map(|item| item.parsed(scalar::place)).collect())
    };
    table.read(key, read).unwrap_or_else(|| default.iter().copied().map(Place::from).collect())
}

/// The default window: longer than senders go on repeating themselves.
const DEDUP_WINDOW: Duration = Duration::from_secs(24 * 3600);

/// `"off"`, `"message"`, or with a window `{ message = true }`, `{ header }` or `{ fields, body }`.
fn dedup(value: &Value<'_>) -> Option<(DedupRule, Duration)> {
    const SHAPE: &str = "\"off\", \"message\", { header = \"…\" } or { fields = [\"/…\"], body = true }";
    if value.is_text() {
        let named = |text: &str| match text {
            "off" => Ok((DedupRule::Off, DEDUP_WINDOW)),
            "message" => Ok((DedupRule::Message, DEDUP_WINDOW)),
            _ => Err(format!("must be {SHAPE}")),
        };
        return value.parsed(named);
    }
    let mut table = value.table()?;
    let message = table.flag("message", false);
    let header = table.get("header");
    let fields = table.get("fields");
    let body = table.get("body");
    let window = table.duration("window", DEDUP_WINDOW);
    table.done();
    let rule = match (header, fields, body) {
        (None, None, None) if message => DedupRule::Message,
        (Some(header), None, None) if !message => DedupRule::Header(header.parsed(scalar::header_name)?),
        (None, fields, body) if !message && (fields.is_some() || body.is_some()) => {
            let pointers = fields.map_or(Some(Vec::new()), |fields| pointers(&fields));
            let body = body.map_or(Some(false), |body| body.flag());
            let (pointers, body) = (pointers?, body?);
            if pointers.is_empty() && !body {
                value.place.refuse("no field and no body: nothing would tell duplicates; name fields or use \"off\"");
            }
            DedupRule::Fields { pointers, body }
        }
        _ => {
            value.place.refuse(format!("must be {SHAPE}"));
            return None;
        }
    };
    Some((rule, window))
}

fn pointers(fields: &Value<'_>) -> Option<Vec<String>> {
    let items = fields.items(DEDUP_FIELDS_MAX)?;
    // Collected twice, so that the first bad pointer does not hide the second.
    let pointers: Vec<Option<String>> = items.iter().map(|item| item.parsed(scalar::pointer)).collect();
    pointers.into_iter().collect()
}

/// `{ start, end, timeout }`: the first two must be there.
fn lifecycle(mut table: Table<'_>) -> Option<Lifecycle> {
    let mut part = |key: &'static str| {
        let found = table.get(key);
        if found.is_none() {
            table
                .place_of(key)
                .refuse("is missing; a lifecycle has a start and an end, as in start = \"call_started\"");
        }
        found.and_then(|value| value.parsed(scalar::type_pattern))
    };
    let (start, end) = (part("start"), part("end"));
    let timeout = table.duration("timeout", LIFECYCLE_TIMEOUT);
    if start.is_some() && start == end {
        table.place_of("end").refuse("is the same as start; a call that has begun would never end");
    }
    table.done();
    Some(Lifecycle { start: start?, end: end?, timeout })
}

fn body_max(table: &mut Table<'_>, default: u64, segment_bytes: u64) -> usize {
    let place = table.place_of("body_max");
    let read = |value: &Value<'_>| {
        if value.is_integer() { value.integer(1..=BODY_MAX_BYTES).map(u64::from) } else { value.parsed(scalar::size) }
    };
    // What a preset would rather have gives way to the segments; what is asked for, or asked of all, does not.
    let default = default.min((segment_bytes / BODIES_PER_SEGMENT_MIN).max(PLAIN.body_max));
    let bytes = table.read("body_max", read).unwrap_or(default);
    if !(1..=u64::from(BODY_MAX_BYTES)).contains(&bytes) {
        place.refuse("must be from 1 byte to 64MiB");
    } else if bytes > segment_bytes / BODIES_PER_SEGMENT_MIN {
        place.refuse(format!(
            "{bytes} bytes are more than a quarter of a log segment; lower it or raise journal.segment_mib to {}",
            (bytes * BODIES_PER_SEGMENT_MIN).div_ceil(1 << 20)
        ));
    }
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

fn default_ack() -> Ack {
    Ack { status: 202, body: None, content_type: "application/json".to_owned() }
}

fn ack(mut table: Table<'_>) -> Ack {
    /// The statuses whose answer has no body (RFC 9110, 15.3.5 and 15.3.6).
    const BODILESS: [u16; 2] = [204, 205];
    let default = default_ack();
    let status = table.count("status", 200..=299, default.status);
    let body = table.parsed("body", |text| {
        if text.len() <= ACK_BODY_MAX_BYTES {
            Ok(text.to_owned())
        } else {
            Err(format!("at most {ACK_BODY_MAX_BYTES} bytes"))
        }
    });
    if BODILESS.contains(&status) && body.as_ref().is_some_and(|body| !body.is_empty()) {
        table.place_of("body").refuse("a 204 or 205 answer has no body; leave it out or use status 200");
    }
    let plain = if body.is_some() { "text/plain; charset=utf-8".to_owned() } else { default.content_type };
    let content_type = table.parsed("content_type", scalar::header_value).unwrap_or(plain);
    table.done();
    Ack { status, body: if BODILESS.contains(&status) { Some(String::new()) } else { body }, content_type }
}
