//! Crashes: what was acknowledged is there, what was to be done is done, under the same ids.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;

use crate::events::{CALL, CALL_ENDED, call_ended};
use crate::http;
use crate::place::Place;
use crate::sink::{BROKEN, MUCH_LATER, OK, Sink};

/// One endpoint, with this line more.
fn config(sink: &Sink, line: &str) -> String {
    format!(
        r#"
        [sources.flyflow]
        preset = "flyflow"
        [endpoints.crm]
        url = "{}"
        {line}
        [[routes]]
        endpoints = ["crm"]
        "#,
        sink.url()
    )
}

#[test]
fn an_event_is_on_disk_when_it_is_acknowledged() {
    let sink = Sink::holding();
    let place = Place::new(&config(&sink, ""));
    let gateway = place.serve();
    let event = gateway.accept(CALL_ENDED);
    gateway.kill();
    assert_eq!(place.run(["journal", "stats", "--output", "json"]).json()["accepted"], 1);
    sink.release();
    let gateway = place.serve();
    assert_eq!(gateway.verb(["event", &event, "--body"]).ok(), CALL_ENDED);
    gateway.until_count("crm", "delivered", 1);
    assert!(sink.posts().iter().all(|post| post.id() == event));
}

#[test]
fn what_was_acknowledged_under_load_survives_a_kill() {
    let sink = Sink::answering(OK);
    let place = Place::new(&config(&sink, ""));
    let gateway = place.serve();
    let (number, acknowledged) = (AtomicUsize::new(0), Mutex::new(BTreeSet::new()));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let body = call_ended(number.fetch_add(1, Ordering::Relaxed));
                    // Until the gateway is gone.
                    let Ok(answer) = http::ask(&gateway.ingest, "POST", "/in/flyflow", "", body.as_bytes()) else {
                        break;
                    };
                    assert_eq!(answer.status, 202, "{answer:?}");
                    acknowledged.lock().unwrap().insert(answer.json()["id"].as_str().unwrap().to_owned());
                }
            });
        }
        sink.wait_for(100);
        // As `kill` does, but the threads are still posting.
        gateway.signal("KILL");
    });
    drop(gateway);
    let acknowledged = acknowledged.into_inner().unwrap();

    let gateway = place.serve();
    let done = |counters: &Value| counters["endpoints"]["crm"]["delivered"] == counters["accepted"];
    let counters = gateway.until("counters", done);
    assert!(counters["accepted"].as_u64().unwrap() >= acknowledged.len() as u64);
    let posts = sink.posts();
    let arrived: BTreeSet<&str> = posts.iter().map(|post| post.id()).collect();
    let lost: Vec<&String> = acknowledged.iter().filter(|id| !arrived.contains(id.as_str())).collect();
    assert!(lost.is_empty(), "{lost:?}");
    gateway.verb(["audit"]).ok();
}

#[test]
fn duplicates_are_recognised_after_a_crash() {
    let sink = Sink::answering(OK);
    let place = Place::new(&config(&sink, ""));
    let gateway = place.serve();
    let events = CALL.map(|event| gateway.accept(event));
    gateway.until_count("crm", "delivered", 3);
    gateway.kill();
    let gateway = place.serve();
    for (body, event) in CALL.iter().zip(&events) {
        let answer = gateway.post(body);
        assert_eq!((answer.status, answer.json()["id"].as_str()), (202, Some(event.as_str())));
        assert_eq!(answer.header("backstop-duplicate"), Some("true"));
    }
    let counters = gateway.get("counters");
    assert_eq!((&counters["accepted"], &counters["turned_away"]["duplicate"]), (&3.into(), &3.into()));
    gateway.stop();
    assert_eq!(sink.posts().len(), 3);
}

#[test]
fn retries_keep_their_due_times() {
    let sink = Sink::answering(MUCH_LATER);
    let place = Place::new(&config(&sink, ""));
    let gateway = place.serve();
    let path = format!("events/{}", gateway.accept(CALL_ENDED));
    let waits = |event: &Value| event["deliveries"][0]["status"] == "retrying";
    let story = |event: &Value| ["status", "due_at", "attempts"].map(|field| event["deliveries"][0][field].clone());
    let before = gateway.until(&path, waits);
    gateway.kill();
    let gateway = place.serve();
    assert_eq!(story(&gateway.get(&path)), story(&before));
    // In order, too.
    gateway.stop();
    let gateway = place.serve();
    assert_eq!(story(&gateway.get(&path)), story(&before));
    assert_eq!(sink.posts().len(), 1);
}

#[test]
fn a_retry_is_made_after_a_crash_and_not_before_it_is_due() {
    let sink = Sink::answering("503 Service Unavailable\r\nretry-after: 1\r\n");
    let place = Place::new(&config(&sink, "retry = { initial = \"10ms\" }"));
    let gateway = place.serve();
    let path = format!("events/{}", gateway.accept(CALL_ENDED));
    let before = gateway.until(&path, |event| event["deliveries"][0]["attempts_made"] == 1);
    gateway.kill();
    sink.answer(OK);
    let gateway = place.serve();
    let after = gateway.until(&path, |event| event["deliveries"][0]["status"] == "delivered");
    let due = before["deliveries"][0]["due_at"].as_str().unwrap();
    assert!(after["deliveries"][0]["attempts"][1]["started_at"].as_str().unwrap() >= due, "{before} {after}");
}

#[test]
fn a_replay_goes_on_after_a_crash() {
    const EVENTS: usize = 600;
    let sink = Sink::answering(BROKEN);
    let place = Place::new(&config(&sink, "retry = { attempts_max = 1 }\nbreaker = \"off\""));
    let gateway = place.serve();
    std::thread::scope(|scope| {
        for part in 0..4 {
            let gateway = &gateway;
            scope.spawn(move || (part..EVENTS).step_by(4).for_each(|number| drop(gateway.accept(&call_ended(number)))));
        }
    });
    gateway.until_count("crm", "failed", EVENTS);
    sink.answer(OK);
    let replay = gateway.ask("POST", "replays", r#"{"filter": {"endpoint": "crm"}}"#);
    assert_eq!(replay.status, 202, "{replay:?}");
    gateway.kill();

    let gateway = place.serve();
    let path = format!("replays/{}", replay.json()["id"].as_str().unwrap());
    let replay = gateway.until(&path, |replay| replay["state"] == "completed");
    assert_eq!(
        (&replay["selected"], &replay["queued"]),
        (&EVENTS.into(), &EVENTS.into()),
        "neither skipped nor doubled"
    );
    let counters = gateway.until_count("crm", "delivered", EVENTS);
    assert_eq!(counters["endpoints"]["crm"]["replayed"], EVENTS);
    let posts = sink.posts();
    let ids: BTreeSet<&str> = posts.iter().map(|post| post.id()).collect();
    assert_eq!(ids.len(), EVENTS, "the ids are those of the first attempts");
    gateway.verb(["audit"]).ok();
}
