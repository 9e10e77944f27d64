//! What may not be connected to, end to end: nothing arrives, it is said why, and nothing is lost by it.

use std::net::TcpListener;

use crate::events::CALL;
use crate::place::{Place, attempts};
use crate::sink::{OK, Sink};

/// The sink by the name that is this machine's everywhere.
fn by_name(sink: &Sink) -> String {
    sink.url().replace("127.0.0.1", "localhost")
}

fn config(url: &str, egress: &str) -> String {
    format!(
        r#"
        {egress}
        [sources.flyflow]
        preset = "flyflow"
        [endpoints.crm]
        url = "{url}"
        retry = {{ initial = "5ms", interval_max = "5ms", attempts_max = 1000 }}
        breaker = {{ failures = 3, probe_initial = "5ms", probe_max = "5ms" }}
        [[routes]]
        endpoints = ["crm"]
        "#
    )
}

#[test]
fn a_denied_endpoint_is_shown_as_such_and_gets_everything_once_it_is_allowed() {
    let crm = Sink::answering(OK);
    let place = Place::new(&config(&by_name(&crm), "egress = { reach = \"listed\", allow = [\"10.0.0.0/8\"] }"));
    let gateway = place.serve();
    let events = CALL.map(|event| gateway.accept(event));
    gateway.until("endpoints/crm", |endpoint| endpoint["circuit"]["state"] == "open");
    let shown = gateway.verb(["endpoints"]).ok();
    assert!(shown.contains("opened by consecutive failures, last egress_denied"), "{shown}");
    let event = gateway.get(&format!("events/{}", events[0]));
    let attempt = &event["deliveries"][0]["attempts"][0];
    assert_eq!((&attempt["failure"]["class"], &attempt["outcome"]), (&"egress_denied".into(), &"retryable".into()));
    let shown = gateway.verb(["event", &events[0]]).ok();
    assert!(shown.contains("egress_denied  not allowed: localhost leads to "), "{shown}");
    let log = gateway.stop();
    let tried = attempts(&log);
    assert!(!tried.is_empty() && tried.iter().all(|line| line["failure"] == "egress_denied"), "{tried:#?}");
    assert!(tried[0]["detail"].as_str().unwrap().contains("egress's list `allow`"), "{tried:#?}");
    assert_eq!(crm.posts().len(), 0);

    place.configure(&config(&by_name(&crm), "egress = { reach = \"listed\", allow = [\"127.0.0.0/8\", \"::1\"] }"));
    let gateway = place.serve();
    gateway.until_count("crm", "delivered", 3);
    assert_eq!(crm.posts().len(), 3);
    gateway.verb(["audit"]).ok();
}

#[test]
fn a_trial_goes_where_a_delivery_could_and_nowhere_else() {
    let (crm, forbidden) = (Sink::answering(OK), TcpListener::bind("127.0.0.2:0").unwrap());
    forbidden.set_nonblocking(true).unwrap();
    let place = Place::new(&config(&crm.url(), "egress = { reach = \"listed\", allow = [\"127.0.0.1\", \"::1\"] }"));
    let gateway = place.serve();
    gateway.accept(CALL[0]);
    gateway.until_count("crm", "delivered", 1);
    let forbidden_port = forbidden.local_addr().unwrap().port();
    let admin_port = gateway.admin.rsplit_once(':').unwrap().1.to_owned();
    for url in [
        format!("http://127.0.0.2:{forbidden_port}/"),
        format!("http://[::ffff:127.0.0.2]:{forbidden_port}/"),
        format!("http://127.0.0.1:{admin_port}/api/v1/counters"),
        format!("http://localhost:{admin_port}/api/v1/counters"),
        "http://169.254.169.254/latest/meta-data/".to_owned(),
    ] {
        let tried = gateway.verb([
            "replay",
            "--endpoint",
            "crm",
            "--status",
            "delivered",
            "--to-url",
            &url,
            "--output",
            "json",
        ]);
        let tried = tried.json();
        assert_eq!((&tried["copies"], &tried["delivered"]), (&1.into(), &0.into()), "{url}: {tried}");
        assert_eq!(tried["items"][0]["now"]["failure"], "egress_denied", "{url}: {tried}");
    }
    assert!(forbidden.accept().is_err(), "nobody has connected");
    let elsewhere = Sink::answering(OK);
    let tried =
        gateway.verb(["replay", "--endpoint", "crm", "--status", "delivered", "--to-url", &elsewhere.url()]).ok();
    assert!(tried.contains("1 copies: 1 taken"), "{tried}");
    assert_eq!(elsewhere.posts()[0].header("backstop-trial"), Some("true"));
}

#[test]
fn an_address_that_is_denied_does_not_pass_the_check() {
    let place = Place::new(&config("http://169.254.169.254/latest", ""));
    for verb in ["check", "serve"] {
        let refused = place.run([verb]).failed(2);
        assert!(
            refused.contains("endpoints.crm.url: cannot be reached: its address is a cloud's metadata"),
            "{refused}"
        );
    }
}
