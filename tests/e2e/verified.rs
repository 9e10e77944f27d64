//! Who may send, with the real binary: a secret that is wrong here keeps what it denies, and once it is put right that
//! is taken in; a token in the path; and no secret in anything that is written or said.

use backstop::core::sign::{Secret, Signing};
use backstop::core::timestamp::Timestamp;

use crate::http::{self, Answer};
use crate::place::{Gateway, Place};
use crate::sink::{OK, Sink};

const TOKEN: &str = "planted-token-of-a-path";
const BODY: &str = r#"{"repository":{"full_name":"a/b"},"action":"opened"}"#;

fn config(sink: &Sink) -> String {
    format!(
        r#"
        [sources.github]
        preset = "github"
        secrets = ["${{GITHUB_SECRET}}"]
        on_fail = "quarantine"
        [sources.flyflow]
        preset = "flyflow"
        token = "${{FLYFLOW_TOKEN}}"
        [endpoints.crm]
        url = "{}"
        [[routes]]
        endpoints = ["crm"]
        "#,
        sink.url()
    )
}

/// Posts as GitHub does, whose secret is `planted-new`.
fn push(gateway: &Gateway, delivery: &str) -> Answer {
    let signing = Signing::Github(vec![Secret::text("planted-new").unwrap()]);
    let signed = signing.headers("id", Timestamp::ZERO, BODY.as_bytes());
    let (_, signature) = signed.iter().find(|(name, _)| *name == "x-hub-signature-256").unwrap();
    let headers =
        format!("x-hub-signature-256: {signature}\r\nx-github-event: issues\r\nx-github-delivery: {delivery}\r\n");
    http::ask(&gateway.ingest, "POST", "/in/github", &headers, BODY.as_bytes()).unwrap()
}

#[test]
fn a_wrong_secret_is_put_right_and_nothing_is_lost_or_told() {
    let sink = Sink::answering(OK);
    let mut place = Place::new(&config(&sink));
    place.set("GITHUB_SECRET", "planted-old");
    place.set("FLYFLOW_TOKEN", TOKEN);
    assert!(!place.run(["check"]).ok().contains("warning"));
    let gateway = place.serve();
    let denied = push(&gateway, "1");
    assert_eq!((denied.status, denied.header("www-authenticate")), (401, Some("Webhook")));
    let kept = gateway.until("refusals?reason=quarantined", |page| page["items"][0]["whole"] == true);
    let log = gateway.stop();
    assert!(!format!("{log:?}").contains("planted"), "{log:?}");

    place.set("GITHUB_SECRET", "planted-new");
    let gateway = place.serve();
    let id = kept["items"][0]["id"].as_str().unwrap();
    let taken = gateway.verb(["refused", "ingest", id]).ok();
    // GitHub's own redelivery of the same event is known by its id; another event is not.
    let (again, other) = (push(&gateway, "1"), push(&gateway, "2"));
    assert_eq!((again.status, again.json()["id"].as_str().unwrap()), (202, taken.trim()));
    assert_eq!(again.header("backstop-duplicate"), Some("true"));
    assert_eq!((other.status, other.header("backstop-duplicate")), (202, None));
    let call = |path: &str| http::ask(&gateway.ingest, "POST", path, "", crate::events::CALL_ENDED.as_bytes()).unwrap();
    assert_eq!((call("/in/flyflow").status, call(&format!("/in/flyflow/{TOKEN}")).status), (401, 202));
    let posts = sink.wait_for(3);
    assert!(posts.iter().all(|post| !post.headers().iter().any(|(_, value)| value.contains("planted"))));
    let event = gateway.get(&format!("events/{}", taken.trim()));
    assert_eq!((event["type"].as_str(), event["key"].as_str()), (Some("issues"), Some("a/b")));
    let refused = gateway.verb(["refused", "--output", "json"]).ok();
    assert!(refused.contains("unverified") && !refused.contains("planted"), "{refused}");
    gateway.verb(["audit"]).ok();
    assert!(!format!("{:?}", gateway.stop()).contains("planted"));
    let effective = place.run(["check", "--effective"]).ok();
    assert!(effective.contains("verify = \"github\"") && !effective.contains("planted"), "{effective}");
}
