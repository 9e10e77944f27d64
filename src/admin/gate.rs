//! The gate: nothing of the admin API is reached, or told, but through it.
//!
//! It asks who comes (a token, or a session that was begun with one), what for (the table in [`super::access`]), and
//! whether they may. A request without a token learns nothing, not even that a path is unknown; one whose role is too
//! small is told which it takes. Who asks goes on with the request, as a [`Caller`]. A request that changes something is taken in whole and noted in the
//! [`super::register`] before it is let through, and seen through even if the one who asked hangs up; what it came to is
//! noted before it is answered. Absent: the accept loop with its limits, which is the listener's.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Either, Full, LengthLimitError, Limited};
use hyper::service::{Service, service_fn};
use hyper_util::service::TowerToHyperService;
use warp::filters::BoxedFilter;
use warp::reply::Response;
use warp::{Filter as _, Rejection};

use super::access::{self, Found, Route};
use super::auth;
use super::holders::{Held, NotKnown};
use super::problem::Problem;
use super::register::{self, Denied};
use super::{AdminState, BODY_MAX_BYTES, DATA_MAX_BYTES, routes};
use super::{sessions, tags};
use crate::core::operation::{Operation, Who};
use crate::core::role::Role;
use crate::upload::Upload;

/// Longest time a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// The same where the body is data.
const DATA_TIMEOUT: Duration = Duration::from_secs(60);
/// What an attempt without a token that is worth something is called.
const AUTHENTICATE: Route =
    Route { method: Method::GET, path: "", role: None, what: Some("authenticate"), data: false };

/// Who asks.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    /// Whose token it is.
    pub(super) held: Arc<Held>,
    /// From where.
    pub(super) peer: Option<SocketAddr>,
}

/// What the nouns take: a body as it arrives.
type Body = Either<Upload, Full<Bytes>>;

/// The admin API, for a listener to serve. It answers every request.
#[must_use]
pub fn service(
    state: &AdminState,
) -> impl Service<Request<Upload>, Response = Response, Error = Infallible, Future: Send> + Clone + Send + 'static + use<>
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
    async fn answer(self, request: Request<Upload>) -> Response {
        let (parts, body) = request.into_parts();
        self.admit(parts, body).await.unwrap_or_else(Problem::into_response)
    }

    async fn admit(self, mut parts: Parts, body: Upload) -> Result<Response, Problem> {
        let found = access::find(&parts.method, parts.uri.path());
        if let Found::Route(Route { role: None, .. }) = found {
            return Ok(self.pass(Request::from_parts(parts, Either::Left(body))).await);
        }
        if !self.state.settings.load().hosts.fits(&parts) {
            return Err(Problem::misdirected());
        }
        let caller = self.identify(&parts).await?;
        let (route, role) = match found {
            Found::Route(route) => (route, route.role.unwrap_or(Role::Admin)),
            Found::Methods(allowed) => return Err(Problem::method(&allowed)),
            Found::Nothing => return Err(Problem::missing("there is no such path")),
        };
        if !caller.held.role.may(role) {
            let problem = Problem::forbidden(&caller.held.name, caller.held.role, role);
            self.deny(Denied::Role, self.operation(&parts, route, Some(&caller)), &problem).await;
            return Err(problem);
        }
        if route.method == Method::GET {
            parts.extensions.insert(caller);
            return Ok(self.pass(Request::from_parts(parts, Either::Left(body))).await);
        }
        let body = if route.data {
            collect(body, DATA_MAX_BYTES, DATA_TIMEOUT)
        } else {
            collect(body, BODY_MAX_BYTES, BODY_TIMEOUT)
        };
        let body = body.await?;
        let asked = if route.data { &[] } else { &body[..] };
        let parameters = register::parameters(parts.uri.query(), asked);
        let operation = Operation { parameters, ..self.operation(&parts, route, Some(&caller)) };
        parts.extensions.insert(caller);
        let request = Request::from_parts(parts, Either::Right(Full::new(body)));
        tokio::spawn(self.perform(operation, request)).await.map_err(Problem::panicked)?
    }

    /// Has something done, and notes it before and after.
    async fn perform(self, operation: Operation, request: Request<Body>) -> Result<Response, Problem> {
        let (register, engine) = (Arc::clone(&self.state.register), self.state.engine.clone());
        let id = register.begin(operation).await.map_err(|error| {
            Problem::unavailable(format!("nothing was done, for it cannot be noted who asked for it: {error}"))
        })?;
        let response = self.pass(request).await;
        register.end(id, engine.now(), &response).await;
        Ok(response)
    }

    /// What a request is about.
    fn operation(&self, parts: &Parts, route: &Route, caller: Option<&Caller>) -> Operation {
        let peer = parts.extensions.get::<SocketAddr>();
        Operation {
            at: self.state.engine.now(),
            who: caller.map(Caller::who),
            from: peer.map(SocketAddr::to_string),
            what: route.what.unwrap_or_default().to_owned(),
            object: route.object(parts.uri.path()).map(str::to_owned),
            parameters: String::new(),
            repeats: 0,
        }
    }

    async fn deny(&self, why: Denied, operation: Operation, problem: &Problem) {
        let outcome = problem.outcome(operation.at);
        self.state.register.deny(why, operation, outcome).await;
    }

    /// Whose token a request shows.
    async fn identify(&self, parts: &Parts) -> Result<Caller, Problem> {
        let authorization = parts.headers.get(http::header::AUTHORIZATION);
        let token = authorization.and_then(|value| value.to_str().ok()).and_then(auth::bearer);
        let (holders, knocks) = (&self.state.holders, &self.state.knocks);
        let peer = parts.extensions.get::<SocketAddr>().copied();
        if token.is_some()
            && let Some(wait) = peer.and_then(|peer| knocks.wait(peer.ip()))
        {
            return Err(Problem::too_many(wait));
        }
        let now = self.state.engine.now();
        let known = match token {
            Some(token) => Some(holders.identify(token, now)),
            None => match self.state.sessions.token(parts, now) {
                Some(token) => {
                    sessions::sent_by_own_page(parts)?;
                    Some(holders.identify_hash(&token, now))
                }
                None => None,
            },
        };
        let (why, who, problem) = match known {
            Some(Ok(held)) => {
                self.note_use();
                return Ok(Caller { held, peer });
            }
            None => {
                let detail = "send a token: `Authorization: Bearer bst_…`; the first one is in the admin token file";
                (Denied::NoToken, None, Problem::unauthorized("Bearer realm=\"backstop admin\"", detail))
            }
            Some(Err(NotKnown::Expired(held))) => {
                let problem = not_known(&NotKnown::Expired(Arc::clone(&held)));
                (Denied::Expired, Some(Caller { held, peer: None }), problem)
            }
            Some(Err(why)) => (Denied::WrongToken, None, not_known(&why)),
        };
        if let (Some(peer), false) = (peer, matches!(why, Denied::NoToken)) {
            knocks.note(peer.ip());
        }
        let operation = self.operation(parts, &AUTHENTICATE, who.as_ref());
        self.deny(why, operation, &problem).await;
        Err(problem)
    }

    /// Has it written when tokens were last used, if the file does not say yet.
    fn note_use(&self) {
        if !self.state.holders.is_behind() {
            return;
        }
        let holders = Arc::clone(&self.state.holders);
        tokio::task::spawn_blocking(move || {
            if let Err(error) = holders.note_used() {
                tracing::warn!(%error, "when tokens were last used cannot be written");
            }
        });
    }

    async fn pass(self, request: Request<Body>) -> Response {
        let known = (request.method() == Method::GET).then(|| tags::known(request.headers()));
        let nouns = TowerToHyperService::new(warp::service(self.nouns));
        match nouns.call(request).await {
            Ok(response) => match known {
                Some(known) => tags::unless_known(response, &known),
                None => tags::without(response),
            },
            Err(never) => match never {},
        }
    }
}

/// A whole body.
async fn collect(body: Upload, max_bytes: usize, timeout: Duration) -> Result<Bytes, Problem> {
    let late = |_| {
        let detail = format!("the body took longer than {} seconds", timeout.as_secs());
        Problem::new(StatusCode::REQUEST_TIMEOUT, detail)
    };
    let collected = tokio::time::timeout(timeout, Limited::new(body, max_bytes).collect()).await;
    match collected.map_err(late)? {
        Ok(whole) => Ok(whole.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            let detail = format!("the body is larger than {max_bytes} bytes");
            Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail))
        }
        Err(_) => Err(Problem::new(StatusCode::BAD_REQUEST, "the body broke off")),
    }
}

impl Caller {
    /// Who that is, for the register.
    fn who(&self) -> Who {
        Who { name: self.held.name.to_string(), token: self.held.id.clone(), role: self.held.role }
    }

    /// Whether the token that was let in would be let in still: for streams, which outlive the question.
    pub(super) fn may_still(&self, state: &AdminState) -> bool {
        state.holders.identify_hash(&self.held.hash(), state.engine.now()).is_ok()
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
        NotKnown::Expired(held) => {
            let end = held.expires_at.unwrap_or_default();
            format!("the token `{}` expired at {end}; have another made", held.name)
        }
    };
    Problem::unauthorized("Bearer realm=\"backstop admin\", error=\"invalid_token\"", &detail)
}
