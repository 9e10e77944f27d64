//! Delivery: one attempt over HTTP, from the event's bytes to what came back.
//!
//! [`HttpTransport`] signs, sends, caps the answer and names the failure; it decides nothing. It promises
//! that the body goes out byte for byte, that an attempt ends within the endpoint's timeout, that an
//! answer costs bounded memory whatever the endpoint sends, and that no failure's text holds a secret.
//!
//! Absent on purpose: redirects (a 3xx is an answer), proxies from the environment, cookies,
//! decompression, and retries of its own — every attempt is one the scheduler asked for. (The client does
//! move a request on to a fresh connection if a pooled one closed before a byte of it was written: nobody
//! has seen that request.) Connections are HTTP/1.1 and kept alive; how many there are is bounded by the
//! endpoint's `concurrency`, which the scheduler keeps.
//!
//! `headers` what is sent besides the body · `body` whether it was sent whole · `answer` what is kept ·
//! `classify` what a failure means.

mod answer;
mod body;
mod classify;
mod headers;

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::{Client, RequestBuilder};
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use tokio::time::Instant;

use crate::core::attempt::{Failure, Reply};
use crate::egress::{self, Resolver};
use crate::engine::{Sending, Transport};

use body::{SentWhole, TrackedBody};

/// How long an unused connection is kept. Shorter than most servers keep theirs, so that few requests
/// are written to a connection that is just being closed.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Sends attempts over HTTP/1.1, with TLS by rustls. Cheap to clone; clones share their connections.
#[derive(Debug, Clone)]
pub struct HttpTransport {
    clients: Arc<Clients>,
}

/// One client per connect timeout in use, because a client has only one; endpoints with equal timeouts
/// share it. The timeouts come from the config, so there are few.
struct Clients {
    tls: ClientConfig,
    by_connect_timeout: Mutex<BTreeMap<Duration, Client>>,
}

impl HttpTransport {
    /// A transport that trusts the certificates `roots` vouch for; usually [`egress::native_roots`].
    ///
    /// # Errors
    /// If rustls refuses its own protocol versions, which would be a fault of the build.
    pub fn try_new(roots: RootCertStore) -> Result<Self, rustls::Error> {
        let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let clients = Clients { tls, by_connect_timeout: Mutex::default() };
        Ok(Self { clients: Arc::new(clients) })
    }
}

impl Transport for HttpTransport {
    fn send(&self, sending: Sending) -> Pin<Box<dyn Future<Output = Reply> + Send>> {
        let clients = Arc::clone(&self.clients);
        Box::pin(async move { attempt(&clients, &sending).await.unwrap_or_else(Reply::Failure) })
    }
}

async fn attempt(clients: &Clients, sending: &Sending) -> Result<Reply, Failure> {
    let begun = Instant::now();
    let timeout = sending.endpoint.timeout;
    let sent_whole = SentWhole::default();
    let request = request(clients, sending, &sent_whole).map_err(|error| classify::not_sent(&*error))?;
    let response = tokio::time::timeout(timeout, request.send())
        .await
        .map_err(|_| classify::timed_out(timeout, sent_whole.get()))?
        .map_err(|error| classify::failure(&error, sent_whole.get()))?;
    let answer = answer::read(response, timeout.saturating_sub(begun.elapsed())).await;
    Ok(Reply::Answer(answer.resolve(sending.now.after(begun.elapsed()))))
}

/// The request, checked and signed, or why there is none.
fn request(clients: &Clients, sending: &Sending, sent_whole: &SentWhole) -> Result<RequestBuilder, Box<dyn Error>> {
    let url = egress::target(&sending.endpoint.url)?;
    let headers = headers::headers(sending)?;
    let body = TrackedBody::new(sending.event.draft.body.clone(), sent_whole.clone());
    let client = clients.with_connect_timeout(sending.endpoint.connect_timeout)?;
    Ok(client.post(url).headers(headers).body(reqwest::Body::wrap(body)))
}

impl Clients {
    /// The client that gives a connection `timeout` to stand.
    fn with_connect_timeout(&self, timeout: Duration) -> reqwest::Result<Client> {
        let mut clients = self.by_connect_timeout.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&timeout) {
            return Ok(client.clone());
        }
        let client = self.build(timeout)?;
        clients.insert(timeout, client.clone());
        Ok(client)
    }

    fn build(&self, connect_timeout: Duration) -> reqwest::Result<Client> {
        Client::builder()
            .tls_backend_preconfigured(self.tls.clone())
            .dns_resolver(Resolver)
            .connect_timeout(connect_timeout)
            .pool_idle_timeout(POOL_IDLE_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .no_proxy()
            .build()
    }
}

impl fmt::Debug for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clients(…)")
    }
}
