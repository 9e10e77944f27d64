//! The config read again while the gateway runs: by SIGHUP, by a verb, under load, and told to a service manager.

use std::collections::BTreeMap;
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use serde_json::Value;

use crate::events::call_ended;
use crate::http;
use crate::place::{Gateway, LONG, Place};
use crate::sink::{OK, Sink};

fn config(endpoints: &[(&str, &Sink)], more: &str) -> String {
    let tables: String = endpoints
        .iter()
        .map(|(name, sink)| format!("[endpoints.{name}]\nurl = \"{}\"\n{more}\n", sink.url()))
        .collect();
    let names: Vec<String> = endpoints.iter().map(|(name, _)| format!("\"{name}\"")).collect();
    format!(
        "[sources.flyflow]\npreset = \"flyflow\"\nverify = \"off\"\n{tables}\n[[routes]]\nendpoints = [{}]\n",
        names.join(", ")
    )
}

/// Waits for a line of the log that says this, and that comes after so many others that do; the line.
#[track_caller]
fn logged(gateway: &Gateway, after: usize, what: &str) -> Value {
    let find = |line: &str| line.contains(what).then(|| serde_json::from_str(line).unwrap());
    gateway.log.nth(after, find).unwrap_or_else(|| panic!("{what}: {:#?}", gateway.log.so_far()))
}

#[test]
fn sighup_takes_a_good_config_in_and_a_bad_one_changes_nothing() {
    let (crm, bill) = (Sink::answering(OK), Sink::answering(OK));
    let place = Place::new(&config(&[("crm", &crm)], ""));
    let gateway = place.serve();
    place.configure(&config(&[("crm", &crm), ("bill", &bill)], "timeout = \"7s\""));
    gateway.signal("HUP");
    let line = logged(&gateway, 0, "the config was read again");
    assert_eq!(gateway.verb(["health"]).ok(), "ready\n");
    assert_eq!(gateway.verb(["health", "--live"]).ok(), "live\n");
    assert_eq!((&line["applied"], &line["needs_restart"]), (&4.into(), &0.into()), "{line}");
    gateway.accept(&call_ended(1));
    bill.wait_for(1);
    let endpoint = gateway.get("endpoints/crm");
    assert_eq!(endpoint["limits"]["timeout_ms"], 7000);
    assert_eq!(gateway.get("config")["endpoints"]["bill"]["timeout"], "7s");

    place.configure(&config(&[("crm", &crm)], "timeout = \"soon\"\nretries = 3"));
    gateway.signal("HUP");
    let line = logged(&gateway, 0, "the config is refused");
    assert_eq!(line["problems"], 2, "{line}");
    let told = gateway.log.so_far();
    let place_of = |key: &str| told.iter().any(|line| line.contains("gateway.toml:") && line.contains(key));
    assert!(place_of("endpoints.crm.timeout") && place_of("endpoints.crm.retries"), "{told:#?}");
    // The verb reads only where the gateway is; what is wrong it is told.
    let refused = gateway.verb(["reload"]);
    assert_eq!(refused.code, Some(4), "{refused:?}");
    assert!(refused.err.contains("gateway.toml:") && refused.err.contains("endpoints.crm.timeout"), "{refused:?}");
    assert!(refused.err.contains("what was there before goes on: 2 problems"), "{refused:?}");

    std::fs::remove_file(place.path("gateway.toml")).unwrap();
    gateway.signal("HUP");
    assert_eq!(logged(&gateway, 2, "the config is refused")["problems"], 1);
    gateway.accept(&call_ended(2));
    bill.wait_for(2);
    // Whether it serves is not asked of the file.
    assert_eq!(gateway.verb(["health"]).ok(), "ready\n");
    let shown = format!("authorization: Bearer {}\r\n", gateway.token());
    let metrics = http::ask(&gateway.admin, "GET", "/metrics", &shown, b"").unwrap();
    let text = String::from_utf8(metrics.body).unwrap();
    assert!(text.contains("\nbackstop_config_last_reload_successful 0.0\n"), "{text}");
    let noted = gateway.get("operations?what=config.reload");
    let who: Vec<&str> = noted["items"].as_array().unwrap().iter().map(|item| item["who"].as_str().unwrap()).collect();
    // The last one may be on its way to the disk still, and so not be noted as over; that it was asked for is.
    assert_eq!(who, ["SIGHUP", "admin", "SIGHUP", "SIGHUP"]);
    gateway.stop();
}

#[test]
fn what_needs_a_restart_is_named_and_stays_and_a_secret_is_not_told() {
    let crm = Sink::answering(OK);
    let signed = |secret: &str| format!("signing = \"standard\"\nsecrets = [\"{secret}\"]");
    let (old, new) = ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD");
    let place = Place::new(&config(&[("crm", &crm)], &signed(old)));
    let gateway = place.serve();
    place.configure_free_min(2, &config(&[("crm", &crm)], &signed(new)));
    let told = gateway.verb(["reload"]).ok();
    assert_eq!(told, "endpoints.crm: changed secrets (secret)\nneeds a restart: journal: changed disk_free_min_mib\n");
    // What stays is named again until it is so.
    assert_eq!(gateway.verb(["reload"]).ok(), "needs a restart: journal: changed disk_free_min_mib\n");
    assert_eq!(gateway.get("config")["journal"]["disk_free_min_mib"], 1);
    gateway.accept(&call_ended(1));
    let body = crm.wait_for(1).remove(0);
    let secret = backstop::core::sign::Secret::standard(new).unwrap();
    let time = body.header("webhook-timestamp").unwrap();
    let seconds: u64 = time.parse().unwrap();
    let now = backstop::core::timestamp::Timestamp::from_millis(seconds * 1000);
    let signing = backstop::core::sign::Signing::Standard(vec![secret]);
    let headers = signing.headers(body.id(), now, body.body.as_bytes());
    let signature = headers.iter().find(|(name, _)| *name == "webhook-signature").unwrap().1.as_str();
    assert_eq!(body.header("webhook-signature"), Some(signature), "the next attempt is signed with the new one");
    let log = gateway.stop();
    for secret in [old, new] {
        assert!(log.iter().all(|line| !line.to_string().contains(secret)));
    }
}

#[test]
fn under_load_nothing_is_lost_or_doubled_and_every_post_is_accepted() {
    const SENDERS: usize = 4;
    const RELOADS: usize = 24;
    let (crm, bill) = (Sink::answering(OK), Sink::answering(OK));
    let alone = |more: &str| config(&[("crm", &crm)], more);
    let both = |more: &str| config(&[("crm", &crm), ("bill", &bill)], more);
    let place = Place::new(&both(""));
    let gateway = place.serve();
    let (stop, posted) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..SENDERS {
            scope.spawn(|| {
                while !stop.load(Ordering::SeqCst) {
                    let body = call_ended(posted.fetch_add(1, Ordering::SeqCst));
                    let answer = http::ask(
                        &gateway.ingest,
                        "POST",
                        "/in/flyflow",
                        "content-type: application/json\r\n",
                        body.as_bytes(),
                    );
                    assert_eq!(answer.unwrap().status, 202);
                }
            });
        }
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for round in 0..RELOADS {
                let order =
                    ["", "order = \"key\"", "order = \"endpoint\"\nconcurrency = 1", "concurrency = 2"][round % 4];
                place.configure(&if round % 2 == 0 { alone(order) } else { both(order) });
                gateway.verb(["reload"]).ok();
            }
            place.configure(&both(""));
            gateway.verb(["reload"]).ok();
        }));
        stop.store(true, Ordering::SeqCst);
        outcome.unwrap();
    });
    let posted = posted.load(Ordering::SeqCst);
    assert!(posted > RELOADS, "{posted} posts in {RELOADS} reloads show nothing");
    gateway.until_count("crm", "delivered", posted);
    let counters = gateway.until("counters", |counters| {
        let bill = &counters["endpoints"]["bill"];
        bill["delivered"] == bill["routed"]
    });
    assert_eq!((&counters["accepted"], &counters["parked"]), (&posted.into(), &0.into()));
    let times = |sink: &Sink| {
        let mut times: BTreeMap<String, usize> = BTreeMap::new();
        sink.posts().iter().for_each(|post| *times.entry(post.id().to_owned()).or_default() += 1);
        times
    };
    let (at_crm, at_bill) = (times(&crm), times(&bill));
    assert_eq!(at_crm.len(), posted);
    assert_eq!(at_bill.len(), usize::try_from(counters["endpoints"]["bill"]["routed"].as_u64().unwrap()).unwrap());
    assert!(at_crm.values().chain(at_bill.values()).all(|times| *times == 1), "something went twice");
    assert!(!at_bill.is_empty() && at_bill.len() < posted, "both configs took their part: {}", at_bill.len());
    gateway.verb(["audit"]).ok();
    gateway.stop();
}

#[test]
fn a_service_manager_is_told_how_it_fares() {
    let crm = Sink::answering(OK);
    let mut place = Place::new(&config(&[("crm", &crm)], ""));
    let manager = UnixDatagram::bind(place.path("notify")).unwrap();
    manager.set_read_timeout(Some(LONG)).unwrap();
    place.set("NOTIFY_SOCKET", place.path("notify").display().to_string());
    let told = || {
        let mut room = [0; 4096];
        let length = manager.recv(&mut room).unwrap();
        String::from_utf8(room[..length].to_vec()).unwrap()
    };
    let gateway = place.serve();
    assert_eq!(told(), "READY=1\nSTATUS=serving");
    gateway.signal("HUP");
    let reloading = told();
    let (head, rest) = reloading.split_once("MONOTONIC_USEC=").unwrap();
    assert_eq!(head, "RELOADING=1\n");
    assert!(rest.split('\n').next().unwrap().parse::<u64>().unwrap() > 0, "{reloading}");
    assert_eq!(told(), "READY=1\nSTATUS=serving");
    place.write("gateway.toml", "nothing = \"of this\"");
    gateway.signal("HUP");
    assert!(told().starts_with("RELOADING=1\n"));
    assert_eq!(told(), "READY=1\nSTATUS=serving; the config was refused, see the log");
    gateway.signal("TERM");
    assert_eq!(told(), "STOPPING=1\nSTATUS=stopping");
    assert_eq!(gateway.ended().0, Some(0));
}
