//! What is otherwise, by name and key; what a process cannot take in; and that no secret is told.

use std::io;
use std::path::Path;
use std::sync::LazyLock;

use super::{Change, Kind, changes};
use crate::config::{Config, FILE_MAX_BYTES};

const BASE: &str = r#"
    [server]
    listen = "127.0.0.1:8080"
    [sources.flyflow]
    verify = "standard"
    secrets = ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]
    token = "the-old-token-the-old-token"
    [endpoints.crm]
    url = "https://crm.example/hooks?token=old"
    signing = "standard"
    secrets = ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]
    headers = { authorization = "old" }
    tls = { ca = "ca.pem" }
    timeout = "15s"
    [endpoints.bill]
    url = "https://bill.example/"
    [[routes]]
    endpoints = ["crm", "bill"]
"#;

fn parse_with(text: &str, pem: &str) -> Config {
    let read = |path: &Path| match path.file_name() {
        Some(name) if name == "ca.pem" => Ok(pem.to_owned()),
        _ => Err(io::Error::from(io::ErrorKind::NotFound)),
    };
    assert!(text.len() < usize::try_from(FILE_MAX_BYTES).unwrap());
    Config::parse(text, Path::new("/etc/backstop/gateway.toml"), &|_| None, &read).unwrap()
}

/// An authority's certificate, another one each time.
fn certificate() -> String {
    let key = rcgen::KeyPair::generate().unwrap();
    rcgen::CertificateParams::new(["ca.example".to_owned()]).unwrap().self_signed(&key).unwrap().pem()
}

fn parse(text: &str) -> Config {
    static OLD: LazyLock<String> = LazyLock::new(certificate);
    parse_with(text, &OLD)
}

/// What is otherwise once each of these has taken the place of what is before it.
fn told(edits: &[(&str, &str)]) -> Vec<String> {
    let text = edits.iter().fold(BASE.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "{from}");
        text.replacen(from, to, 1)
    });
    let (old, new) = (parse(BASE), parse(&text));
    changes(&old, &new).iter().map(Change::to_string).collect()
}

#[test]
fn what_is_the_same_is_no_change() {
    assert_eq!(changes(&parse(BASE), &parse(BASE)), vec![]);
    // A default that is written out says nothing new.
    assert_eq!(told(&[("[sources.flyflow]", "[sources.flyflow]\n body_timeout = \"10s\"")]), [] as [&str; 0]);
}

#[test]
fn tables_are_told_by_name_and_what_has_changed_in_them_by_key() {
    assert_eq!(
        told(&[("timeout = \"15s\"", "timeout = \"5s\"\n order = \"key\"")]),
        ["endpoints.crm: changed order, order_hold_max, timeout"]
    );
    assert_eq!(
        told(&[("[endpoints.bill]", "[endpoints.billing]"), ("\"bill\"]", "\"billing\"]")]),
        [
            "endpoints.bill: removed",
            "endpoints.billing: added",
            "routes: removed every source to crm, bill",
            "routes: added every source to crm, billing",
        ]
    );
    assert_eq!(
        told(&[("[[routes]]", "[[routes]]\n source = \"flyflow\"\n types = [\"call_*\"]")]),
        ["routes: removed every source to crm, bill", "routes: added flyflow (call_*) to crm, bill"]
    );
    assert_eq!(told(&[("[server]", "[retention]\n payload = \"7d\"\n[server]")]), ["retention: changed payload"]);
}

#[test]
fn of_a_secret_it_is_told_that_it_has_changed_and_never_what_it_is() {
    let secret = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
    let old = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let verified = format!("{old}\"]\n    token = \"the-old-token-the-old-token\"");
    let cases = [
        ("the-old-token-the-old-token", "a-new-token-a-new-token-a", "sources.flyflow: changed token (secret)"),
        (&verified, &verified.replace(old, secret), "sources.flyflow: changed secrets (secret)"),
        ("?token=old", "?token=new", "endpoints.crm: changed url (secret)"),
        ("authorization = \"old\"", "authorization = \"new\"", "endpoints.crm: changed headers (secret)"),
    ];
    for (from, to, line) in cases {
        assert_eq!(told(&[(from, to)]), [line]);
    }
    let rotated = format!("\"standard\"\n    secrets = [\"{old}\"]\n    headers");
    assert_eq!(told(&[(&rotated, &rotated.replace(old, secret))]), ["endpoints.crm: changed secrets (secret)"]);
    // One more is seen by their number.
    let two = rotated.replace(&format!("\"{old}\""), &format!("\"{secret}\", \"{old}\""));
    assert_eq!(told(&[(&rotated, &two)]), ["endpoints.crm: changed secrets"]);
    let reissued = changes(&parse(BASE), &parse_with(BASE, &certificate()));
    assert_eq!(reissued.iter().map(Change::to_string).collect::<Vec<_>>(), ["endpoints.crm: changed tls (secret)"]);
}

#[test]
fn what_is_set_up_once_stays_and_is_named() {
    let old = parse(BASE);
    let text = BASE
        .replace("127.0.0.1:8080\"", "127.0.0.1:9090\"\n    rate = \"10/s\"")
        .replace("[server]", "[journal]\n    dir = \"elsewhere\"\n[server]")
        .replace("timeout = \"15s\"", "timeout = \"5s\"");
    let new = parse(&text);
    let mixed = old.taking_in(new.clone());
    let lines = |changes: Vec<Change>| changes.iter().map(Change::to_string).collect::<Vec<_>>();
    assert_eq!(lines(changes(&old, &mixed)), ["endpoints.crm: changed timeout", "server: changed rate"]);
    assert_eq!(
        lines(changes(&mixed, &new)),
        ["admin: changed token_file", "journal: changed dir", "server: changed listen"]
    );
    assert_eq!((mixed.server.listen, &mixed.journal), (old.server.listen, &old.journal));
    assert_eq!(mixed.endpoints, new.endpoints);
    // Where the admin's token lies follows from the journal's folder.
    assert_eq!(mixed.admin.token_file, old.admin.token_file);
    assert!(changes(&mixed, &new).iter().all(|change| change.kind == Kind::Changed));
}

#[test]
fn another_key_of_the_journal_needs_a_restart() {
    let key = |from: u8| (from..from + 32).map(|byte| format!("{byte:02x}")).collect::<String>();
    let sealed = |from| parse(&format!("[journal.encryption]\n keys = [\"{}\"]\n{BASE}", key(from)));
    let (old, new) = (sealed(1), sealed(2));
    let mixed = old.taking_in(new.clone());
    assert_eq!(changes(&old, &mixed), vec![]);
    let needs_restart: Vec<String> = changes(&mixed, &new).iter().map(Change::to_string).collect();
    assert_eq!(needs_restart, ["journal: changed encryption (secret)"]);
}

#[test]
fn what_only_larger_segments_could_hold_is_refused_until_a_restart() {
    let old = parse(&format!("journal.segment_mib = 4\n{BASE}"));
    let misfits = |text: &str| -> Vec<String> {
        let new = parse(text);
        old.misfits(&new, Path::new("gateway.toml")).iter().map(ToString::to_string).collect()
    };
    assert_eq!(misfits(&format!("journal.segment_mib = 64\n{BASE}")), [] as [&str; 0]);
    let larger = BASE.replace("verify = ", "body_max = \"8MiB\"\n    verify = ");
    let found = misfits(&format!("journal.segment_mib = 64\n{larger}"));
    assert!(found[0].starts_with("gateway.toml: sources.flyflow.body_max: "), "{found:?}");
    let kept = BASE.replace("[sources", "[retention]\n    bytes_max = \"8MiB\"\n[sources");
    let old = parse(&format!("journal.segment_mib = 16\n{BASE}"));
    let new = parse(&format!("journal.segment_mib = 4\n{kept}"));
    let found: Vec<String> = old.misfits(&new, Path::new("gateway.toml")).iter().map(ToString::to_string).collect();
    assert!(found[0].starts_with("gateway.toml: retention.bytes_max: "), "{found:?}");
}
