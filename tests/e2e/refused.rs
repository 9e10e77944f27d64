//! `backstop refused`: what a source refuses is kept, survives a restart, and is taken in once it is put right.

use serde_json::Value;

use crate::events::call_ended;
use crate::place::{Gateway, Place};
use crate::sink::{OK, Sink};

fn config(sink: &Sink, limits: &str) -> String {
    format!(
        r#"
        [sources.flyflow]
        preset = "flyflow"
        {limits}
        [endpoints.crm]
        url = "{}"
        [[routes]]
        endpoints = ["crm"]
        "#,
        sink.url()
    )
}

fn refused(gateway: &Gateway) -> Vec<Value> {
    let page = gateway.verb(["refused", "--oldest", "--output", "json"]).json();
    page["items"].as_array().unwrap().clone()
}

#[test]
fn what_was_refused_is_taken_in_after_the_cause_is_fixed() {
    let sink = Sink::answering(OK);
    let place = Place::new(&config(&sink, "strict = true\nbody_max = \"1KiB\""));
    let gateway = place.serve();
    let first = gateway.accept(&call_ended(1));
    let again = gateway.post(&call_ended(1));
    assert_eq!((again.status, again.header("backstop-duplicate")), (202, Some("true")));
    assert_eq!(gateway.post("no JSON at all").status, 422);
    let long = call_ended(2).replace("{}", &format!("{{\"pad\":\"{}\"}}", "x".repeat(2000)));
    assert_eq!(gateway.post(&long).status, 413);
    // The rest of a body that is too large is read on behind its answer.
    gateway.until("refusals?reason=too_large", |page| page["items"][0]["whole"] == true);
    let told: Vec<String> = refused(&gateway).iter().map(|item| item["reason"].as_str().unwrap().to_owned()).collect();
    assert_eq!(told, ["duplicate", "malformed", "too_large"]);
    gateway.until_count("crm", "delivered", 1);
    gateway.stop();

    // The cause is fixed: no longer strict, and room for more.
    place.configure(&config(&sink, "body_max = \"64KiB\""));
    let gateway = place.serve();
    let items = refused(&gateway);
    let id = |n: usize| items[n]["id"].as_str().unwrap();
    assert_eq!(
        (&items[0]["duplicate_of"], &items[2]["body_bytes"]),
        (&Value::from(first.as_str()), &Value::from(long.len()))
    );
    let said = gateway.verb(["refused", "ingest", id(0)]).failed(4);
    assert!(said.contains(&first) && said.contains("force"), "{said}");
    for n in [1, 2] {
        let event = gateway.verb(["refused", "ingest", id(n)]).ok();
        let body = gateway.verb(["event", event.trim(), "--body"]).ok();
        assert_eq!(body, [call_ended(1), "no JSON at all".to_owned(), long.clone()][n]);
    }
    gateway.verb(["refused", "ingest", id(0), "--force"]).ok();
    gateway.until_count("crm", "delivered", 4);
    let story = gateway.verb(["refused", "show", id(2)]).ok();
    assert!(story.contains("reason     too_large: the body has more than the 1024 bytes"), "{story}");
    let list = gateway.verb(["refused", "--reason", "malformed"]).ok();
    assert!(list.contains(id(1)) && !list.contains(id(2)), "{list}");
    gateway.verb(["audit"]).ok();
}
