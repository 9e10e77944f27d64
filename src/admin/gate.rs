//! The gate: nothing of the admin API is reached, or told, but through it.
//!
//! It asks who comes (a token), what for (the table in [`super::access`]), and whether they may. A request without a
//! token learns nothing, not even that a path is unknown; one whose role is too small is told which it takes. Who
//! asks goes on with the request, as a [`Caller`]. Change requests are seen through even if the one who asked hangs
//! up. Absent: the accept loop with its limits, which is the listener's.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use http::request::Parts;
use http::{Method, Request, StatusCode};
use http_body_util::Either;
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::service::TowerToHyperService;
use warp::filters::BoxedFilter;
use warp::reply::Response;
use warp::{Filter as _, Rejection};

use super::access::{self, Found};
use super::auth;
use super::holders::{Held, NotKnown};
use super::problem::Problem;
use super::{AdminState, routes};

/// Who asks.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    /// Whose token it is.
    pub(super) held: Arc<Held>,
    /// From where.
    pub(super) peer: Option<SocketAddr>,
}

/// What the nouns take: a body as it arrives.
type Body = Either<Incoming, http_body_util::Full<bytes::Bytes>>;

/// The admin API, for a listener to serve. It answers every request.
#[must_use]
pub fn service(
    state: &AdminState,
) -> impl Service<Request<Incoming>, Response = Response, Error = Infallible, Future: Send> + Clone + Send + 'static + use<>
{
    let gate = Gate { state: state.clone(), nouns: routes(state).boxed() };
    service_fn(move |request| {
        let gate = gate.clone();
        async move { Ok(gate.answer(request).await) }
    })
}

#[derive(Clone)]
struct Gate {
    state: AdminState,
    nouns: BoxedFilter<(Response,)>,
}

impl Gate {
    async fn answer(self, request: Request<Incoming>) -> Response {
        let (parts, body) = request.into_parts();
        self.admit(parts, body).await.unwrap_or_else(Problem::into_response)
    }

    async fn admit(self, mut parts: Parts, body: Incoming) -> Result<Response, Problem> {
        let found = access::find(&parts.method, parts.uri.path());
        if let Found::Route(access::Route { role: None, .. }) = found {
            return Ok(self.pass(Request::from_parts(parts, Either::Left(body))).await);
        }
        let caller = self.identify(&parts)?;
        let (route, role) = match found {
            Found::Route(route) => (route, route.role.unwrap_or(crate::core::role::Role::Admin)),
            Found::Methods(allowed) => return Err(Problem::method(&allowed)),
            Found::Nothing => return Err(Problem::missing("there is no such path")),
        };
        if !caller.held.role.may(role) {
            return Err(Problem::forbidden(&caller.held.name, caller.held.role, role));
        }
        parts.extensions.insert(caller);
        let request = Request::from_parts(parts, Either::Left(body));
        if route.method == Method::GET {
            return Ok(self.pass(request).await);
        }
        let bug = |_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "this is a bug in backstop; see its log");
        tokio::spawn(self.pass(request)).await.map_err(bug)
    }

    /// Whose token a request shows.
    fn identify(&self, parts: &Parts) -> Result<Caller, Problem> {
        let authorization = parts.headers.get(http::header::AUTHORIZATION);
        let Some(token) = authorization.and_then(|value| value.to_str().ok()).and_then(auth::bearer) else {
            let detail = "send a token: `Authorization: Bearer bst_…`; the first one is in the admin token file";
            return Err(Problem::unauthorized("Bearer realm=\"backstop admin\"", detail));
        };
        let holders = &self.state.holders;
        let held = holders.identify(token, self.state.engine.now()).map_err(|why| not_known(&why))?;
        if holders.is_behind() {
            let holders = Arc::clone(holders);
            tokio::task::spawn_blocking(move || {
                if let Err(error) = holders.note_used() {
                    tracing::warn!(%error, "when tokens were last used cannot be written");
                }
            });
        }
        Ok(Caller { held, peer: parts.extensions.get::<SocketAddr>().copied() })
    }

    async fn pass(self, request: Request<Body>) -> Response {
        let nouns = TowerToHyperService::new(warp::service(self.nouns));
        match nouns.call(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }
}

/// Who asks, for a noun that wants to know.
pub(super) fn caller() -> impl warp::Filter<Extract = (Caller,), Error = Rejection> + Copy {
    warp::ext::get::<Caller>()
}

fn not_known(why: &NotKnown) -> Problem {
    let detail = match why {
        NotKnown::Nobody => "this token is nobody's; the first one is in the admin token file".to_owned(),
        NotKnown::Broken => "this token is not whole: it was cut or mistyped".to_owned(),
        NotKnown::Expired(name, end) => format!("the token `{name}` expired at {end}; have another made"),
    };
    Problem::unauthorized("Bearer realm=\"backstop admin\", error=\"invalid_token\"", &detail)
}
