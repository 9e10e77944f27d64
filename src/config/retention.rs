//! `[retention]` and `[sources.<name>.retention]`: how long events are kept.
//!
//! What a source leaves out it has from `[retention]`, and what that leaves out has no end. Absent: what is let
//! go of and when, which is the core's `retention`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::raw::Table;
use super::scalar;
use crate::core::endpoint::Endpoint;
use crate::core::name::Name;
use crate::core::retention::{Keep, Retention};
use crate::core::source::{DedupRule, Source};
use crate::core::timestamp::parse_span;

/// How many log segments the bodies of one source must at least be allowed: less could not be kept to.
const SEGMENTS_MIN: u64 = 2;

/// The rules of one table, on the ground of others.
pub(super) fn keep(mut table: Table<'_>, default: Keep, segment_bytes: u64) -> Keep {
    let metadata = table.parsed("metadata", age);
    let payload = table.parsed("payload", age);
    let bytes_max = table.parsed("bytes_max", scalar::size);
    let metadata_place = table.place_of("metadata");
    if bytes_max.is_some_and(|bytes| bytes < segment_bytes * SEGMENTS_MIN) {
        let mib = (segment_bytes * SEGMENTS_MIN) >> 20;
        let lower = "space is given back by whole segments; raise it or lower journal.segment_mib";
        table.place_of("bytes_max").refuse(format!("is less than two log segments, {mib}MiB; {lower}"));
    }
    let keep = Keep {
        payload: payload.unwrap_or(default.payload),
        metadata: metadata.unwrap_or(default.metadata),
        bytes_max: bytes_max.or(default.bytes_max),
    };
    table.done();
    match (keep.payload, keep.metadata) {
        // Without an end of its own the payload ends with the rest.
        (None, metadata) if payload.is_none() => Keep { payload: metadata, ..keep },
        (None, Some(_)) => {
            metadata_place.refuse("is shorter than payload, which is kept forever; make it \"forever\", too");
            keep
        }
        (Some(payload), Some(metadata)) if metadata < payload => {
            metadata_place.refuse("is shorter than payload; raise it or lower payload");
            keep
        }
        _ => keep,
    }
}

/// All of it.
pub(super) fn all(default: Keep, keeps: BTreeMap<Name, Keep>, sources: &[Source], endpoints: &[Endpoint]) -> Retention {
    let endpoints: BTreeSet<Name> = endpoints.iter().map(|endpoint| endpoint.name.clone()).collect();
    let with_window = sources.iter().filter(|source| source.dedup != DedupRule::Off);
    let windows = with_window.map(|source| (source.name.clone(), source.dedup_window)).collect();
    Retention { default, sources: keeps, endpoints, windows }
}

/// A span, which may be longer than others, or no end.
pub(super) fn age(text: &str) -> Result<Option<Duration>, String> {
    /// Ten years, more or less.
    const DAYS_MAX: u64 = 3660;
    if text == "forever" {
        return Ok(None);
    }
    match parse_span(text) {
        None => Err("not a time to keep; write one like \"30d\", \"12h\" or \"forever\"".to_owned()),
        Some(span) if (Duration::from_millis(1)..=Duration::from_secs(DAYS_MAX * 24 * 3600)).contains(&span) => {
            Ok(Some(span))
        }
        Some(_) => Err(format!("must be from 1ms to {DAYS_MAX}d, or \"forever\"")),
    }
}
