//! Exports and imports by their routes: parts that end where they should, and lines that become events or are refused.

use serde_json::{Value, json};

use crate::gateway::{Gateway, LONG, draft};

const IMPORT: &str = "/api/v1/events/import?source=flyflow";

/// The lines of an export's part, and what its last line says.
async fn part(gateway: &Gateway, query: &str) -> (Vec<Value>, Value) {
    let got = gateway.get(&format!("/api/v1/events/export?{query}")).await;
    assert_eq!(got.status, 200, "{}", got.head);
    assert!(got.head.to_lowercase().contains("content-type: application/x-ndjson"), "{}", got.head);
    let text = String::from_utf8(got.body).unwrap();
    let mut lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let last = lines.pop().unwrap();
    (lines, last)
}

/// A line as an export has it.
fn line(original: &str) -> Value {
    json!({
        "id": original, "received_at": "2026-01-02T03:04:05Z", "source": "elsewhere", "type": "call_ended", "key": "abc",
        "occurred_at": null, "headers": [["x-raw", {"base64": "/w=="}], ["Cookie", "secret=1"]], "body": "{\"a\":1}",
        "body_bytes": 7, "deliveries": [],
    })
}

fn evt(number: u128) -> String {
    backstop::core::id::EventId::from_u128(number).to_string()
}

async fn import(gateway: &Gateway, path: &str, lines: &[Value]) -> Vec<Value> {
    let body: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let got = gateway.ask("POST", path, body.as_bytes()).await;
    assert_eq!(got.status, 200, "{}", String::from_utf8_lossy(&got.body));
    got.json()["items"].as_array().unwrap().clone()
}

#[tokio::test]
async fn an_export_comes_in_parts_that_say_where_the_next_begins() {
    let gateway = Gateway::start().await;
    let mut accepted = Vec::new();
    for number in 0..5 {
        accepted.push(gateway.tried("healthy", &format!("key-{number}")).await);
    }
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let (lines, last) = part(&gateway, &format!("order=oldest&limit=2{cursor}")).await;
        assert_eq!(last["part"], json!({ "events": lines.len(), "without_payload": 0 }));
        for line in &lines {
            assert_eq!(line["body"], "{}");
            assert_eq!(line["deliveries"][0]["attempts"][0]["outcome"], "delivered", "{line}");
        }
        seen.extend(lines.iter().map(|line| line["id"].as_str().unwrap().to_owned()));
        let Some(next) = last["next"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(seen, accepted);
    let (lines, _) = part(&gateway, "key=key-3").await;
    assert_eq!(lines.len(), 1);
    gateway.get("/api/v1/events/export?colour=red").await.problem(400);
}

#[tokio::test]
async fn a_part_ends_where_its_bytes_do() {
    let gateway = Gateway::start().await;
    let body = "x".repeat(3 << 20);
    for key in ["a", "b", "c"] {
        gateway.engine.accept(draft("healthy", key, body.clone())).await.unwrap();
    }
    let (lines, last) = part(&gateway, "order=oldest").await;
    assert_eq!(lines.len(), 2, "the second leads beyond 4 MiB");
    let next = last["next"].as_str().unwrap();
    let (lines, last) = part(&gateway, &format!("order=oldest&cursor={next}")).await;
    assert_eq!((lines.len(), &last["next"]), (1, &Value::Null));
    assert_eq!(lines[0]["key"], "c");
}

#[tokio::test]
async fn a_line_becomes_one_event_that_goes_nowhere_unless_asked() {
    let gateway = Gateway::start().await;
    let made = import(&gateway, IMPORT, &[line(&evt(1)), line(&evt(2)), line(&evt(1))]).await;
    let outcomes: Vec<&Value> = made.iter().map(|made| &made["outcome"]).collect();
    assert_eq!(outcomes, ["imported", "imported", "duplicate"]);
    assert_eq!(made[0]["event"], made[2]["event"]);
    let path = format!("/api/v1/events/{}", made[0]["event"].as_str().unwrap());
    let event = gateway.get(&path).await.json();
    let told = ["source", "type", "key", "occurred_at"].map(|field| event[field].clone());
    assert_eq!(told, ["flyflow", "call_ended", "abc", "2026-01-02T03:04:05.000Z"]);
    assert_eq!(event["headers"], json!([["x-raw", { "base64": "/w==" }]]), "credentials are not kept");
    assert_eq!(event["original"], evt(1));
    assert_eq!(event["deliveries"], json!([]));
    assert_eq!(gateway.get(&format!("{path}/body")).await.body, b"{\"a\":1}");

    let mut healthy = line(&evt(3));
    healthy["type"] = json!("healthy");
    let routed = import(&gateway, &format!("{IMPORT}&route=true"), &[line(&evt(1)), healthy]).await;
    assert_eq!((&routed[0]["outcome"], &routed[1]["outcome"]), (&json!("duplicate"), &json!("imported")));
    let path = format!("/api/v1/events/{}", routed[1]["event"].as_str().unwrap());
    let event = gateway.get(&path).await.json();
    assert_eq!(event["deliveries"][0]["endpoint"], "healthy", "{event}");
    assert_eq!(event["original"], evt(3));
}

#[tokio::test]
async fn what_makes_no_event_is_refused_by_itself() {
    let gateway = Gateway::start().await;
    let without = |field: &str| {
        let mut line = line(&evt(7));
        line.as_object_mut().unwrap().remove(field);
        line
    };
    let with = |field: &str, value: Value| {
        let mut line = line(&evt(7));
        line[field] = value;
        line
    };
    let wrong = [
        (json!(5), "no exported event"),
        (json!({"end": {"events": 1}}), "no exported event"),
        (without("type"), "no exported event"),
        (without("body"), "without its body"),
        (with("id", json!("evt_nonsense")), "no event's"),
        (with("received_at", json!("yesterday")), "RFC 3339"),
        (with("occurred_at", json!("soon")), "RFC 3339"),
        (with("body", json!({"base64": "!"})), "not base64"),
        (with("body_bytes", json!(8)), "not what `body_bytes` says"),
        (with("headers", json!([["a b", "c"]])), "none in HTTP"),
        (with("headers", json!([["a", "c\nd: e"]])), "none in HTTP"),
        (with("headers", json!([["a", "b".repeat(20_000)]])), "header"),
        (with("body", json!("y".repeat(2000))), "body"),
    ];
    let mut lines: Vec<Value> = wrong.iter().map(|(line, _)| line.clone()).collect();
    lines.push(line(&evt(8)));
    let made = import(&gateway, IMPORT, &lines).await;
    for (made, (line, why)) in made.iter().zip(&wrong) {
        assert_eq!(made["outcome"], "refused", "{line}");
        assert!(made["detail"].as_str().unwrap().contains(why), "{made} should say {why}");
    }
    assert_eq!(made.last().unwrap()["outcome"], "imported", "the others do not mind");
    assert_eq!(gateway.get("/api/v1/counters").await.json()["accepted"], 1);

    for path in ["/api/v1/events/import", "/api/v1/events/import?source=flyflow&colour=red"] {
        gateway.ask("POST", path, b"").await.problem(400);
    }
    gateway.ask("POST", "/api/v1/events/import?source=nobody", b"").await.problem(422);
    gateway.ask("POST", IMPORT, "{}\n".repeat(1001).as_bytes()).await.problem(413);
    assert!(import(&gateway, IMPORT, &[]).await.is_empty());
}

#[tokio::test]
async fn what_is_noted_of_an_import_holds_none_of_it() {
    let gateway = Gateway::start().await;
    import(&gateway, IMPORT, &[line(&evt(1))]).await;
    let noted = gateway.get("/api/v1/operations?what=events.import").await.json();
    let item = &noted["items"][0];
    assert_eq!(item["detail"], "1 imported, 0 duplicates, 0 refused, 0 not now", "{noted}");
    assert!(item.to_string().contains("source=flyflow"), "{noted}");
    assert!(!item.to_string().contains("call_ended"), "{noted}");
}

#[tokio::test]
async fn while_the_gateway_stops_nothing_is_taken_and_nothing_lost() {
    let gateway = Gateway::start().await;
    gateway.engine.stop(LONG).await.unwrap();
    let made = import(&gateway, IMPORT, &[line(&evt(1)), json!({})]).await;
    assert_eq!((&made[0]["outcome"], &made[1]["outcome"]), (&json!("not_now"), &json!("refused")));
}
