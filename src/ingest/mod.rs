//! The front door: `POST /in/<source>` becomes an event, and an answer that can be believed.
//!
//! Promises: a 2xx leaves only after [`Engine::accept`] has said that the event is durable; the body is
//! kept byte for byte, JSON or not; a source's cap and deadline hold however the body comes; whatever is
//! turned away is answered with a problem (RFC 9457), counted in [`Intake`] and logged at debug, without
//! its body. What a known source refuses for what it is, and every duplicate, is handed to [`Refusals`], which
//! nothing here waits for. Besides: `GET /livez` and `GET /readyz`, for whoever watches the process.
//!
//! Absent: verification of the sender (later, between reading the body and admitting it), routing and
//! duplicates (the engine's), sockets (the listener's).
//!
//! `body` reads it · `limit` how many · `headers` which are kept · `fields` what is read of JSON · `ack` the yes · `away`
//! the no.

mod ack;
mod away;
mod body;
mod fields;
mod headers;
mod limit;

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use futures_util::Stream;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use warp::reply::Response;
use warp::{Filter, Reply as _};

use crate::core::event::{Draft, Event, Header, UNKNOWN_TYPE};
use crate::core::id::EventId;
use crate::core::name::Name;
use crate::core::rate::Rate;
use crate::core::refused::{Refused, Why};
use crate::core::source::{Fields, Refusal, Source};
use crate::engine::{Engine, Health, NotAccepted};
use crate::journal::refused::Refusals;
use crate::telemetry::{Intake, Turned};
use ack::Template;
use away::Away;
use body::{Arriving, Rest};
use fields::Json;
pub use headers::HEADERS_KEPT_MAX_BYTES;
use limit::Limit;

/// Bodies above this are parsed and hashed on a thread that may be busy for a while, so that the requests
/// of others do not wait.
const INLINE_MAX_BYTES: usize = 256 << 10;

/// What stands behind the door.
struct Door {
    sources: HashMap<Name, Arc<Entrance>>,
    engine: Engine,
    intake: Arc<Intake>,
    refusals: Refusals,
    /// Of all sources.
    limit: Option<Limit>,
}

/// One source's way in.
struct Entrance {
    source: Source,
    ack: Template,
    limit: Option<Limit>,
}

/// A request as it stands at the door.
struct Request<S> {
    method: Method,
    headers: HeaderMap,
    peer: Option<SocketAddr>,
    body: Arriving<S>,
}

/// Everything the public listener serves. Rejects nothing: every path has its answer. `rate` is over all sources.
pub fn filter(
    sources: Vec<Source>,
    rate: Option<Rate>,
    engine: Engine,
    intake: Arc<Intake>,
    refusals: Refusals,
) -> impl Filter<Extract = (Response,), Error = Infallible> + Clone + Send + Sync + 'static {
    let entrance = |source: Source| {
        let (ack, limit) = (Template::new(&source.ack), source.rate.map(Limit::new));
        (source.name.clone(), Arc::new(Entrance { source, ack, limit }))
    };
    let sources = sources.into_iter().map(entrance).collect();
    let door = Arc::new(Door { sources, engine, intake, refusals, limit: rate.map(Limit::new) });
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
        .and(at_door.clone())
        .map(|method, door: Arc<Door>| probe(&method, door.unready()));
    let elsewhere = at_door
        .and(warp::ext::optional::<SocketAddr>())
        .map(|door: Arc<Door>, peer| door.turn_away("", peer, &Away::Nothing));
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
        self.admit(source, request).await.unwrap_or_else(|away| self.turn_away(source, peer, &away))
    }

    fn turn_away(&self, source: &str, peer: Option<SocketAddr>, away: &Away) -> Response {
        self.intake.note(away.turned());
        let (status, reason) = (away.status().as_u16(), away.turned().as_str());
        tracing::debug!(?peer, source, status, reason, detail = %away, "turned away");
        away.response()
    }

    async fn admit<S, B, E>(&self, source: &str, request: Request<S>) -> Result<Response, Away>
    where
        S: Stream<Item = Result<B, E>> + Send + 'static,
        B: Buf + Send,
        E: Send,
    {
        let Request { method, headers, peer, body: mut arriving } = request;
        let (entrance, headers) = match self.look(source, &method, &headers) {
            Ok(looked) => looked,
            Err(away @ Away::TooOften { .. }) => {
                if let Some(entrance) = self.sources.get(source) {
                    self.keep_too_often(source, peer, entrance, &away);
                }
                // Its body is not read: it goes on if it is there already, else the connection ends.
                return Err(away);
            }
            Err(away) => {
                let refuse = self.refuser(source, peer, Vec::new(), &away);
                arriving.linger(|rest| refuse.map_or((), |refuse| refuse.keep(rest)));
                return Err(away);
            }
        };
        let Source { body_max_bytes, body_timeout, strict, .. } = entrance.source;
        let unheard = Unheard { intake: &self.intake };
        let read = arriving.read(body_max_bytes, body_timeout).await;
        unheard.heard();
        let body = match read {
            Ok(body) => body,
            Err(away) => {
                if matches!(away, Away::TooLarge { .. }) {
                    let refuse = self.refuser(source, peer, headers, &away);
                    arriving.linger(|rest| refuse.map_or((), |refuse| refuse.keep(rest)));
                }
                return Err(away);
            }
        };
        // Only a strict source refuses what it has read.
        let spare = (strict && self.refusals.is_on()).then(|| (headers.clone(), body.clone()));
        let draft = match entrance.draft(headers, body).await {
            Ok(draft) => draft,
            Err(away) => {
                if let Some((headers, body)) = spare
                    && let Some(refuse) = self.refuser(source, peer, headers, &away)
                {
                    refuse.keep(Rest::whole(&body));
                }
                return Err(away);
            }
        };
        self.within_rate(entrance, Limit::take)
            .inspect_err(|away| self.keep_too_often(source, peer, entrance, away))?;
        let accepted = self.engine.accept(draft).await.map_err(Away::NotAccepted)?;
        if let Some(again) = &accepted.duplicate {
            self.intake.note(Turned::Duplicate);
            self.keep_duplicate(again, accepted.id, peer);
        }
        Ok(entrance.ack.response(&accepted))
    }

    /// What will keep a request that is turned away, if it is of the kind that is kept.
    fn refuser(&self, source: &str, peer: Option<SocketAddr>, headers: Vec<Header>, away: &Away) -> Option<Refuser> {
        let why = away.why().filter(|_| self.refusals.is_on())?;
        let (source, _) = self.sources.get_key_value(source)?;
        let refused = Refused {
            at: self.engine.now(),
            source: source.clone(),
            why,
            detail: away.to_string(),
            first: None,
            peer: peer.map(|peer| peer.to_string()),
            headers,
            body: Bytes::new(),
            body_bytes: None,
        };
        Some(Refuser { refused, refusals: self.refusals.clone() })
    }

    fn keep_duplicate(&self, again: &Event, first: EventId, peer: Option<SocketAddr>) {
        if !self.refusals.is_on() {
            return;
        }
        let Rest { body, body_bytes } = Rest::whole(&again.draft.body);
        self.refusals.note(Refused {
            at: again.received_at,
            source: again.draft.source.clone(),
            why: Why::Duplicate,
            detail: format!("the same event was there already: {first}"),
            first: Some(first),
            peer: peer.map(|peer| peer.to_string()),
            headers: again.draft.headers.clone(),
            body,
            body_bytes,
        });
    }

    /// What can be said of a request before its body: which source it is for, and the headers to keep.
    fn look(&self, source: &str, method: &Method, headers: &HeaderMap) -> Result<(&Arc<Entrance>, Vec<Header>), Away> {
        let entrance = self.sources.get(source).ok_or(Away::UnknownSource)?;
        if method != Method::POST {
            return Err(Away::Method { allowed: "POST" });
        }
        self.within_rate(entrance, Limit::ask)?;
        Ok((entrance, headers::kept(headers).ok_or(Away::Headers)?))
    }

    /// What the rates of this source and of all say, asked like this.
    fn within_rate(&self, entrance: &Entrance, ask: fn(&Limit) -> Result<(), Duration>) -> Result<(), Away> {
        let asked = |limit: &Option<Limit>, of_all: bool| match limit {
            Some(limit) => ask(limit).map_err(|wait| Away::TooOften { wait, of_all }),
            None => Ok(()),
        };
        asked(&entrance.limit, false)?;
        asked(&self.limit, true)
    }

    /// Keeps that something was refused by a rate: now and then, for there may be many.
    fn keep_too_often(&self, source: &str, peer: Option<SocketAddr>, entrance: &Entrance, away: &Away) {
        let Away::TooOften { of_all, .. } = away else { return };
        let limit = if *of_all { &self.limit } else { &entrance.limit };
        if let Some(count) = limit.as_ref().and_then(Limit::refused)
            && let Some(mut refuse) = self.refuser(source, peer, Vec::new(), away)
        {
            refuse.refused.detail = format!("{away}; {count} refused since this was last noted");
            refuse.keep(Rest { body: Bytes::new(), body_bytes: None });
        }
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
            admit(&self.source, headers, body)
        } else {
            let entrance = Arc::clone(self);
            let admitting = tokio::task::spawn_blocking(move || admit(&entrance.source, headers, body));
            // It ends without a result only if the runtime is shutting down.
            admitting.await.map_err(|_| Away::NotAccepted(NotAccepted::Stopping))?
        };
        admitted.map_err(Away::Refused)
    }
}

/// A request that is turned away, to be kept once its body was seen.
struct Refuser {
    refused: Refused,
    refusals: Refusals,
}

impl Refuser {
    fn keep(self, Rest { body, body_bytes }: Rest) {
        self.refusals.note(Refused { body, body_bytes, ..self.refused });
    }
}

/// Reads requests that were kept by the rules that their sources have now; what is wrong, in words.
pub fn reader(sources: &[Source]) -> impl Fn(&Name, Vec<Header>, Bytes) -> Result<Draft, String> + use<> {
    let sources: HashMap<Name, Source> = sources.iter().map(|source| (source.name.clone(), source.clone())).collect();
    move |name, headers, body| {
        let source = sources.get(name).ok_or_else(|| format!("the config has no source `{name}`"))?;
        let max_bytes = source.body_max_bytes;
        if body.len() > max_bytes {
            return Err(Away::TooLarge { max_bytes }.to_string());
        }
        admit(source, headers, body).map_err(|refusal| refusal.to_string())
    }
}

/// Makes events of ones that were events before: what their headers and bodies may be is as for a request, what they
/// say is not read.
pub fn importer(sources: &[Source]) -> impl Fn(&Name, Vec<Header>, Bytes) -> Result<Draft, String> + use<> {
    let bodies: HashMap<Name, usize> =
        sources.iter().map(|source| (source.name.clone(), source.body_max_bytes)).collect();
    move |name, headers, body| {
        let &max_bytes = bodies.get(name).ok_or_else(|| format!("the config has no source `{name}`"))?;
        if body.len() > max_bytes {
            return Err(Away::TooLarge { max_bytes }.to_string());
        }
        let mut map = HeaderMap::new();
        for Header { name, value } in headers {
            let (key, value) = (HeaderName::from_bytes(name.as_bytes()).ok(), HeaderValue::from_bytes(&value).ok());
            let header = key.zip(value);
            let (key, value) = header.ok_or_else(|| format!("its header `{}` is none in HTTP", name.escape_debug()))?;
            map.append(key, value);
        }
        let headers = headers::kept(&map).ok_or_else(|| Away::Headers.to_string())?;
        let source = name.clone();
        let event_type = UNKNOWN_TYPE.to_owned();
        Ok(Draft {
            source,
            event_type,
            key: None,
            occurred_at: None,
            headers,
            body,
            dedup: None,
            endpoints: Vec::new(),
        })
    }
}

/// The event in a request, by its source's rules.
fn admit(source: &Source, headers: Vec<Header>, body: Bytes) -> Result<Draft, Refusal> {
    let json = Json::read(source, &body);
    source.admit(json.as_ref().map(|json| json as &dyn Fields), headers, body)
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

/// The answer of `/livez` or `/readyz`: 200, or 503 with what is wrong.
fn probe(method: &Method, wrong: Option<NotAccepted>) -> Response {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return Away::Method { allowed: "GET, HEAD" }.response();
    }
    wrong.map_or_else(|| "ok\n".into_response(), |wrong| Away::NotAccepted(wrong).response())
}
