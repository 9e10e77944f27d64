//! Named tokens: made, used, refused and revoked by the real binary, through a kill, and while it is stopped.

use std::path::Path;

use crate::place::{Gateway, Place, Ran, finish};
use crate::sink::{OK, Sink};

fn config(sink: &Sink) -> String {
    format!("sources.flyflow.preset = \"flyflow\"\nendpoints.crm.url = \"{}\"\nlog.level = \"trace\"\n", sink.url())
}

/// Runs a verb by a token.
fn by<const N: usize>(gateway: &Gateway, token: &str, arguments: [&str; N]) -> Ran {
    finish(gateway.command(arguments).env("BACKSTOP_TOKEN", token))
}

/// Whether `text` is in any file under `folder`.
fn is_told(folder: &Path, text: &str) -> bool {
    std::fs::read_dir(folder).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() {
            return is_told(&path, text);
        }
        std::fs::read(&path).unwrap().windows(text.len()).any(|part| part == text.as_bytes())
    })
}

#[test]
fn a_token_may_what_its_role_may_until_it_is_revoked() {
    let sink = Sink::answering(OK);
    let place = Place::new(&config(&sink));
    let gateway = place.serve();
    let made = gateway.verb(["token", "create", "ci", "--role", "read", "--expires", "90d"]);
    assert!(made.err.contains("ci, role read, until 2"), "{made:?}");
    let token = made.ok().trim().to_owned();
    let oncall = gateway.verb(["token", "create", "oncall", "--role", "operate"]).ok().trim().to_owned();
    assert!(gateway.verb(["token", "create", "ci", "--role", "admin"]).failed(4).contains("already"));
    assert_eq!(gateway.verb(["token", "create", "x", "--role", "root"]).code, Some(2));

    assert!(by(&gateway, &token, ["whoami"]).ok().starts_with("ci, role read, until 2"));
    by(&gateway, &token, ["events"]).ok();
    assert!(by(&gateway, &token, ["pause", "crm"]).failed(4).contains("this takes the role `operate`"));
    by(&gateway, &oncall, ["pause", "crm", "--note", "a while"]).ok();
    assert!(by(&gateway, &oncall, ["token", "list"]).failed(4).contains("this takes the role `admin`"));
    gateway.kill();

    // What was made is there after a kill; what a listing shows is no token.
    let gateway = place.serve();
    by(&gateway, &oncall, ["resume", "crm"]).ok();
    let listed = gateway.verb(["token", "list"]).ok();
    assert!(listed.contains("oncall") && listed.contains(token.split_at(12).0.split_at(4).1), "{listed}");
    assert!(!listed.contains(&token));
    assert_eq!(gateway.verb(["token", "revoke", "ci"]).ok(), "ci is revoked\n");
    assert!(by(&gateway, &token, ["events"]).failed(1).contains("nobody's"));
    assert!(gateway.verb(["token", "revoke", "ci"]).failed(4).contains("no token of this name"));
    assert!(gateway.verb(["token", "list", "--offline"]).failed(1).contains("in use by another backstop"));
    gateway.kill();

    let gateway = place.serve();
    assert!(by(&gateway, &token, ["events"]).failed(1).contains("nobody's"));
    by(&gateway, &oncall, ["events"]).ok();
    let log = gateway.stop();
    for secret in [&token, &oncall] {
        assert!(!is_told(&place.path("backstop-data"), secret));
        assert!(!log.iter().any(|line| line.to_string().contains(secret.as_str())));
    }
}

#[test]
fn the_tokens_of_a_stopped_gateway_are_changed_in_its_directory() {
    let sink = Sink::answering(OK);
    let place = Place::new(&config(&sink));
    assert_eq!(place.run(["token", "list", "--offline"]).code, Some(1));
    place.serve().stop();
    let token = place.run(["token", "create", "ci", "--role", "operate", "--offline"]).ok().trim().to_owned();
    let other = place.run(["token", "create", "cd", "--role", "read", "--offline"]).ok().trim().to_owned();
    assert!(place.run(["token", "revoke", "admin", "--offline"]).failed(4).contains("admin token file"));
    place.run(["token", "revoke", "cd", "--offline"]).ok();
    let gateway = place.serve();
    assert!(by(&gateway, &token, ["whoami"]).ok().starts_with("ci, role operate"));
    by(&gateway, &other, ["whoami"]).failed(1);
    assert!(gateway.verb(["whoami"]).ok().starts_with("admin, role admin"));
}
