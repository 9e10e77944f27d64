//! A gateway that seals what it writes: nothing of a payload in its folder, keys that change, and one that is missing.

use std::path::Path;

use crate::place::Place;
use crate::sink::Sink;

const FIRST: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const SECOND: &str = "202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f";
/// What the two are called by: the beginning of their SHA-256.
const IDS: [&str; 2] = ["630dcd29", "72dbb733"];
const BODY: &str = "planted-in-the-body";
const REFUSED: &str = "planted-in-a-refused-body";
const ANSWER: &str = "planted-in-an-answer";

fn config(sink: &Sink, keys: &str) -> String {
    format!(
        r#"
        log.level = "trace"
        journal.encryption = {{ keys = [{keys}] }}
        [sources.flyflow]
        preset = "flyflow"
        verify = "off"
        strict = true
        [endpoints.crm]
        url = "{}"
        [[routes]]
        endpoints = ["crm"]
        "#,
        sink.url()
    )
}

fn event(n: usize) -> String {
    format!(
        r#"{{"event_type": "call_ended", "call_id": "call-{n}", "timestamp": "2023-06-08T10:31:00Z", "data": "{BODY}"}}"#
    )
}

/// Whether `text` stands in a file under `folder`.
fn holds(folder: &Path, text: &str) -> bool {
    std::fs::read_dir(folder).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() {
            return holds(&path, text);
        }
        std::fs::read(path).unwrap().windows(text.len()).any(|window| window == text.as_bytes())
    })
}

#[test]
fn what_is_sealed_is_read_with_its_key_only_and_keys_change_at_a_restart() {
    let sink = Sink::answering("200 OK\r\nx-answer: planted-in-an-answer\r\n");
    let place = Place::new(&config(&sink, "\"file:first.key\""));
    place.write("first.key", &format!("{FIRST}\n"));
    place.write("second.key", SECOND);
    let gateway = place.serve();
    let mut events = vec![gateway.accept(&event(1))];
    assert_eq!(gateway.post(&format!("no JSON, but {REFUSED}")).status, 422);
    gateway.until_count("crm", "delivered", 1);
    gateway.until("refusals", |page| page["items"][0]["reason"] == "malformed");
    let mut said = gateway.stop();

    // The first key alone; then the second takes over; at last it is first and the other is still needed.
    place.configure(&config(&sink, "\"file:second.key\", \"file:first.key\""));
    let gateway = place.serve();
    events.push(gateway.accept(&event(2)));
    gateway.until_count("crm", "delivered", 2);
    for (n, id) in (1..).zip(&events) {
        assert_eq!(gateway.verb(["event", id, "--body"]).ok(), event(n));
        let story = gateway.get(&format!("events/{id}")).to_string();
        assert!(story.contains("delivered"), "{story}");
    }
    let refused = gateway.verb(["refused", "--output", "json"]).json();
    let kept = gateway.get(&format!("refusals/{}", refused["items"][0]["id"].as_str().unwrap()));
    assert!(kept["body"]["text"].as_str().or(kept["body"].as_str()).unwrap().ends_with(REFUSED), "{kept}");
    said.extend(gateway.stop());
    let folder = place.path("backstop-data");
    for text in [BODY, REFUSED, ANSWER, FIRST, SECOND] {
        assert!(!holds(&folder, text), "{text} is on the disk");
        assert!(!said.iter().any(|line| line.to_string().contains(text)), "{text} is in the log");
    }
    let stats = place.run(["journal", "stats"]).ok();
    assert!(IDS.iter().all(|id| stats.contains(&format!("sealed by {id}  segments 1, bytes"))), "{stats}");

    // Without the first key: frames can be checked, and nothing else is done.
    place.configure(&config(&sink, "\"file:second.key\""));
    let refused = place.run(["serve"]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.err.contains(IDS[0]) && refused.err.contains("encryption.keys"), "{refused:?}");
    assert!(place.run(["journal", "stats"]).failed(1).contains(IDS[0]));
    assert!(place.run(["audit", "--offline"]).failed(1).contains(IDS[0]));
    let verified = place.run(["journal", "verify", "--output", "json"]).json();
    assert_eq!((&verified["missing_keys"][0], &verified["agrees"]), (&IDS[0].into(), &serde_json::Value::Null));
    let text = place.run(["journal", "verify"]).ok();
    assert!(text.contains(&format!("key missing         {}: whether", IDS[0])), "{text}");

    place.configure(&config(&sink, "\"file:second.key\", \"file:first.key\""));
    let verified = place.run(["journal", "verify", "--output", "json"]).json();
    assert_eq!((&verified["agrees"], &verified["accepted"]), (&true.into(), &2.into()), "{verified}");
    let records: u64 = verified["sealed"].as_array().unwrap().iter().map(|key| key["records"].as_u64().unwrap()).sum();
    assert_eq!(Some(records), verified["records"].as_u64());
}
