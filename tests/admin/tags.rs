//! Answers that whoever asks has already, and the description of them all.

use std::collections::BTreeSet;

use backstop::admin::access::ROUTES;
use serde_json::json;

use super::gateway::{Gateway, TOKEN, delivery};

#[tokio::test]
async fn what_has_not_changed_is_not_sent_again() {
    let gateway = Gateway::start().await;
    let id = gateway.tried("healthy", "k").await;
    let ask = async |path: &str, tag: &str| {
        let headers = format!("authorization: Bearer {TOKEN}\r\nif-none-match: {tag}\r\n");
        gateway.ask_with("GET", path, &headers, b"").await
    };
    let (event, body) = (format!("/api/v1/events/{id}"), format!("/api/v1/events/{id}/body"));
    for path in [event.as_str(), &body, "/api/v1/endpoints/healthy", "/api/v1/events", "/api/v1/sources", "/livez"] {
        let first = gateway.get(path).await;
        let tag = first.header("etag").unwrap_or_else(|| panic!("{path}")).to_owned();
        let again = ask(path, &tag).await;
        assert_eq!((again.status, again.body.len(), again.header("etag")), (304, 0, Some(tag.as_str())), "{path}");
        assert_eq!(ask(path, "\"other\"").await.body, first.body, "{path}");
    }
    let tag = gateway.get(&event).await.header("etag").unwrap().to_owned();
    assert_eq!(gateway.post(&format!("{event}/replay"), &json!({})).await.status, 202);
    gateway
        .until(&format!("/api/v1/deliveries/{}", delivery(&id, 1)), |delivery| delivery["status"] == "delivered")
        .await;
    let changed = ask(&event, &tag).await;
    assert_eq!(changed.status, 200);
    assert_eq!(changed.json()["deliveries"].as_array().unwrap().len(), 2);
    // What is not there, and what was done, has none.
    assert_eq!(ask("/api/v1/events/x", "*").await.status, 404);
    let paused = gateway.post("/api/v1/endpoints/healthy/pause", &json!({})).await;
    assert_eq!((paused.status, paused.header("etag")), (200, None));
}

#[tokio::test]
async fn the_description_is_for_everybody_and_names_every_route() {
    let gateway = Gateway::start().await;
    let got = gateway.ask_with("GET", "/openapi.json", "", b"").await;
    assert_eq!((got.status, got.header("content-type")), (200, Some("application/json")));
    let document = got.json();
    assert_eq!(document["openapi"], "3.1.0");
    assert_eq!(document["components"]["securitySchemes"]["session"]["name"], "backstop_1");
    let server = &document["paths"]["/in/{source}"]["servers"][0];
    assert_eq!(server["variables"]["port"]["default"], "8080");
    let text = String::from_utf8(got.body.clone()).unwrap();
    assert!(!text.contains(TOKEN));
    let mut described = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        let nameless: Vec<&str> = path.split('/').map(|part| if part.starts_with('{') { "{}" } else { part }).collect();
        for method in item.as_object().unwrap().keys() {
            described.insert(format!("{} {}", method.to_uppercase(), nameless.join("/")));
        }
    }
    for route in ROUTES {
        assert!(described.contains(&format!("{} {}", route.method, route.path)), "{} {}", route.method, route.path);
    }
}
