//! Both listeners speak TLS, the verbs speak it to them, and a new certificate is taken in while they do.

use std::path::PathBuf;

use rcgen::{CertificateParams, KeyPair};

use crate::place::{Gateway, Place, Ran, finish};

const CONFIG: &str = r#"
server.tls = { cert = "cert.pem", key = "key.pem" }
admin.tls = { cert = "cert.pem", key = "key.pem" }
sources.flyflow.preset = "flyflow"
"#;

/// Another certificate for 127.0.0.1, which signs itself; a copy of it stays where it is said.
fn identity(place: &Place, copy: &str) -> PathBuf {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap().self_signed(&key).unwrap();
    place.write("cert.pem", &certificate.pem());
    place.write("key.pem", &key.serialize_pem());
    place.write(copy, &certificate.pem());
    place.path(copy)
}

fn verb<const N: usize>(gateway: &Gateway, ca: Option<&PathBuf>, arguments: [&str; N]) -> Ran {
    let mut command = gateway.command(arguments);
    command.env("BACKSTOP_ADMIN", format!("https://{}", gateway.admin));
    command.env("BACKSTOP_INGEST", format!("https://{}", gateway.ingest));
    if let Some(ca) = ca {
        command.arg("--ca").arg(ca);
    }
    finish(&mut command)
}

#[test]
fn verbs_speak_https_and_a_new_certificate_is_taken_in_on_sighup() {
    let place = Place::new(CONFIG);
    let old = identity(&place, "old.pem");
    let gateway = place.serve();
    assert!(verb(&gateway, Some(&old), ["send", "--sample", "call_started"]).ok().starts_with("202 evt_"));
    assert_eq!(verb(&gateway, Some(&old), ["counters", "--output", "json"]).json()["accepted"], 1);
    assert!(verb(&gateway, None, ["counters"]).failed(3).contains("does not answer at https://"), "a stranger's");
    assert!(verb(&gateway, Some(&place.path("key.pem")), ["counters"]).failed(2).contains("holds no certificate"));
    // Plain HTTP gets nothing.
    assert_eq!(gateway.verb(["counters"]).code, Some(3));

    let new = identity(&place, "new.pem");
    gateway.signal("HUP");
    // One for each listener.
    let again = |line: &str| line.contains("the certificate was read again").then_some(());
    assert!(gateway.log.nth(1, again).is_some(), "{:#?}", gateway.log.so_far());
    verb(&gateway, Some(&new), ["counters"]).ok();
    assert_eq!(verb(&gateway, Some(&old), ["counters"]).code, Some(3));

    place.write("key.pem", "nothing");
    gateway.signal("HUP");
    let kept = |line: &str| line.contains("the config is refused").then(|| line.to_owned());
    assert!(gateway.log.first(kept).unwrap().contains("\"problems\":2"), "one for each listener");
    let told = gateway.log.so_far();
    assert!(told.iter().any(|line| line.contains("admin.tls") && line.contains("no private key")), "{told:#?}");
    verb(&gateway, Some(&new), ["counters"]).ok();
    let log = gateway.stop();
    assert_eq!(log.last().unwrap()["message"], "stopped");
}

#[test]
fn a_certificate_that_cannot_be_used_is_told_at_the_start() {
    let place = Place::new(CONFIG);
    assert!(place.run(["serve"]).err.contains("cert.pem cannot be read"));
    identity(&place, "copy.pem");
    place.write("key.pem", "nothing");
    assert!(place.run(["serve"]).err.contains("key.pem holds no private key"));
}
