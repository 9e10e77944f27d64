//! Events on their way from one gateway to another, and through whatever breaks off.

use std::io::Write as _;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::events::call_ended;
use crate::http;
use crate::place::{Gateway, Place, finish};
use crate::sink::{OK, Sink};

fn config(sink: &Sink) -> String {
    format!(
        r#"
        [sources.flyflow]
        preset = "flyflow"
        [endpoints.crm]
        url = "{}"
        [[routes]]
        endpoints = ["crm"]
        "#,
        sink.url()
    )
}

/// What an export holds, and its last line.
fn lines(export: &str) -> (Vec<Value>, Value) {
    let mut lines: Vec<Value> = export.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let end = lines.pop().unwrap();
    (lines, end)
}

fn accepted(gateway: &Gateway) -> u64 {
    gateway.get("counters")["accepted"].as_u64().unwrap()
}

#[test]
fn what_one_gateway_exports_another_imports_once() {
    let sink = Sink::answering(OK);
    let first = Place::new(&config(&sink));
    let gateway = first.serve();
    for number in 0..3 {
        gateway.accept(&call_ended(number));
    }
    let raw = b"\xff\x00 not JSON \r\n";
    let headers = "content-type: application/octet-stream\r\nx-name: caf\u{e9}\r\n";
    http::ask(&gateway.ingest, "POST", "/in/flyflow", headers, raw).unwrap();
    gateway.until_count("crm", "delivered", 4);
    let file = first.path("events.ndjson");
    let file = file.to_str().unwrap();
    gateway.verb(["export", file]).ok();
    let (exported, end) = lines(&std::fs::read_to_string(file).unwrap());
    assert_eq!(end, json!({ "end": { "events": 4, "without_payload": 0 } }));
    assert_eq!(exported[0]["deliveries"][0]["attempts"][0]["outcome"], "delivered");
    let again = gateway.verb(["export", file]).failed(1);
    assert!(again.contains("is there already; name a file that is not there yet"), "{again}");
    let (some, _) = lines(&gateway.verb(["export", "--type", "unknown"]).ok());
    assert_eq!(some.len(), 1);
    gateway.stop();
    let (offline, _) = lines(&first.run(["journal", "export"]).ok());
    assert_eq!(offline, exported, "the stopped directory says the same");

    let second = Place::new(&config(&sink));
    let gateway = second.serve();
    let told = gateway.verb(["import", file, "--source", "flyflow", "--output", "json"]).json();
    assert_eq!((&told["imported"], &told["duplicates"], &told["whole"]), (&json!(4), &json!(0), &json!(true)));
    let told = gateway.verb(["import", file, "--source", "flyflow", "--route"]).ok();
    assert_eq!(told, "0 imported, 4 imported before, 0 refused\n");
    let counters = gateway.get("counters");
    assert_eq!((&counters["accepted"], &counters["unrouted"]), (&json!(4), &json!(4)));
    let (imported, _) = lines(&gateway.verb(["export"]).ok());
    for (imported, exported) in imported.iter().zip(&exported) {
        for field in ["type", "key", "headers", "body", "body_bytes"] {
            assert_eq!(imported[field], exported[field], "{field}");
        }
        let happened = if exported["occurred_at"].is_null() { "received_at" } else { "occurred_at" };
        assert_eq!(imported["occurred_at"], exported[happened]);
        assert_ne!(imported["id"], exported["id"]);
        assert_eq!((&imported["original"], &exported["original"]), (&exported["id"], &Value::Null));
    }
    let id = imported[3]["id"].as_str().unwrap();
    let body = gateway.command(["event", id, "--body"]).stderr(Stdio::inherit()).output().unwrap();
    assert_eq!(body.stdout, raw, "byte for byte");
    let story = gateway.verb(["event", id]).ok();
    assert!(
        story.contains(&format!("original   {}, which was imported", exported[3]["id"].as_str().unwrap())),
        "{story}"
    );
    let before = sink.posts().len();
    gateway.verb(["replay", "--unrouted"]).ok();
    gateway.until_count("crm", "delivered", 4);
    assert!(sink.posts()[before..].iter().all(|post| post.header("backstop-original").is_none()));
    gateway.verb(["audit"]).ok();
}

#[test]
fn a_file_that_is_not_whole_is_told_line_by_line() {
    let place = Place::new(&config(&Sink::answering(OK)));
    let gateway = place.serve();
    gateway.accept(&call_ended(1));
    let export = gateway.verb(["export"]).ok();
    let line = export.lines().next().unwrap();
    let cut = format!("{line}\n\nno JSON\n{}", line.split_at(line.len() / 2).0);
    place.write("cut.ndjson", &cut);
    let cut = place.path("cut.ndjson");
    let mut import = gateway.command(["import", cut.to_str().unwrap(), "--source", "flyflow"]);
    let ran = import.output().unwrap();
    assert_eq!(ran.status.code(), Some(1));
    let told = String::from_utf8(ran.stdout).unwrap();
    assert!(told.contains("line 3: no exported event") && told.contains("line 4: no exported event"), "{told}");
    assert!(told.ends_with("1 imported, 0 imported before, 2 refused\n"), "{told}");
    let told = String::from_utf8(ran.stderr).unwrap();
    assert!(told.contains("it may have been cut off") && told.contains("2 lines made no event"), "{told}");
    let told = gateway.verb(["import", cut.to_str().unwrap(), "--source", "nobody"]).failed(4);
    assert!(told.contains("no source `nobody`"), "{told}");
    assert_eq!(accepted(&gateway), 2);
}

#[test]
fn an_import_through_a_kill_is_done_again_and_makes_each_event_once() {
    const EVENTS: u64 = 20_000;
    let place = Place::new(&config(&Sink::answering(OK)));
    let gateway = place.serve();
    gateway.accept(&call_ended(1));
    let export = gateway.verb(["export"]).ok();
    let sample: Value = serde_json::from_str(export.lines().next().unwrap()).unwrap();
    let path = place.path("many.ndjson");
    let mut file = std::io::BufWriter::new(std::fs::File::create(&path).unwrap());
    for number in 0..EVENTS {
        let mut line = sample.clone();
        line["id"] = json!(backstop::core::id::EventId::from_u128(u128::from(number) + 1).to_string());
        writeln!(file, "{line}").unwrap();
    }
    writeln!(file, "{}", json!({ "end": { "events": EVENTS, "without_payload": 0 } })).unwrap();
    drop(file);
    let path = path.to_str().unwrap();
    let mut import = gateway.command(["import", path, "--source", "flyflow"]);
    let import = import.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    gateway.until("counters", |counters| counters["accepted"].as_u64() > Some(2000));
    gateway.kill();
    let ended = import.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(3), "{}", String::from_utf8_lossy(&ended.stderr));

    let gateway = place.serve();
    let there = accepted(&gateway) - 1;
    assert!((2000..EVENTS).contains(&there), "{there}");
    let told = finish(&mut gateway.command(["import", path, "--source", "flyflow", "--output", "json"])).json();
    assert_eq!((&told["imported"], &told["duplicates"]), (&json!(EVENTS - there), &json!(there)));
    assert_eq!(accepted(&gateway), EVENTS + 1);
    gateway.verb(["audit"]).ok();
}
