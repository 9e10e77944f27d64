//! What every verb prints, for people and for programs: formats, colours, widths, and readers that go away.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::events::call_ended;
use crate::place::{Gateway, Place, finish};
use crate::sink::{OK, Sink};
use crate::terminal::{WIDTH, on_terminal};

/// A healthy endpoint and one that nobody listens at: some of everything comes of a few events.
fn config(sink: &Sink) -> String {
    format!(
        r#"
        [sources.flyflow]
        preset = "flyflow"
        lifecycle = {{ start = "call_started", end = "call_ended", timeout = "1h" }}
        [endpoints.crm]
        url = "{}"
        [endpoints.billing]
        url = "http://127.0.0.1:1/"
        breaker = "off"
        retry = {{ initial = "1ms", interval_max = "1ms", attempts_max = 1 }}
        [[routes]]
        endpoints = ["crm", "billing"]
        "#,
        sink.url()
    )
}

/// A gateway that has had three calls' worth of events, a duplicate, a replay and a token.
fn busy(place: &Place) -> Gateway {
    let gateway = place.serve();
    for number in 0..3 {
        gateway.accept(&call_ended(number).replace("call_ended", "call_started"));
        gateway.accept(&call_ended(number));
    }
    gateway.accept(&call_ended(2));
    gateway.until_count("billing", "dead", 6);
    gateway.until_count("crm", "delivered", 6);
    gateway.verb(["replay", "--endpoint", "crm", "--status", "delivered", "--detach"]).ok();
    gateway.until_count("crm", "delivered", 12);
    gateway.verb(["token", "create", "grafana", "--role", "read"]).ok();
    gateway
}

/// Every verb that prints a list.
const LISTS: [&[&str]; 10] = [
    &["events"],
    &["failed"],
    &["failures"],
    &["gaps", "--kind", "undelivered"],
    &["refused"],
    &["replays"],
    &["endpoint", "list"],
    &["operations"],
    &["token", "list"],
    &["call", "call-1"],
];

/// Verbs that print one object.
const OBJECTS: [&[&str]; 4] = [&["counters"], &["audit"], &["whoami"], &["endpoint", "show", "crm"]];

/// Verbs that print what came of doing something, what is looked at elsewhere, or lines without an end.
const OTHERS: [&str; 27] = [
    "cancel",
    "endpoint pause",
    "endpoint resume",
    "endpoint test",
    "event",
    "import",
    "journal",
    "journal export",
    "journal rebuild",
    "journal stats",
    "journal verify",
    "listen",
    "refused ingest",
    "refused show",
    "replay",
    "replay cancel",
    "replay pause",
    "replay rerun",
    "replay resume",
    "replay watch",
    "send",
    "tail",
    "token",
    "token create",
    "token revoke",
    "health",
    "reload",
];

/// Every verb that takes `--output`, as a completion script has it: `call`, `token list`.
fn verbs_with_output(gateway: &Gateway) -> BTreeSet<String> {
    let script = gateway.verb(["completion", "fish"]).ok();
    let conditions = script.lines().filter(|line| line.contains(" -l output ")).map(|line| {
        let when = line.split('"').nth(1).unwrap();
        let (verb, below) = when.split_once("; and ").unwrap_or((when, ""));
        let verb = verb.strip_prefix("__fish_backstop_using_subcommand ").unwrap();
        let below = below.strip_prefix("__fish_seen_subcommand_from ").map(|below| format!(" {below}"));
        format!("{verb}{}", below.unwrap_or_default())
    });
    conditions.collect()
}

#[test]
fn no_verb_that_speaks_to_programs_is_forgotten_here() {
    let place = Place::new("");
    let mut left = verbs_with_output(&place.serve());
    assert!(left.len() > 27, "{left:?}");
    for verb in LISTS.iter().chain(&OBJECTS) {
        let two = verb.iter().take(2).copied().collect::<Vec<_>>().join(" ");
        assert!(left.remove(&two) || left.remove(verb[0]), "{verb:?} takes no --output");
    }
    left.retain(|verb| !OTHERS.contains(&verb.as_str()));
    assert!(left.is_empty(), "put into LISTS what prints a list, into OBJECTS what prints an object: {left:?}");
}

#[test]
fn every_list_is_the_apis_json_and_a_line_an_item() {
    let sink = Sink::answering(OK);
    let place = Place::new(&config(&sink));
    let gateway = busy(&place);
    for verb in LISTS {
        let print = |output: &str| {
            let mut command = gateway.command([]);
            finish(command.args(verb).args(["--output", output])).ok()
        };
        let json: Value = serde_json::from_str(&print("json")).unwrap();
        let items = json["items"].as_array().unwrap_or_else(|| panic!("{verb:?}: {json}"));
        assert!(!items.is_empty(), "{verb:?}: {json}");
        let text = print("jsonl");
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let without_waits = |items: &[Value]| items.iter().map(|item| item["id"].clone()).collect::<Vec<_>>();
        assert_eq!(without_waits(&lines), without_waits(items), "{verb:?}");
        assert_eq!(lines.len(), items.len(), "{verb:?}");
        // For people: a row an item, unless notes stand between.
        assert!(print("table").lines().count() > items.len(), "{verb:?}");
    }
    for verb in OBJECTS {
        let mut command = gateway.command([]);
        let line = finish(command.args(verb).args(["--output", "jsonl"])).ok();
        assert_eq!(line.lines().count(), 1, "{verb:?}: {line}");
        assert!(serde_json::from_str::<Value>(&line).unwrap().is_object());
    }
}

#[test]
fn lines_go_on_across_pages_and_say_where_the_rest_is() {
    let place = Place::new("[sources.flyflow]\npreset = \"flyflow\"\n");
    let gateway = place.serve();
    let ids: Vec<String> = (0..1100).map(|number| gateway.accept(&call_ended(number))).collect();
    let listed = |ran: &str| -> Vec<String> {
        let id = |line: &str| serde_json::from_str::<Value>(line).unwrap()["id"].as_str().unwrap().to_owned();
        ran.lines().map(id).collect()
    };
    let all = gateway.verb(["events", "--oldest", "--all", "--output", "jsonl"]);
    assert_eq!((all.err.as_str(), listed(&all.out)), ("", ids.clone()));
    let some = gateway.verb(["events", "--oldest", "--limit", "1050", "--output", "jsonl"]);
    assert_eq!(listed(&some.out), ids[..1050]);
    let cursor = some.err.trim_end().strip_prefix("there may be more: --cursor ").unwrap();
    let rest = gateway.verb(["events", "--oldest", "--all", "--output", "jsonl", "--cursor", cursor]);
    assert_eq!(listed(&rest.out), ids[1050..]);
    assert!(gateway.verb(["events", "--all", "--limit", "3"]).err.contains("cannot be used with"));
}

#[test]
fn a_terminal_has_colours_and_its_tables_fit() {
    let sink = Sink::answering(OK);
    let place = Place::new(&config(&sink));
    let gateway = busy(&place);
    let id = gateway.get("deliveries?limit=1")["items"][0]["id"].as_str().unwrap().to_owned();
    let piped = gateway.verb(["failed"]).ok();
    assert!(!piped.contains('\u{1b}'), "{piped}");

    let (code, shown) = on_terminal(gateway.command(["failed"]));
    assert_eq!(code, Some(0));
    assert!(shown.contains("\u{1b}[31mdead\u{1b}[0m") && shown.contains(&id), "{shown}");
    let mut plain = gateway.command(["failed"]);
    plain.env("NO_COLOR", "1");
    let (_, plain) = on_terminal(plain);
    assert!(!plain.contains('\u{1b}'), "{plain}");
    let (_, never) = on_terminal(gateway.command(["failed", "--color", "never"]));
    assert_eq!(never, plain);
    for line in plain.lines() {
        assert!(line.chars().count() <= usize::from(WIDTH), "{line:?} is wider than the terminal");
    }
    assert!(plain.lines().count() > piped.lines().count(), "rows go on below");
    let mut wide = gateway.command(["failed", "--color", "never"]);
    wide.env("COLUMNS", "400");
    assert_eq!(on_terminal(wide).1, piped, "where there is room it is as in a pipe");

    assert!(gateway.verb(["failed", "--color", "always"]).ok().contains("\u{1b}[31mdead"));
    let mut forced = gateway.command(["failed"]);
    assert!(finish(forced.env("CLICOLOR_FORCE", "1")).ok().contains("\u{1b}[31mdead"));
    let (code, complaint) = on_terminal(gateway.command(["event", "nonsense"]));
    assert_eq!(code, Some(4));
    assert!(complaint.starts_with("\u{1b}[31mbackstop:\u{1b}[0m there is no such event"), "{complaint}");
}

/// How a command ends whose reader goes away after the first bytes.
fn left(mut command: Command) -> (Option<i32>, String) {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = [0; 64];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    (child.wait().unwrap().code(), said)
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let place = Place::new("[sources.flyflow]\npreset = \"flyflow\"\nbody_max = \"1MiB\"\n");
    let gateway = place.serve();
    // More than a pipe holds.
    let large = format!(r#"{{"event_type":"call_ended","call_id":"c","filler":"{}"}}"#, "x".repeat(300_000));
    let id = gateway.accept(&large);
    for number in 0..500 {
        gateway.accept(&call_ended(number));
    }
    let verbs: [&[&str]; 6] = [
        &["export"],
        &["events", "--all"],
        &["events", "--all", "--output", "json"],
        &["events", "--all", "--output", "jsonl"],
        &["event", &id, "--body"],
        &["completion", "zsh"],
    ];
    for verb in verbs {
        let mut command = gateway.command([]);
        command.args(verb);
        assert_eq!(left(command), (Some(0), String::new()), "{verb:?}");
    }
    gateway.stop();
    assert_eq!(left(place.command(["journal", "export"])), (Some(0), String::new()));
}

#[test]
fn bash_completes_verbs_and_options() {
    let program = env!("CARGO_BIN_EXE_backstop");
    let complete = |words: &str, at: usize| {
        let script = format!(
            "source <('{program}' completion bash) && COMP_WORDS=({words}) COMP_CWORD={at} && \
             _backstop backstop \"${{COMP_WORDS[{at}]}}\" && printf '%s\\n' \"${{COMPREPLY[@]}}\""
        );
        let ran = finish(Command::new("bash").args(["--norc", "-c", &script]));
        ran.ok().lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(complete("backstop endpo", 1), ["endpoint"], "old words are not");
    assert_eq!(complete("backstop endpoint te", 2), ["test"]);
    assert_eq!(complete("backstop events --incl", 2), ["--include-superseded"]);
    for shell in ["zsh", "fish", "elvish", "powershell"] {
        let printed = finish(Command::new(program).args(["completion", shell])).ok();
        assert!(printed.contains("backstop") && printed.contains("endpoint"), "{shell}");
    }
}

#[test]
fn an_endpoint_is_tested_on_the_way_of_every_event() {
    let sink = Sink::answering(OK);
    let place = Place::new(&config(&sink));
    let gateway = place.serve();
    let said = gateway.verb(["endpoint", "test", "crm"]).ok();
    assert!(
        said.starts_with("dlv_") && said.contains("_0  crm  delivered after ") && said.contains("ms: 200"),
        "{said}"
    );
    let post = &sink.wait_for(1)[0];
    assert_eq!(post.header("backstop-event-type"), Some("backstop.endpoint.test"));
    let told = gateway.verb(["endpoint", "test", "crm", "--output", "json"]).json();
    assert_eq!((&told["status"], &told["attempts"][0]["answer"]["status"]), (&"delivered".into(), &200.into()));
    let refused = gateway.verb(["endpoint", "test", "billing"]);
    assert_eq!((refused.code, refused.err.as_str()), (Some(1), "backstop: the test event was not taken\n"));
    assert!(refused.out.contains("billing") && refused.out.contains(": refused  no connection"), "{refused:?}");
    gateway.verb(["endpoint", "pause", "crm", "--note", "moving"]).ok();
    let held = gateway.verb(["endpoint", "test", "crm"]);
    assert_eq!(held.code, Some(1));
    assert!(held.out.contains("scheduled  waits for crm to be resumed"), "{held:?}");
    let id = held.out.split(' ').next().unwrap();
    assert!(held.err.contains(&format!("`backstop cancel {id}` takes it back")), "{held:?}");
    assert!(gateway.verb(["cancel", id]).ok().contains("cancelled"));
    assert!(gateway.verb(["endpoint", "test", "nowhere"]).failed(4).contains("no such endpoint"));
    assert!(gateway.verb(["endpoint", "resume", "crm"]).ok().contains("crm"));
    assert_eq!(
        gateway.verb(["endpoints"]).ok(),
        gateway.verb(["endpoint", "list"]).ok(),
        "the old word is still known"
    );
}

/// The URL of a server that is none of ours.
fn stranger() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let mut stream = listener.accept().unwrap().0;
        let _asked = stream.read(&mut [0; 4096]).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nhi").unwrap();
    });
    url
}

#[test]
fn whoever_does_not_answer_is_named_with_what_to_do() {
    let sink = Sink::answering(OK);
    let place = Place::new(&config(&sink));
    let gateway = place.serve();
    let ask = |admin: &str| gateway.verb(["counters", "--admin", admin]);
    let tls = ask(&format!("https://{}", gateway.admin)).failed(3);
    assert!(tls.contains("that is --admin: no TLS is spoken there; write http://"), "{tls}");
    let ingest = ask(&format!("http://{}", gateway.ingest)).failed(1);
    assert!(ingest.contains("that is --admin: the ingest listener answers"), "{ingest}");
    let one = gateway.verb(["event", "evt_1", "--admin", &format!("http://{}", gateway.ingest)]).failed(1);
    assert!(one.contains("that is --admin: the ingest listener answers"), "{one}");
    let other = ask(&stranger()).failed(1);
    assert!(other.contains("the gateway's admin API is not at ") && other.contains("that is --admin"), "{other}");
    // The sink breaks off at what is no post, as a listener with TLS does at what is no handshake.
    let broken = ask(&sink.url()).failed(3);
    assert!(broken.contains("that is --admin: is it a listener with TLS? Then write https://"), "{broken}");
    let to = format!("http://{}", gateway.admin);
    let sent = gateway.verb(["send", "--sample", "call_ended", "--ingest", &to]).failed(1);
    assert!(sent.contains("that is --ingest: the admin API answers, not the ingest listener"), "{sent}");
    let mut stranger = gateway.command(["counters"]);
    let stranger = finish(stranger.env("BACKSTOP_TOKEN", "0123456789abcdef0123")).failed(1);
    assert!(stranger.contains("the token sent is that of the variable BACKSTOP_TOKEN"), "{stranger}");
    let closed = "http://127.0.0.1:1";
    let mut nobody = gateway.command(["counters"]);
    let nobody = finish(nobody.env("BACKSTOP_ADMIN", closed)).failed(3);
    assert!(nobody.contains("at http://127.0.0.1:1 (Connection refused"), "{nobody}");
    assert!(nobody.contains("that is the variable BACKSTOP_ADMIN: is `backstop serve` running there?"), "{nobody}");
    let elsewhere = Place::new("");
    std::fs::remove_file(elsewhere.path("gateway.toml")).unwrap();
    let lost = elsewhere.run(["counters"]).failed(2);
    assert!(
        lost.contains("there is no such file; name one with --config, or the gateway with --admin, and its"),
        "{lost}"
    );
    let lost = elsewhere.run(["counters", "--admin", &to]).failed(2);
    assert!(lost.contains("or give the admin token with BACKSTOP_TOKEN or --token-file"), "{lost}");
    gateway.stop();
    place.write("gateway.toml", "server.listen = \"127.0.0.1:0\"\nadmin.listen = \"127.0.0.1:1\"\n");
    let nobody = place.run(["counters"]).failed(3);
    assert!(nobody.contains("that is admin.listen of ") && nobody.contains("running with this config?"), "{nobody}");
}
