//! The admin API: what operators ask of the gateway, over HTTP on a listener of its own.
//!
//! All of it is reached through the [`gate`], which wants a token before it says anything, even that a path is unknown;
//! `/livez` and `/readyz` are for machines that have none. Promises: no input panics, every answer is JSON
//! or problem+json (but an event's raw body and the metrics), lists come in bounded pages, and what a request changes is
//! seen through even if the one who asked hangs up.
//!
//! One file a noun (`events`, `exports`, `imports`, `deliveries`, `failures`, `keys`, `gaps`, `replays`, `endpoints`, `totals`, `tokens`,
//! `operations`, `reload`, `metrics`, `health`) · [`wire`] the only HTTP serialization · `openapi` the description of all of it · `select` what is asked for · `problem` answers ·
//! [`access`] what each route takes · [`register`] who had what done · [`holders`] who holds which token · [`auth`] what a
//! token is · [`hosts`] by which names it is asked · [`settings`] what it goes by of the config · [`knocks`] who guesses. Absent: the accept loop with its limits, which
//! is the listener's; checks of Origin, which come with the dashboard; anything that writes the config.

pub mod access;
pub mod audit;
pub mod auth;
mod deliveries;
mod endpoints;
mod events;
pub mod exports;
mod failures;
mod feed;
mod gaps;
pub mod gate;
mod health;
mod histogram;
pub mod holders;
pub mod hosts;
pub mod imports;
mod keys;
pub mod knocks;
mod live;
mod metrics;
mod openapi;
mod operations;
mod problem;
pub mod pulse;
pub mod refusals;
pub mod register;
pub mod reload;
mod replays;
mod select;
pub mod sessions;
pub mod settings;
pub mod site;
mod sse;
mod tags;
pub mod tokens;
mod totals;
pub mod wire;

use std::convert::Infallible;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{Method, StatusCode};
use serde::de::DeserializeOwned;
use warp::filters::BoxedFilter;
use warp::reply::Response;
use warp::{Filter, Rejection};

use self::holders::Holders;
use self::knocks::Knocks;
use self::problem::{Answer, Problem};
use self::pulse::Pulse;
use self::register::Register;
use self::reload::Reload;
use self::select::Pairs;
use self::sessions::Sessions;
use self::settings::Settings;
use self::site::Site;
use crate::core::timestamp::Timestamp;
use crate::engine::Engine;
use crate::telemetry::Intake;

/// What the admin API calls itself where it asks for a token (`WWW-Authenticate`).
pub const ADMIN_REALM: &str = "realm=\"backstop admin\"";

/// Largest JSON body of a request, in bytes.
pub const BODY_MAX_BYTES: usize = 64 * 1024;

/// Largest body of a request that brings data, in bytes: one event with the largest body there can be, written in the
/// longest way there is for most.
pub const DATA_MAX_BYTES: usize = 96 << 20;

const GET: &[Method] = &[Method::GET];
const POST: &[Method] = &[Method::POST];
const GET_OR_POST: &[Method] = &[Method::GET, Method::POST];

/// What the routes work on. Cheap to clone.
#[derive(Clone)]
pub struct AdminState {
    /// The running engine.
    pub engine: Engine,
    /// The counts of what the ingest listener turned away.
    pub intake: Arc<Intake>,
    /// What was refused, and the way to take it in again.
    pub refused: Arc<refusals::Readmission>,
    /// What of the config holds now.
    pub settings: Arc<ArcSwap<Settings>>,
    /// Has the config read again.
    pub reload: Arc<dyn Reload>,
    /// Who may ask.
    pub holders: Arc<Holders>,
    /// Browsers that have shown a token.
    pub sessions: Arc<Sessions>,
    /// How everything stood lately.
    pub pulse: Arc<Pulse>,
    /// Where the gateway stands.
    pub site: Arc<Site>,
    /// Notes who had what done.
    pub register: Arc<Register>,
    /// Who showed tokens that are nobody's.
    pub knocks: Arc<Knocks>,
    /// When this process began.
    pub started_at: Timestamp,
}

/// Every noun's routes, for the [`gate`] to stand before.
fn routes(state: &AdminState) -> impl Filter<Extract = (Response,), Error = Infallible> + Clone + use<> {
    // Those with a word where an event's id may stand go first.
    let nouns = exports::routes(state)
        .or(imports::routes(state))
        .unify()
        .or(events::routes(state))
        .unify()
        .or(deliveries::routes(state))
        .unify()
        .or(replays::routes(state))
        .unify()
        .or(endpoints::routes(state))
        .unify()
        .or(failures::routes(state))
        .unify()
        .or(keys::routes(state))
        .unify()
        .or(gaps::routes(state))
        .unify()
        .or(totals::routes(state))
        .unify()
        .or(audit::routes(state))
        .unify()
        .or(refusals::routes(state))
        .unify()
        .or(tokens::routes(state))
        .unify()
        .or(operations::routes(state))
        .unify()
        .or(settings::routes(state))
        .unify()
        .or(reload::routes(state))
        .unify()
        .or(sessions::routes(state))
        .unify()
        .or(live::routes(state))
        .unify()
        .or(feed::routes(state))
        .unify()
        .or(site::routes(state))
        .unify();
    let api = warp::path!("api" / "v1" / ..).and(nouns);
    let beside = health::routes(state).or(metrics::routes(state)).unify().or(openapi::routes(state)).unify();
    beside.or(api).unify().recover(refuse).unify()
}

/// What is said where no route answers. Each path has one filter for its methods, so at most one problem is found.
async fn refuse(rejection: Rejection) -> Result<Response, Infallible> {
    let problem = match rejection.find::<Problem>() {
        Some(problem) => problem.clone(),
        None if rejection.is_not_found() => Problem::missing("there is no such path"),
        None => Problem::new(StatusCode::BAD_REQUEST, "the request cannot be read"),
    };
    Ok(problem.into_response())
}

/// Passes these methods; goes behind the path, so that a wrong path is a 404 first.
fn only(allowed: &'static [Method]) -> BoxedFilter<()> {
    let check = move |method: Method| async move {
        if allowed.contains(&method) { Ok(()) } else { Err(warp::reject::custom(Problem::method(allowed))) }
    };
    warp::method().and_then(check).untuple_one().boxed()
}

/// Hands the state on.
fn with(state: &AdminState) -> impl Filter<Extract = (AdminState,), Error = Infallible> + Clone + use<> {
    let state = state.clone();
    warp::any().map(move || state.clone())
}

/// The query parameters, decoded, in order.
fn query() -> BoxedFilter<(Pairs,)> {
    warp::query::<Pairs>().boxed()
}

/// A JSON body, which the gate has taken in; no body is the default.
fn json_body<T: DeserializeOwned + Default + Send>()
-> impl Filter<Extract = (Result<T, Problem>,), Error = Rejection> + Clone {
    warp::body::bytes().map(|bytes: Bytes| {
        let wrong = |why: &str| {
            let detail = format!("the body is not what this path takes: {why}");
            Problem::new(StatusCode::BAD_REQUEST, detail)
        };
        match bytes.trim_ascii_start().first() {
            None => Ok(T::default()),
            Some(b'{') => serde_json::from_slice(&bytes).map_err(|error| wrong(&error.to_string())),
            // Serde would take a list of a struct's fields, and an empty one for all defaults.
            Some(_) => Err(wrong("it is not a JSON object")),
        }
    })
}

/// The response of a route's answer.
fn respond(answer: Answer) -> Response {
    answer.unwrap_or_else(Problem::into_response)
}

/// Sees a change through even if the one who asked hangs up: half of it would leave the engine and the
/// journal of different minds.
async fn see_through<T, E>(change: impl Future<Output = Result<T, E>> + Send + 'static) -> Result<T, Problem>
where
    T: Send + 'static,
    E: Send + 'static,
    Problem: From<E>,
{
    Ok(tokio::spawn(change).await.map_err(Problem::panicked)??)
}
