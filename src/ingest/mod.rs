//! The front door: `POST /in/<source>` becomes an event, and an answer that can be believed.
//!
//! Promises: a 2xx leaves only after [`Engine::accept`] has said that the event is durable; the body is
//! kept byte for byte, JSON or not; a source's cap and deadline hold however the body comes; whatever is
//! turned away is answered with a problem (RFC 9457), counted in [`Intake`] and logged at debug, without
//! its body. Besides: `GET /livez` and `GET /readyz`, for whoever watches the process.
//!
//! Absent: verification of the sender (later, between reading the body and admitting it), routing and
//! duplicates (the engine's), sockets (the listener's).
//!
//! `body` reads it · `headers` which are kept · `fields` what is read of JSON · `ack` the answer.

mod ack;
mod body;
mod fields;
mod headers;

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use futures_util::Stream;
use http::header::{ALLOW, CONNECTION, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use warp::reply::Response;
use warp::{Filter, Reply as _};

use crate::core::event::{Draft, Header};
use crate::core::name::Name;
use crate::core::source::{Fields, Refusal, Source};
use crate::engine::{Engine, Health, NotAccepted};
use crate::problem;
use crate::telemetry::{Intake, Turned};
use ack::Template;
use body::{Arriving, NotRead};
use fields::Json;
pub use headers::HEADERS_KEPT_MAX_BYTES;

/// Bodies above this are parsed and hashed on a thread that may be busy for a while, so that the requests
/// of others do not wait.
const INLINE_MAX_BYTES: usize = 256 << 10;

/// What stands behind the door.
struct Door {
    sources: HashMap<Name, Arc<Entrance>>,
    engine: Engine,
    intake: Arc<Intake>,
}

/// One source's way in.
struct Entrance {
    source: Source,
    ack: Template,
}

/// A request as it stands at the door.
struct Request<S> {
    method: Method,
    headers: HeaderMap,
    peer: Option<SocketAddr>,
    body: Arriving<S>,
}

/// Why a request is turned away: the count, and the answer.
struct Away {
    turned: Turned,
    /// For the log; never a body or a header's value.
    detail: String,
    response: Response,
}

/// Everything the public listener serves. Rejects nothing: every path has its answer.
pub fn filter(
    sources: Vec<Source>,
    engine: Engine,
    intake: Arc<Intake>,
) -> impl Filter<Extract = (Response,), Error = Infallible> + Clone + Send + Sync + 'static {
    let entrance =
        |source: Source| (source.name.clone(), Arc::new(Entrance { ack: Template::new(&source.ack), source }));
    let door = Arc::new(Door { sources: sources.into_iter().map(entrance).collect(), engine, intake });
    let at_door = warp::any().map(move || Arc::clone(&door));
    let events = warp::path!("in" / String)
        .and(at_door.clone())
        .and(warp::method())
        .and(warp::header::headers_cloned())
        .and(warp::ext::optional::<SocketAddr>())
        .and(warp::body::stream())
        .then(|source: String, door: Arc<Door>, method, headers, peer, stream| async move {
            let body = Arriving::new(stream, &headers);
            door.receive(&source, Request { method, headers, peer, body }).await
        });
    let livez = warp::path!("livez")
        .and(warp::method())
        .and(at_door.clone())
        .map(|method, door: Arc<Door>| probe(&method, door.dead()));
    let readyz = warp::path!("readyz")
        .and(warp::method())
        .and(at_door)
        .map(|method, door: Arc<Door>| probe(&method, door.unready()));
    let elsewhere = warp::any()
        .map(|| problem::response(StatusCode::NOT_FOUND, "Not Found", "events are sent to /in/<source>", &[]));
    events.or(livez).unify().or(readyz).unify().or(elsewhere).unify()
}

impl Door {
    /// Takes a request in, or turns it away.
    async fn receive<S, B, E>(&self, source: &str, request: Request<S>) -> Response
    where
        S: Stream<Item = Result<B, E>> + Send + 'static,
        B: Buf + Send,
        E: Send,
    {
        let peer = request.peer;
        match self.admit(source, request).await {
            Ok(response) => response,
            Err(Away { turned, detail, response }) => {
                self.intake.note(turned);
                let status = response.status().as_u16();
                tracing::debug!(?peer, source, status, reason = turned.as_str(), detail, "turned away");
                response
            }
        }
    }

    async fn admit<S, B, E>(&self, source: &str, request: Request<S>) -> Result<Response, Away>
    where
        S: Stream<Item = Result<B, E>> + Send + 'static,
        B: Buf + Send,
        E: Send,
    {
        let Request { method, headers, body: mut arriving, .. } = request;
        let (entrance, headers) = match self.look(source, &method, &headers) {
            Ok(looked) => looked,
            Err(away) => {
                arriving.linger();
                return Err(away);
            }
        };
        let Source { body_max_bytes, body_timeout, .. } = entrance.source;
        let unheard = Unheard { intake: &self.intake };
        let read = arriving.read(body_max_bytes, body_timeout).await;
        unheard.heard();
        let body = match read {
            Ok(body) => body,
            Err(why) => {
                if why == NotRead::TooLarge {
                    arriving.linger();
                }
                return Err(not_read(why, &entrance.source));
            }
        };
        let draft = entrance.draft(headers, body).await?;
        let accepted = self.engine.accept(draft).await.map_err(not_accepted)?;
        if accepted.duplicate {
            self.intake.note(Turned::Duplicate);
        }
        Ok(entrance.ack.response(accepted))
    }

    /// What can be said of a request before its body: which source it is for, and the headers to keep.
    fn look(&self, source: &str, method: &Method, headers: &HeaderMap) -> Result<(&Arc<Entrance>, Vec<Header>), Away> {
        let entrance = self.sources.get(source).ok_or_else(|| {
            Away::new(Turned::UnknownSource, StatusCode::NOT_FOUND, "Not Found", "there is no such source".to_owned())
        })?;
        if method != Method::POST {
            return Err(Away {
                turned: Turned::Method,
                detail: "not POST".to_owned(),
                response: method_not_allowed("events are sent with POST", HeaderValue::from_static("POST")),
            });
        }
        let kept = headers::kept(headers).ok_or_else(|| {
            let detail = format!("the headers have more than {HEADERS_KEPT_MAX_BYTES} bytes");
            let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
            Away::new(Turned::TooLarge, status, "Request Header Fields Too Large", detail)
        })?;
        Ok((entrance, kept))
    }

    /// Why the process should be started again.
    fn dead(&self) -> Option<NotAccepted> {
        self.unready().filter(|why| matches!(why, NotAccepted::Failed(_)))
    }

    /// Why no event would be taken now.
    fn unready(&self) -> Option<NotAccepted> {
        match &*self.engine.health().borrow() {
            Health::Failed(why) => Some(NotAccepted::Failed(why.clone())),
            Health::Stopping => Some(NotAccepted::Stopping),
            Health::Running if self.engine.is_full() => Some(NotAccepted::Full),
            Health::Running => None,
        }
    }
}

impl Entrance {
    /// The event in a request, by the source's rules.
    async fn draft(self: &Arc<Self>, headers: Vec<Header>, body: Bytes) -> Result<Draft, Away> {
        let admitted = if body.len() <= INLINE_MAX_BYTES {
            self.admit(headers, body)
        } else {
            let entrance = Arc::clone(self);
            let admitting = tokio::task::spawn_blocking(move || entrance.admit(headers, body));
            // It ends without a result only if the runtime is shutting down.
            admitting.await.map_err(|_| not_accepted(NotAccepted::Stopping))?
        };
        admitted.map_err(refused)
    }

    fn admit(&self, headers: Vec<Header>, body: Bytes) -> Result<Draft, Refusal> {
        let json = Json::read(&self.source, &body);
        self.source.admit(json.as_ref().map(|json| json as &dyn Fields), headers, body)
    }
}

/// Counts a request whose sender went away before its body was there: then nobody is left to answer.
struct Unheard<'a> {
    intake: &'a Intake,
}

impl Unheard<'_> {
    /// There is an answer to give after all.
    fn heard(self) {
        std::mem::forget(self);
    }
}

impl Drop for Unheard<'_> {
    fn drop(&mut self) {
        self.intake.note(Turned::Slow);
        tracing::debug!(reason = Turned::Slow.as_str(), detail = "the sender went away", "turned away");
    }
}

impl Away {
    fn new(turned: Turned, status: StatusCode, title: &str, detail: String) -> Self {
        let response = problem::response(status, title, &detail, &[]);
        Self { turned, detail, response }
    }
}

fn not_read(why: NotRead, source: &Source) -> Away {
    let (turned, status, title, detail) = match why {
        NotRead::TooLarge => (
            Turned::TooLarge,
            StatusCode::PAYLOAD_TOO_LARGE,
            "Content Too Large",
            format!("the body has more than the {} bytes that this source takes", source.body_max_bytes),
        ),
        NotRead::Slow => (
            Turned::Slow,
            StatusCode::REQUEST_TIMEOUT,
            "Request Timeout",
            format!("the body was not there after {:?}", source.body_timeout),
        ),
        NotRead::BrokenOff => (Turned::Slow, StatusCode::BAD_REQUEST, "Bad Request", "the body broke off".to_owned()),
    };
    let mut away = Away::new(turned, status, title, detail);
    // What is left of the body is not the begin of the next request.
    away.response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    away
}

fn refused(refusal: Refusal) -> Away {
    let detail = refusal.to_string();
    let field = match refusal {
        Refusal::NotJson => None,
        Refusal::Field { pointer, .. } => Some(("field", pointer.into())),
    };
    let response =
        problem::response(StatusCode::UNPROCESSABLE_ENTITY, "Unprocessable Content", &detail, field.as_slice());
    Away { turned: Turned::Unreadable, detail, response }
}

fn not_accepted(why: NotAccepted) -> Away {
    // In seconds: a queue is soon gone, a restart takes a moment, a full disk takes longest.
    let retry_after = match why {
        NotAccepted::Busy => 1,
        NotAccepted::Stopping | NotAccepted::Failed(_) => 5,
        NotAccepted::Full => 30,
    };
    let status = StatusCode::SERVICE_UNAVAILABLE;
    let mut away = Away::new(Turned::Unavailable, status, "Service Unavailable", why.to_string());
    away.response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(retry_after));
    away
}

fn method_not_allowed(detail: &str, allow: HeaderValue) -> Response {
    let mut response = problem::response(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed", detail, &[]);
    response.headers_mut().insert(ALLOW, allow);
    response
}

/// The answer of `/livez` or `/readyz`: 200, or 503 with what is wrong.
fn probe(method: &Method, wrong: Option<NotAccepted>) -> Response {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return method_not_allowed("this is read with GET", HeaderValue::from_static("GET, HEAD"));
    }
    match wrong {
        None => "ok\n".into_response(),
        Some(why) => not_accepted(why).response,
    }
}
