//! Our signatures against the official `standardwebhooks` package, as a receiver would use it.
#![cfg(feature = "server")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use backstop::core::sign::{Secret, Signing};
use backstop::core::timestamp::Timestamp;
use backstop::engine::{Clock as _, SystemClock};
use serde_json::{Value, json};

const OLD: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const NEW: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oDAAAAAAAAAAAAAAAA";
const STRANGER: &str = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
const ID: &str = "evt_01kay2zn6r3vx0fwjv7cqdqk3b";
const BODY: &str = r#"{"event_type":"call_ended","call_id":"abc123","data":{"note":"naïve — 通話"}}"#;

/// The Python that `tests/run` set up.
fn python() -> PathBuf {
    let set_up = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/python/bin/python");
    let python = std::env::var_os("BACKSTOP_TEST_PYTHON").map_or(set_up, PathBuf::from);
    assert!(python.exists(), "run tests/run, which installs what this test needs");
    python
}

/// What the package says to each message.
fn verdicts(messages: &[Value]) -> Vec<String> {
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/python/verify_signatures.py");
    let mut receiver = Command::new(python()).arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    receiver.stdin.take().unwrap().write_all(json!(messages).to_string().as_bytes()).unwrap();
    let output = receiver.wait_with_output().unwrap();
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).unwrap()
}

/// `BODY`, signed by us with `secrets` at `now`, as it reaches a receiver that has `secret` and gets `body`.
fn message(secrets: &[&str], now: Timestamp, secret: &str, body: &str) -> Value {
    let secrets = secrets.iter().map(|secret| Secret::standard(secret).unwrap()).collect();
    let headers = Signing::Standard(secrets).headers(ID, now, BODY.as_bytes());
    let headers: serde_json::Map<String, Value> =
        headers.into_iter().map(|(name, value)| (name.to_owned(), Value::String(value))).collect();
    json!({ "secret": secret, "headers": headers, "body": body })
}

#[test]
fn the_official_package_accepts_our_signature_through_a_rotation() {
    let now = SystemClock.now();
    let accepted = verdicts(&[
        message(&[OLD], now, OLD, BODY),
        message(&[NEW], now, NEW, BODY),
        message(&[NEW, OLD], now, OLD, BODY),
        message(&[NEW, OLD], now, NEW, BODY),
        message(&[OLD.trim_start_matches("whsec_")], now, OLD, BODY),
    ]);
    assert_eq!(accepted, ["accepted"; 5]);
}

#[test]
fn the_official_package_refuses_what_it_should() {
    let now = SystemClock.now();
    let mut flipped = BODY.as_bytes().to_vec();
    flipped[2] ^= 1;
    let flipped = String::from_utf8(flipped).unwrap();
    let mut other_id = message(&[OLD], now, OLD, BODY);
    other_id["headers"]["webhook-id"] = json!("evt_01kay2zn6r3vx0fwjv7cqdqk3c");
    let stale = Timestamp::ZERO.after(now.since(Timestamp::ZERO) - Duration::from_secs(600));
    let refused = verdicts(&[
        message(&[OLD], now, OLD, &flipped),
        message(&[NEW, OLD], now, STRANGER, BODY),
        other_id,
        message(&[OLD], stale, OLD, BODY),
        message(&[OLD], now.after(Duration::from_secs(600)), OLD, BODY),
    ]);
    let mismatch = "refused: No matching signature found";
    let (old, new) = ("refused: Message timestamp too old", "refused: Message timestamp too new");
    assert_eq!(refused, [mismatch, mismatch, mismatch, old, new]);
}
