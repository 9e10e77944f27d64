//! Tells spans to a collector by OTLP over HTTP, in JSON (the feature `otlp`), set up by the usual variables.
//!
//! Promises: memory is bounded ([`QUEUE_MAX`], [`BATCH_MAX`]), nobody who tells waits, and a collector that is down or
//! slow costs spans and nothing else: a batch that it does not take is not sent again, and that is logged at most once
//! a minute. What is in its URL and headers is in no log line. Absent: protobuf and gRPC, sampling of our own (what a
//! sender does not record is not told; all else is), metrics and logs by OTLP.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, header};
use reqwest::Url;
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value as Json, json};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::spans::{Kind, Span, Spans, Value};

/// Spans that may wait to be told.
const QUEUE_MAX: usize = 8192;
/// Spans told in one request.
const BATCH_MAX: usize = 512;
/// How long a span waits for company.
const LINGER: Duration = Duration::from_secs(1);
/// How long the collector may take, where the environment does not say.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How often it is said that spans were lost.
const SAID_PERIOD: Duration = Duration::from_mins(1);

/// Where spans are told, and as whose.
#[derive(Clone)]
pub struct Settings {
    url: Url,
    headers: HeaderMap,
    timeout: Duration,
    /// What is said of whoever tells: `service.name` and what the environment adds.
    resource: Vec<(String, String)>,
}

/// Why the environment's settings cannot be used. Names the variable, never what is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unusable {
    variable: String,
    wanted: &'static str,
}

/// Tells spans until it is stopped.
#[derive(Debug)]
pub struct Exporter {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Settings {
    /// What the environment says (`OTEL_…`), as `read` reads it; `None` if no spans are wanted.
    pub fn from_environment(read: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, Unusable> {
        let read = |name: &str| read(name).filter(|value| !value.trim().is_empty());
        // What is said of traces goes before what is said of all.
        let of_traces = |name: &str| {
            let own = format!("OTEL_EXPORTER_OTLP_TRACES_{name}");
            let all = format!("OTEL_EXPORTER_OTLP_{name}");
            read(&own).map(|value| (own, value)).or_else(|| read(&all).map(|value| (all, value)))
        };
        let is_off = read("OTEL_SDK_DISABLED").is_some_and(|value| value.trim().eq_ignore_ascii_case("true"));
        if is_off || read("OTEL_TRACES_EXPORTER").is_some_and(|value| value.trim() == "none") {
            return Ok(None);
        }
        let Some((variable, endpoint)) = of_traces("ENDPOINT") else { return Ok(None) };
        let path = if variable.contains("TRACES") { "" } else { "/v1/traces" };
        let url =
            format!("{}{path}", if path.is_empty() { endpoint.trim() } else { endpoint.trim().trim_end_matches('/') });
        let url = Url::parse(&url).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        let url = url.ok_or(Unusable { variable, wanted: "has to be a URL like http://127.0.0.1:4318" })?;
        if let Some((variable, protocol)) = of_traces("PROTOCOL")
            && protocol.trim() != "http/json"
        {
            return Err(Unusable { variable, wanted: "has to be http/json, or not to be set: nothing else is spoken" });
        }
        let headers = match of_traces("HEADERS") {
            Some((variable, text)) => {
                headers(&text).ok_or(Unusable { variable, wanted: "has to be a list like name=value,other=value" })?
            }
            None => HeaderMap::new(),
        };
        let timeout = match of_traces("TIMEOUT") {
            Some((variable, text)) => text
                .trim()
                .parse()
                .map(Duration::from_millis)
                .map_err(|_| Unusable { variable, wanted: "has to be a number of milliseconds" })?,
            None => TIMEOUT,
        };
        let mut resource = vec![("service.version".to_owned(), env!("CARGO_PKG_VERSION").to_owned())];
        if let Some(text) = read("OTEL_RESOURCE_ATTRIBUTES") {
            let wanted = "has to be a list like name=value,other=value";
            let pairs = pairs(&text).ok_or(Unusable { variable: "OTEL_RESOURCE_ATTRIBUTES".to_owned(), wanted })?;
            resource.extend(pairs);
        }
        let named = resource.iter().position(|(name, _)| name == "service.name").map(|place| resource.remove(place).1);
        let name = read("OTEL_SERVICE_NAME").or(named).unwrap_or_else(|| "backstop".to_owned());
        resource.insert(0, ("service.name".to_owned(), name));
        Ok(Some(Self { url, headers, timeout, resource }))
    }

    /// Where spans are told, without what may be secret.
    #[must_use]
    pub fn origin(&self) -> String {
        self.url.origin().ascii_serialization()
    }
}

impl Exporter {
    /// Begins to tell, on the current runtime; `roots` vouch for the collector.
    ///
    /// # Errors
    /// What of TLS cannot be set up.
    pub fn start(settings: Settings, roots: RootCertStore) -> Result<(Spans, Self), String> {
        let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .timeout(settings.timeout)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .map_err(|error| error.without_url().to_string())?;
        let (spans, received) = Spans::queue(QUEUE_MAX);
        let (stop, stopped) = oneshot::channel();
        let teller = Teller { settings, client, spans: spans.clone(), lost: 0, said_at: None };
        Ok((spans, Self { stop, task: tokio::spawn(teller.run(received, stopped)) }))
    }

    /// Tells what waits, for at most `deadline`, and ends.
    pub async fn stop(self, deadline: Duration) {
        let _heard = self.stop.send(()).is_ok();
        if tokio::time::timeout(deadline, self.task).await.is_err() {
            tracing::warn!("the collector of traces is slow; what it was not told yet is lost");
        }
    }
}

/// The task that tells.
struct Teller {
    settings: Settings,
    client: reqwest::Client,
    spans: Spans,
    /// Spans that were lost since that was last said.
    lost: u64,
    said_at: Option<Instant>,
}

impl Teller {
    async fn run(mut self, mut received: mpsc::Receiver<Span>, mut stopped: oneshot::Receiver<()>) {
        let mut batch = Vec::with_capacity(BATCH_MAX);
        let mut due = Instant::now();
        loop {
            let (is_empty, room) = (batch.is_empty(), BATCH_MAX - batch.len());
            tokio::select! {
                _came = received.recv_many(&mut batch, room) => {
                    if is_empty {
                        due = Instant::now() + LINGER;
                    }
                    if batch.len() < BATCH_MAX {
                        continue;
                    }
                }
                () = tokio::time::sleep_until(due), if !is_empty => {}
                _stop = &mut stopped => break,
            }
            self.tell(&mut batch).await;
        }
        received.close();
        self.tell(&mut batch).await;
        while received.recv_many(&mut batch, BATCH_MAX).await > 0 {
            self.tell(&mut batch).await;
        }
    }

    async fn tell(&mut self, batch: &mut Vec<Span>) {
        let count = u64::try_from(batch.len()).unwrap_or(u64::MAX);
        let told = if batch.is_empty() { Ok(()) } else { self.post(batch).await };
        batch.clear();
        self.lost += self.spans.take_dropped() + if told.is_err() { count } else { 0 };
        let is_due = self.said_at.is_none_or(|said_at| said_at.elapsed() >= SAID_PERIOD);
        if self.lost > 0 && is_due {
            let why = told.err().unwrap_or_else(|| "more came than it could be told".to_owned());
            tracing::warn!(collector = self.settings.origin(), lost = self.lost, why, "spans were lost");
            (self.lost, self.said_at) = (0, Some(Instant::now()));
        }
    }

    async fn post(&self, batch: &[Span]) -> Result<(), String> {
        let body = serde_json::to_vec(&written(&self.settings.resource, batch)).map_err(|error| error.to_string())?;
        let request = self.client.post(self.settings.url.clone()).headers(self.settings.headers.clone());
        let request = request.header(header::CONTENT_TYPE, "application/json").body(body);
        let answer = request.send().await.map_err(|error| error.without_url().to_string())?;
        if answer.status().is_success() { Ok(()) } else { Err(format!("it answered {}", answer.status())) }
    }
}

/// Spans as OTLP has them.
fn written(resource: &[(String, String)], spans: &[Span]) -> Json {
    let resource: Vec<Json> =
        resource.iter().map(|(key, value)| json!({ "key": key, "value": { "stringValue": value } })).collect();
    let spans: Vec<Json> = spans.iter().map(span).collect();
    let scope = json!({ "name": "backstop", "version": env!("CARGO_PKG_VERSION") });
    json!({ "resourceSpans": [{
        "resource": { "attributes": resource },
        "scopeSpans": [{ "scope": scope, "spans": spans }],
    }] })
}

fn span(span: &Span) -> Json {
    let began = u128::from(span.began.millis()) * 1_000_000;
    let (name, kind) = match span.kind {
        Kind::Accept => ("accept", 2),
        Kind::Attempt => ("attempt", 3),
    };
    let attributes: Vec<Json> = span
        .attributes
        .iter()
        .map(|(key, value)| match value {
            Value::Text(text) => json!({ "key": key, "value": { "stringValue": text } }),
            Value::Number(number) => json!({ "key": key, "value": { "intValue": number.to_string() } }),
        })
        .collect();
    let status = match &span.failed {
        Some(message) => json!({ "code": 2, "message": message }),
        None => json!({}),
    };
    json!({
        "traceId": span.trace.to_string(),
        "spanId": span.id.to_string(),
        "parentSpanId": span.parent.map_or_else(String::new, |parent| parent.to_string()),
        "name": name,
        "kind": kind,
        "startTimeUnixNano": began.to_string(),
        "endTimeUnixNano": (began + span.took.as_nanos()).to_string(),
        "attributes": attributes,
        "status": status,
        "flags": 1,
    })
}

fn headers(text: &str) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs(text)? {
        let mut value = HeaderValue::try_from(value).ok()?;
        value.set_sensitive(true);
        headers.append(HeaderName::from_bytes(name.as_bytes()).ok()?, value);
    }
    Some(headers)
}

/// `name=value,other=value`, with `%XX` in values.
fn pairs(text: &str) -> Option<Vec<(String, String)>> {
    let members = text.split(',').map(str::trim).filter(|member| !member.is_empty());
    let pair = |member: &str| {
        let (name, value) = member.split_once('=')?;
        Some((name.trim().to_owned(), decoded(value.trim())?)).filter(|(name, _)| !name.is_empty())
    };
    members.map(pair).collect()
}

fn decoded(text: &str) -> Option<String> {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (code, rest) = part.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(code, 16).ok()?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).ok()
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").field("origin", &self.origin()).finish_non_exhaustive()
    }
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.variable, self.wanted)
    }
}

impl std::error::Error for Unusable {}
