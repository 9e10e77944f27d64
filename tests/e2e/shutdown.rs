//! The end of a gateway, and what must not be begun beside it.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use serde_json::Value;

use crate::events::{CALL_ENDED, CALL_STARTED};
use crate::http;
use crate::place::{Gateway, Place, attempts};
use crate::sink::Sink;

fn config(sink: &Sink, before: &str) -> String {
    format!(
        r#"
        {before}
        [sources.flyflow]
        preset = "flyflow"
        verify = "off"
        [endpoints.crm]
        url = "{}"
        retry = {{ initial = "10ms" }}
        [[routes]]
        endpoints = ["crm"]
        "#,
        sink.url()
    )
}

fn delivery(gateway: &Gateway, event: &str) -> Value {
    gateway.get(&format!("events/{event}"))["deliveries"][0].clone()
}

#[test]
fn an_attempt_under_way_ends_before_the_gateway_does() {
    for signal in ["TERM", "INT"] {
        let sink = Sink::holding();
        let place = Place::new(&config(&sink, ""));
        let gateway = place.serve();
        let event = gateway.accept(CALL_ENDED);
        sink.wait_for(1);
        gateway.signal(signal);
        // While the attempt is waited for, the admin API says so.
        while http::ask(&gateway.admin, "GET", "/readyz", "", b"").unwrap().status != 503 {}
        sink.release();
        let (code, log) = gateway.ended();
        assert_eq!(code, Some(0), "{log:#?}");
        assert_eq!(attempts(&log).len(), 1);
        assert_eq!(log.last().unwrap()["message"], "stopped");

        let gateway = place.serve();
        let delivery = delivery(&gateway, &event);
        assert_eq!((&delivery["status"], &delivery["attempts_made"]), (&"delivered".into(), &1.into()));
        gateway.stop();
        assert_eq!(sink.posts().len(), 1, "{signal}: it was journaled");
    }
}

#[test]
fn an_attempt_that_outlasts_the_drain_is_made_again() {
    let sink = Sink::holding();
    let place = Place::new(&config(&sink, "server.drain_timeout = \"100ms\""));
    let gateway = place.serve();
    let event = gateway.accept(CALL_ENDED);
    sink.wait_for(1);
    let log = gateway.stop();
    assert_eq!(attempts(&log).len(), 0, "{log:#?}");
    assert!(log.iter().any(|line| line["message"].as_str().unwrap().contains("still on their way at the deadline")));

    let gateway = place.serve();
    let posts = sink.wait_for(2);
    assert_eq!((posts[0].id(), posts[1].id()), (&*event, &*event));
    sink.release();
    gateway.until_count("crm", "delivered", 1);
    assert_eq!(delivery(&gateway, &event)["attempts_made"], 1, "the one that was cut off is not known of");
}

#[test]
fn a_sender_that_stalls_is_cut_and_takes_no_attempt_with_it() {
    let sink = Sink::holding();
    let place = Place::new(&config(&sink, "server.drain_timeout = \"1s\""));
    let gateway = place.serve();
    gateway.accept(CALL_STARTED);
    sink.wait_for(1);
    let mut stalled = TcpStream::connect(&gateway.ingest).unwrap();
    stalled
        .write_all(b"POST /in/flyflow HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 9\r\n\r\n")
        .unwrap();
    // The body is waited for.
    stalled.read_exact(&mut [0; "HTTP/1.1 100 Continue\r\n\r\n".len()]).unwrap();
    gateway.signal("TERM");
    let cut = |line: &str| line.contains("a request was still under way at the deadline").then_some(());
    gateway.log.first(cut).unwrap();
    sink.release();
    let (code, log) = gateway.ended();
    assert_eq!(code, Some(0), "{log:#?}");
    assert_eq!(attempts(&log).len(), 1, "{log:#?}");
    assert_eq!(place.run(["journal", "stats", "--output", "json"]).json()["accepted"], 1);
}

#[test]
fn a_second_gateway_on_the_directory_is_refused() {
    let sink = Sink::holding();
    let place = Place::new(&config(&sink, ""));
    let gateway = place.serve();
    let refused = place.run(["serve"]).failed(1);
    assert!(refused.contains(&format!("in use by another backstop (process {})", gateway.process())), "{refused}");
    gateway.accept(CALL_STARTED);
    sink.wait_for(1);
}

#[test]
fn a_taken_port_is_named() {
    let sink = Sink::holding();
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap().to_string();
    let place = Place::new("");
    let config = std::fs::read_to_string(place.path("gateway.toml")).unwrap() + &config(&sink, "");
    place.write(
        "gateway.toml",
        &config.replace("server.listen = \"127.0.0.1:0\"", &format!("server.listen = \"{address}\"")),
    );
    let refused = place.run(["serve"]).failed(1);
    assert!(refused.contains(&address) && refused.contains("taken"), "{refused}");
    assert!(!place.path("backstop-data").exists(), "nothing was begun");
}
