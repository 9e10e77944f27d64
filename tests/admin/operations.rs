//! What was done by whom: every change is noted, before it is done, with what it came to; so is what was denied.

use std::time::Duration;

use backstop::admin::access::ROUTES;
use http::Method;
use serde_json::{Value, json};

use crate::gateway::{Gateway, TOKEN, delivery};

async fn token(gateway: &Gateway, name: &str, role: &str) -> String {
    let got = gateway.post("/api/v1/tokens", &json!({"name": name, "role": role})).await;
    got.json()["token"].as_str().unwrap().to_owned()
}

async fn by(gateway: &Gateway, token: &str, method: &str, path: &str, body: &str) -> u16 {
    let headers = format!("authorization: Bearer {token}\r\n");
    gateway.ask_with(method, path, &headers, body.as_bytes()).await.status
}

async fn operations(gateway: &Gateway, query: &str) -> Vec<Value> {
    let page = gateway.get(&format!("/api/v1/operations?limit=1000&{query}")).await.json();
    page["items"].as_array().unwrap().clone()
}

#[tokio::test]
async fn no_route_changes_anything_without_being_noted() {
    let gateway = Gateway::start().await;
    let changing: Vec<_> = ROUTES.iter().filter(|route| route.method != Method::GET).collect();
    assert!(changing.len() > 10);
    for route in changing {
        let before = operations(&gateway, "").await.len();
        let path = route.path.replace("{}", "nothing");
        let status = by(&gateway, TOKEN, route.method.as_str(), &path, "{\"odd\":1}").await;
        let all = operations(&gateway, "").await;
        assert_eq!(all.len(), before + 1, "{} {path}", route.method);
        let noted = &all[0];
        assert_eq!((&noted["what"], &noted["status"]), (&json!(route.what), &json!(status)), "{noted}");
        // There is always a session to begin, or none to end.
        let result = if path == "/api/v1/session" { "done" } else { "refused" };
        assert_eq!((&noted["result"], &noted["who"]), (&json!(result), &json!("admin")), "{noted}");
        assert_eq!(noted["object"], if path == route.path { Value::Null } else { json!("nothing") });
        let told = if route.data { Value::Null } else { json!({"odd": 1}) };
        assert_eq!(noted["parameters"], told, "what is data is not noted");
        assert!(noted["from"].as_str().unwrap().starts_with("127.0.0.1:"), "{noted}");
    }
}

#[tokio::test]
async fn who_did_what_to_what_and_what_came_of_it() {
    let gateway = Gateway::start().await;
    let oncall = token(&gateway, "oncall", "operate").await;
    let event = gateway.tried("fan", "call-1").await;
    let pause = json!({"note": "a while"}).to_string();
    assert_eq!(by(&gateway, &oncall, "POST", "/api/v1/endpoints/healthy/pause", &pause).await, 200);
    assert_eq!(by(&gateway, &oncall, "POST", "/api/v1/endpoints/healthy/resume", "").await, 200);
    let again = format!("/api/v1/deliveries/{}/replay", delivery(&event, 1));
    assert_eq!(by(&gateway, &oncall, "POST", &again, "").await, 202);
    assert_eq!(
        by(&gateway, &oncall, "POST", &format!("/api/v1/deliveries/{}/cancel", delivery(&event, 0)), "").await,
        409
    );
    let replay = json!({"filter": {"status": ["failed"]}}).to_string();
    assert_eq!(by(&gateway, &oncall, "POST", "/api/v1/replays", &replay).await, 202);
    let cancel = json!({"filter": {"endpoint": "flaky"}}).to_string();
    assert_eq!(by(&gateway, &oncall, "POST", "/api/v1/deliveries/cancel", &cancel).await, 200);

    let noted = operations(&gateway, "who=oncall&order=oldest").await;
    let told: Vec<(&str, &str)> =
        noted.iter().map(|it| (it["what"].as_str().unwrap(), it["result"].as_str().unwrap())).collect();
    let expected = [
        ("endpoint.pause", "done"),
        ("endpoint.resume", "done"),
        ("delivery.replay", "done"),
        ("delivery.cancel", "refused"),
        ("replay.begin", "done"),
        ("deliveries.cancel", "done"),
    ];
    assert_eq!(told, expected);
    assert_eq!((&noted[0]["object"], &noted[0]["parameters"]), (&json!("healthy"), &json!({"note": "a while"})));
    assert_eq!((&noted[0]["role"], &noted[0]["at"]), (&json!("operate"), &json!("2023-11-14T22:13:20.000Z")));
    assert!(oncall.starts_with(&format!("bst_{}", noted[0]["token"].as_str().unwrap())));
    assert!(noted[2]["detail"].as_str().unwrap().starts_with("dlv_"), "{}", noted[2]);
    assert_eq!(noted[3]["detail"], "it has ended already");
    let replays = gateway.get("/api/v1/replays").await.json();
    assert_eq!(noted[4]["detail"], replays["items"][0]["id"]);
    assert_eq!(replays["items"][0]["by"], "oncall");
    assert_eq!(noted[4]["parameters"]["filter"]["status"], json!(["failed"]));
    assert_eq!(noted[5]["detail"], "1 cancelled, 0 on their way");

    let created = operations(&gateway, "what=token.*").await;
    assert_eq!((created.len(), &created[0]["parameters"]["name"]), (1, &json!("oncall")));
    assert!(!created[0].to_string().contains(&oncall));
    for (query, count) in
        [("what=endpoint.*", 2), ("object=healthy", 2), ("result=refused", 1), ("since=1h", 7), ("until=1h", 0)]
    {
        assert_eq!(operations(&gateway, query).await.len(), count, "{query}");
    }
}

#[tokio::test]
async fn what_is_denied_is_noted_but_not_one_by_one() {
    let gateway = Gateway::start().await;
    let ci = token(&gateway, "ci", "read").await;
    for _ in 0..5 {
        assert_eq!(by(&gateway, &ci, "POST", "/api/v1/endpoints/healthy/pause", "{}").await, 403);
        assert_eq!(by(&gateway, "bst_nobody", "GET", "/api/v1/events", "").await, 401);
        assert_eq!(gateway.ask_with("GET", "/api/v1/events", "", b"").await.status, 401);
    }
    assert_eq!(by(&gateway, &ci, "GET", "/api/v1/tokens", "").await, 403);
    let denied = operations(&gateway, "result=denied&order=oldest").await;
    let told: Vec<(&Value, &Value)> = denied.iter().map(|it| (&it["who"], &it["what"])).collect();
    let (ci_name, nobody) = (json!("ci"), Value::Null);
    let (pause, authenticate, list) = (json!("endpoint.pause"), json!("authenticate"), json!("token.list"));
    assert_eq!(told, [(&ci_name, &pause), (&nobody, &authenticate), (&ci_name, &list)]);
    assert!(denied[0]["detail"].as_str().unwrap().contains("takes the role `operate`"));
    assert!(!denied[1].to_string().contains("bst_nobody"));
    gateway.pass(Duration::from_secs(600));
    assert_eq!(by(&gateway, &ci, "POST", "/api/v1/endpoints/healthy/pause", "{}").await, 403);
    let again = operations(&gateway, "result=denied").await;
    assert_eq!((again.len(), &again[0]["repeats"]), (4, &json!(4)));

    let metrics = String::from_utf8(gateway.ask("GET", "/metrics", b"").await.body).unwrap();
    for (reason, count) in [("no_token", 5), ("wrong_token", 5), ("expired", 0), ("role", 7)] {
        let line = format!("backstop_admin_denied_total{{reason=\"{reason}\"}} {count}");
        assert!(metrics.contains(&line), "{line} in {metrics}");
    }
    assert_eq!(gateway.get("/api/v1/endpoints/healthy").await.json()["paused"], Value::Null);
}

#[tokio::test]
async fn what_cannot_be_noted_is_not_done() {
    let gateway = Gateway::without_register().await;
    let told = gateway.post("/api/v1/endpoints/healthy/pause", &json!({})).await.problem(503);
    assert!(told.contains("nothing was done") && told.contains("the disk is gone"), "{told}");
    let refused = gateway.post("/api/v1/tokens", &json!({"name": "x", "role": "read"})).await;
    assert_eq!(refused.status, 503);
    assert_eq!(gateway.get("/api/v1/tokens").await.json()["items"].as_array().unwrap().len(), 1);
    gateway.get("/api/v1/operations").await.problem(503);
    // Events are taken and delivered all the same.
    gateway.tried("healthy", "call-1").await;
}

#[tokio::test]
async fn a_wrong_parameter_is_named() {
    let gateway = Gateway::start().await;
    for (query, name) in [
        ("result=perhaps", "result"),
        ("since=yesterday", "since"),
        ("cursor=evt_1", "cursor"),
        ("order=random", "order"),
        ("limit=0", "limit"),
        ("who=a&who=b", "who"),
        ("by=a", "by"),
    ] {
        let got = gateway.get(&format!("/api/v1/operations?{query}")).await;
        got.problem(400);
        assert_eq!(got.json()["parameter"], name, "{query}");
    }
}
