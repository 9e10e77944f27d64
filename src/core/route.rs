//! Routes: which endpoints an event goes to.

use crate::core::name::Name;
use crate::core::source::ALERTS;

/// A source and a filter, and the endpoints for what passes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Events of this source; `None` is every source but [`ALERTS`], which must be asked for by name.
    pub source: Option<Name>,
    /// Events of these types; empty is every type. A trailing `*` matches any ending.
    pub types: Vec<String>,
    /// Where they go.
    pub endpoints: Vec<Name>,
}

/// All routes, in config order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RouteTable(Vec<Route>);

impl RouteTable {
    /// A table of these routes.
    #[must_use]
    pub const fn new(routes: Vec<Route>) -> Self {
        Self(routes)
    }

    /// The routes, in config order.
    #[must_use]
    pub fn routes(&self) -> &[Route] {
        &self.0
    }

    /// Whether any route asks for alerts.
    #[must_use]
    pub fn takes_alerts(&self) -> bool {
        self.0.iter().any(|route| route.source.as_ref().is_some_and(|source| source.as_str() == ALERTS))
    }

    /// The endpoints for an event, in route order, each once. Empty: the event is kept, unrouted.
    #[must_use]
    pub fn fan_out(&self, source: &Name, event_type: &str) -> Vec<Name> {
        let mut endpoints: Vec<Name> = Vec::new();
        for route in self.0.iter().filter(|route| route.admits(source, event_type)) {
            for endpoint in &route.endpoints {
                if !endpoints.contains(endpoint) {
                    endpoints.push(endpoint.clone());
                }
            }
        }
        endpoints
    }
}

impl Route {
    fn admits(&self, source: &Name, event_type: &str) -> bool {
        let source_fits = match &self.source {
            Some(own) => own == source,
            None => source.as_str() != ALERTS,
        };
        let type_fits = self.types.is_empty() || self.types.iter().any(|pattern| type_matches(pattern, event_type));
        source_fits && type_fits
    }
}

/// Whether an event type fits a pattern: equal, or equal up to a trailing `*`.
#[must_use]
pub fn type_matches(pattern: &str, event_type: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => event_type.starts_with(start),
        None => event_type == pattern,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    #[test]
    fn an_event_goes_to_each_endpoint_of_each_fitting_route_once() {
        let table = RouteTable::new(vec![
            Route {
                source: Some(name("flyflow")),
                types: vec!["call_*".into()],
                endpoints: vec![name("crm"), name("bill")],
            },
            Route { source: None, types: vec![], endpoints: vec![name("lake"), name("crm")] },
            Route { source: Some(name("other")), types: vec!["call_ended".into()], endpoints: vec![name("never")] },
        ]);
        let to = |source, event_type| {
            table.fan_out(&name(source), event_type).iter().map(Name::to_string).collect::<Vec<_>>()
        };
        assert_eq!(to("flyflow", "call_ended"), ["crm", "bill", "lake"]);
        assert_eq!(to("flyflow", "tool_call"), ["lake", "crm"]);
        assert_eq!(to("other", "call_ended_twice"), ["lake", "crm"]);
        assert_eq!(to(ALERTS, "call_ended"), [] as [&str; 0], "alerts go where they are asked for");
        assert_eq!(RouteTable::default().fan_out(&name("flyflow"), "x"), []);
    }
}
