//! `[sources.<name>]`: who may send, from a preset or from nothing, each key set by hand winning.

use std::collections::BTreeMap;
use std::time::Duration;

use super::raw::{Table, Value};
use super::{flow, retention, scalar};
use crate::core::lifecycle::Lifecycle;
use crate::core::name::Name;
use crate::core::retention::Keep;
use crate::core::source::{ALERTS, Ack, DedupRule, Source};

/// Largest body any source may accept, in bytes: what one delivery may hold in memory.
const BODY_MAX_BYTES: u32 = 64 << 20;
/// How many bodies of the largest kind a log segment must hold.
const BODIES_PER_SEGMENT_MIN: u64 = 4;
/// How long a call may take where the config does not say.
const LIFECYCLE_TIMEOUT: Duration = Duration::from_secs(2 * 3600);
/// Most fields that can tell duplicates.
const DEDUP_FIELDS_MAX: usize = 16;
/// Longest configured answer, in bytes.
const ACK_BODY_MAX_BYTES: usize = 64 << 10;

/// What a source does about the keys it does not set.
struct Preset {
    type_pointer: Option<&'static str>,
    key_pointer: Option<&'static str>,
    time_pointer: Option<&'static str>,
    /// The fields that tell duplicates, together with the body; none: every post is an event.
    dedup: &'static [&'static str],
}

/// Nothing is read.
const PLAIN: Preset = Preset { type_pointer: None, key_pointer: None, time_pointer: None, dedup: &[] };

/// Flyflow's call events. It sends no event id, so duplicates are told by all there is.
const FLYFLOW: Preset = Preset {
    type_pointer: Some("/event_type"),
    key_pointer: Some("/call_id"),
    time_pointer: Some("/timestamp"),
    dedup: &["/event_type", "/call_id", "/timestamp"],
};

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
    let mut pointer = |key, default: Option<&str>| table.parsed(key, scalar::pointer).or(default.map(str::to_owned));
    let type_pointer = pointer("type", preset.type_pointer);
    let key_pointer = pointer("key", preset.key_pointer);
    let time_pointer = pointer("time", preset.time_pointer);
    let (dedup, dedup_window) = table.read("dedup", dedup).unwrap_or_else(|| preset.dedup());
    let source = Source {
        name,
        type_pointer,
        key_pointer,
        time_pointer,
        strict: table.flag("strict", false),
        dedup,
        dedup_window,
        body_max_bytes: body_max(&mut table, segment_bytes),
        body_timeout: table.duration("body_timeout", Duration::from_secs(10)),
        rate: table.read("rate", flow::rate),
        ack: table.read("ack", |value| value.table().map(ack)).unwrap_or_else(default_ack),
        lifecycle: table.read("lifecycle", |value| value.table().and_then(lifecycle)),
    };
    table.done();
    source
}

fn preset(text: &str) -> Result<&'static Preset, String> {
    match text {
        "flyflow" => Ok(&FLYFLOW),
        _ => Err("no such preset; there is \"flyflow\", or leave it out and set type, key and time".to_owned()),
    }
}

impl Preset {
    fn dedup(&self) -> (DedupRule, Duration) {
        let pointers: Vec<String> = self.dedup.iter().map(|pointer| (*pointer).to_owned()).collect();
        let rule = if pointers.is_empty() { DedupRule::Off } else { DedupRule::Fields { pointers, body: true } };
        (rule, DEDUP_WINDOW)
    }
}

/// The default window: longer than senders go on repeating themselves.
const DEDUP_WINDOW: Duration = Duration::from_secs(24 * 3600);

/// `"off"`, `{ header, window }` or `{ fields, body, window }`.
fn dedup(value: &Value<'_>) -> Option<(DedupRule, Duration)> {
    const SHAPE: &str = "\"off\", { header = \"…\" } or { fields = [\"/…\"], body = true }";
    if value.is_text() {
        let off = |text: &str| match text {
            "off" => Ok((DedupRule::Off, DEDUP_WINDOW)),
            _ => Err(format!("must be {SHAPE}")),
        };
        return value.parsed(off);
    }
    let mut table = value.table()?;
    let header = table.get("header");
    let fields = table.get("fields");
    let body = table.get("body");
    let window = table.duration("window", DEDUP_WINDOW);
    table.done();
    let rule = match (header, fields, body) {
        (Some(header), None, None) => DedupRule::Header(header.parsed(scalar::header_name)?),
        (None, fields, body) if fields.is_some() || body.is_some() => {
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

fn body_max(table: &mut Table<'_>, segment_bytes: u64) -> usize {
    let place = table.place_of("body_max");
    let read = |value: &Value<'_>| {
        if value.is_integer() { value.integer(1..=BODY_MAX_BYTES).map(u64::from) } else { value.parsed(scalar::size) }
    };
    let bytes = table.read("body_max", read).unwrap_or(1 << 20);
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
