//! No secret gets out: not by a verb, not by the log at its most talkative, not into the journal.

use std::path::Path;

use crate::events::CALL;
use crate::place::{Place, Ran, finish};
use crate::sink::{BROKEN, OK, Sink};

/// What is planted, as text and as it would stand in a file.
const PLANTED: [&str; 5] = [
    "c2lnbmluZy1zZWNyZXQtb2YtdGhlLWNybS4u",
    "signing-secret-of-the-crm..",
    "planted-bearer",
    "planted-query",
    "planted-variable",
];

fn config(crm: &Sink, billing: &Sink) -> String {
    format!(
        r#"
        log.level = "trace"
        [sources.flyflow]
        preset = "flyflow"
        [endpoints.crm]
        url = "{}?key=planted-query"
        secrets = ["whsec_c2lnbmluZy1zZWNyZXQtb2YtdGhlLWNybS4u"]
        headers = {{ authorization = "Bearer planted-bearer", x-from-environment = "${{PLANTED}}" }}
        [endpoints.billing]
        url = "{}?key=planted-query"
        secrets = ["whsec_c2lnbmluZy1zZWNyZXQtb2YtdGhlLWNybS4u"]
        headers = {{ authorization = "Bearer planted-bearer" }}
        retry = {{ initial = "10ms", attempts_max = 2 }}
        breaker = "off"
        [endpoints.nowhere]
        url = "http://127.0.0.1:1/?key=planted-query"
        secrets = ["whsec_c2lnbmluZy1zZWNyZXQtb2YtdGhlLWNybS4u"]
        retry = {{ initial = "10ms", attempts_max = 2 }}
        breaker = "off"
        [[routes]]
        endpoints = ["crm", "billing", "nowhere"]
        "#,
        crm.url(),
        billing.url()
    )
}

#[track_caller]
fn assert_silent(what: &str, said: &str, token: &str) {
    for secret in PLANTED.iter().chain(&[token]).filter(|secret| !secret.is_empty()) {
        assert!(
            !said.contains(secret),
            "{what} tells {secret}: {}",
            said.lines().find(|line| line.contains(secret)).unwrap()
        );
    }
}

/// Every file under `folder`, but for the token's own.
fn assert_folder_silent(folder: &Path, token: &str) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            assert_folder_silent(&path, token);
        } else if !path.ends_with("admin.token") {
            assert_silent(&path.display().to_string(), &String::from_utf8_lossy(&std::fs::read(&path).unwrap()), token);
        }
    }
}

#[test]
fn no_verb_and_no_log_line_tells_a_secret() {
    let (crm, billing) = (Sink::answering(OK), Sink::answering(BROKEN));
    let place = Place::new(&config(&crm, &billing).replace("${PLANTED}", "planted-variable"));
    let gateway = place.serve();
    let token = gateway.token().to_owned();
    let events = CALL.map(|event| gateway.accept(event));
    gateway.until_count("crm", "delivered", 3);
    gateway.until_count("billing", "dead", 3);
    gateway.until_count("nowhere", "dead", 3);
    // They did go out.
    let post = &crm.posts()[0];
    assert_eq!(post.header("authorization"), Some("Bearer planted-bearer"));
    assert_eq!(post.header("x-from-environment"), Some("planted-variable"));
    assert!(post.header("webhook-signature").unwrap().starts_with("v1,"));

    let silent = |ran: Ran| assert_silent("a verb", &format!("{}{}", ran.out, ran.err), &token);
    for output in ["table", "json"] {
        silent(gateway.verb(["events", "--output", output]));
        silent(gateway.verb(["event", &events[0], "--output", output]));
        silent(gateway.verb(["failed", "--output", output]));
        silent(gateway.verb(["endpoints", "--output", output]));
        silent(gateway.verb(["counters", "--output", output]));
        silent(gateway.verb(["audit", "--output", output]));
        silent(gateway.verb(["replay", "--endpoint", "billing", "--output", output]));
        silent(gateway.verb(["replay", &events[0], "--to", "nowhere", "--output", output]));
        silent(gateway.verb(["replays", "--output", output]));
        silent(gateway.verb(["pause", "nowhere", "--note", "a while", "--output", output]));
        silent(gateway.verb(["resume", "nowhere", "--output", output]));
        silent(gateway.verb(["send", "--sample", "tool_call", "--output", output]));
    }
    silent(gateway.verb(["cancel", "dlv_nonsense"]));
    silent(finish(gateway.command(["counters"]).env("BACKSTOP_TOKEN", format!("{token}x"))));
    silent(place.run(["check"]));
    silent(place.run(["serve"]));
    gateway.signal("TERM");
    let log = gateway.log.all();
    assert!(log.iter().any(|line| line.contains("\"level\":\"TRACE\"")), "the log is as talkative as it can be");
    log.iter().for_each(|line| assert_silent("the log", line, &token));
    assert_folder_silent(&place.path("backstop-data"), &token);
    for verb in ["verify", "stats", "rebuild"] {
        silent(place.run(["journal", verb]));
    }
}

#[test]
fn a_broken_config_is_refused_with_every_error_and_no_value() {
    let place = Place::new("");
    place.write(
        "gateway.toml",
        r#"[server]
listen = "planted-query"
[endpoints.crm]
url = "planted-query"
secrets = ["planted-bearer", "${NOT_THERE_planted}"]
headers = { authorization = "Bearer planted-bearer\n" }
retry = { initial = "planted-variable" }
colour = "planted-query"
[[routes]]
endpoints = ["cmr"]
"#,
    );
    for verb in ["check", "serve"] {
        let ran = place.run([verb]);
        assert_eq!(ran.code, Some(2), "{ran:?}");
        let file = place.path("gateway.toml").display().to_string();
        for (line, key) in [
            (2, "server.listen"),
            (4, "endpoints.crm.url"),
            (5, "endpoints.crm.secrets[0]"),
            (6, "endpoints.crm.headers.authorization"),
            (7, "endpoints.crm.retry.initial"),
            (8, "endpoints.crm.colour"),
            (10, "routes[0].endpoints[0]"),
        ] {
            let place = format!("{file}:{line}: {key}");
            assert!(ran.err.lines().any(|line| line.starts_with(&place)), "{place} in {}", ran.err);
        }
        assert_silent("the refusal", &format!("{}{}", ran.out, ran.err), "");
    }
}
