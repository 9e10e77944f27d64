//! `backstop journal`: the directory of a stopped gateway, whole and damaged.

use std::path::PathBuf;

use serde_json::Value;

use crate::events::call_ended;
use crate::place::Place;
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

/// A stopped gateway's place, with five events that are delivered; their ids.
fn delivered(sink: &Sink) -> (Place, Vec<String>) {
    let place = Place::new(&config(sink));
    let gateway = place.serve();
    let events = (0..5).map(|number| gateway.accept(&call_ended(number))).collect();
    gateway.until_count("crm", "delivered", 5);
    gateway.stop();
    (place, events)
}

fn segment(place: &Place) -> PathBuf {
    place.path("backstop-data/log/00000000000000000000.log")
}

/// Flips a bit of the event `number`'s body in the log; where it is.
fn flip(place: &Place, number: usize) -> u64 {
    let path = segment(place);
    let mut bytes = std::fs::read(&path).unwrap();
    let body = call_ended(number).into_bytes();
    let at = bytes.windows(body.len()).position(|window| window == body).unwrap() + body.len() / 2;
    bytes[at] ^= 1;
    std::fs::write(path, bytes).unwrap();
    at as u64
}

#[test]
fn a_sound_journal_is_verified_rebuilt_and_measured() {
    let (place, events) = delivered(&Sink::answering(OK));
    for verb in ["verify", "rebuild", "stats"] {
        let found = place.run(["journal", verb, "--output", "json"]).json();
        assert_eq!((&found["accepted"], &found["deliveries"], &found["attempts"]), (&5.into(), &5.into(), &5.into()));
        assert_eq!(found["agrees"], true, "{verb}");
        let text = place.run(["journal", verb]).ok();
        assert!(text.contains("events              5\n") && text.contains("counters agree      yes\n"), "{text}");
    }
    let gateway = place.serve();
    assert_eq!(gateway.get("counters")["endpoints"]["crm"]["delivered"], 5);
    gateway.get(&format!("events/{}", events[0]));
}

#[test]
fn damage_is_named_and_the_rest_is_delivered() {
    let sink = Sink::holding();
    let place = Place::new(&format!("server.drain_timeout = \"100ms\"\n{}", config(&sink)));
    let gateway = place.serve();
    let events: Vec<String> = (0..5).map(|number| gateway.accept(&call_ended(number))).collect();
    gateway.stop();
    let at = flip(&place, 2);

    let verified = place.run(["journal", "verify"]);
    assert_eq!(verified.code, Some(1), "{verified:?}");
    assert!(verified.err.contains("the journal is damaged"), "{verified:?}");
    let damaged = verified.out.lines().find_map(|line| line.strip_prefix("DAMAGED")).unwrap();
    let words: Vec<&str> = damaged.trim_end_matches(": what stood there is lost").split_whitespace().collect();
    let (bytes, position): (u64, u64) = (words[0].parse().unwrap(), words[3].parse().unwrap());
    assert!((position..position + bytes).contains(&at), "{damaged}: {at}");
    assert!(bytes < 1024, "{damaged}: only the record that was hit");

    let audit = place.run(["audit", "--offline"]);
    assert_eq!(audit.code, Some(1), "{audit:?}");
    assert!(audit.out.contains(&format!("unfounded  {}", events[2])), "{audit:?}");
    let early = place.run(["audit", "--offline", "--until", "2001-01-01T00:00:00Z", "--output", "json"]);
    assert!(early.out.contains("\"events\": 0"), "{early:?}");

    sink.release();
    let gateway = place.serve();
    gateway.until_count("crm", "failed", 1);
    gateway.until_count("crm", "delivered", 4);
    let lost = gateway.verb(["failed", "--output", "json"]).json();
    assert_eq!(lost["items"][0]["reason"], "lost", "{lost}");
    assert_eq!(lost["items"][0]["event"]["id"], events[2]);
    let story = gateway.verb(["event", &events[2]]).ok();
    assert!(story.contains("record was damaged on disk"), "{story}");
}

/// Starts the place's gateway, which must have everything of [`delivered`]; what it logged before it served.
fn served_whole(place: &Place, events: &[String]) -> Vec<String> {
    let gateway = place.serve();
    let log = gateway.log.so_far();
    for (number, event) in events.iter().enumerate() {
        assert_eq!(gateway.verb(["event", event, "--body"]).ok(), call_ended(number));
        assert_eq!(gateway.get(&format!("events/{event}"))["deliveries"][0]["status"], "delivered");
    }
    gateway.verb(["audit"]).ok();
    gateway.stop();
    log
}

#[test]
fn an_index_that_is_gone_is_built_again() {
    let (place, events) = delivered(&Sink::answering(OK));
    std::fs::remove_dir_all(place.path("backstop-data/index")).unwrap();
    let log = served_whole(&place, &events);
    assert!(log.iter().any(|line| line.contains("the index was built again from the log")), "{log:#?}");
}

#[test]
fn an_index_that_is_damaged_loses_nothing() {
    let (place, events) = delivered(&Sink::answering(OK));
    let db = place.path("backstop-data/index/db");
    std::fs::write(&db, "").unwrap();
    served_whole(&place, &events);
    let mut bytes = std::fs::read(&db).unwrap();
    bytes.iter_mut().for_each(|byte| *byte ^= 0x55);
    std::fs::write(&db, bytes).unwrap();
    served_whole(&place, &events);
}

#[test]
fn with_the_index_gone_and_the_log_damaged_the_rest_is_there() {
    let (place, events) = delivered(&Sink::answering(OK));
    flip(&place, 2);
    std::fs::remove_dir_all(place.path("backstop-data/index")).unwrap();
    let gateway = place.serve();
    assert!(gateway.log.so_far().iter().any(|line| line.contains("the log is damaged here")));
    assert_eq!(gateway.get("counters")["endpoints"]["crm"]["delivered"], 4);
    assert!(gateway.verb(["event", &events[2]]).failed(4).contains("there is no such event"));
    // What has vanished is named by what the log still says of it.
    let audit = gateway.verb(["audit", "--output", "json"]);
    assert_eq!(audit.code, Some(1), "{audit:?}");
    let found: Value = serde_json::from_str(&audit.out).unwrap();
    let differences = found["differences"].as_array().unwrap();
    let named: Vec<(&str, Option<&str>)> =
        differences.iter().map(|found| (found["what"].as_str().unwrap(), found["id"].as_str())).collect();
    let delivery = format!("{}_0", events[2].replace("evt_", "dlv_"));
    assert_eq!(named, [("missing", Some(delivery.as_str())), ("lost", None)], "{found}");
    gateway.stop();
    let verified = place.run(["journal", "verify", "--output", "json"]);
    assert_eq!(verified.code, Some(1), "{verified:?}");
}

#[test]
fn a_journal_in_use_is_left_alone() {
    let sink = Sink::answering(OK);
    let place = Place::new(&config(&sink));
    let gateway = place.serve();
    let process = format!("(process {})", gateway.process());
    for arguments in [["journal", "verify"], ["journal", "rebuild"], ["journal", "stats"], ["audit", "--offline"]] {
        let refused = place.run(arguments).failed(1);
        assert!(refused.contains(&process), "{refused}");
    }
    gateway.accept(&call_ended(0));
    gateway.until_count("crm", "delivered", 1);
}
