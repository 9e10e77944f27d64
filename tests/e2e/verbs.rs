//! The verbs one by one: what they print, what they say when it goes wrong, and by which code they end.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::events::TOOL_CALL;
use crate::place::{Gateway, Place, finish};
use crate::sink::{OK, Sink};

fn config(sink: &Sink) -> String {
    format!(
        r#"
        [sources.flyflow]
        preset = "flyflow"
        [sources.strict]
        preset = "flyflow"
        strict = true
        [endpoints.crm]
        url = "{}"
        [[routes]]
        endpoints = ["crm"]
        "#,
        sink.url()
    )
}

/// The id that `send` printed.
fn sent(printed: &str) -> &str {
    printed.strip_prefix("202 ").unwrap().trim_end()
}

#[test]
fn the_demo_reconciles() {
    let folder = tempfile::tempdir().unwrap();
    let mut demo = Command::new(env!("CARGO_BIN_EXE_backstop"));
    let ran = finish(demo.arg("demo").current_dir(folder.path()).env("TMPDIR", folder.path()));
    let told = ran.ok();
    assert!(told.contains("Reconciled: 12 events accepted, 1 duplicate recognised"), "{told}");
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn the_shipped_configs_are_in_order() {
    let shipped = |name: &str| std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap();
    let place = Place::new("");
    place.write("gateway.toml", &shipped("deploy/etc/gateway.toml"));
    let checked = place.run(["check"]).ok();
    assert!(checked.ends_with("gateway.toml is in order: 1 source, 0 endpoints\n"), "{checked}");
    place.write("gateway.toml", &shipped("gateway.toml"));
    let checked = place.run(["check"]).ok();
    assert!(checked.ends_with("gateway.toml is in order: 1 source, 2 endpoints\n"), "{checked}");
    assert!(!place.path("backstop-data").exists(), "checking makes nothing");
    let version = concat!("backstop ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!(place.run(["version"]).ok(), version);
}

#[test]
fn samples_files_and_standard_input_are_sent() {
    let sink = Sink::answering(OK);
    let place = Place::new(&config(&sink));
    let gateway = place.serve();
    for sample in ["call_started", "tool_call", "call_ended"] {
        let printed = gateway.verb(["send", "--sample", sample]).ok();
        assert_eq!(gateway.get(&format!("events/{}", sent(&printed)))["type"], sample);
    }
    place.write("event.json", TOOL_CALL);
    let file = place.path("event.json");
    let from_file = gateway.verb(["send", file.to_str().unwrap()]).ok();
    assert_eq!(gateway.verb(["event", sent(&from_file), "--body"]).ok(), TOOL_CALL);
    let again = gateway.verb(["send", file.to_str().unwrap(), "--output", "json"]).json();
    assert_eq!(again["id"], sent(&from_file), "a duplicate is the same event");
    let from_stdin = send_stdin(&gateway, "\u{0}not JSON\n");
    assert_eq!(gateway.verb(["event", sent(&from_stdin), "--body"]).ok(), "\u{0}not JSON\n");
    assert_eq!(gateway.get(&format!("events/{}", sent(&from_stdin)))["type"], "unknown");
    assert_eq!(sink.wait_for(5).len(), 5);
}

/// What `backstop send -` prints when it is given `text`.
fn send_stdin(gateway: &Gateway, text: &str) -> String {
    let mut command = gateway.command(["send", "-"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
}

#[test]
fn failures_are_told_apart_by_their_exit_codes() {
    let sink = Sink::answering(OK);
    let place = Place::new(&config(&sink));
    assert!(place.run(["journal", "stats"]).failed(1).contains("`backstop serve` makes it"));
    assert!(place.run(["counters"]).failed(1).contains("admin.token"));
    let gateway = place.serve();
    let unknown = "evt_01kay2zn6r3vx0fwjv7cqdqk3b";

    // 1: tried, and failed.
    let mut stranger = gateway.command(["counters"]);
    assert!(
        finish(stranger.env("BACKSTOP_TOKEN", "0123456789abcdef0123")).failed(1).contains("this token is nobody's")
    );
    // 2: makes no sense.
    assert!(gateway.verb(["failed", "--status", "nonsense"]).failed(2).contains("`status` is one of failed,"));
    assert!(gateway.verb(["events", "--since", "yesterday"]).failed(2).contains("`since` is neither"));
    assert!(gateway.verb(["events", "--cursor", "nonsense"]).failed(2).contains("`cursor`"));
    assert!(gateway.verb(["replay"]).failed(2).contains("say what to replay"));
    assert!(gateway.verb(["replay", unknown, "--endpoint", "crm"]).failed(2).contains("not both"));
    assert!(gateway.verb(["cancel"]).failed(2).contains("say what to cancel"));
    assert!(gateway.verb(["cancel", "dlv_x", "--endpoint", "crm"]).failed(2).contains("not both"));
    assert!(gateway.verb(["cancel", "--status", "dead"]).failed(2).contains("`status` is scheduled or retrying"));
    assert!(gateway.verb(["send", "/no/such/file"]).failed(2).contains("/no/such/file cannot be read"));
    assert!(gateway.verb(["counters", "--admin", "nonsense"]).failed(2).contains("--admin is not an absolute"));
    assert_eq!(gateway.verb(["nonsense"]).code, Some(2));
    assert_eq!(gateway.verb(["send"]).code, Some(2));
    // 3: nobody answers.
    let admin = format!("http://{}", gateway.admin);
    // 4: refused.
    assert!(gateway.verb(["event", unknown]).failed(4).contains("there is no such event"));
    assert!(gateway.verb(["event", "nonsense"]).failed(4).contains("there is no such event"));
    assert!(gateway.verb(["cancel", "--include-superseded"]).failed(4).contains("say what is meant"));
    assert!(gateway.verb(["pause", "nowhere"]).failed(4).contains("no such endpoint"));
    assert!(gateway.verb(["resume", "nowhere"]).failed(4).contains("no such endpoint"));
    assert!(gateway.verb(["cancel", "rpl_nonsense"]).failed(4).contains("there is no such replay"));
    assert!(gateway.verb(["replay", unknown]).failed(4).contains("there is no such"));
    assert!(gateway.verb(["replay", unknown, "--dry-run"]).failed(2).contains("for replays by filters"));
    assert!(gateway.verb(["replay", "watch", "rpl_nonsense"]).failed(4).contains("there is no such replay"));
    place.write("event.json", "{}");
    let file = place.path("event.json");
    let nowhere = gateway.verb(["send", file.to_str().unwrap(), "--source", "nowhere"]).failed(4);
    assert!(nowhere.contains("there is no such source"), "{nowhere}");
    let strict = gateway.verb(["send", file.to_str().unwrap(), "--source", "strict"]).failed(4);
    assert!(strict.contains("/event_type"), "{strict}");

    gateway.stop();
    let gone = place.run(["counters", "--admin", &admin]).failed(3);
    assert!(gone.contains(&admin) && gone.contains("is `backstop serve` running there?"), "{gone}");
    let gone = place.run(["send", "--sample", "call_ended", "--ingest", &admin]).failed(3);
    assert!(gone.contains("is `backstop serve` running"), "{gone}");
}

#[test]
fn an_operator_needs_no_secret_of_the_gateway_but_its_token() {
    let sink = Sink::answering(OK);
    let signed = "[sources.signed]\nverify = \"bearer\"\nsecrets = [\"${SERVICE}\"]\n";
    let mut place = Place::new(&(config(&sink) + signed));
    place.set("SERVICE", "only the gateway has this");
    let gateway = place.serve();
    gateway.verb(["check"]).ok();
    let ask = |arguments| finish(gateway.command(arguments).env_remove("SERVICE"));
    assert!(ask(["check"]).failed(2).contains("SERVICE"), "the config as a whole needs it");
    assert!(ask(["counters"]).ok().starts_with("0 events accepted"));
    assert!(ask(["health"]).ok().contains("ready"));
}
