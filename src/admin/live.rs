//! What is going on: the live stream (server-sent events), and the last two hours by the minute.
//!
//! The stream begins with a `state`, then has a `beat` whenever something has changed, at most one a second. A client
//! that does not keep up is told to `resync` and gets a `state` again; at the end of the gateway, or of its token, it gets
//! a `bye`. A comment every few seconds shows that it is still there.

use futures_util::{Stream, stream};
use http::StatusCode;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;
use warp::Filter as _;
use warp::filters::BoxedFilter;
use warp::reply::Response;
use warp::sse::Event;

use super::gate::{Caller, caller};
use super::problem::{Answer, Problem, json};
use super::pulse::{Told, Watcher};
use super::sse::{COME_AGAIN, streamed};
use super::{AdminState, GET, only, respond, with};
use crate::engine::Health;

pub(super) fn routes(state: &AdminState) -> BoxedFilter<(Response,)> {
    let watched = warp::path!("live").and(only(GET)).and(caller()).and(with(state)).then(live);
    let remembered = warp::path!("history").and(only(GET)).and(with(state)).then(history);
    watched.or(remembered).unify().map(respond).boxed()
}

async fn history(state: AdminState) -> Answer {
    state.pulse.now(&state.engine, &state.intake).await;
    Ok(json(StatusCode::OK, &state.pulse.history()))
}

async fn live(caller: Caller, state: AdminState) -> Answer {
    let watcher = state.pulse.watch(&state.engine, &state.intake).await;
    let watcher = watcher.ok_or_else(|| Problem::unavailable("too many watch already; lists can be read meanwhile"))?;
    let health = state.engine.health();
    let following = Following { watcher, caller, health, state, next: Next::State };
    Ok(streamed(told(following)))
}

/// One who watches, and what it is told next.
struct Following {
    watcher: Watcher,
    caller: Caller,
    health: watch::Receiver<Health>,
    state: AdminState,
    next: Next,
}

enum Next {
    State,
    Beat,
    Nothing,
}

fn told(following: Following) -> impl Stream<Item = Event> {
    stream::unfold(following, |mut following| async move {
        let event = match following.next {
            Next::Nothing => return None,
            Next::State => {
                following.next = Next::Beat;
                of("state", &following.watcher.now).retry(COME_AGAIN)
            }
            Next::Beat => following.beat().await,
        };
        Some((event, following))
    })
}

impl Following {
    async fn beat(&mut self) -> Event {
        let beat = tokio::select! {
            beat = self.watcher.beats.recv() => beat,
            _ = self.health.wait_for(|health| *health != Health::Running) => Err(RecvError::Closed),
        };
        match beat {
            Ok(beat) if self.caller.may_still(&self.state) => of("beat", &beat),
            Err(RecvError::Lagged(_)) if self.caller.may_still(&self.state) => {
                self.watcher.now = self.state.pulse.now(&self.state.engine, &self.state.intake).await;
                self.next = Next::State;
                Event::default().event("resync").data("{}")
            }
            _ => {
                self.next = Next::Nothing;
                Event::default().event("bye").data("{}")
            }
        }
    }
}

fn of(kind: &str, beat: &Told) -> Event {
    // A beat always serializes: its maps have text keys, and nothing in it can fail.
    Event::default().event(kind).data(serde_json::to_string(&**beat).unwrap_or_default())
}
