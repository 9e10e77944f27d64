//! Sessions, the live stream and what the dashboard asks besides: over HTTP, without a browser.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use crate::gateway::{Gateway, LONG, TOKEN, draft};

const OWN: &str = "sec-fetch-site: same-origin\r\nx-backstop: 1\r\n";

async fn begin(gateway: &Gateway, token: &str) -> String {
    let got = gateway.ask_with("POST", "/api/v1/session", &format!("authorization: Bearer {token}\r\n"), b"").await;
    assert_eq!(got.status, 201, "{got:?}");
    let cookie = got.header("set-cookie").unwrap();
    assert!(cookie.ends_with("; Path=/; Max-Age=43200; HttpOnly; SameSite=Strict"), "{cookie}");
    format!("cookie: {}\r\n", cookie.split(';').next().unwrap())
}

#[tokio::test]
async fn a_session_may_what_its_token_may_and_ends_with_it() {
    let gateway = Gateway::start().await;
    let made = gateway.post("/api/v1/tokens", &json!({ "name": "anna", "role": "read" })).await.json();
    let cookie = begin(&gateway, made["token"].as_str().unwrap()).await;
    let who = gateway.ask_with("GET", "/api/v1/whoami", &cookie, b"").await;
    assert_eq!((who.status, &who.json()["name"]), (200, &json!("anna")));
    let denied = gateway.ask_with("POST", "/api/v1/endpoints/healthy/pause", &format!("{cookie}{OWN}"), b"").await;
    assert!(denied.problem(403).contains("operate"));
    gateway.ask("DELETE", "/api/v1/tokens/anna", b"").await;
    gateway.ask_with("GET", "/api/v1/whoami", &cookie, b"").await.problem(401);
    let noted = gateway.get("/api/v1/operations?what=session.begin").await.json();
    assert_eq!((&noted["items"][0]["who"], &noted["items"][0]["result"]), (&json!("anna"), &json!("done")));
}

#[tokio::test]
async fn a_session_ends_when_it_is_told_to_and_when_its_time_is_up() {
    let gateway = Gateway::start().await;
    let (one, other) = (begin(&gateway, TOKEN).await, begin(&gateway, TOKEN).await);
    let ended = gateway.ask_with("DELETE", "/api/v1/session", &format!("{one}{OWN}"), b"").await;
    assert_eq!(ended.status, 204);
    assert!(ended.header("set-cookie").unwrap().contains("Max-Age=0"));
    gateway.ask_with("GET", "/api/v1/whoami", &one, b"").await.problem(401);
    assert_eq!(gateway.ask_with("GET", "/api/v1/whoami", &other, b"").await.status, 200);
    gateway.pass(Duration::from_secs(12 * 3600));
    gateway.ask_with("GET", "/api/v1/whoami", &other, b"").await.problem(401);
}

#[tokio::test]
async fn nothing_is_done_with_a_session_by_another_page() {
    let gateway = Gateway::start().await;
    let cookie = begin(&gateway, TOKEN).await;
    let path = "/api/v1/endpoints/healthy/pause";
    let foreign = [
        "",
        "x-backstop: 1\r\n",
        "sec-fetch-site: same-origin\r\n",
        "sec-fetch-site: same-site\r\nx-backstop: 1\r\n",
        "origin: http://evil.example\r\nx-backstop: 1\r\n",
        "origin: http://localhost\r\n",
    ];
    for headers in foreign {
        let got = gateway.ask_with("POST", path, &format!("{cookie}{headers}"), b"").await;
        assert!(got.problem(403).contains("another page"), "{headers}");
    }
    let cross = format!("{cookie}sec-fetch-site: cross-site\r\n");
    gateway.ask_with("GET", "/api/v1/events", &cross, b"").await.problem(403);
    assert_eq!(gateway.get("/api/v1/endpoints/healthy").await.json()["pause"], Value::Null);
    for headers in [OWN, "origin: http://localhost\r\nx-backstop: 1\r\n"] {
        assert_eq!(gateway.ask_with("POST", path, &format!("{cookie}{headers}"), b"").await.status, 200, "{headers}");
    }
    // A token needs none of it: no browser sends one by itself.
    assert_eq!(gateway.ask("POST", path, b"").await.status, 200);
}

/// The stream of events, each with its name.
struct Live(BufReader<TcpStream>);

impl Live {
    async fn open(gateway: &Gateway) -> (u16, Self) {
        Self::of("live", gateway, TOKEN).await
    }

    async fn of(what: &str, gateway: &Gateway, token: &str) -> (u16, Self) {
        let mut stream = TcpStream::connect(gateway.address).await.unwrap();
        let asked = format!("GET /api/v1/{what} HTTP/1.1\r\n");
        let head = format!("{asked}host: localhost\r\nauthorization: Bearer {token}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut live = Self(BufReader::new(stream));
        let status = live.line().await.unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        while live.line().await.is_some_and(|line| !line.is_empty()) {}
        (status, live)
    }

    async fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = tokio::time::timeout(LONG, self.0.read_line(&mut line)).await.unwrap().unwrap();
        (read > 0).then(|| line.trim_end().to_owned())
    }

    /// The next event of this name; comments and others are passed over.
    async fn next(&mut self, name: &str) -> Value {
        let mut is_it = false;
        loop {
            let line = self.line().await.unwrap_or_else(|| panic!("it ended before {name}"));
            if let Some(event) = line.strip_prefix("event:") {
                is_it = event.trim() == name;
            }
            if let Some(data) = line.strip_prefix("data:").filter(|_| is_it) {
                return serde_json::from_str(data).unwrap();
            }
        }
    }
}

#[tokio::test]
async fn the_live_stream_begins_with_all_and_goes_on_with_what_changes_and_says_goodbye() {
    let gateway = Gateway::start().await;
    let (status, mut live) = Live::open(&gateway).await;
    assert_eq!(status, 200);
    let state = live.next("state").await;
    assert_eq!((&state["accepted"], state["endpoints"].as_object().unwrap().len()), (&json!(0), 5));
    gateway.tried("picky", "k").await;
    let beat = loop {
        let beat = live.next("beat").await;
        if beat["failed"] == 1 {
            break beat;
        }
    };
    assert_eq!(beat["accepted"], 1);
    assert_eq!(beat["endpoints"].as_object().unwrap().keys().collect::<Vec<_>>(), ["picky"], "what changed");
    gateway.engine.stop(Duration::ZERO).await.unwrap();
    live.next("bye").await;
}

#[tokio::test]
async fn so_many_watch_and_no_more() {
    let gateway = Gateway::start().await;
    for (what, first) in [("live", "state"), ("feed", "begun")] {
        let mut all = Vec::new();
        for _ in 0..32 {
            let (status, mut live) = Live::of(what, &gateway, TOKEN).await;
            assert_eq!(status, 200);
            live.next(first).await;
            all.push(live);
        }
        assert_eq!(Live::of(what, &gateway, TOKEN).await.0, 503);
        drop(all);
        // A place is free once the server has seen that its connection is gone.
        while Live::of(what, &gateway, TOKEN).await.0 != 200 {}
    }
}

#[tokio::test]
async fn a_revoked_token_watches_no_longer() {
    let gateway = Gateway::start().await;
    let made = gateway.post("/api/v1/tokens", &json!({"name": "ci", "role": "read"})).await.json();
    let token = made["token"].as_str().unwrap();
    let (_, mut live) = Live::of("live", &gateway, token).await;
    live.next("state").await;
    // It would be told of nothing that happens here.
    let (_, mut feed) = Live::of("feed?key=none", &gateway, token).await;
    feed.next("begun").await;
    gateway.ask("DELETE", "/api/v1/tokens/ci", b"").await;
    gateway.tried("picky", "k").await;
    for mut stream in [live, feed] {
        stream.next("bye").await;
        // The last piece of a chunked answer is all that is left.
        let mut left = String::new();
        while left != "0" {
            left = stream.line().await.unwrap();
            assert!(left.is_empty() || left == "0", "{left}");
        }
    }
}

#[tokio::test]
async fn what_is_remembered_is_by_the_minute() {
    let gateway = Gateway::start().await;
    assert_eq!(gateway.get("/api/v1/history").await.json()["minutes"], json!(["2023-11-14T22:13:00.000Z"]));
    gateway.tried("healthy", "k").await;
    gateway.pass(Duration::from_secs(60));
    let (_, mut live) = Live::open(&gateway).await;
    live.next("state").await;
    let history = gateway.until("/api/v1/history", |history| history["minutes"].as_array().unwrap().len() == 2).await;
    let total: u64 = history["total"]["delivered"].as_array().unwrap().iter().filter_map(Value::as_u64).sum();
    assert_eq!((total, history["endpoints"]["healthy"]["delivered"].as_array().unwrap().len()), (1, 2));
}

#[tokio::test]
async fn events_are_counted_over_time() {
    let gateway = Gateway::start().await;
    gateway.tried("healthy", "a").await;
    gateway.pass(Duration::from_secs(3500));
    gateway.tried("picky", "b").await;
    let counted = gateway.get("/api/v1/events/histogram?since=2h&bars=4").await.json();
    assert_eq!((&counted["counts"], &counted["failed"]), (&json!([0, 0, 1, 1]), &json!([0, 0, 0, 1])));
    assert_eq!(counted["counted_since"], Value::Null);
    let keyed = gateway.get("/api/v1/events/histogram?since=2h&bars=4&key=a").await.json();
    assert_eq!(keyed["counts"], json!([0, 0, 1, 0]));
    for (query, what) in
        [("bars=0", "bars"), ("bars=201", "bars"), ("cursor=x", "cursor"), ("since=1h&until=2h", "until")]
    {
        let got = gateway.get(&format!("/api/v1/events/histogram?{query}")).await;
        got.problem(400);
        assert_eq!(got.json()["parameter"], what);
    }
}

#[tokio::test]
async fn where_it_stands_is_told_without_secrets() {
    let gateway = Gateway::start().await;
    gateway.engine.accept(draft("healthy", "k", "12345")).await.unwrap();
    let sources = gateway.get("/api/v1/sources").await.json();
    let source = &sources["items"][0];
    assert_eq!(
        (&source["name"], &source["strict"], &source["held"]["bytes"]),
        (&json!("flyflow"), &json!(true), &json!(5))
    );
    let disk = gateway.get("/api/v1/disk").await.json();
    assert!(disk["total_bytes"].as_u64() > disk["free_bytes"].as_u64() && disk["free_bytes"].as_u64() > Some(0));
    assert!(disk["journal_bytes"].is_u64());
    assert_eq!((&disk["free_min_bytes"], &disk["full"]), (&json!(7), &json!(false)));
}

#[tokio::test]
async fn a_test_event_goes_to_its_endpoint_and_nowhere_else() {
    let gateway = Gateway::start().await;
    let made = gateway.post("/api/v1/endpoints/healthy/test", &json!({})).await;
    assert_eq!(made.status, 202);
    let id = made.json()["deliveries"][0]["id"].as_str().unwrap().to_owned();
    let delivery = gateway.until(&format!("/api/v1/deliveries/{id}"), |one| one["status"] == "delivered").await;
    assert_eq!(
        (&delivery["endpoint"], &delivery["event"]["type"]),
        (&json!("healthy"), &json!("backstop.endpoint.test"))
    );
    assert_eq!(delivery["event"]["source"], "backstop");
    gateway.post("/api/v1/endpoints/nobody/test", &json!({})).await.problem(404);
    let noted = gateway.get("/api/v1/operations?what=endpoint.test&result=done").await.json();
    assert_eq!(noted["items"][0]["object"], "healthy");
}
