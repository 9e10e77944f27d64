//! Delivery: one attempt over HTTP, from the event's bytes to what came back.
//!
//! [`HttpTransport`] signs, sends, caps the answer and names the failure; it decides nothing. It promises
//! that the body goes out byte for byte, that an attempt ends within the endpoint's timeout, that an
//! answer costs bounded memory whatever the endpoint sends, that no failure's text holds a secret, and that
//! nothing is dialled but what the endpoint's egress policy allows, judged by the [`Guard`] at every dial.
//!
//! Absent on purpose: redirects (a 3xx is an answer), proxies from the environment, cookies,
//! decompression, and retries of its own — every attempt is one the scheduler asked for. (The client does
//! move a request on to a fresh connection if a pooled one closed before a byte of it was written: nobody
//! has seen that request.) Connections are HTTP/1.1 and kept alive; how many there are is bounded by the
//! endpoint's `concurrency`, which the scheduler keeps.
//!
//! `headers` what is sent besides the body · `body` whether it was sent whole · `answer` what is kept ·
//! `classify` what a failure means · `tls` whom we trust and who we are ·
//! `traced` what a trace is told of it.

mod answer;
mod body;
mod classify;
mod headers;
mod tls;
mod traced;

use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::HeaderValue;
use reqwest::{Client, RequestBuilder, Url};
use rustls::RootCertStore;
use tokio::time::Instant;

use crate::core::attempt::{Failure, Reply};
use crate::core::dial::{Credentials, Dial, Proxy};
use crate::core::endpoint::Endpoint;
use crate::core::trace::TraceParent;
use crate::egress::{self, Guard};
use crate::engine::{Sending, Transport};
use crate::telemetry::spans::Spans;

use body::{SentWhole, TrackedBody};
use traced::Traced;

/// How long an unused connection is kept. Shorter than most servers keep theirs, so that few requests
/// are written to a connection that is just being closed.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Sends attempts over HTTP/1.1, with TLS by rustls. Cheap to clone; clones share their connections.
#[derive(Debug, Clone)]
pub struct HttpTransport {
    clients: Arc<Clients>,
    spans: Spans,
}

/// One client for all endpoints that are dialled alike, because a client has one resolver, one identity and one
/// connect timeout. All three come from the config, so there are few.
struct Clients {
    guard: Guard,
    machine_roots: RootCertStore,
    by_kind: Mutex<HashMap<Kind, Client>>,
}

/// What a client's connections have in common.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Kind {
    connect_timeout: Duration,
    dial: Arc<Dial>,
    /// Whether what is dialled has the admin listener's port, for a resolver is not told the port.
    is_admin_port: bool,
}

impl HttpTransport {
    /// A transport that trusts the certificates `roots` vouch for, usually [`egress::native_roots`], unless an
    /// endpoint wants it otherwise, and dials what `guard` lets pass.
    #[must_use]
    pub fn new(roots: RootCertStore, guard: Guard) -> Self {
        Self {
            clients: Arc::new(Clients { guard, machine_roots: roots, by_kind: Mutex::default() }),
            spans: Spans::default(),
        }
    }

    /// The same, telling of each attempt.
    #[must_use]
    pub fn telling(self, spans: Spans) -> Self {
        Self { spans, ..self }
    }

    /// These are the endpoints now: connections that none of them would use are let go of, those in use once they are
    /// not any more.
    pub fn keep(&self, endpoints: &[Endpoint]) {
        let is_used = |kind: &Kind| {
            let dials =
                |endpoint: &Endpoint| endpoint.connect_timeout == kind.connect_timeout && endpoint.dial == kind.dial;
            endpoints.iter().any(dials)
        };
        self.clients.by_kind.lock().unwrap_or_else(PoisonError::into_inner).retain(|kind, _| is_used(kind));
    }
}

impl Transport for HttpTransport {
    fn send(&self, sending: Sending) -> Pin<Box<dyn Future<Output = Reply> + Send>> {
        let (clients, spans) = (Arc::clone(&self.clients), self.spans.clone());
        Box::pin(async move {
            let (begun, traced) = (Instant::now(), Traced::new(&spans, &sending));
            let context = traced.as_ref().map(|traced| traced.context);
            let reply = attempt(&clients, &sending, context).await.unwrap_or_else(Reply::Failure);
            if let Some(traced) = traced {
                traced.tell(&spans, &sending, &reply, begun.elapsed());
            }
            reply
        })
    }
}

async fn attempt(clients: &Clients, sending: &Sending, context: Option<TraceParent>) -> Result<Reply, Failure> {
    let begun = Instant::now();
    let timeout = sending.endpoint.timeout;
    let sent_whole = SentWhole::default();
    let request = request(clients, sending, context, &sent_whole).map_err(|error| classify::not_sent(&*error))?;
    let response = tokio::time::timeout(timeout, request.send())
        .await
        .map_err(|_| classify::timed_out(timeout, sent_whole.get()))?
        .map_err(|error| classify::failure(&error, sent_whole.get()))?;
    let answer = answer::read(response, timeout.saturating_sub(begun.elapsed())).await;
    Ok(Reply::Answer(answer.resolve(sending.now.after(begun.elapsed()))))
}

/// The request, checked and signed, or why there is none.
fn request(
    clients: &Clients,
    sending: &Sending,
    context: Option<TraceParent>,
    sent_whole: &SentWhole,
) -> Result<RequestBuilder, Box<dyn Error>> {
    let url = egress::target(&sending.endpoint.url)?;
    let client = clients.for_endpoint(&sending.endpoint, &url)?;
    let headers = headers::headers(sending, context)?;
    let body = TrackedBody::new(sending.event.draft.body.clone(), sent_whole.clone());
    Ok(client.post(url).headers(headers).body(reqwest::Body::wrap(body)))
}

impl Clients {
    /// The client for `endpoint`, if `url` may be connected to as far as that can be seen before it is dialled.
    fn for_endpoint(&self, endpoint: &Endpoint, url: &Url) -> Result<Client, Box<dyn Error>> {
        let dial = &endpoint.dial;
        self.guard.check(url, &dial.egress)?;
        let dialled = match &dial.proxy {
            Some(proxy) => {
                let proxy = egress::target(&proxy.url)?;
                self.guard.check(&proxy, &dial.egress.of_proxy())?;
                Some(proxy)
            }
            None => None,
        };
        let is_admin_port = self.guard.is_admin_port(dialled.as_ref().unwrap_or(url));
        let kind = Kind { connect_timeout: endpoint.connect_timeout, dial: Arc::clone(dial), is_admin_port };
        let mut clients = self.by_kind.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&kind) {
            return Ok(client.clone());
        }
        let client = self.build(&kind)?;
        clients.insert(kind, client.clone());
        Ok(client)
    }

    fn build(&self, kind: &Kind) -> Result<Client, Box<dyn Error>> {
        let Kind { connect_timeout, dial, is_admin_port } = kind;
        let policy = if dial.proxy.is_some() { dial.egress.of_proxy() } else { dial.egress.clone() };
        let builder = Client::builder()
            .tls_backend_preconfigured(tls::config(&self.machine_roots, &dial.tls)?)
            .dns_resolver(self.guard.resolver(Arc::new(policy), *is_admin_port))
            .connect_timeout(*connect_timeout)
            .pool_idle_timeout(POOL_IDLE_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .no_proxy();
        let builder = match &dial.proxy {
            Some(proxy) => builder.proxy(through(proxy)?),
            None => builder,
        };
        Ok(builder.build()?)
    }
}

/// The client's own form of a proxy for every scheme.
fn through(proxy: &Proxy) -> Result<reqwest::Proxy, Box<dyn Error>> {
    // The client goes directly where it cannot read the proxy's URL; what it reads it by is this type.
    let uri: http::Uri = proxy.url.parse()?;
    if uri.authority().is_none() {
        return Err("the proxy's URL names no host".into());
    }
    let through = reqwest::Proxy::all(&proxy.url)?;
    let Some(Credentials { user, password }) = &proxy.credentials else { return Ok(through) };
    // Not by its own `basic_auth`, which would take a `%41` in a password for an A.
    let mut header = HeaderValue::try_from(format!("Basic {}", BASE64.encode(format!("{user}:{password}"))))?;
    header.set_sensitive(true);
    Ok(through.custom_http_auth(header))
}

impl fmt::Debug for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clients(…)")
    }
}
