//! A disk that is nearly full: nothing new comes in, what is there goes out.

use std::path::Path;

use crate::events::{CALL, CALL_ENDED, call_ended};
use crate::http;
use crate::place::Place;
use crate::sink::{BROKEN, OK, Sink};

/// More than the file system has: the most that the config takes, a TiB.
const TOO_MUCH_MIB: u32 = 1 << 20;

#[test]
fn a_full_disk_takes_nothing_new_and_delivers_what_it_has() {
    let sink = Sink::answering(BROKEN);
    let config = format!(
        r#"
        [sources.flyflow]
        preset = "flyflow"
        [endpoints.crm]
        url = "{}"
        retry = {{ initial = "100ms", interval_max = "100ms" }}
        breaker = {{ probe_initial = "100ms", probe_max = "100ms" }}
        [[routes]]
        endpoints = ["crm"]
        "#,
        sink.url()
    );
    // In memory where there is such a place: it is smaller than a TiB on any machine.
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let place = Place::within(&folder, &config);
    let gateway = place.serve();
    CALL.iter().for_each(|event| drop(gateway.accept(event)));
    gateway.until_count("crm", "retrying", 3);
    gateway.stop();

    place.configure_free_min(TOO_MUCH_MIB, &config);
    let gateway = place.serve();
    let refused = gateway.post(&call_ended(1));
    assert_eq!(refused.status, 503, "{refused:?}");
    assert!(refused.header("retry-after").unwrap().parse::<u32>().unwrap() > 0);
    assert_eq!(refused.header("content-type"), Some("application/problem+json"));
    for listener in [&gateway.ingest, &gateway.admin] {
        let ready = http::ask(listener, "GET", "/readyz", "", b"").unwrap();
        assert_eq!(ready.status, 503);
        assert!(ready.json()["detail"].as_str().unwrap().contains("the disk is nearly full"), "{ready:?}");
        assert_eq!(http::ask(listener, "GET", "/livez", "", b"").unwrap().status, 200);
    }
    let sent = gateway.verb(["send", "--sample", "call_ended"]).failed(1);
    assert!(sent.contains("the disk is nearly full"), "{sent}");
    sink.answer(OK);
    let counters = gateway.until_count("crm", "delivered", 3);
    assert_eq!(counters["turned_away"]["unavailable"], 2);
    assert_eq!(gateway.post(CALL_ENDED).status, 503, "it is still full");
    gateway.verb(["audit"]).ok();
    gateway.stop();

    place.configure(&config);
    let gateway = place.serve();
    gateway.accept(&call_ended(1));
    gateway.until_count("crm", "delivered", 4);
}
