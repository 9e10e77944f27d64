//! The API against its own description, by schemathesis: thousands of requests, good ones and bad ones, to every route.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::place::Place;
use crate::sink::{OK, Sink};

/// An answer that is not tried again where the config says so.
const WRONG: &str = "400 Bad Request\r\n";

#[test]
fn every_answer_is_as_described() {
    let (sink, odd) = (Sink::answering(OK), Sink::answering(WRONG));
    let place = Place::new(&format!(
        r#"
        [sources.flyflow]
        preset = "flyflow"
        [sources.strict]
        preset = "flyflow"
        strict = true
        [sources.signed]
        verify = "standard"
        secrets = ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]
        [endpoints.crm]
        url = "{crm}"
        [endpoints.paused]
        url = "{crm}"
        [endpoints.odd]
        url = "{odd}"
        permanent = [400]
        [endpoints.down]
        url = "http://127.0.0.1:1/"
        [[routes]]
        types = ["call_*", "tool_call"]
        endpoints = ["crm", "paused"]
        [[routes]]
        types = ["odd"]
        endpoints = ["odd"]
        [[routes]]
        types = ["down"]
        endpoints = ["down"]
        "#,
        crm = sink.url(),
        odd = odd.url(),
    ));
    let gateway = place.serve();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let set_up = folder.join("target/python/bin/python");
    let python = std::env::var_os("BACKSTOP_TEST_PYTHON").map_or(set_up, PathBuf::from);
    assert!(python.exists(), "run tests/run, which installs what this test needs");
    let mut check = Command::new(python);
    check.arg(folder.join("tests/python/check_api.py")).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut check = check.stderr(Stdio::piped()).spawn().unwrap();
    let told = json!({ "admin": gateway.admin, "ingest": gateway.ingest, "token": gateway.token(),
        "sink": sink.url() });
    check.stdin.take().unwrap().write_all(told.to_string().as_bytes()).unwrap();
    let found = check.wait_with_output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&found.stdout), String::from_utf8_lossy(&found.stderr));
    assert!(found.status.success(), "{out}\n{err}");
    let log = gateway.stop();
    let errors: Vec<&Value> = log.iter().filter(|line| line["level"] == "ERROR").collect();
    assert!(errors.is_empty(), "{errors:#?}");
}
