//! `[endpoints.<name>]`: where to, and how.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reqwest::Url;

use super::raw::{Table, Value};
use super::{dial, flow, scalar};
use crate::core::attempt::StatusSet;
use crate::core::breaker::BreakerPolicy;
use crate::core::dial::Dial;
use crate::core::egress::Policy;
use crate::core::endpoint::Endpoint;
use crate::core::event::Header;
use crate::core::name::Name;
use crate::core::retry::RetryPolicy;
use crate::core::sign::{Secret, SecretError, Signing};

/// Most secrets of an endpoint: the current one and those being rotated out.
const SECRETS_MAX: usize = 8;
/// Most headers added to a delivery.
const HEADERS_MAX: usize = 64;
/// Most entries of `permanent`.
const PERMANENT_MAX: usize = 64;

/// Headers that belong to the connection, the message's framing or our signature, not to the config.
const RESERVED_HEADERS: [&str; 13] = [
    "connection",
    "content-length",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "stripe-signature",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-hub-signature-256",
];
/// How the names of Standard Webhooks' own headers begin, and those of ours.
const RESERVED_PREFIXES: [&str; 2] = ["webhook-", "backstop-"];

/// Which signature is asked for.
#[derive(Clone, Copy, PartialEq)]
enum Style {
    Off,
    Standard,
    Github,
    Stripe,
}

/// What the gateway has that an endpoint's settings are held against.
#[derive(Clone, Copy)]
pub(super) struct Gateway<'a> {
    /// Its policy for connections.
    pub(super) egress: &'a Policy,
    /// Where its admin listener is.
    pub(super) admin: SocketAddr,
    /// Most attempts of one endpoint on their way at a time.
    pub(super) in_flight_max: usize,
}

/// Every endpoint of the table, as far as their names and URLs are right.
///
pub(super) fn read(table: &Table<'_>, gateway: Gateway<'_>) -> Vec<Endpoint> {
    let named = |(text, value): (&str, Value<'_>)| match scalar::name(text) {
        Ok(name) => value.table().and_then(|table| endpoint(name, table, gateway)),
        Err(message) => {
            value.place.refuse(message);
            None
        }
    };
    table.entries().into_iter().filter_map(named).collect()
}

fn endpoint(name: Name, mut table: Table<'_>, gateway: Gateway<'_>) -> Option<Endpoint> {
    let place = table.place_of("url");
    let url = match table.get("url") {
        Some(value) => value.parsed(scalar::url),
        None => {
            place.refuse("is missing; write url = \"https://…\"");
            None
        }
    };
    let dial = dial(&mut table, gateway.egress);
    check_reach(&table, url.as_deref(), &dial, gateway.admin);
    if url.as_deref().is_some_and(|url| url.starts_with("http:")) && table.has("tls") {
        table.place_of("tls").refuse("is of no use: url is http, which is not encrypted");
    }
    let signing = signing(&mut table);
    let (connect_timeout, timeout) = timeouts(&mut table);
    let headers = all_headers(&mut table);
    let concurrency = table.read("concurrency", |value| flow::concurrency(value, gateway.in_flight_max));
    let concurrency = concurrency.unwrap_or_else(|| flow::concurrency_default(gateway.in_flight_max));
    let rate = table.read("rate", flow::rate);
    let breaker = table.read("breaker", flow::breaker).unwrap_or(Some(BreakerPolicy::default()));
    let (order, order_hold_max) = flow::order(&mut table);
    let permanent = table.read("permanent", permanent).unwrap_or_default();
    let retry = table.read("retry", |value| value.table().map(retry)).unwrap_or_default();
    table.done();
    url.map(|url| Endpoint {
        dial: Arc::new(dial),
        signing,
        retry,
        permanent,
        connect_timeout,
        timeout,
        concurrency,
        rate,
        breaker,
        order,
        order_hold_max,
        headers,
        ..Endpoint::new(name, url)
    })
}

fn dial(table: &mut Table<'_>, egress: &Policy) -> Dial {
    let egress = super::egress::read(table, egress);
    let proxy = table.read("proxy", dial::proxy);
    Dial { egress, proxy, tls: table.read("tls", dial::tls).unwrap_or_default() }
}

/// Refuses addresses that could never be connected to. Names are judged when they are dialled.
fn check_reach(table: &Table<'_>, url: Option<&str>, dial: &Dial, admin: SocketAddr) {
    let refusal = |policy: &Policy, url: Option<&str>| super::egress::refusal(policy, &Url::parse(url?).ok()?, admin);
    if let Some(refusal) = refusal(&dial.egress, url) {
        table.place_of("url").refuse(format!("cannot be reached: its address {refusal}"));
    }
    let proxy = dial.proxy.as_ref().map(|proxy| proxy.url.as_str());
    if let Some(refusal) = refusal(&dial.egress.of_proxy(), proxy) {
        table.place_of("proxy").refuse(format!("cannot be reached: its address {refusal}"));
    }
}

fn style(text: &str) -> Result<Style, String> {
    match text {
        "off" => Ok(Style::Off),
        "standard" => Ok(Style::Standard),
        "github" => Ok(Style::Github),
        "stripe" => Ok(Style::Stripe),
        _ => Err("must be \"standard\", \"github\", \"stripe\" or \"off\"".to_owned()),
    }
}

fn signing(table: &mut Table<'_>) -> Signing {
    let place = table.place_of("signing");
    let asked = table.get("signing");
    let items = table.read("secrets", |value| value.items(SECRETS_MAX));
    let given = table.place_of("secrets");
    let style = match asked {
        None if items.as_ref().is_some_and(|items| !items.is_empty()) => Style::Standard,
        None => Style::Off,
        Some(value) => match value.parsed(style) {
            Some(style) => style,
            None => return Signing::Off,
        },
    };
    let parse = match style {
        Style::Standard => Secret::standard,
        Style::Off | Style::Github | Style::Stripe => Secret::text,
    };
    let items = items.unwrap_or_default();
    let secrets: Vec<Secret> = items.iter().filter_map(|item| secret(item, parse)).collect();
    match style {
        Style::Off if !items.is_empty() => given.refuse("are given, but signing is \"off\"; remove one of the two"),
        Style::Off => {}
        _ if items.is_empty() => place.refuse("needs a secret; write secrets = [\"${VARIABLE}\"] or [\"file:/path\"]"),
        _ => {}
    }
    match style {
        Style::Off => Signing::Off,
        Style::Standard => Signing::Standard(secrets),
        Style::Github => Signing::Github(secrets),
        Style::Stripe => Signing::Stripe(secrets),
    }
}

fn secret(item: &Value<'_>, parse: fn(&str) -> Result<Secret, SecretError>) -> Option<Secret> {
    match parse(&item.secret()?) {
        Ok(secret) => Some(secret),
        Err(error) => {
            item.place.refuse(error.to_string());
            None
        }
    }
}

/// The connect timeout and the whole one.
fn timeouts(table: &mut Table<'_>) -> (Duration, Duration) {
    let timeout = table.duration("timeout", Duration::from_secs(15));
    let connect_timeout = table.duration("connect_timeout", timeout.min(Duration::from_secs(5)));
    if connect_timeout > timeout {
        table.place_of("connect_timeout").refuse("is longer than timeout, which counts from the connection's start");
    }
    (connect_timeout, timeout)
}

/// `headers`, and the one of `auth`.
fn all_headers(table: &mut Table<'_>) -> Vec<Header> {
    let mut all = table.read("headers", |value| value.table().map(|table| headers(&table))).unwrap_or_default();
    let place = table.place_of("auth");
    if let Some(auth) = table.read("auth", dial::auth) {
        if is_reserved(&auth.name) {
            place.refuse("names a header that is set by the gateway itself");
        } else if all.iter().any(|header| header.name == auth.name) {
            place
                .refuse(format!("sets the header {}, which stands in `headers` too; remove one of the two", auth.name));
        }
        all.push(auth);
    }
    all
}

fn is_reserved(name: &str) -> bool {
    RESERVED_HEADERS.contains(&name) || RESERVED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

fn headers(table: &Table<'_>) -> Vec<Header> {
    let entries = table.entries();
    if entries.len() > HEADERS_MAX {
        table.place.refuse(format!("holds {} headers; at most {HEADERS_MAX} are allowed", entries.len()));
    }
    let mut headers: Vec<Header> = Vec::new();
    for (text, value) in entries {
        let name = scalar::header_name(text);
        match &name {
            Err(message) => value.place.refuse(message),
            Ok(name) if headers.iter().any(|header| header.name == *name) => {
                value.place.refuse("stands here a second time; case does not tell header names apart");
            }
            Ok(name) if is_reserved(name) => {
                value.place.refuse("is set by the gateway itself; remove it");
            }
            Ok(_) => {}
        }
        let text = value.secret().map(|text| scalar::header_value(&text));
        match (name, text) {
            (Ok(name), Some(Ok(text))) => headers.push(Header { name, value: Bytes::from(text) }),
            (_, Some(Err(message))) => value.place.refuse(message),
            _ => {}
        }
    }
    headers
}

fn permanent(value: &Value<'_>) -> Option<StatusSet> {
    let range = |item: Value<'_>| {
        if item.is_integer() {
            let status = item.integer(300..=599).and_then(|status| u16::try_from(status).ok());
            status.map(|status| (status, status))
        } else if item.is_text() {
            item.parsed(scalar::failure_statuses)
        } else {
            item.wrong_type("a status or a range like \"401-403\"")
        }
    };
    Some(StatusSet::new(value.items(PERMANENT_MAX)?.into_iter().filter_map(range).collect()))
}

fn retry(mut table: Table<'_>) -> RetryPolicy {
    let default = RetryPolicy::default();
    let policy = RetryPolicy {
        initial: table.duration("initial", default.initial),
        factor: table.read("factor", |value| value.number(1.0..=100.0)).unwrap_or(default.factor),
        interval_max: table.duration("interval_max", default.interval_max),
        attempts_max: table.count("attempts_max", 1..=10_000, default.attempts_max),
        age_max: table.duration("age_max", default.age_max),
        retry_after_max: table.duration("retry_after_max", default.retry_after_max),
    };
    if policy.initial > policy.interval_max {
        table.place_of("initial").refuse("is longer than interval_max; lower it or raise interval_max");
    }
    table.done();
    policy
}
