//! No secret gets out: not by a verb, an answer, a metric or an error, not by the log at its most talkative, not
//! into the journal. One of every kind is planted in every place that takes one; each is used, and then looked for,
//! as text and in base64, in everything that was said or written.

use std::path::Path;

use backstop::admin::access::ROUTES;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rcgen::{CertificateParams, KeyPair};

use crate::events::CALL;
use crate::http;
use crate::place::{Gateway, Place, Ran, finish};
use crate::sink::{BROKEN, OK, Sink};

/// What is planted, by where it comes from and what it is for. None is a part of another.
const PLANTED: [&str; 16] = [
    "planted-query",
    "planted-header",
    "planted-header-by-env",
    "planted-header-by-file",
    "planted-header-by-credential",
    "planted-signing-by-env..",
    "planted-signing-by-file.",
    "planted-signing-by-credential...",
    "planted-signing-text",
    "planted-bearer",
    "planted-basic-user",
    "planted-basic-password",
    "planted-key-of-auth",
    "planted-proxy-user",
    "planted-proxy-password",
    "planted-in-a-tls-file",
];

fn standard(text: &str) -> String {
    format!("whsec_{}", BASE64.encode(text))
}

/// A place where every kind of secret is configured, and whatever may not be said: those, and the private key.
fn place(crm: &Sink, billing: &Sink) -> (Place, Vec<String>) {
    let mut place = Place::new(&config(crm, billing));
    place.set("PLANTED_HEADER", "planted-header-by-env");
    place.set("PLANTED_SIGNING", standard("planted-signing-by-env.."));
    place.set("PLANTED_PROXY", "planted-proxy-password");
    std::fs::create_dir(place.path("credentials")).unwrap();
    place.set("CREDENTIALS_DIRECTORY", place.path("credentials").display().to_string());
    place.write("credentials/header", "planted-header-by-credential\n");
    place.write("credentials/signing", &standard("planted-signing-by-credential..."));
    place.write("header.secret", "planted-header-by-file\r\n");
    place.write("signing.secret", &standard("planted-signing-by-file."));
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["backstop".to_owned()]).unwrap().self_signed(&key).unwrap();
    let key = key.serialize_pem();
    place.write("identity.pem", &format!("planted-in-a-tls-file\n{}{key}", certificate.pem()));
    let mut secrets: Vec<String> = PLANTED.iter().map(|text| (*text).to_owned()).collect();
    secrets.extend(key.lines().filter(|line| line.len() > 40).map(str::to_owned));
    secrets.push(BASE64.encode("planted-basic-user:planted-basic-password"));
    secrets.push(BASE64.encode("planted-proxy-user:planted-proxy-password"));
    (place, secrets)
}

fn config(crm: &Sink, billing: &Sink) -> String {
    let (crm, billing, proxy) = (crm.url(), billing.url(), crm.url().replace("/webhook", ""));
    format!(
        r#"
        log.level = "trace"
        [sources.flyflow]
        preset = "flyflow"
        [endpoints.crm]
        url = "{crm}?key=planted-query"
        secrets = ["${{PLANTED_SIGNING}}", "file:signing.secret", "credential:signing"]
        auth = {{ bearer = "planted-bearer" }}
        [endpoints.crm.headers]
        x-plain = "planted-header"
        x-env = "${{PLANTED_HEADER}}"
        x-file = "file:header.secret"
        x-credential = "credential:header"
        [endpoints.proxied]
        url = "http://far.example/webhook?key=planted-query"
        auth = {{ basic = {{ user = "planted-basic-user", password = "planted-basic-password" }} }}
        proxy = {{ url = "{proxy}", user = "planted-proxy-user", password = "${{PLANTED_PROXY}}" }}
        [endpoints.billing]
        url = "{billing}?key=planted-query"
        signing = "github"
        secrets = ["planted-signing-text"]
        auth = {{ header = "x-api-key", value = "planted-key-of-auth" }}
        retry = {{ initial = "10ms", attempts_max = 2 }}
        breaker = "off"
        [endpoints.nowhere]
        url = "https://127.0.0.1:1/?key=planted-query"
        tls = {{ identity = "identity.pem" }}
        auth = {{ bearer = "planted-bearer" }}
        retry = {{ initial = "10ms", attempts_max = 2 }}
        breaker = "off"
        [endpoints.denied]
        url = "https://localhost/?key=planted-query"
        egress = {{ reach = "listed", allow = ["192.0.2.1"] }}
        auth = {{ bearer = "planted-bearer" }}
        retry = {{ initial = "10ms", attempts_max = 2 }}
        breaker = "off"
        [[routes]]
        endpoints = ["crm", "proxied", "billing", "nowhere", "denied"]
        "#
    )
}

/// Whether `said` has none of `secrets`, as text or in base64.
#[track_caller]
fn assert_silent(what: &str, said: &str, secrets: &[String]) {
    for secret in secrets {
        let encoded = BASE64.encode(secret);
        for form in [secret.as_str(), encoded.trim_end_matches('=')] {
            let line = said.lines().find(|line| line.contains(form));
            assert!(line.is_none(), "{what} tells {secret}: {line:?}");
        }
    }
}

/// Every file under `folder`, but for those that hold tokens by intention.
fn assert_folder_silent(folder: &Path, secrets: &[String]) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            assert_folder_silent(&path, secrets);
        } else if !path.ends_with("admin.token") {
            let held = std::fs::read(&path).unwrap();
            assert_silent(&path.display().to_string(), &String::from_utf8_lossy(&held), secrets);
        }
    }
}

/// Everything was sent that should be: what is not there is not looked for in vain.
fn assert_used(crm: &Sink, billing: &Sink) {
    let posts = crm.posts();
    let header = |name: &str| -> Vec<&str> { posts.iter().filter_map(|post| post.header(name)).collect() };
    for (name, value) in [
        ("authorization", "Bearer planted-bearer"),
        ("authorization", &format!("Basic {}", BASE64.encode("planted-basic-user:planted-basic-password"))),
        ("proxy-authorization", &format!("Basic {}", BASE64.encode("planted-proxy-user:planted-proxy-password"))),
        ("x-plain", "planted-header"),
        ("x-env", "planted-header-by-env"),
        ("x-file", "planted-header-by-file"),
        ("x-credential", "planted-header-by-credential"),
    ] {
        assert!(header(name).contains(&value), "{name}: {:?}", header(name));
    }
    assert!(header("webhook-signature").iter().any(|signatures| signatures.split(' ').count() == 3));
    assert_eq!(billing.posts()[0].header("x-api-key"), Some("planted-key-of-auth"));
    assert!(billing.posts()[0].header("x-hub-signature-256").is_some());
}

/// Asks every route of the admin API, as somebody who may and as somebody who may not, in sense and in nonsense.
fn assert_api_silent(gateway: &Gateway, events: &[String], secrets: &[String]) {
    let mut asked = 0;
    for route in ROUTES {
        let id = match route.path {
            path if path.contains("/events/") => events[0].clone(),
            path if path.contains("/deliveries/") => crate::events::delivery(&events[0], 2),
            path if path.contains("/endpoints/") => "billing".to_owned(),
            path if path.contains("/keys/") => "abc123".to_owned(),
            _ => "nonsense".to_owned(),
        };
        let path = route.path.replace("{}", &id);
        for authorization in [format!("Bearer {}", gateway.token()), format!("Bearer {}x", gateway.token())] {
            for (query, body) in [("", ""), ("?limit=x&status=x", "{"), ("", "{\"filter\": {}, \"note\": \"n\"}")] {
                let headers = format!("authorization: {authorization}\r\ncontent-type: application/json\r\n");
                let answer = http::ask(
                    &gateway.admin,
                    route.method.as_str(),
                    &format!("{path}{query}"),
                    &headers,
                    body.as_bytes(),
                );
                // What streams has no length, and is read by the verbs.
                let Ok(answer) = answer else { continue };
                assert_silent(&path, &format!("{}\n{}", answer.head, String::from_utf8_lossy(&answer.body)), secrets);
                asked += 1;
            }
        }
    }
    assert!(asked > ROUTES.len() * 4, "{asked}");
}

#[test]
fn no_verb_no_answer_no_log_line_and_no_file_tells_a_secret() {
    let (crm, billing) = (Sink::answering(OK), Sink::answering(BROKEN));
    let (place, mut secrets) = place(&crm, &billing);
    let gateway = place.serve();
    secrets.push(gateway.token().to_owned());
    let made = gateway.verb(["token", "create", "ci", "--role", "read"]);
    secrets.push(made.ok().trim().to_owned());
    let events = CALL.map(|event| gateway.accept(event));
    for (endpoint, status) in
        [("crm", "delivered"), ("proxied", "delivered"), ("billing", "dead"), ("nowhere", "dead"), ("denied", "dead")]
    {
        gateway.until_count(endpoint, status, 3);
    }
    assert_used(&crm, &billing);

    let silent = |ran: Ran| assert_silent("a verb", &format!("{}{}", ran.out, ran.err), &secrets);
    let elsewhere = billing.url();
    for output in ["table", "json"] {
        silent(gateway.verb(["events", "--output", output]));
        silent(gateway.verb(["event", &events[0], "--output", output]));
        silent(gateway.verb(["call", "abc123", "--output", output]));
        silent(gateway.verb(["failed", "--output", output]));
        silent(gateway.verb(["failures", "--output", output]));
        silent(gateway.verb(["gaps", "--output", output]));
        silent(gateway.verb(["refused", "--output", output]));
        silent(gateway.verb(["endpoints", "--output", output]));
        for endpoint in ["crm", "proxied", "billing", "nowhere", "denied"] {
            silent(gateway.verb(["endpoints", endpoint, "--output", output]));
        }
        silent(gateway.verb(["counters", "--output", output]));
        silent(gateway.verb(["audit", "--output", output]));
        silent(gateway.verb(["whoami", "--output", output]));
        silent(gateway.verb(["token", "list", "--output", output]));
        silent(gateway.verb(["operations", "--output", output]));
        silent(gateway.verb(["replay", "--endpoint", "billing", "--output", output]));
        silent(gateway.verb(["replay", "--endpoint", "billing", "--dry-run", "--output", output]));
        silent(gateway.verb(["replay", "--endpoint", "nowhere", "--to-url", &elsewhere, "--output", output]));
        silent(gateway.verb(["replay", &events[0], "--to", "nowhere", "--output", output]));
        silent(gateway.verb(["replays", "--output", output]));
        silent(gateway.verb(["pause", "nowhere", "--note", "a while", "--output", output]));
        silent(gateway.verb(["resume", "nowhere", "--output", output]));
        silent(gateway.verb(["send", "--sample", "tool_call", "--output", output]));
    }
    silent(gateway.verb(["cancel", "dlv_nonsense"]));
    silent(finish(gateway.command(["counters"]).env("BACKSTOP_TOKEN", format!("{}x", gateway.token()))));
    assert_api_silent(&gateway, &events, &secrets);
    silent(place.run(["check"]));
    let effective = place.run(["check", "--effective"]);
    assert!(effective.out.contains("x-credential\" = \"***\""), "{effective:?}");
    silent(effective);
    silent(place.run(["serve"]));
    silent(place.run(["serve", "--nonsense"]));
    gateway.signal("TERM");
    let log = gateway.log.all();
    assert!(log.iter().any(|line| line.contains("\"level\":\"TRACE\"")), "the log is as talkative as it can be");
    log.iter().for_each(|line| assert_silent("the log", line, &secrets));
    assert_folder_silent(&place.path("backstop-data"), &secrets);
    for verb in ["verify", "stats", "rebuild"] {
        silent(place.run(["journal", verb]));
    }
}

#[test]
fn a_broken_config_is_refused_with_every_error_and_no_value() {
    let mut place = Place::new("");
    place.set("PLANTED_NOISE", "planted-noise \u{1}");
    place.write("planted.secret", "planted-content");
    place.write("planted.pem", "-----BEGIN PRIVATE KEY-----\nplanted-content\n-----END PRIVATE KEY-----\n");
    place.write(
        "gateway.toml",
        r#"[server]
listen = "planted-query"
[endpoints.crm]
url = "planted-query"
secrets = ["planted-bearer", "${NOT_THERE_planted}", "file:planted.secret", "credential:planted"]
headers = { authorization = "Bearer planted-bearer\n", x-noise = "${PLANTED_NOISE}", x-file = "file:planted-gone" }
retry = { initial = "planted-variable" }
colour = "planted-query"
auth = { bearer = "planted bearer" }
proxy = "http://planted-user:planted-password@proxy"
egress = { allow = ["planted-network"] }
tls = { identity = "planted.pem", ca = "-----BEGIN planted-content" }
[[routes]]
endpoints = ["cmr"]
"#,
    );
    for verb in ["check", "serve"] {
        let ran = finish(place.command([verb]).env("RUST_BACKTRACE", "1"));
        assert_eq!(ran.code, Some(2), "{ran:?}");
        let file = place.path("gateway.toml").display().to_string();
        for (line, key) in [
            (2, "server.listen"),
            (4, "endpoints.crm.url"),
            (5, "endpoints.crm.secrets[0]"),
            (5, "endpoints.crm.secrets[2]"),
            (5, "endpoints.crm.secrets[3]"),
            (6, "endpoints.crm.headers.authorization"),
            (6, "endpoints.crm.headers.x-noise"),
            (6, "endpoints.crm.headers.x-file"),
            (7, "endpoints.crm.retry.initial"),
            (8, "endpoints.crm.colour"),
            (9, "endpoints.crm.auth.bearer"),
            (10, "endpoints.crm.proxy"),
            (11, "endpoints.crm.egress.allow[0]"),
            (12, "endpoints.crm.tls.identity"),
            (12, "endpoints.crm.tls.ca"),
            (14, "routes[0].endpoints[0]"),
        ] {
            let place = format!("{file}:{line}: {key}");
            assert!(ran.err.lines().any(|line| line.starts_with(&place)), "{place} in {}", ran.err);
        }
        // The name of a variable and the path of a file are no secrets; their values and contents are.
        let said = format!("{}{}", ran.out, ran.err).replace("NOT_THERE_planted", "").replace("planted.pem", "");
        assert!(!said.contains("planted"), "{said}");
        assert!(!said.contains("panicked"), "{said}");
    }
}
