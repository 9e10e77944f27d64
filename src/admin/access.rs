//! Every route, with what it takes to be let through: the one table that [`super::gate`] asks.
//!
//! What is not here is not there: a route that a noun has and this table has not answers 404, so that none can be
//! open because somebody forgot. Looking takes [`Role::Read`], bodies of events included, for without them nothing
//! can be found out, and who did what, which everybody who can look may know; changing what becomes of events takes
//! [`Role::Operate`]; saying who may do what takes [`Role::Admin`].

use http::Method;

use super::reload;
use crate::core::role::Role;

/// One route.
#[derive(Debug)]
pub struct Route {
    /// The method.
    pub method: Method,
    /// The path; `{}` stands for one part of it.
    pub path: &'static str,
    /// What it takes; `None` takes no token at all.
    pub role: Option<Role>,
    /// What it is called where it is noted who asked for it, or was denied it; `None` where everybody may look.
    pub what: Option<&'static str>,
    /// Whether its body is data rather than a request: it may be large, and is not noted.
    pub data: bool,
}

/// What a request asks for.
#[derive(Debug)]
pub(super) enum Found {
    Route(&'static Route),
    /// The path is there, for these methods.
    Methods(Vec<Method>),
    Nothing,
}

const fn open(path: &'static str) -> Route {
    Route { method: Method::GET, path, role: None, what: None, data: false }
}

const fn read(path: &'static str) -> Route {
    Route { method: Method::GET, path, role: Some(Role::Read), what: None, data: false }
}

const fn operate(path: &'static str, what: &'static str) -> Route {
    Route { method: Method::POST, path, role: Some(Role::Operate), what: Some(what), data: false }
}

const fn take_in(path: &'static str, what: &'static str) -> Route {
    Route { method: Method::POST, path, role: Some(Role::Operate), what: Some(what), data: true }
}

const fn admin(method: Method, path: &'static str, what: &'static str) -> Route {
    Route { method, path, role: Some(Role::Admin), what: Some(what), data: false }
}

/// Every route there is.
pub const ROUTES: &[Route] = &[
    open("/livez"),
    open("/readyz"),
    open("/openapi.json"),
    read("/metrics"),
    read("/api/v1/whoami"),
    Route {
        method: Method::POST,
        path: "/api/v1/session",
        role: Some(Role::Read),
        what: Some("session.begin"),
        data: false,
    },
    Route {
        method: Method::DELETE,
        path: "/api/v1/session",
        role: Some(Role::Read),
        what: Some("session.end"),
        data: false,
    },
    read("/api/v1/live"),
    read("/api/v1/feed"),
    read("/api/v1/history"),
    read("/api/v1/disk"),
    read("/api/v1/sources"),
    read("/api/v1/config"),
    admin(Method::POST, "/api/v1/reload", reload::WHAT),
    read("/api/v1/events"),
    read("/api/v1/events/export"),
    take_in("/api/v1/events/import", "events.import"),
    read("/api/v1/events/histogram"),
    read("/api/v1/events/{}"),
    read("/api/v1/events/{}/body"),
    operate("/api/v1/events/{}/replay", "event.replay"),
    read("/api/v1/deliveries"),
    read("/api/v1/deliveries/{}"),
    operate("/api/v1/deliveries/{}/replay", "delivery.replay"),
    operate("/api/v1/deliveries/{}/cancel", "delivery.cancel"),
    operate("/api/v1/deliveries/cancel", "deliveries.cancel"),
    read("/api/v1/replays"),
    operate("/api/v1/replays", "replay.begin"),
    read("/api/v1/replays/{}"),
    operate("/api/v1/replays/{}/pause", "replay.pause"),
    operate("/api/v1/replays/{}/resume", "replay.resume"),
    operate("/api/v1/replays/{}/cancel", "replay.cancel"),
    operate("/api/v1/replays/{}/rerun", "replay.rerun"),
    read("/api/v1/endpoints"),
    read("/api/v1/endpoints/{}"),
    operate("/api/v1/endpoints/{}/test", "endpoint.test"),
    operate("/api/v1/endpoints/{}/pause", "endpoint.pause"),
    operate("/api/v1/endpoints/{}/resume", "endpoint.resume"),
    read("/api/v1/failures"),
    read("/api/v1/keys/{}"),
    read("/api/v1/gaps"),
    read("/api/v1/counters"),
    read("/api/v1/audit"),
    read("/api/v1/refusals"),
    read("/api/v1/refusals/{}"),
    operate("/api/v1/refusals/{}/ingest", "refusal.ingest"),
    read("/api/v1/operations"),
    admin(Method::GET, "/api/v1/tokens", "token.list"),
    admin(Method::POST, "/api/v1/tokens", "token.create"),
    admin(Method::DELETE, "/api/v1/tokens/{}", "token.revoke"),
];

/// The route of a request; a path may end in a slash. A word in the table goes before a `{}` in its place.
pub(super) fn find(method: &Method, path: &str) -> Found {
    let path = path.strip_suffix('/').unwrap_or(path);
    let mut there: Vec<&'static Route> = ROUTES.iter().filter(|route| route.fits(path)).collect();
    let wildest = |route: &&'static Route| route.path.matches("{}").count();
    let least = there.iter().map(wildest).min();
    there.retain(|route| Some(wildest(route)) == least);
    match there.iter().find(|route| route.method == *method) {
        Some(route) => Found::Route(route),
        None if there.is_empty() => Found::Nothing,
        None => Found::Methods(there.iter().map(|route| route.method.clone()).collect()),
    }
}

impl Route {
    /// What stands in `path` for the first `{}`: what a request is about.
    pub(super) fn object<'a>(&self, path: &'a str) -> Option<&'a str> {
        let mut parts = self.path.split('/').zip(path.split('/'));
        parts.find(|(own, _)| *own == "{}").map(|(_, part)| part)
    }

    fn fits(&self, path: &str) -> bool {
        let (mut own, mut asked) = (self.path.split('/'), path.split('/'));
        loop {
            match (own.next(), asked.next()) {
                (None, None) => return true,
                (Some("{}"), Some(part)) if !part.is_empty() => {}
                (Some(word), Some(part)) if word == part => {}
                _ => return false,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_in_the_table_is_not_there() {
        let found = |method, path| match find(&method, path) {
            Found::Route(route) => route.path.to_owned(),
            Found::Methods(methods) => methods.iter().map(Method::as_str).collect::<Vec<_>>().join(", "),
            Found::Nothing => String::new(),
        };
        assert_eq!(found(Method::GET, "/api/v1/events/evt_1"), "/api/v1/events/{}");
        assert_eq!(found(Method::GET, "/api/v1/events/"), "/api/v1/events");
        assert_eq!(found(Method::POST, "/api/v1/deliveries/cancel"), "/api/v1/deliveries/cancel");
        assert_eq!(found(Method::GET, "/api/v1/deliveries/cancel"), "POST");
        assert_eq!(found(Method::PUT, "/api/v1/replays"), "GET, POST");
        assert_eq!(found(Method::HEAD, "/livez"), "GET");
        for path in ["", "/", "/api/v1", "/api/v1/events//", "//api/v1/events", "/api/v1/events/{}/x", "/API/v1/events"]
        {
            assert_eq!(found(Method::GET, path), "", "{path}");
        }
    }

    #[test]
    fn whatever_changes_something_takes_more_than_looking() {
        for route in ROUTES {
            assert_eq!(route.role.is_none(), !route.path.starts_with("/api/") && route.path != "/metrics");
            // A session may what its token may: whoever may look may begin one to look.
            let is_session = route.path == "/api/v1/session";
            assert_eq!(route.what.is_none(), !is_session && route.role <= Some(Role::Read), "{} is noted", route.path);
            assert!(
                route.method == Method::GET || is_session || route.role > Some(Role::Read),
                "{} {}",
                route.method,
                route.path
            );
        }
    }
}
