//! Reading the config again: what is answered, noted and measured, and that it takes an admin.

use std::path::Path;

use backstop::admin::reload::{NotReloaded, Reloaded, by_signal};
use backstop::config::Problem;
use backstop::config::change::{Change, Key, Kind};
use serde_json::json;

use crate::gateway::Gateway;

fn change(kind: Kind, what: &str, keys: &[(&str, bool)]) -> Change {
    let keys = keys.iter().map(|(name, secret)| Key { name: (*name).to_owned(), secret: *secret }).collect();
    Change { kind, what: what.to_owned(), keys }
}

fn problem(line: usize, message: &str) -> Problem {
    let file = Path::new("gateway.toml").into();
    Problem { file, line: Some(line), key: "endpoints.crm.url".to_owned(), message: message.to_owned() }
}

#[tokio::test]
async fn what_is_otherwise_is_answered_and_noted() {
    let gateway = Gateway::start().await;
    let reloaded = Reloaded {
        applied: vec![change(Kind::Changed, "endpoints.crm", &[("secrets", true), ("timeout", false)])],
        needs_restart: vec![change(Kind::Changed, "server", &[("listen", false)])],
        warnings: vec![problem(3, "odd")],
    };
    *gateway.config.0.lock().unwrap() = Ok(reloaded);
    let got = gateway.post("/api/v1/reload", &json!({})).await;
    assert_eq!(got.status, 200);
    let keys = json!([{"name": "secrets", "secret": true}, {"name": "timeout", "secret": false}]);
    assert_eq!(
        got.json(),
        json!({
            "applied": [{"kind": "changed", "what": "endpoints.crm", "keys": keys}],
            "needs_restart": [{"kind": "changed", "what": "server", "keys": [{"name": "listen", "secret": false}]}],
            "warnings": ["gateway.toml:3: endpoints.crm.url: odd"],
        })
    );
    let noted = gateway.get("/api/v1/operations?what=config.reload").await.json()["items"][0].clone();
    let detail = "endpoints.crm: changed secrets (secret), timeout; needs a restart: server: changed listen";
    assert_eq!((&noted["who"], &noted["detail"]), (&json!("admin"), &json!(detail)));
    let metrics = String::from_utf8(gateway.get("/metrics").await.body).unwrap();
    assert!(metrics.contains("\nbackstop_config_last_reload_successful 1.0\n"), "{metrics}");
    assert!(metrics.contains("\nbackstop_config_last_reload_success_timestamp_seconds 1700000000.0\n"), "{metrics}");
}

#[tokio::test]
async fn every_error_is_answered_and_a_signal_is_noted_like_a_request() {
    let gateway = Gateway::start().await;
    *gateway.config.0.lock().unwrap() = Err(NotReloaded::Refused(vec![problem(2, "bad"), problem(9, "worse")]));
    let got = gateway.post("/api/v1/reload", &json!({})).await;
    assert_eq!(got.status, 422);
    let lines = ["gateway.toml:2: endpoints.crm.url: bad", "gateway.toml:9: endpoints.crm.url: worse"];
    assert_eq!(got.json()["problems"], json!(lines));
    assert!(got.problem(422).contains("what was there before goes on: 2 problems"));
    let metrics = String::from_utf8(gateway.get("/metrics").await.body).unwrap();
    assert!(metrics.contains("\nbackstop_config_last_reload_successful 0.0\n"), "{metrics}");

    *gateway.config.0.lock().unwrap() = Err(NotReloaded::Refused(vec![problem(2, "bad")]));
    by_signal(&*gateway.config, gateway.register()).await;
    let noted = gateway.get("/api/v1/operations?what=config.reload").await.json()["items"][0].clone();
    assert_eq!((&noted["who"], &noted["result"], &noted["status"]), (&json!("SIGHUP"), &json!("refused"), &json!(422)));
    assert!(noted["detail"].as_str().unwrap().ends_with("goes on: gateway.toml:2: endpoints.crm.url: bad"), "{noted}");

    *gateway.config.0.lock().unwrap() = Err(NotReloaded::Failed("it ends".to_owned()));
    assert_eq!(gateway.post("/api/v1/reload", &json!({})).await.problem(503), "it ends");
}

#[tokio::test]
async fn the_config_that_holds_is_shown() {
    let gateway = Gateway::start().await;
    assert_eq!(gateway.get("/api/v1/config").await.json(), json!({"server": {"listen": "127.0.0.1:1"}}));
}
