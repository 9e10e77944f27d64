//! What is on disk is its owner's alone, whatever the process was started with.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use crate::events::CALL;
use crate::place::Place;
use crate::sink::{OK, Sink};

/// Every file and folder under `path`, with its mode.
fn modes(path: &Path) -> Vec<(String, u32)> {
    let mode = |path: &Path| std::fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777;
    let mut found = vec![(path.display().to_string(), mode(path))];
    if path.is_dir() {
        for entry in std::fs::read_dir(path).unwrap() {
            found.extend(modes(&entry.unwrap().path()));
        }
    }
    found
}

#[track_caller]
fn assert_private(path: &Path) {
    let modes = modes(path);
    assert!(modes.iter().any(|(path, _)| path.ends_with("index/db")), "{modes:?}");
    for (path, mode) in modes {
        let expected = if Path::new(&path).is_dir() { 0o700 } else { 0o600 };
        assert_eq!(mode, expected, "{path} has mode {mode:o}");
    }
}

fn config(sink: &Sink) -> String {
    format!(
        "sources.flyflow.preset = \"flyflow\"\nendpoints.crm.url = \"{}\"\nroutes = [{{ endpoints = [\"crm\"] }}]\n",
        sink.url()
    )
}

#[test]
fn everything_is_made_for_the_owner_only_and_what_was_wider_is_mended_and_told() {
    let sink = Sink::answering(OK);
    let place = Place::new(&config(&sink));
    let data = place.path("backstop-data");
    let gateway = place.serve();
    gateway.accept(CALL[0]);
    gateway.until_count("crm", "delivered", 1);
    assert_private(&data);
    let log = gateway.stop();
    assert!(!log.iter().any(|line| line.to_string().contains("others could read")), "{log:#?}");
    assert_private(&data);

    // As a copy by somebody careless leaves it.
    let opened = Command::new("chmod").args(["-R", "a+rX"]).arg(&data).status().unwrap();
    let closed = Command::new("chmod").arg("600").arg(data.join("admin.token")).status().unwrap();
    assert!(opened.success() && closed.success());
    let gateway = place.serve();
    assert_private(&data);
    let log = gateway.stop();
    let told: Vec<_> = log.iter().filter(|line| line["message"].to_string().contains("others could read")).collect();
    let [told] = told.as_slice() else { panic!("{log:#?}") };
    assert_eq!((&told["level"], &told["mode"]), (&"WARN".into(), &"0755".into()));
    assert!(told["count"].as_u64().unwrap() > 5, "{told}");

    // A token that others could read is another matter: they may have it.
    let token = data.join("admin.token");
    assert!(Command::new("chmod").arg("644").arg(&token).status().unwrap().success());
    let refused = place.run(["serve"]);
    assert!(refused.err.contains("others can read it"), "{refused:?}");
}
