//! `[[routes]]`: which events go where, and whether everything named is there and used.

use std::collections::BTreeSet;

use super::raw::{Place, Table, Value};
use super::report::{Problem, near};
use super::scalar;
use crate::core::event::FAN_OUT_MAX;
use crate::core::name::Name;
use crate::core::route::{Route, RouteTable};
use crate::core::source::ALERTS;

/// Most routes.
const ROUTES_MAX: usize = 4096;
/// Most patterns of one route.
const TYPES_MAX: usize = 256;

/// The tables whose keys routes may name.
pub(super) struct Named<'a> {
    pub(super) sources: Table<'a>,
    pub(super) endpoints: Table<'a>,
}

/// The routes, and warnings about what they leave out.
pub(super) fn read(root: &mut Table<'_>, named: &Named<'_>) -> (RouteTable, Vec<Problem>) {
    let items = root.read("routes", |value| value.items(ROUTES_MAX)).unwrap_or_default();
    let routes: Vec<Route> = items.iter().filter_map(Value::table).filter_map(|table| route(table, named)).collect();
    let warnings = unused(named, &routes);
    let table = RouteTable::new(routes.clone());
    check_fan_out(&root.place_of("routes"), &named.sources, &routes, &table);
    (table, warnings)
}

/// The route, or `None` if it is too broken to be judged further.
fn route(mut table: Table<'_>, named: &Named<'_>) -> Option<Route> {
    let source = table.get("source").map(|value| known(&value, &named.sources, "source"));
    let types = table.read("types", types).unwrap_or_default();
    let place = table.place_of("endpoints");
    let value = table.get("endpoints");
    table.done();
    let Some(value) = value else {
        place.refuse("is missing; name at least one endpoint");
        return None;
    };
    let items = value.items(FAN_OUT_MAX)?;
    if items.is_empty() {
        place.refuse("is empty; name at least one endpoint, or remove the route: unrouted events are kept");
    }
    let mut names: Vec<Name> = Vec::new();
    for item in items {
        match known(&item, &named.endpoints, "endpoint") {
            Some(name) if names.contains(&name) => item.place.refuse("is named twice in this route; remove one"),
            Some(name) => names.push(name),
            None => {}
        }
    }
    // A bad source must not widen the route to every source in the checks that follow.
    let source = match source {
        Some(None) => return None,
        Some(named) => named,
        None => None,
    };
    Some(Route { source, types, endpoints: names })
}

/// The name in `value`, if `table` has it; the gateway's own is always there.
fn known(value: &Value<'_>, table: &Table<'_>, noun: &str) -> Option<Name> {
    let names: Vec<&str> = table.entries().into_iter().map(|(name, _)| name).collect();
    let find = |text: &str| match names.iter().find(|name| **name == text) {
        // A name that is there but bad has been refused where it stands.
        Some(name) => Ok(Name::new(name).ok()),
        None if noun == "source" && text == ALERTS => Ok(Name::new(text).ok()),
        None => Err(match near(text, names.iter().copied()) {
            Some(meant) => format!("no {noun} has this name; did you mean `{meant}`?"),
            None => format!("no {noun} has this name; write a table [{noun}s.<name>] for it"),
        }),
    };
    value.parsed(find).flatten()
}

fn types(value: &Value<'_>) -> Option<Vec<String>> {
    let items = value.items(TYPES_MAX)?;
    if items.is_empty() {
        value.place.refuse("is empty; leave it out to take every type");
    }
    Some(items.iter().filter_map(|item| item.parsed(scalar::type_pattern)).collect())
}

/// Sources that no route takes and endpoints that no route names.
fn unused(named: &Named<'_>, routes: &[Route]) -> Vec<Problem> {
    let Named { sources, endpoints } = named;
    let takes = |name: &str, route: &Route| route.source.as_ref().is_none_or(|source| source.as_str() == name);
    let names = |name: &str, route: &Route| route.endpoints.iter().any(|endpoint| endpoint.as_str() == name);
    let unrouted = sources.entries().into_iter().filter(|(name, _)| !routes.iter().any(|route| takes(name, route)));
    let unnamed = endpoints.entries().into_iter().filter(|(name, _)| !routes.iter().any(|route| names(name, route)));
    let mut warnings: Vec<Problem> = unrouted
        .map(|(_, value)| value.place.problem("no route takes this source: its events are kept, but delivered nowhere"))
        .chain(unnamed.map(|(_, value)| value.place.problem("no route names this endpoint: it gets nothing")))
        .collect();
    if sources.entries().is_empty() {
        warnings.push(sources.place.problem("there is none: every request is answered with 404"));
    }
    warnings.sort_by_key(|warning| warning.line);
    warnings
}

/// Refuses routes by which one event could go to more than [`FAN_OUT_MAX`] endpoints.
fn check_fan_out(place: &Place<'_>, sources: &Table<'_>, routes: &[Route], table: &RouteTable) {
    if routes.iter().map(|route| route.endpoints.len()).sum::<usize>() <= FAN_OUT_MAX {
        return;
    }
    // Whatever the type of an event, the longest pattern it fits, taken as a type itself, fits all the
    // same patterns. So these types stand for all others.
    let patterns = routes.iter().flat_map(|route| &route.types);
    let types: BTreeSet<&str> = patterns.map(|pattern| pattern.trim_end_matches('*')).chain([""]).collect();
    let names = sources.entries().into_iter().map(|(name, _)| name).chain([ALERTS]);
    for name in names.filter_map(|name| Name::new(name).ok()) {
        let widest = types.iter().map(|event_type| table.fan_out(&name, event_type).len()).max();
        if let Some(count) = widest.filter(|count| *count > FAN_OUT_MAX) {
            place.refuse(format!(
                "one event of source `{name}` could go to {count} endpoints; at most {FAN_OUT_MAX} are possible"
            ));
        }
    }
}
