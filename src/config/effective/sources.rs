//! `[sources.<name>]` as it holds: the preset resolved into what it sets.

use super::{Toml, duration, endpoints, inline, keep, size, text, texts, verify};
use crate::core::lifecycle::Lifecycle;
use crate::core::retention::Keep;
use crate::core::source::{Ack, DedupRule, Place, Source};

pub(super) fn write(toml: &mut Toml, source: &Source, own_keep: Option<&Keep>) {
    let Source {
        name,
        verification,
        type_at,
        key_at,
        time_at,
        strict,
        dedup,
        dedup_window,
        body_max_bytes,
        body_timeout,
        rate,
        ack,
        lifecycle,
    } = source;
    toml.table(&format!("sources.{name}"));
    verify::write(toml, verification);
    toml.maybe("type", places(type_at))
        .maybe("key", places(key_at))
        .maybe("time", places(time_at))
        .line("strict", strict.to_string())
        .line("dedup", rule(dedup, duration(*dedup_window)))
        .line("body_max", size(u64::try_from(*body_max_bytes).unwrap_or(u64::MAX)))
        .line("body_timeout", duration(*body_timeout))
        .maybe("rate", rate.as_ref().map(endpoints::limit))
        .line("ack", answer(ack))
        .maybe("lifecycle", lifecycle.as_ref().map(calls))
        .maybe("retention", own_keep.map(|own| inline(keep(own))));
}

fn places(places: &[Place]) -> Option<String> {
    let written = |place: &Place| text(place.to_string());
    match places {
        [] => None,
        [one] => Some(written(one)),
        several => Some(texts(several.iter().map(Place::to_string))),
    }
}

fn rule(rule: &DedupRule, window: String) -> String {
    match rule {
        DedupRule::Off => text("off"),
        DedupRule::Message => inline(vec![("message", true.to_string()), ("window", window)]),
        DedupRule::Header(header) => inline(vec![("header", text(header)), ("window", window)]),
        DedupRule::Fields { pointers, body } => {
            inline(vec![("fields", texts(pointers)), ("body", body.to_string()), ("window", window)])
        }
    }
}

fn answer(ack: &Ack) -> String {
    let Ack { status, body, content_type } = ack;
    let mut lines = vec![("status", status.to_string())];
    lines.extend(body.as_ref().map(|body| ("body", text(body))));
    lines.push(("content_type", text(content_type)));
    inline(lines)
}

fn calls(lifecycle: &Lifecycle) -> String {
    let Lifecycle { start, end, timeout } = lifecycle;
    inline(vec![("start", text(start)), ("end", text(end)), ("timeout", duration(*timeout))])
}
