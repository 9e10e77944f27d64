//! The front door: `POST /in/<source>` becomes an event, and an answer that can be believed.
//!
//! Promises: a 2xx leaves only after [`Engine::accept`] has said that the event is durable; the body is
//! kept byte for byte, JSON or not; a source's cap and deadline hold however the body comes; whatever is
//! turned away is answered with a problem (RFC 9457), counted in [`Intake`] and logged at debug, without
//! its body. What a known source refuses for what it is, and every duplicate, is handed to [`Refusals`], which
//! nothing here waits for. Besides: `GET /livez` and `GET /readyz`, for whoever watches the process.
//!
//! Who may send is the core's `verify`: what it can ask before the body is asked before the body is read, the rest
//! before anything of it is believed. What a provider asks before it sends is answered here, too; it is no event.
//!
//! Absent: routing and duplicates (the engine's), sockets (the listener's).
//!
//! `desk` by what it is taken in · `body` reads it · `limit` how many · `headers` which are kept · `fields` what is read of JSON · `sender` who it is ·
//! `ack` the yes · `away` the no · `told` what a trace is told of it.

mod ack;
mod away;
mod body;
mod desk;
mod fields;
mod headers;
mod limit;
mod sender;
mod told;

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::{Buf, Bytes};
use futures_util::Stream;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use tokio::time::Instant;
use warp::path::FullPath;
use warp::reply::Response;
use warp::{Filter, Reply as _};

use crate::core::event::{Draft, Event, Header, UNKNOWN_TYPE};
use crate::core::id::EventId;
use crate::core::name::Name;
use crate::core::rate::Rate;
use crate::core::refused::{Refused, Why};
use crate::core::source::{Refusal, Source};
use crate::core::verify::OnFail;
use crate::core::verify::handshake::{Handshake, Reply};
use crate::engine::{Engine, Health, NotAccepted};
use crate::journal::refused::Refusals;
use crate::telemetry::{Intake, Turned};
use away::Away;
pub use away::NOTHING_HERE;
use body::{Arriving, Rest};
use desk::{Desk, Entrance};
use fields::Json;
pub use headers::HEADERS_KEPT_MAX_BYTES;
use limit::Limit;
use sender::Sender;
use told::Told;

/// Bodies above this are parsed and hashed on a thread that may be busy for a while, so that the requests
/// of others do not wait.
const INLINE_MAX_BYTES: usize = 256 << 10;

/// What stands behind the door.
pub struct Door {
    desk: ArcSwap<Desk>,
    engine: Engine,
    intake: Arc<Intake>,
    refusals: Refusals,
}

/// A request as it stands at the door.
struct Request<S> {
    method: Method,
    /// What follows the source in the path.
    token: Option<String>,
    /// The path and the query, as they came.
    target: String,
    headers: HeaderMap,
    peer: Option<SocketAddr>,
    body: Arriving<S>,
}

/// What a request turns out to be.
enum Heard {
    Event(Box<Draft>),
    /// What its sender wants to know before it sends.
    Handshake(Reply),
}

/// Everything the public listener serves. Rejects nothing: every path has its answer.
pub fn filter(
    door: Arc<Door>,
) -> impl Filter<Extract = (Response,), Error = Infallible> + Clone + Send + Sync + 'static {
    let at_door = warp::any().map(move || Arc::clone(&door));
    let source = warp::path!("in" / String).map(|source| (source, None));
    let with_token = warp::path!("in" / String / String).map(|source, token| (source, Some(token)));
    let query = warp::query::raw().map(|query| format!("?{query}"));
    let target = warp::path::full().and(query.or(warp::any().map(String::new)).unify());
    let events = source
        .or(with_token)
        .unify()
        .and(at_door.clone())
        .and(warp::method())
        .and(target)
        .and(warp::header::headers_cloned())
        .and(warp::ext::optional::<SocketAddr>())
        .and(warp::body::stream())
        .then(|(source, token): (String, _), door: Arc<Door>, method, path: FullPath, query, headers, peer, stream| {
            let target = format!("{}{query}", path.as_str());
            let body = Arriving::new(stream, &headers);
            async move { door.receive(&source, Request { method, token, target, headers, peer, body }).await }
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
    /// A door for these sources, whose events go where the engine's rules of now send them. `rate` is over all sources.
    #[must_use]
    pub fn new(
        sources: Vec<Source>,
        rate: Option<Rate>,
        engine: Engine,
        intake: Arc<Intake>,
        refusals: Refusals,
    ) -> Arc<Self> {
        let desk = ArcSwap::from_pointee(Desk::new(sources, rate, engine.rules(), &intake));
        Arc::new(Self { desk, engine, intake, refusals })
    }

    /// From the next request on it is for these sources, and goes by the rules that the engine has now.
    pub fn change(&self, sources: Vec<Source>, rate: Option<Rate>) {
        let next = self.desk.load().next(sources, rate, self.engine.rules(), &self.intake);
        self.desk.store(Arc::new(next));
    }

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
        let began = Instant::now();
        let Request { method, token, target, headers, peer, body: mut arriving } = request;
        let (now, desk) = (self.engine.now(), self.desk.load_full());
        let sender = Sender { now, peer: peer.map(|peer| peer.ip()), token, target, headers };
        let (entrance, headers) = match desk.look(source, &method, &sender) {
            Ok(looked) => looked,
            Err(away @ Away::TooOften { .. }) => {
                if let Some(entrance) = desk.sources.get(source) {
                    self.keep_too_often(&desk, peer, entrance, &away);
                }
                // Its body is not read: it goes on if it is there already, else the connection ends.
                return Err(away);
            }
            Err(away) => {
                let refuse = self.refuser(&desk, (source, peer), Vec::new(), &away);
                arriving.linger(|rest| refuse.map_or((), |refuse| refuse.keep(rest)));
                return Err(away);
            }
        };
        if let Some(greeted) = entrance.greet(&method, &sender) {
            arriving.linger(|_| ());
            return greeted.map(sender::answer);
        }
        let Source { body_max_bytes, body_timeout, .. } = entrance.source;
        let unheard = Unheard { intake: &self.intake };
        let read = arriving.read(body_max_bytes, body_timeout).await;
        unheard.heard();
        let body = match read {
            Ok(body) => body,
            Err(away) => {
                if matches!(away, Away::TooLarge { .. }) {
                    let refuse = self.refuser(&desk, (source, peer), headers, &away);
                    arriving.linger(|rest| refuse.map_or((), |refuse| refuse.keep(rest)));
                }
                return Err(away);
            }
        };
        let spare = self.refusals.is_on().then(|| entrance.spare(&headers, &body)).flatten();
        let draft = match entrance.hear(sender, headers, body).await {
            Ok(Heard::Event(draft)) => *draft,
            Ok(Heard::Handshake(reply)) => return Ok(sender::answer(reply)),
            Err(away) => {
                if let Some((headers, body)) = spare
                    && let Some(refuse) = self.refuser(&desk, (source, peer), headers, &away)
                {
                    refuse.keep(Rest::whole(&body));
                }
                return Err(away);
            }
        };
        desk.within_rate(entrance, Limit::take).inspect_err(|away| self.keep_too_often(&desk, peer, entrance, away))?;
        let body_bytes = draft.body.len();
        let told = Told::new(&self.intake.spans, &draft, now);
        let accepted = self.engine.accept_by(&desk.rules, draft).await.map_err(Away::NotAccepted)?;
        entrance.measured.note(body_bytes, began.elapsed());
        if let Some(told) = told.filter(|_| accepted.duplicate.is_none()) {
            told.tell(&self.intake.spans, accepted.id, began.elapsed());
        }
        if let Some(again) = &accepted.duplicate {
            self.intake.note(Turned::Duplicate);
            self.keep_duplicate(again, accepted.id, peer);
        }
        Ok(entrance.ack.response(&accepted))
    }

    /// What will keep a request that is turned away, if it is of the kind that is kept.
    fn refuser(
        &self,
        desk: &Desk,
        (source, peer): (&str, Option<SocketAddr>),
        headers: Vec<Header>,
        away: &Away,
    ) -> Option<Refuser> {
        let why = away.why().filter(|_| self.refusals.is_on())?;
        let (source, entrance) = desk.sources.get_key_value(source)?;
        let unproven = matches!(away, Away::TooLarge { .. }) && entrance.source.verification.proves_bodies();
        let besides = if unproven { "; it was not read to its end, so who sent it is not proven" } else { "" };
        let refused = Refused {
            at: self.engine.now(),
            source: source.clone(),
            why,
            detail: format!("{away}{besides}"),
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

    /// Keeps that something was refused by a rate: now and then, for there may be many.
    fn keep_too_often(&self, desk: &Desk, peer: Option<SocketAddr>, entrance: &Entrance, away: &Away) {
        let Away::TooOften { of_all, .. } = away else { return };
        let limit = if *of_all { &desk.limit } else { &entrance.limit };
        let source = entrance.source.name.as_str();
        if let Some(count) = limit.as_ref().and_then(|limit| limit.refused())
            && let Some(mut refuse) = self.refuser(desk, (source, peer), Vec::new(), away)
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

impl Desk {
    /// What can be said of a request before its body: which source it is for, and the headers to keep.
    fn look(&self, source: &str, method: &Method, sender: &Sender) -> Result<(&Arc<Entrance>, Vec<Header>), Away> {
        let entrance = self.sources.get(source).ok_or(Away::UnknownSource)?;
        let verification = &entrance.source.verification;
        if sender.token.is_some() && verification.tokens.is_empty() {
            return Err(Away::Nothing);
        }
        let takes_get = verification.handshake.as_ref().is_some_and(Handshake::is_a_get);
        let allowed = if takes_get { "GET, POST" } else { "POST" };
        if method != Method::POST && !(takes_get && method == Method::GET) {
            return Err(Away::Method { allowed });
        }
        self.within_rate(entrance, Limit::ask)?;
        let headers = headers::kept(&sender.headers, verification.credential_header()).ok_or(Away::Headers)?;
        // What is kept when it is denied is read first.
        if verification.on_fail == OnFail::Reject {
            verification.knock(&sender.request()).map_err(|denied| sender::denied(verification, denied))?;
        }
        Ok((entrance, headers))
    }

    /// What the rates of this source and of all say, asked like this.
    fn within_rate(&self, entrance: &Entrance, ask: fn(&Limit) -> Result<(), Duration>) -> Result<(), Away> {
        let asked = |limit: &Option<Arc<Limit>>, of_all: bool| match limit {
            Some(limit) => ask(limit).map_err(|wait| Away::TooOften { wait, of_all }),
            None => Ok(()),
        };
        asked(&entrance.limit, false)?;
        asked(&self.limit, true)
    }
}

impl Entrance {
    /// The answer to a handshake that is one without a body.
    fn greet(&self, method: &Method, sender: &Sender) -> Option<Result<Reply, Away>> {
        let verification = &self.source.verification;
        let greeted = if method == Method::GET {
            Some(verification.greet(&sender.request()))
        } else {
            verification.welcome(&sender.request())
        };
        greeted.map(|greeted| greeted.map_err(|denied| sender::denied(verification, denied)))
    }

    /// What is to be kept of a request, should it be refused after all.
    fn spare(&self, headers: &[Header], body: &Bytes) -> Option<(Vec<Header>, Bytes)> {
        let Source { strict, verification, .. } = &self.source;
        let keeps_headers = *strict || verification.on_fail == OnFail::Quarantine;
        let headers = if keeps_headers { headers.to_vec() } else { Vec::new() };
        (*strict || !verification.is_open()).then(|| (headers, body.clone()))
    }

    /// What is in a request, by the source's rules.
    async fn hear(self: &Arc<Self>, sender: Sender, headers: Vec<Header>, body: Bytes) -> Result<Heard, Away> {
        if body.len() <= INLINE_MAX_BYTES {
            return hear(&self.source, &sender, headers, body);
        }
        let entrance = Arc::clone(self);
        let hearing = tokio::task::spawn_blocking(move || hear(&entrance.source, &sender, headers, body));
        // It ends without a result only if the runtime is shutting down.
        hearing.await.map_err(|_| Away::NotAccepted(NotAccepted::Stopping))?
    }
}

/// A request that is turned away, to be kept once its body was seen.
struct Refuser {
    refused: Refused,
    refusals: Refusals,
}

impl Refuser {
    fn keep(self, Rest { body, body_bytes }: Rest) {
        // What nobody vouches for, and nobody asked to keep, is not kept.
        let refused = match self.refused.why {
            Why::Unverified => Refused { headers: Vec::new(), body_bytes, ..self.refused },
            _ => Refused { body, body_bytes, ..self.refused },
        };
        self.refusals.note(refused);
    }
}

/// Reads requests that were kept by the rules that their sources have now; what is wrong, in words. Who sent them is
/// not asked again: it is an operator who takes them in, and what proved it may be old by now, or was not kept.
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
        let headers = headers::kept(&map, None).ok_or_else(|| Away::Headers.to_string())?;
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

/// What is in a request: proven first, then read.
fn hear(source: &Source, sender: &Sender, headers: Vec<Header>, body: Bytes) -> Result<Heard, Away> {
    let verification = &source.verification;
    let denied = |denied| sender::denied(verification, denied);
    let fields = Json::new(&body);
    let proof = verification.prove(&sender.request(), &body, &fields).map_err(denied)?;
    if let Some(answer) = verification.answer(&proof, &fields) {
        return answer.map(Heard::Handshake).map_err(denied);
    }
    let draft = source.admit(Some(&proof), fields.wanted(source), headers, body.clone());
    draft.map(|draft| Heard::Event(Box::new(draft))).map_err(Away::Refused)
}

/// The event in a request, by its source's rules.
fn admit(source: &Source, headers: Vec<Header>, body: Bytes) -> Result<Draft, Refusal> {
    source.admit(None, Json::new(&body).wanted(source), headers, body.clone())
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
