//! What was done by whom is there after a restart and after a kill, and tells no secret.

use serde_json::Value;

use crate::events::CALL;
use crate::place::{Gateway, Place, finish};
use crate::sink::{BROKEN, Sink};

fn told(gateway: &Gateway, query: &str) -> Vec<Value> {
    let page = gateway.get(&format!("operations?order=oldest&limit=1000{query}"));
    page["items"].as_array().unwrap().clone()
}

#[test]
fn what_was_done_by_whom_outlives_a_kill_and_a_restart() {
    let sink = Sink::answering(BROKEN);
    let place = Place::new(&format!(
        r#"
        operations.size_mib = 1
        sources.flyflow.preset = "flyflow"
        routes = [{{ endpoints = ["crm"] }}]
        [endpoints.crm]
        url = "{}"
        retry = {{ initial = "10ms", attempts_max = 1 }}
        breaker = "off"
        "#,
        sink.url()
    ));
    let gateway = place.serve();
    let oncall = gateway.verb(["token", "create", "oncall", "--role", "operate"]).ok().trim().to_owned();
    let by = |gateway: &Gateway, arguments: [&str; 5]| {
        let arguments: Vec<&str> = arguments.into_iter().filter(|argument| !argument.is_empty()).collect();
        let mut command = gateway.command([]);
        finish(command.args(arguments).env("BACKSTOP_TOKEN", &oncall))
    };
    CALL.iter().for_each(|event| drop(gateway.accept(event)));
    gateway.until_count("crm", "dead", 3);
    by(&gateway, ["pause", "crm", "--note", "they deploy", ""]).ok();
    by(&gateway, ["replay", "--endpoint", "crm", "--detach", ""]).ok();
    by(&gateway, ["replay", "--endpoint", "crm", "--to-url", "http://user:secret@127.0.0.1:1/hidden?key=hidden"]);
    by(&gateway, ["token", "list", "", "", ""]).failed(4);
    let before = told(&gateway, "");
    let whats: Vec<&str> = before.iter().map(|it| it["what"].as_str().unwrap()).collect();
    assert_eq!(whats, ["token.create", "endpoint.pause", "replay.begin", "replay.begin", "token.list"]);
    assert!(before.iter().all(|it| it["from"].as_str().unwrap().starts_with("127.0.0.1:")));
    gateway.kill();

    let gateway = place.serve();
    assert_eq!(told(&gateway, ""), before);
    let replays = gateway.get("replays");
    assert_eq!(replays["items"][0]["by"], "oncall");
    assert!(gateway.verb(["replays"]).ok().contains("oncall"));
    by(&gateway, ["resume", "crm", "", "", ""]).ok();
    let listed = gateway.verb(["operations", "--who", "oncall", "--what", "endpoint.*"]).ok();
    for word in ["endpoint.pause", "endpoint.resume", "they deploy", "crm", "done"] {
        assert!(listed.contains(word), "{word} in {listed}");
    }
    assert!(!listed.contains("replay.begin"));
    let all = gateway.verb(["operations", "--output", "json"]).ok();
    assert!(all.contains("http://127.0.0.1:1") && !all.contains("hidden") && !all.contains("secret"), "{all}");
    gateway.stop();

    place.run(["token", "revoke", "oncall", "--offline"]).ok();
    let gateway = place.serve();
    let last = told(&gateway, "&what=token.revoke").pop().unwrap();
    assert_eq!((&last["who"], &last["object"], &last["result"]), (&"offline".into(), &"oncall".into(), &"done".into()));
    assert_eq!(told(&gateway, "").len(), before.len() + 2);
}

#[test]
fn a_place_where_nothing_can_be_noted_changes_nothing_and_delivers() {
    let sink = Sink::answering(crate::sink::OK);
    let place = Place::new(&format!(
        "sources.flyflow.preset = \"flyflow\"\nroutes = [{{ endpoints = [\"crm\"] }}]\nendpoints.crm.url = \"{}\"\n",
        sink.url()
    ));
    std::fs::create_dir_all(place.path("backstop-data")).unwrap();
    place.write("backstop-data/operations", "not a folder");
    let gateway = place.serve();
    assert!(gateway.verb(["pause", "crm"]).failed(1).contains("nothing was done"));
    gateway.accept(CALL[0]);
    gateway.until_count("crm", "delivered", 1);
}
