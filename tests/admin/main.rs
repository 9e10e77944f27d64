//! The admin API over real HTTP, on the real engine, with the journal in memory and endpoints that do as
//! each test says. The clock stands still unless a test moves it, so a retry waits for as long as it is
//! looked at.
#![cfg(feature = "server")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking, its helpers too")]

mod cancel;
mod door;
mod exchange;
mod expired;
mod failures;
mod gaps;
mod gateway;
mod keys;
mod metrics;
mod operations;
mod refusals;
mod reload;
mod replays;
mod sessions;
mod standing;
mod tags;
mod tokens;
mod waits;

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use backstop::admin::BODY_MAX_BYTES;
use backstop::admin::auth::{self, TokenError, TokenHash};
use backstop::core::event::{Draft, Event};
use backstop::core::id::EventId;
use backstop::core::timestamp::Timestamp;
use backstop::journal::memory::MemoryJournal;
use backstop::journal::{Change, Journal as _};
use backstop::telemetry::Turned;
use serde_json::{Value, json};

use gateway::{Gateway, LONG, NOW, TOKEN, delivery, draft, ids, name};

#[tokio::test]
async fn nothing_is_told_without_the_token() {
    let gateway = Gateway::start().await;
    let wrong = format!("authorization: Bearer {TOKEN}x\r\n");
    let absent = ["", "authorization: \r\n", "authorization: Basic abc\r\n", "authorization: \u{e9}\r\n"];
    for path in ["/api/v1/counters", "/api/v1/events?nonsense=1", "/api/v1/no/such/path"] {
        for headers in absent {
            let got = gateway.ask_with("GET", path, headers, b"").await;
            assert!(got.problem(401).contains("Authorization: Bearer"), "{path} {headers}");
            assert_eq!(got.header("www-authenticate"), Some("Bearer realm=\"backstop admin\""));
        }
        let got = gateway.ask_with("GET", path, &wrong, b"").await;
        got.problem(401);
        let challenge = "Bearer realm=\"backstop admin\", error=\"invalid_token\"";
        assert_eq!(got.header("www-authenticate"), Some(challenge));
    }
    let lower = format!("authorization: bearer  {TOKEN}\r\n");
    assert_eq!(gateway.ask_with("GET", "/api/v1/counters", &lower, b"").await.status, 200);
}

#[tokio::test]
async fn unknown_paths_are_404_and_other_methods_405_with_what_is_allowed() {
    let gateway = Gateway::start().await;
    for path in ["/", "/api", "/api/v1", "/api/v1/nothing", "/api/v1/events/x/y", "/api/v2/events", "/livez/x"] {
        gateway.get(path).await.problem(404);
    }
    let read = ["events", "events/x", "events/x/body", "deliveries", "deliveries/x", "replays/x", "endpoints"];
    for path in read.iter().chain(&["endpoints/x", "counters", "audit", "failures", "keys/x", "gaps"]) {
        let got = gateway.ask("DELETE", &format!("/api/v1/{path}"), b"").await;
        got.problem(405);
        assert_eq!(got.header("allow"), Some("GET"), "{path}");
    }
    let write = ["events/x/replay", "deliveries/x/replay", "deliveries/x/cancel", "replays/x/cancel"];
    for path in write.iter().chain(&["endpoints/x/pause", "endpoints/x/resume"]) {
        let got = gateway.get(&format!("/api/v1/{path}")).await;
        got.problem(405);
        assert_eq!(got.header("allow"), Some("POST"), "{path}");
    }
    assert_eq!(gateway.ask("PUT", "/api/v1/replays", b"").await.header("allow"), Some("GET, POST"));
    assert_eq!(gateway.ask("POST", "/livez", b"").await.header("allow"), Some("GET"));
}

#[tokio::test]
async fn failed_deliveries_are_listed_by_default_and_others_on_request() {
    let gateway = Gateway::start().await;
    let event = gateway.tried("fan", "call-1").await;
    gateway.tried("healthy", "call-2").await;
    let list = gateway.get("/api/v1/deliveries").await;
    assert_eq!((list.status, list.header("cache-control")), (200, Some("no-store")));
    let list = list.json();
    assert_eq!(ids(&list), [delivery(&event, 1)]);
    assert_eq!(list["next"], Value::Null);
    let item = &list["items"][0];
    assert_eq!(
        (&item["endpoint"], &item["status"], &item["reason"]),
        (&json!("picky"), &json!("dead"), &json!("rejected"))
    );
    assert_eq!((&item["attempts_made"], &item["last_status"]), (&json!(1), &json!(400)));
    assert_eq!((&item["event"]["id"], &item["event"]["key"]), (&json!(event), &json!("call-1")));
    assert_eq!(item["event"]["type"], "fan");

    let fitting = [
        ("status=failed", 1),
        ("status=retrying", 1),
        ("status=retrying,dead", 2),
        ("status=retrying&status=delivered", 3),
        ("status=delivered&type=heal*", 1),
        ("status=delivered&type=fan,healthy", 2),
        ("status=delivered&key=call-2", 1),
        ("status=delivered&source=other", 0),
        ("endpoint=picky", 1),
        ("endpoint=flaky", 0),
        ("reason=rejected", 1),
        ("reason=gone", 0),
        ("since=1h", 1),
        ("until=1h", 0),
        ("since=2023-11-14T22:13:20Z", 1),
        ("since=2023-11-14T23:13:20.001%2B01:00", 0),
        ("until=2023-11-14T22:13:20.001Z", 1),
        ("since=7d&until=1s", 0),
        ("include_superseded=true&order=oldest", 1),
    ];
    for (query, count) in fitting {
        let got = gateway.get(&format!("/api/v1/deliveries?{query}")).await.json();
        assert_eq!(got["items"].as_array().map(Vec::len), Some(count), "{query}: {got}");
    }
}

#[tokio::test]
async fn events_are_listed_by_the_same_filters() {
    let gateway = Gateway::start().await;
    let fan = gateway.tried("fan", "a").await;
    let healthy = gateway.tried("healthy", "b").await;
    let unrouted = gateway.accept("nowhere", "c").await;
    let list = gateway.get("/api/v1/events").await.json();
    assert_eq!(ids(&list), [unrouted.as_str(), &healthy, &fan]);
    assert_eq!(list["items"][2]["deliveries"].as_array().unwrap().len(), 3);
    assert!(list["items"][2].get("headers").is_none());
    let fitting: [(&str, &[&str]); 8] = [
        ("order=oldest", &[&fan, &healthy, &unrouted]),
        ("unrouted=true", &[&unrouted]),
        ("unrouted", &[&unrouted]),
        ("status=failed", &[&fan]),
        ("endpoint=healthy", &[&healthy, &fan]),
        ("key=b", &[&healthy]),
        ("key=b&key=none", &[&healthy]),
        ("type=*", &[&unrouted, &healthy, &fan]),
    ];
    for (query, expected) in fitting {
        assert_eq!(ids(&gateway.get(&format!("/api/v1/events?{query}")).await.json()), expected, "{query}");
    }
}

#[tokio::test]
async fn pages_follow_each_other_to_the_end_and_miss_nothing() {
    let gateway = Gateway::start().await;
    let mut events = BTreeSet::new();
    for key in 0..7 {
        events.insert(gateway.tried("fan", &key.to_string()).await);
    }
    for (list, count) in [("events?limit=3", 7), ("deliveries?status=delivered,dead,retrying&limit=4", 21)] {
        for order in ["newest", "oldest"] {
            let mut seen = Vec::new();
            let mut cursor = String::new();
            loop {
                let page = gateway.get(&format!("/api/v1/{list}&order={order}{cursor}")).await.json();
                seen.extend(ids(&page));
                let Some(next) = page["next"].as_str() else { break };
                cursor = format!("&cursor={next}");
            }
            assert_eq!(seen.len(), count, "{list} {order}");
            assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), count);
            let in_order = if order == "newest" { seen.is_sorted_by(|a, b| a > b) } else { seen.is_sorted() };
            assert!(in_order, "{seen:?}");
        }
    }
}

#[tokio::test]
async fn a_wrong_parameter_is_named() {
    let gateway = Gateway::start().await;
    let wrong = [
        ("deliveries?status=broken", "status"),
        ("deliveries?status=", "status"),
        ("deliveries?state=dead", "state"),
        ("deliveries?unrouted=true", "unrouted"),
        ("deliveries?endpoint=No%20Name", "endpoint"),
        ("deliveries?source=", "source"),
        ("deliveries?reason=because", "reason"),
        ("deliveries?since=yesterday", "since"),
        ("deliveries?until=-2h", "until"),
        ("deliveries?since=99999999999999999999d", "since"),
        ("deliveries?type=a*b", "type"),
        ("deliveries?type=", "type"),
        ("deliveries?endpoint=a&endpoint=b", "endpoint"),
        ("deliveries?include_superseded=yes", "include_superseded"),
        ("deliveries?order=random", "order"),
        ("deliveries?limit=0", "limit"),
        ("deliveries?limit=1001", "limit"),
        ("deliveries?limit=-1", "limit"),
        ("deliveries?limit=1&limit=2", "limit"),
        ("deliveries?cursor=evt_x", "cursor"),
        ("events?cursor=dlv_x", "cursor"),
        ("events?unrouted=true&status=dead", "unrouted"),
    ];
    for (path, parameter) in wrong {
        let got = gateway.get(&format!("/api/v1/{path}")).await;
        assert!(got.problem(400).contains(parameter), "{path}");
        assert_eq!(got.json()["parameter"], parameter, "{path}");
    }
    let many = vec!["a"; 65].join(",");
    assert_eq!(gateway.get(&format!("/api/v1/events?type={many}")).await.json()["parameter"], "type");
}

#[tokio::test]
async fn one_event_is_told_whole() {
    let gateway = Gateway::start().await;
    let id = gateway.tried("fan", "call-1").await;
    let event = gateway.get(&format!("/api/v1/events/{id}")).await.json();
    assert_eq!(event["received_at"], "2023-11-14T22:13:20.000Z");
    assert_eq!(event["occurred_at"], "2023-11-14T22:13:19.000Z");
    assert_eq!((&event["source"], &event["body_bytes"]), (&json!("flyflow"), &json!(2)));
    assert_eq!(event["headers"], json!([["content-type", "application/x-call"], ["x-odd", { "base64": "/w==" }]]));
    let [healthy, picky, flaky] = event["deliveries"].as_array().unwrap().as_slice() else { panic!("{event}") };
    assert_eq!(healthy["attempts"][0]["answer"]["body"], "ok");
    assert_eq!(healthy["attempts"][0]["answer"]["headers"], json!([["x-from", { "base64": "6XTp" }]]));
    assert_eq!(picky["attempts"][0]["answer"]["body"], json!({ "base64": "/wBubw==" }));
    assert_eq!(picky["attempts"][0]["outcome"], "permanent");
    let failure = json!({ "class": "refused", "detail": "nobody listens" });
    assert_eq!((&flaky["attempts"][0]["failure"], &flaky["attempts"][0]["answer"]), (&failure, &Value::Null));
    assert_eq!((&flaky["status"], &flaky["last_failure"]), (&json!("retrying"), &json!("refused")));
    assert!(flaky["due_at"].as_str().unwrap() >= "2023-11-14T22:13:20.000Z");
    assert!(healthy.get("event").is_none());

    let delivery = gateway.get(&format!("/api/v1/deliveries/{}", delivery(&id, 1))).await.json();
    assert_eq!((&delivery["event"]["id"], &delivery["attempts"]), (&json!(id), &picky["attempts"]));
    for path in ["events/evt_00000000000000000000000001", "events/nonsense", "events/%00%ff", "events/evt_x/body"] {
        gateway.get(&format!("/api/v1/{path}")).await.problem(404);
    }
    for path in ["deliveries/dlv_00000000000000000000000001_0", "deliveries/dlv_x_99999999"] {
        gateway.get(&format!("/api/v1/{path}")).await.problem(404);
    }
}

#[tokio::test]
async fn the_raw_body_comes_byte_for_byte_and_no_browser_runs_it() {
    let gateway = Gateway::start().await;
    let body: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let id = gateway.engine.accept(draft("nowhere", "k", body.clone())).await.unwrap().id;
    let got = gateway.get(&format!("/api/v1/events/{id}/body")).await;
    assert_eq!((got.status, got.body == body), (200, true));
    assert_eq!(got.header("content-type"), Some("application/x-call"));
    assert_eq!(got.header("content-disposition"), Some("attachment"));
    assert_eq!(got.header("x-content-type-options"), Some("nosniff"));
    let bare = Draft { headers: vec![], ..draft("nowhere", "k", "") };
    let id = gateway.engine.accept(bare).await.unwrap().id;
    let got = gateway.get(&format!("/api/v1/events/{id}/body")).await;
    assert_eq!((got.header("content-type"), got.body.len()), (Some("application/octet-stream"), 0));
}

#[tokio::test]
async fn an_event_is_replayed_to_one_endpoint_or_all() {
    let gateway = Gateway::start().await;
    let id = gateway.tried("picky", "k").await;
    let path = format!("/api/v1/events/{id}/replay");
    let made = gateway.post(&path, &json!({ "to": "healthy" })).await;
    assert_eq!(made.status, 202);
    assert_eq!(made.json(), json!({ "deliveries": [{ "id": delivery(&id, 1), "endpoint": "healthy" }] }));
    let settled = |status: &'static str| move |delivery: &Value| delivery["status"] == status;
    let first = gateway.until(&format!("/api/v1/deliveries/{}", delivery(&id, 1)), settled("delivered")).await;
    assert_eq!((&first["created_at"], &first["reason"]), (&json!("2023-11-14T22:13:20.000Z"), &json!("acknowledged")));

    // Without a body: everywhere it was ever sent, each once.
    let made = gateway.ask("POST", &path, b"").await;
    assert_eq!(made.status, 202);
    let endpoints = made.json()["deliveries"].as_array().unwrap().iter().map(|made| made["endpoint"].clone()).collect();
    assert_eq!(Value::Array(endpoints), json!(["picky", "healthy"]));

    gateway.post(&path, &json!({ "to": "no-such" })).await.problem(422);
    assert_eq!(gateway.post(&path, &json!({ "to": "No Name" })).await.json()["parameter"], "to");
    let unrouted = gateway.accept("nowhere", "k").await;
    let nowhere = format!("/api/v1/events/{unrouted}/replay");
    assert!(gateway.post(&nowhere, &json!({})).await.problem(422).contains("name an endpoint"));
    assert_eq!(gateway.post(&nowhere, &json!({ "to": "healthy" })).await.status, 202);
    gateway.post("/api/v1/events/evt_x/replay", &json!({})).await.problem(404);
    gateway.post("/api/v1/events/evt_00000000000000000000000001/replay", &json!({})).await.problem(404);
}

#[tokio::test]
async fn a_body_that_is_not_what_the_path_takes_is_refused() {
    let gateway = Gateway::start().await;
    let id = gateway.tried("picky", "k").await;
    let path = format!("/api/v1/events/{id}/replay");
    for body in ["{", "[]", "null", "{\"force\": 1}", "\u{0}", "{\"too\": \"crm\"}"] {
        gateway.ask("POST", &path, body.as_bytes()).await.problem(400);
    }
    let misspelt = gateway.ask("POST", &path, b"{\"forse\": true}").await.problem(400);
    assert!(misspelt.contains("unknown field `forse`"), "{misspelt}");
    let deep = "[".repeat(50_000);
    gateway.ask("POST", &path, deep.as_bytes()).await.problem(400);
    let largest = format!("{{\"force\": false{}}}", " ".repeat(BODY_MAX_BYTES - 16));
    assert_eq!(largest.len(), BODY_MAX_BYTES);
    assert_eq!(gateway.ask("POST", &path, largest.as_bytes()).await.status, 202);
    gateway.ask("POST", &path, format!("{largest} ").as_bytes()).await.problem(413);
}

#[tokio::test]
async fn a_replayed_delivery_takes_the_place_of_the_failed_one() {
    let gateway = Gateway::start().await;
    let id = gateway.tried("picky", "k").await;
    let first = delivery(&id, 0);
    let path = format!("/api/v1/deliveries/{first}/replay");
    let made = gateway.post(&path, &json!({})).await;
    assert_eq!((made.status, &made.json()["deliveries"][0]["id"]), (202, &json!(delivery(&id, 1))));
    let list =
        gateway.until("/api/v1/deliveries?endpoint=picky", |list| ids(list).first() == Some(&delivery(&id, 1))).await;
    assert_eq!(ids(&list).len(), 1);
    let with = gateway.get("/api/v1/deliveries?endpoint=picky&include_superseded=true").await.json();
    assert_eq!(ids(&with), [delivery(&id, 1), first]);
    assert_eq!(with["items"][1]["superseded"], true);

    let waiting = gateway.tried("flaky", "k").await;
    let path = format!("/api/v1/deliveries/{}/replay", delivery(&waiting, 0));
    assert!(gateway.post(&path, &json!({})).await.problem(409).contains("waiting already"));
    assert_eq!(gateway.post(&path, &json!({ "force": true })).await.status, 202);
    gateway.post(&format!("/api/v1/deliveries/{}/replay", delivery(&id, 9)), &json!({})).await.problem(404);
    gateway.post("/api/v1/deliveries/nonsense/replay", &json!({})).await.problem(404);
}

#[tokio::test]
async fn a_waiting_delivery_is_cancelled_once_and_one_on_its_way_is_not() {
    let gateway = Gateway::start().await;
    let cancel = |id: &str| format!("/api/v1/deliveries/{id}/cancel");
    let event = gateway.tried("flaky", "k").await;
    let waiting = delivery(&event, 0);
    let got = gateway.ask("POST", &cancel(&waiting), b"").await;
    assert_eq!(
        (got.status, &got.json()["status"], &got.json()["reason"]),
        (200, &json!("cancelled"), &json!("operator"))
    );
    assert!(gateway.ask("POST", &cancel(&waiting), b"").await.problem(409).contains("ended"));

    let slow = delivery(&gateway.accept("slow", "k").await, 0);
    gateway.until("/api/v1/endpoints/slow", |endpoint| endpoint["lane"]["in_flight"] == 1).await;
    assert!(gateway.ask("POST", &cancel(&slow), b"").await.problem(409).contains("on its way"));
    gateway.slow.add_permits(1);
    gateway.until(&format!("/api/v1/deliveries/{slow}"), |delivery| delivery["status"] == "delivered").await;
    gateway.ask("POST", &cancel(&delivery(&event, 7)), b"").await.problem(404);
    gateway.ask("POST", &cancel("x"), b"").await.problem(404);
}

#[tokio::test]
async fn many_are_replayed_by_filters_and_the_replay_can_be_followed() {
    let gateway = Gateway::start().await;
    for key in ["a", "b", "c"] {
        gateway.tried("fan", key).await;
    }
    gateway.clock.0.fetch_add(1, Ordering::SeqCst);
    let begun = gateway.post("/api/v1/replays", &json!({ "filter": { "endpoint": "picky" }, "to": "healthy" })).await;
    assert_eq!(begun.status, 202);
    let begun = begun.json();
    assert_eq!((&begun["to"], &begun["filter"]["status"]), (&json!("healthy"), &json!(["dead"])));
    assert_eq!(begun["created_at"], "2023-11-14T22:13:20.001Z");
    let path = format!("/api/v1/replays/{}", begun["id"].as_str().unwrap());
    let done = gateway.until(&path, |replay| replay["state"] == "completed").await;
    assert_eq!((&done["selected"], &done["queued"], &done["skipped"]), (&json!(3), &json!(3), &json!(0)));
    let made_by =
        |list: &Value| list["items"].as_array().unwrap().iter().filter(|item| item["replay"] == begun["id"]).count();
    let delivered = "/api/v1/deliveries?status=delivered&endpoint=healthy";
    gateway.until(delivered, |list| made_by(list) == 3).await;
    assert_eq!(ids(&gateway.get("/api/v1/replays").await.json()), [begun["id"].as_str().unwrap()]);
    assert!(gateway.post(&format!("{path}/cancel"), &json!({})).await.problem(409).contains("ended"));
}

#[tokio::test]
async fn a_replay_that_means_nothing_is_refused() {
    let gateway = Gateway::start().await;
    gateway.accept("nowhere", "k").await;
    let open = async |body: Value| gateway.post("/api/v1/replays", &body).await;
    assert_eq!(open(json!({ "filter": { "status": ["x"] } })).await.json()["parameter"], "status");
    open(json!({ "filter": { "statuses": ["dead"] } })).await.problem(400);
    open(json!({ "endpoint": "picky" })).await.problem(400);
    open(json!({ "filter": [] })).await.problem(400);
    open(json!([])).await.problem(400);
    open(json!({ "to": "no-such" })).await.problem(422);
    assert_eq!(open(json!({ "to": "-" })).await.json()["parameter"], "to");
    for wrong in [
        json!({ "filter": { "key": "a" }, "rate": "fast" }),
        json!({ "filter": { "key": "a" }, "order": "random" }),
        json!({ "filter": { "key": "a" }, "max_age": { "tool_call": "soon" } }),
        json!({ "filter": { "key": "a" }, "canary": 0 }),
        json!({ "filter": { "key": "a" }, "copies": 3 }),
        json!({ "filter": { "key": "a" }, "to_url": "ftp://x" }),
        json!({ "filter": { "id": ["evt_x"] } }),
    ] {
        open(wrong).await.problem(400);
    }
    gateway.clock.0.fetch_add(1, Ordering::SeqCst);
    let begun = open(json!({ "filter": { "unrouted": true }, "to": "healthy" })).await.json();
    let path = format!("/api/v1/replays/{}", begun["id"].as_str().unwrap());
    assert_eq!(gateway.until(&path, |replay| replay["state"] == "completed").await["queued"], 1);
    for id in ["rpl_00000000000000000000000001", "nonsense"] {
        gateway.get(&format!("/api/v1/replays/{id}")).await.problem(404);
        gateway.post(&format!("/api/v1/replays/{id}/cancel"), &json!({})).await.problem(404);
    }
}

#[tokio::test]
async fn endpoints_are_shown_without_their_secrets_and_former_ones_too() {
    let journal = MemoryJournal::default();
    let id = EventId::floor(Timestamp::from_millis(NOW - 5000));
    let mut old = draft("old", "k", "{}");
    old.endpoints = vec![name("former")];
    let old = Event { id, received_at: Timestamp::from_millis(NOW - 5000), draft: old };
    journal.commit(&[Change::Accept(Arc::new(old))]).unwrap();
    let gateway = Gateway::over(journal).await;
    gateway.tried("picky", "k").await;
    let got = gateway.get("/api/v1/endpoints").await;
    let text = String::from_utf8(got.body.clone()).unwrap();
    for secret in ["querysecret", "headersecret", "MfKQ9r8"] {
        assert!(!text.contains(secret), "{text}");
    }
    let list = got.json();
    let names: Vec<&str> =
        list["items"].as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["flaky", "former", "gone", "healthy", "picky", "slow"]);
    let former = gateway.get("/api/v1/endpoints/former").await.json();
    assert_eq!((&former["configured"], &former["deliveries"]["scheduled"]), (&json!(false), &json!(1)));
    assert_eq!((&former["backlog"], &former["limits"], &former["lane"]), (&json!(1), &Value::Null, &Value::Null));
    let picky = gateway.get("/api/v1/endpoints/picky").await.json();
    assert_eq!((&picky["url"], &picky["signing"]), (&json!("https://example.com/picky"), &json!("standard")));
    let breaker = json!({ "failures": 5, "failure_rate": 0.5, "samples_min": 20, "window_ms": 60_000,
        "probe_initial_ms": 5_000, "probe_max_ms": 300_000 });
    let limits = json!({ "concurrency_min": 1, "concurrency_max": 4, "rate": null, "rate_burst": null,
        "order": "none", "order_hold_max_ms": null, "breaker": breaker, "connect_timeout_ms": 5_000,
        "timeout_ms": 15_000, "attempts_max": 20, "age_max_ms": 86_400_000 });
    assert_eq!(picky["limits"], limits);
    assert_eq!((&picky["deliveries"]["dead"], &picky["deliveries"]["failed"]), (&json!(1), &json!(1)));
    let lane = json!({ "in_flight": 0, "fresh": 0, "waiting": 0, "behind": false, "window": 4, "lines_held": 0,
        "held_until": null, "rate_next_at": null });
    gateway.until("/api/v1/endpoints/picky", |endpoint| endpoint["lane"] == lane).await;
    gateway.get("/api/v1/endpoints/no-such").await.problem(404);
}

#[tokio::test]
async fn the_counters_reconcile() {
    let gateway = Gateway::start().await;
    gateway.tried("fan", "k").await;
    gateway.accept("nowhere", "k").await;
    gateway.intake.note(Turned::Duplicate);
    let counters = gateway.get("/api/v1/counters").await.json();
    assert_eq!((&counters["accepted"], &counters["unrouted"]), (&json!(2), &json!(1)));
    assert_eq!((&counters["turned_away"]["duplicate"], &counters["turned_away"]["slow"]), (&json!(1), &json!(0)));
    assert_eq!(counters["endpoints"]["flaky"]["retrying"], 1);
    assert_eq!(counters["started_at"], "2023-11-14T22:13:20.000Z");
    let audit = gateway.get("/api/v1/audit").await.json();
    assert_eq!(
        (&audit["ok"], &audit["events"], &audit["unrouted"], &audit["deliveries"]),
        (&json!(true), &json!(2), &json!(1), &json!(3))
    );
    assert_eq!((&audit["differences"], &audit["differences_total"]), (&json!([]), &json!(0)));
    assert_eq!(audit["endpoints"], counters["endpoints"]);
    // A time range has what was received in it.
    gateway.pass(Duration::from_secs(2));
    gateway.accept("nowhere", "k").await;
    let events = async |range: &str| gateway.get(&format!("/api/v1/audit?{range}")).await.json()["events"].clone();
    assert_eq!(events("since=1s").await, 1);
    assert_eq!(events("until=2023-11-14T22:13:20.001Z").await, 2);
    gateway.get("/api/v1/audit?since=yesterday").await.problem(400);
    gateway.get("/api/v1/audit?endpoint=crm").await.problem(400);
}

#[tokio::test]
async fn a_gateway_that_stops_lives_but_is_not_ready() {
    let gateway = Gateway::start().await;
    let ask = async |path: &str| gateway.ask_with("GET", path, "", b"").await;
    assert_eq!(ask("/livez").await.json(), json!({ "status": "live" }));
    assert_eq!(ask("/readyz").await.json(), json!({ "status": "ready" }));
    let id = gateway.tried("picky", "k").await;
    gateway.engine.stop(LONG).await.unwrap();
    assert_eq!(ask("/livez").await.status, 200);
    let ready = ask("/readyz").await;
    assert!(ready.problem(503).contains("stopped"));
    assert!(ready.header("retry-after").is_some());
    gateway.post(&format!("/api/v1/events/{id}/replay"), &json!({ "to": "healthy" })).await.problem(503);
}

#[tokio::test]
async fn whatever_is_asked_the_fault_is_the_askers() {
    let gateway = Gateway::start().await;
    let id = gateway.tried("fan", "k").await;
    let mut rng = fastrand::Rng::with_seed(11);
    let parts = [
        "events",
        "deliveries",
        "replays",
        &id,
        &delivery(&id, 0),
        "replay",
        "cancel",
        "body",
        "%",
        "%2f",
        "..",
        "\u{7f}",
    ];
    let parameters = ["limit", "cursor", "since", "status", "type", "key", "%ff", "", "order"];
    let values = ["", "%", "%00", "1", "-1", "99999999999999999999", "1e9y", "P1D", "dead", "*", &id, "\u{e9}"];
    let bodies = ["", "{}", "{\"to\":\"\"}", "{\"filter\":{\"since\":\"-9999y\"}}", "\"", "{\"force\":null}"];
    for _ in 0..500 {
        let mut path = "/api/v1".to_owned();
        (0..rng.usize(1..5)).for_each(|_| path.push_str(&format!("/{}", rng.choice(parts).unwrap())));
        let pair =
            |rng: &mut fastrand::Rng| format!("{}={}", rng.choice(parameters).unwrap(), rng.choice(values).unwrap());
        path.push_str(&format!("?{}&{}", pair(&mut rng), pair(&mut rng)));
        let method = rng.choice(["GET", "POST", "HEAD", "X"]).unwrap();
        let got = gateway.ask(method, &path, rng.choice(bodies).unwrap().as_bytes()).await;
        assert!(got.status < 500, "{method} {path}: {}", got.status);
    }
}

#[tokio::test]
async fn the_token_is_made_once_and_only_its_owner_can_read_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("admin.token");
    let made = auth::load_or_create(&path).unwrap();
    let random = made.secret().strip_prefix("bst_").unwrap();
    assert_eq!(random.len(), 80);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(auth::load_or_create(&path).unwrap(), made);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    assert!(made.hash().matches(&TokenHash::of(made.secret())) && !made.hash().matches(&TokenHash::of(random)));
    assert!(!format!("{made:?} {:?}", made.hash()).contains(random));
    let other = folder.path().join("other.token");
    // What a crash between writing and renaming leaves does not stop the next start.
    std::fs::write(folder.path().join("other.token.new"), "half").unwrap();
    assert_ne!(auth::load_or_create(&other).unwrap(), made);

    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
    let exposed = auth::load_or_create(&path).unwrap_err();
    assert!(matches!(exposed, TokenError::Exposed(_, 0o640)), "{exposed:?}");
    assert!(exposed.to_string().contains(&format!("chmod 600 {}", path.display())), "{exposed}");
    assert!(!exposed.to_string().contains(random));
}

#[test]
fn a_token_file_that_holds_none_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("admin.token");
    for content in ["", "short", "has a space in the middle", "é".repeat(20).as_str(), "x".repeat(600).as_str()] {
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        let error = auth::load_or_create(&path).unwrap_err();
        assert!(matches!(error, TokenError::Malformed(_)), "{error:?}");
    }
    let nowhere: PathBuf = folder.path().join("missing").join("admin.token");
    assert!(matches!(auth::load_or_create(&nowhere), Err(TokenError::Io(..))));
}
