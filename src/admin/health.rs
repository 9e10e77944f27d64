//! Health, for supervisors and load balancers: no token, nothing told but what they act on.

use http::StatusCode;
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use super::problem::{Answer, Problem, json};
use super::{AdminState, GET, only, respond, wire, with};
use crate::engine::Health;

pub(super) fn routes(state: &AdminState) -> BoxedFilter<(Response,)> {
    let lives = warp::path!("livez").and(only(GET)).and(with(state)).map(live);
    let is_ready = warp::path!("readyz").and(only(GET)).and(with(state)).map(ready);
    lives.or(is_ready).unify().map(respond).boxed()
}

/// Whether the process is of use at all. If not, start it again.
fn live(state: AdminState) -> Answer {
    match &*state.engine.health().borrow() {
        Health::Failed(_) => Err(Problem::unavailable("the journal failed; the gateway must be started again")),
        Health::Running | Health::Stopping => Ok(json(StatusCode::OK, &wire::Health { status: "live".into() })),
    }
}

/// Whether new events are taken. If not, send them elsewhere or later.
fn ready(state: AdminState) -> Answer {
    match &*state.engine.health().borrow() {
        Health::Failed(_) => Err(Problem::unavailable("the journal failed; the gateway must be started again")),
        Health::Stopping => Err(Problem::unavailable("the gateway is being stopped")),
        Health::Running if state.engine.is_full() => {
            Err(Problem::unavailable("the disk is nearly full; deliveries go on, new events are not taken"))
        }
        Health::Running => Ok(json(StatusCode::OK, &wire::Health { status: "ready".into() })),
    }
}
