//! `[endpoints.<name>]` as it holds, without what is secret of it.

use std::time::Duration;

use super::{REDACTED, Toml, duration, inline, list, policy, text};
use crate::core::breaker::BreakerPolicy;
use crate::core::dial::{Dial, Identity, Pem, Proxy, Tls};
use crate::core::endpoint::{Endpoint, Order};
use crate::core::event::Header;
use crate::core::rate::Rate;
use crate::core::retry::RetryPolicy;
use crate::core::sign::Signing;
use crate::core::window::Concurrency;

pub(super) fn write(toml: &mut Toml, endpoint: &Endpoint) {
    let Endpoint {
        name,
        url,
        dial,
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
    } = endpoint;
    toml.table(&format!("endpoints.{name}"));
    toml.line("url", text(without_query(url)));
    write_signing(toml, signing);
    let Dial { egress, proxy, tls } = &**dial;
    toml.line("egress", inline(policy(egress)));
    toml.maybe("proxy", proxy.as_ref().map(through));
    toml.maybe("tls", (*tls != Tls::default()).then(|| trust(tls)));
    toml.line("timeout", duration(*timeout)).line("connect_timeout", duration(*connect_timeout));
    let Concurrency { min, max } = concurrency;
    toml.line("concurrency", inline(vec![("min", min.to_string()), ("max", max.to_string())]));
    toml.maybe("rate", rate.as_ref().map(limit));
    toml.line("breaker", breaker.as_ref().map_or_else(|| text("off"), circuit));
    toml.line("order", text(order.as_str()));
    if *order != Order::None {
        toml.line("order_hold_max", duration(*order_hold_max));
    }
    // Those of `auth` among them: on the wire it is one of them.
    let redacted: Vec<String> =
        headers.iter().map(|Header { name, value: _ }| format!("{} = {}", text(name), text(REDACTED))).collect();
    toml.maybe("headers", (!redacted.is_empty()).then(|| format!("{{ {} }}", redacted.join(", "))));
    let ranges = permanent.ranges().iter().map(|(low, high)| text(format!("{low}-{high}")));
    toml.line("permanent", list(ranges));
    toml.line("retry", again(retry));
}

/// A query often holds a token.
fn without_query(url: &str) -> String {
    match url.split_once('?') {
        Some((before, _)) => format!("{before}?{REDACTED}"),
        None => url.to_owned(),
    }
}

fn write_signing(toml: &mut Toml, signing: &Signing) {
    let (style, count) = match signing {
        Signing::Off => ("off", 0),
        Signing::Standard(secrets) => ("standard", secrets.len()),
        Signing::Github(secrets) => ("github", secrets.len()),
        Signing::Stripe(secrets) => ("stripe", secrets.len()),
    };
    toml.line("signing", text(style));
    toml.maybe("secrets", (count > 0).then(|| list((0..count).map(|_| text(REDACTED)))));
}

fn through(proxy: &Proxy) -> String {
    let Proxy { url, credentials } = proxy;
    let mut lines = vec![("url", text(url))];
    if credentials.is_some() {
        lines.extend([("user", text(REDACTED)), ("password", text(REDACTED))]);
    }
    inline(lines)
}

fn trust(tls: &Tls) -> String {
    let Tls { identity, ca, machine_roots } = tls;
    let file = |pem: &Pem| text(pem.file.to_string_lossy());
    let mut lines = Vec::new();
    lines.extend(ca.as_ref().map(|ca| ("ca", file(ca))));
    lines.push(("machine_roots", machine_roots.to_string()));
    if let Some(Identity { certificates, key }) = identity {
        lines.extend([("identity", file(certificates)), ("key", file(key))]);
    }
    inline(lines)
}

pub(super) fn limit(rate: &Rate) -> String {
    let Rate { count, per, burst } = rate;
    let unit = if *per <= Duration::from_secs(1) {
        "s"
    } else if *per <= Duration::from_secs(60) {
        "min"
    } else {
        "h"
    };
    inline(vec![("limit", text(format!("{count}/{unit}"))), ("burst", burst.to_string())])
}

fn circuit(policy: &BreakerPolicy) -> String {
    let BreakerPolicy { failures, failure_rate, samples_min, window, probe_initial, probe_max } = policy;
    inline(vec![
        ("failures", failures.to_string()),
        ("failure_rate", format!("{failure_rate:?}")),
        ("samples_min", samples_min.to_string()),
        ("window", duration(*window)),
        ("probe_initial", duration(*probe_initial)),
        ("probe_max", duration(*probe_max)),
    ])
}

fn again(retry: &RetryPolicy) -> String {
    let RetryPolicy { initial, factor, interval_max, attempts_max, age_max, retry_after_max } = retry;
    inline(vec![
        ("initial", duration(*initial)),
        ("factor", format!("{factor:?}")),
        ("interval_max", duration(*interval_max)),
        ("attempts_max", attempts_max.to_string()),
        ("age_max", duration(*age_max)),
        ("retry_after_max", duration(*retry_after_max)),
    ])
}
