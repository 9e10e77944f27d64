//! Who may do what: every route by every role, and tokens made, used, expired and revoked.

use std::time::Duration;

use backstop::admin::access::ROUTES;
use backstop::core::role::Role;
use http::Method;
use serde_json::{Value, json};

use crate::gateway::{Gateway, Got, TOKEN};

const DAY: Duration = Duration::from_secs(24 * 3600);

async fn made(gateway: &Gateway, asked: Value) -> String {
    let got = gateway.post("/api/v1/tokens", &asked).await;
    assert_eq!(got.status, 201, "{got:?}");
    got.json()["token"].as_str().unwrap().to_owned()
}

async fn ask(gateway: &Gateway, token: &str, method: &str, path: &str) -> Got {
    gateway.ask_with(method, path, &format!("authorization: Bearer {token}\r\n"), b"{}").await
}

/// Asks every route by every token: each is let through or not as the table says, and nothing else is there.
#[tokio::test]
async fn every_route_takes_its_role() {
    let gateway = Gateway::start().await;
    let mut tokens = vec![(None, String::new())];
    for role in Role::ALL {
        let name = format!("of-{}", role.as_str());
        tokens.push((Some(role), made(&gateway, json!({"name": name, "role": role.as_str()})).await));
    }
    for route in ROUTES {
        let path = route.path.replace("{}", "evt_nothing");
        // A stream does not end: who is let through is looked at by itself.
        let is_stream = ["/api/v1/live", "/api/v1/feed"].contains(&route.path);
        for (role, token) in tokens.iter().filter(|(role, _)| !is_stream || *role < route.role) {
            let got = match role {
                None => gateway.ask_with(route.method.as_str(), &path, "", b"{}").await,
                Some(_) => ask(&gateway, token, route.method.as_str(), &path).await,
            };
            let what = format!("{} {path} by {role:?}: {got:?}", route.method);
            match (route.role, role) {
                (None, _) => assert_eq!(got.status, 200, "{what}"),
                (Some(_), None) => assert!(got.problem(401).contains("Authorization: Bearer"), "{what}"),
                (Some(needed), Some(role)) if role < &needed => {
                    assert!(got.problem(403).contains(&format!("takes the role `{}`", needed.as_str())), "{what}");
                    assert_eq!(got.json()["required_role"], needed.as_str(), "{what}");
                }
                // Begun, or ended: whoever holds a token may do both.
                (Some(_), Some(_)) if path == "/api/v1/session" => assert!([201, 204].contains(&got.status), "{what}"),
                // Nothing is there to be done, or what was asked makes no sense: it was let through.
                (Some(_), Some(_)) => {
                    assert!([200, 400, 404, 409, 422].contains(&got.status), "{what}");
                    assert!(!String::from_utf8_lossy(&got.body).contains("no such path"), "{what}");
                }
            }
        }
    }
    for method in [Method::GET, Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS] {
        for path in ["/", "/api/v1", "/api/v1/nothing", "/api/v1/events/x/y", "//api/v1/events"] {
            assert_eq!(gateway.ask_with(method.as_str(), path, "", b"").await.status, 401, "{method} {path}");
            assert_eq!(ask(&gateway, TOKEN, method.as_str(), path).await.status, 404, "{method} {path}");
        }
    }
}

#[tokio::test]
async fn a_token_is_told_once_and_worth_nothing_once_revoked() {
    let gateway = Gateway::start().await;
    let got = gateway.post("/api/v1/tokens", &json!({"name": "ci", "role": "read", "expires": "90d"})).await;
    assert_eq!((got.status, got.header("cache-control")), (201, Some("no-store")));
    let (made, token) = (got.json(), got.json()["token"].as_str().unwrap().to_owned());
    assert_eq!((&made["name"], &made["role"]), (&json!("ci"), &json!("read")));
    assert_eq!(made["created_at"], "2023-11-14T22:13:20.000Z");
    assert_eq!(made["expires_at"], "2024-02-12T22:13:20.000Z");
    assert!(token.starts_with(&format!("bst_{}", made["id"].as_str().unwrap())));

    let who = ask(&gateway, &token, "GET", "/api/v1/whoami").await.json();
    assert_eq!((&who["name"], &who["role"], &who["id"]), (&json!("ci"), &json!("read"), &made["id"]));
    assert_eq!(gateway.get("/api/v1/whoami").await.json()["name"], "admin");

    let list = gateway.get("/api/v1/tokens").await;
    assert!(!String::from_utf8_lossy(&list.body).contains(&token));
    let list = list.json();
    let names: Vec<&str> = list["items"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["admin", "ci"]);
    assert_eq!(list["items"][1]["last_used_at"], "2023-11-14T22:00:00.000Z");
    assert!(list["items"].as_array().unwrap().iter().all(|item| item.get("token").is_none()));

    let revoked = gateway.ask("DELETE", "/api/v1/tokens/ci", b"").await;
    assert_eq!((revoked.status, &revoked.json()["name"]), (200, &json!("ci")));
    assert!(ask(&gateway, &token, "GET", "/api/v1/whoami").await.problem(401).contains("nobody's"));
    gateway.ask("DELETE", "/api/v1/tokens/ci", b"").await.problem(404);
}

#[tokio::test]
async fn an_expired_and_a_cut_token_are_told_apart_from_a_wrong_one() {
    let gateway = Gateway::start().await;
    let token = made(&gateway, json!({"name": "ci", "role": "read", "expires": "1d"})).await;
    let cut = token.split_at(token.len() - 1).0;
    assert!(ask(&gateway, cut, "GET", "/api/v1/whoami").await.problem(401).contains("cut or mistyped"));
    assert_eq!(ask(&gateway, &token, "GET", "/api/v1/whoami").await.status, 200);
    gateway.pass(DAY);
    let told = ask(&gateway, &token, "GET", "/api/v1/whoami").await.problem(401);
    assert!(told.contains("`ci` expired at 2023-11-15T22:13:20.000Z"), "{told}");
}

#[tokio::test]
async fn what_makes_no_token_is_said() {
    let gateway = Gateway::start().await;
    made(&gateway, json!({"name": "ci", "role": "read"})).await;
    let wrong = [
        (json!({"name": "ci", "role": "admin"}), 409, "there is a token `ci` already"),
        (json!({"name": "admin", "role": "admin"}), 409, "there is a token `admin` already"),
        (json!({"name": "C I", "role": "read"}), 400, "`name`"),
        (json!({"role": "read"}), 400, "`name`"),
        (json!({"name": "x"}), 400, "`role` is one of read, operate, admin"),
        (json!({"name": "x", "role": "root"}), 400, "`role` is one of"),
        (json!({"name": "x", "role": "read", "expires": "soon"}), 400, "`expires` is neither"),
        (json!({"name": "x", "role": "read", "expires": "2001-01-01T00:00:00Z"}), 422, "expired already"),
        (json!({"name": "x", "role": "read", "rights": []}), 400, "unknown field"),
    ];
    for (asked, status, said) in wrong {
        let detail = gateway.post("/api/v1/tokens", &asked).await.problem(status);
        assert!(detail.contains(said), "{asked}: {detail}");
    }
    assert!(gateway.ask("DELETE", "/api/v1/tokens/admin", b"").await.problem(409).contains("admin token file"));
    assert_eq!(gateway.get("/api/v1/tokens").await.json()["items"].as_array().unwrap().len(), 2);
}
