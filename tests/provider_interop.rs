//! Our verification against the providers' own packages as senders, and our signatures against them as receivers.
//!
//! A sender's package signs; what it signed is proven here, and with one bit flipped it is not. `tests/run` installs them.
#![cfg(feature = "server")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking, its helpers too")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use backstop::core::secret::Secret;
use backstop::core::sign::Signing;
use backstop::core::source::Fields;
use backstop::core::timestamp::Timestamp;
use backstop::core::verify::recipes::Provider;
use backstop::core::verify::{Denied, Headers, Proof, Request, Scheme, Verification};
use backstop::engine::{Clock as _, SystemClock};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

const SECRET: &str = "a secret — of these tests";
const WHSEC: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const ID: &str = "msg_2Lh9KRb0pzN4LePd3XiA4v12Axj";
/// The pair of Svix' documentation.
const PRIVATE: &str = "6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbc=";
const PUBLIC: &str = "1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=";
const BODY: &str = r#"{"type":"call_ended","call_id":"abc123","data":{"note":"naïve — 通話","n":1.50}}"#;

struct Sent(Vec<(String, Vec<u8>)>);

impl Headers for Sent {
    fn values<'a>(&'a self, name: &str) -> Vec<&'a [u8]> {
        self.0.iter().filter(|(other, _)| other == name).map(|(_, value)| value.as_slice()).collect()
    }
}

struct NoJson;

impl Fields for NoJson {
    fn text(&self, _: &str) -> Option<String> {
        None
    }
    fn items(&self, _: &str) -> Option<usize> {
        None
    }
}

/// What `program` answers to `tasks`.
fn ask(program: &mut Command, tasks: &[Value]) -> Vec<String> {
    let mut running = program.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    running.stdin.take().unwrap().write_all(json!(tasks).to_string().as_bytes()).unwrap();
    let output = running.wait_with_output().unwrap();
    assert!(output.status.success());
    let results: Vec<String> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(results.len(), tasks.len());
    results
}

/// What `tests/run` set up under the folder that `variable` names.
fn set_up(variable: &str, default: &str) -> PathBuf {
    let found = std::env::var_os(variable).map_or(Path::new(env!("CARGO_MANIFEST_DIR")).join(default), PathBuf::from);
    assert!(found.exists(), "run tests/run, which installs what this test needs");
    found
}

fn python(tasks: &[Value]) -> Vec<String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/provider_signatures.py");
    ask(Command::new(set_up("BACKSTOP_TEST_PYTHON", "target/python/bin/python")).arg(script), tasks)
}

fn node(tasks: &[Value]) -> Vec<String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/node/github_signatures.mjs");
    let folder = set_up("BACKSTOP_TEST_NODE", "target/node");
    ask(Command::new(folder.join("node")).arg(script).arg(&folder), tasks)
}

fn prove(
    verification: &Verification,
    now: Timestamp,
    target: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Result<Proof, Denied> {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), value.as_bytes().to_vec());
    let headers = Sent(headers.iter().map(owned).collect());
    let request = Request { now, peer: None, token: None, target, headers: &headers };
    verification.prove(&request, body.as_bytes(), &NoJson)
}

/// Asserts that this is proven, and that none of it is when one bit of the signature or of the body is another.
fn assert_proven(
    name: &str,
    verification: &Verification,
    now: Timestamp,
    target: &str,
    headers: &[(&str, &str)],
    body: &str,
) {
    let proof = prove(verification, now, target, headers, body);
    assert_eq!(proof.as_ref().map(|proof| proof.secret), Ok(Some(1)), "{name}: {headers:?}");
    let other_body = body.replacen('e', "f", 1);
    assert_ne!(other_body, body);
    assert_eq!(prove(verification, now, target, headers, &other_body), Err(Denied::Mismatch), "{name}: another body");
    let stranger = Verification { secrets: verification.secrets[..1].to_vec(), ..verification.clone() };
    assert_eq!(prove(&stranger, now, target, headers, body), Err(Denied::Mismatch), "{name}: another secret");
}

fn text(secret: &str) -> Secret {
    Secret::text(secret).unwrap()
}

fn with(scheme: Scheme, secret: Secret) -> Verification {
    Verification { scheme, secrets: vec![text("the one before"), secret], ..Verification::default() }
}

fn by(provider: Provider) -> Verification {
    with(Scheme::Hmac(provider.recipe().unwrap()), text(SECRET))
}

#[test]
fn what_the_providers_packages_sign_is_proven() {
    let now = SystemClock.now();
    let (seconds, millis) = (now.seconds(), now.millis());
    let of_id = |what: &str, secret: &str| json!({ "do": what, "secret": secret, "seed": secret, "id": ID, "seconds": seconds, "body": BODY });
    let signed = python(&[
        of_id("sign_standard", WHSEC),
        of_id("sign_svix", WHSEC),
        of_id("sign_v1a", PRIVATE),
        json!({ "do": "sign_stripe", "secret": SECRET, "seconds": seconds, "body": BODY }),
        json!({ "do": "sign_slack", "secret": SECRET, "seconds": seconds, "body": BODY }),
        json!({ "do": "sign_retell", "secret": SECRET, "millis": millis, "body": BODY }),
    ]);
    let [standard, svix, v1a, stripe, slack, retell] = signed.as_slice() else { panic!("{signed:?}") };
    let time = seconds.to_string();
    let shared = || with(Scheme::Standard, Secret::standard_check(WHSEC).unwrap());
    let public = with(Scheme::Standard, Secret::standard_check(&format!("whpk_{PUBLIC}")).unwrap());
    let headers = [("webhook-id", ID), ("webhook-timestamp", &time), ("webhook-signature", standard)];
    assert_proven("standardwebhooks", &shared(), now, "/in/x", &headers, BODY);
    let headers = [("svix-id", ID), ("svix-timestamp", &time), ("svix-signature", svix)];
    assert_proven("svix", &shared(), now, "/in/x", &headers, BODY);
    let headers = [("webhook-id", ID), ("webhook-timestamp", &time), ("webhook-signature", v1a)];
    assert_proven("v1a", &public, now, "/in/x", &headers, BODY);
    assert_proven("stripe", &by(Provider::Stripe), now, "/in/x", &[("stripe-signature", stripe)], BODY);
    let headers = [("x-slack-request-timestamp", time.as_str()), ("x-slack-signature", slack)];
    assert_proven("slack_sdk", &by(Provider::Slack), now, "/in/x", &headers, BODY);
    assert_proven("retell-sdk", &by(Provider::Retell), now, "/in/x", &[("x-retell-signature", retell)], BODY);
}

#[test]
fn what_twilios_package_signs_is_proven_form_json_and_either_hash() {
    let now = SystemClock.now();
    let verification =
        Verification { public_url: Some("https://hooks.example.com".to_owned()), ..with(Scheme::Twilio, text(SECRET)) };
    let form = json!({ "MessageSid": "SM1", "Body": "naïve + 通話 & 100%", "MessageStatus": "delivered", "A": "" });
    let encoded = "MessageStatus=delivered&Body=na%C3%AFve+%2B+%E9%80%9A%E8%A9%B1+%26+100%25&MessageSid=SM1&A=";
    let hash = python(&[json!({ "do": "hash_twilio", "body": BODY })]).remove(0);
    let (of_form, of_json) = ("/in/twilio?tenant=a%20b", format!("/in/twilio?bodySHA256={hash}"));
    let task = |target: &str, form: &Value, algorithm: Option<&str>, port: &str| {
        let url = format!("https://hooks.example.com{port}{target}");
        json!({ "do": "sign_twilio", "secret": SECRET, "url": url, "form": form, "algorithm": algorithm })
    };
    let signed = python(&[
        task(of_form, &form, None, ""),
        task(of_form, &form, None, ":443"),
        task(of_form, &form, Some("HMAC_SHA256"), ""),
        task(&of_json, &Value::Null, None, ""),
        task(&of_json, &Value::Null, Some("HMAC_SHA256"), ""),
    ]);
    let kind = ("content-type", "application/x-www-form-urlencoded");
    let json_kind = ("content-type", "application/json");
    let settings = ("x-twilio-webhooks-signature-settings", "key=webhooks_sharedkey_1,algorithm=HMAC_SHA256");
    for (index, target, body, more) in [
        (0, of_form, encoded, vec![kind]),
        (1, of_form, encoded, vec![kind]),
        (2, of_form, encoded, vec![kind, settings]),
        (3, &of_json, BODY, vec![json_kind]),
        (4, &of_json, BODY, vec![json_kind, settings]),
    ] {
        let headers = [more, vec![("x-twilio-signature", signed[index].as_str())]].concat();
        assert_proven(&format!("twilio {index}"), &verification, now, target, &headers, body);
    }
}

#[test]
fn githubs_package_signs_what_we_prove_and_checks_what_we_sign() {
    let now = SystemClock.now();
    let ours = Signing::Github(vec![text(SECRET)]).headers("id", now, BODY.as_bytes());
    let (_, signature) = ours.iter().find(|(name, _)| *name == "x-hub-signature-256").unwrap();
    let check = |body: &str| json!({ "what": "check", "secret": SECRET, "body": body, "signature": signature });
    let sign = json!({ "what": "sign", "secret": SECRET, "body": BODY });
    let answers = node(&[sign, check(BODY), check(&BODY.replace("abc123", "abc124"))]);
    assert_eq!(answers[1..], ["accepted", "refused"]);
    let headers = [("x-hub-signature-256", answers[0].as_str())];
    assert_proven("@octokit/webhooks-methods", &by(Provider::Github), now, "/in/x", &headers, BODY);
}

#[test]
fn the_receivers_packages_check_what_we_sign() {
    let now = SystemClock.now();
    let signed = |signing: Signing| -> serde_json::Map<String, Value> {
        let headers = signing.headers(ID, now, BODY.as_bytes());
        headers.into_iter().map(|(name, value)| (name.to_owned(), Value::String(value))).collect()
    };
    let other = BODY.replace("abc123", "abc124");
    let whsk =
        format!("whsk_{}", BASE64.encode([BASE64.decode(PRIVATE).unwrap(), BASE64.decode(PUBLIC).unwrap()].concat()));
    let stripe = signed(Signing::Stripe(vec![text("the one before"), text(SECRET)]));
    let svix = signed(Signing::Standard(vec![Secret::standard(&whsk).unwrap(), Secret::standard(WHSEC).unwrap()]));
    let v1a = signed(Signing::Standard(vec![Secret::standard(&format!("whsk_{PRIVATE}")).unwrap()]));
    let mut tasks = Vec::new();
    for body in [BODY, &other] {
        tasks.push(
            json!({ "do": "check_stripe", "secret": SECRET, "header": stripe["stripe-signature"], "body": body }),
        );
        tasks.push(json!({ "do": "check_svix", "secret": WHSEC, "headers": svix, "body": body }));
        tasks.push(json!({ "do": "check_v1a", "public": PUBLIC, "headers": v1a, "body": body }));
    }
    assert_eq!(python(&tasks), ["accepted", "accepted", "accepted", "refused", "refused", "refused"]);
}
