//! The receiver of Flyflow's own documentation, unchanged, as an endpoint.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::json;

use crate::events::CALL;
use crate::lines::Lines;
use crate::place::Place;

/// The documented program, run by Flask's own server.
struct Receiver {
    child: Child,
    printed: Lines,
    url: String,
}

impl Receiver {
    fn start() -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
        let set_up = folder.join("target/python/bin/python");
        let python = std::env::var_os("BACKSTOP_TEST_PYTHON").map_or(set_up, PathBuf::from);
        assert!(python.exists(), "run tests/run, which installs what this test needs");
        let mut flask = Command::new(python);
        flask.args(["-m", "flask", "--app"]).arg(folder.join("tests/python/flyflow_receiver.py"));
        flask.args(["run", "--port", "0"]).env("PYTHONUNBUFFERED", "1");
        let mut child = flask.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let printed = Lines::of(child.stdout.take().unwrap());
        let log = Lines::of(child.stderr.take().unwrap());
        let url = log.first(|line| Some(line.split_once("Running on ")?.1.trim().to_owned()));
        let url = url.unwrap_or_else(|| panic!("Flask does not run: {:#?}", log.so_far()));
        Self { child, printed, url }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let _gone = self.child.kill().and_then(|()| self.child.wait()).is_ok();
    }
}

#[test]
fn the_documented_flask_receiver_gets_a_call() {
    let receiver = Receiver::start();
    let place = Place::new(&format!(
        r#"
        [sources.flyflow]
        preset = "flyflow"
        [endpoints.flask]
        url = "{}/webhook"
        concurrency = 1 # Python threads print into each other's lines
        [[routes]]
        endpoints = ["flask"]
        "#,
        receiver.url
    ));
    let gateway = place.serve();
    let ids = CALL.map(|event| gateway.accept(event));
    gateway.until_count("flask", "delivered", 3);
    for printed in [
        "Call started: abc123",
        "Tool called: example_tool",
        "Tool input: {'param1': 'value1', 'param2': 'value2'}",
        "Tool output: {'result': 'tool execution successful'}",
        "Call ended: abc123",
    ] {
        let found = receiver.printed.first(|line| (line == printed).then_some(()));
        assert!(found.is_some(), "{printed} is not in {:#?}", receiver.printed.so_far());
    }
    for id in ids {
        let event = gateway.get(&format!("events/{id}"));
        let attempt = &event["deliveries"][0]["attempts"][0];
        assert_eq!(attempt["answer"]["status"], 200);
        assert_eq!(attempt["answer"]["body"], json!("{\"status\":\"success\"}\n"));
    }
    gateway.stop();
}
