//! What `deny.toml` says of licences, bans and registries holds for every package that this platform builds with.
//!
//! cargo-deny says it better, and knows the advisories too; this needs no more than cargo and no network.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot go on fails")]

use std::path::Path;
use std::process::Command;

use serde_json::Value;

fn packages() -> Vec<Value> {
    let mut cargo = Command::new(env!("CARGO"));
    // What other platforms need is not there without a network.
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    cargo.args(["metadata", "--format-version", "1", "--locked", "--offline", "--filter-platform", &platform]);
    cargo.arg("--manifest-path");
    let output = cargo.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let Value::Array(packages) = serde_json::from_slice::<Value>(&output.stdout).unwrap()["packages"].take() else {
        panic!("cargo names no packages")
    };
    assert!(packages.len() > 100, "these cannot be all");
    packages
}

fn deny() -> toml::Table {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deny.toml");
    toml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn texts(value: &toml::Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|item| item.as_str().unwrap()).collect()
}

/// Whether one may take it under `allowed` licences: `A OR (B AND C)`, and the old `A/B`. No `OR` may stand under an
/// `AND` but in parentheses that begin or end it, which is how such licences are written.
fn is_free(licence: &str, allowed: &[&str]) -> bool {
    let licence = licence.replace('/', " OR ");
    if let Some(((one, rest), open)) = licence.split_once(") AND ").zip(licence.strip_prefix('(')) {
        return is_free(open.get(..one.len() - 1).unwrap(), allowed) && is_free(rest, allowed);
    }
    licence.split(" OR ").any(|way| way.split(" AND ").all(|part| allowed.contains(&part.trim())))
}

#[test]
fn every_licence_is_allowed() {
    let deny = deny();
    let allowed = texts(&deny["licenses"]["allow"]);
    for package in packages() {
        let licence = package["license"].as_str().unwrap_or_default();
        assert!(is_free(licence, &allowed), "{}: {licence:?} is not allowed by deny.toml", package["name"]);
    }
    for (licence, free) in [("MIT", true), ("GPL-3.0", false), ("GPL-3.0 OR MIT", true), ("MIT AND GPL-3.0", false)] {
        assert_eq!(is_free(licence, &allowed), free, "{licence}");
    }
    assert!(is_free("(MIT OR GPL-3.0) AND ISC", &allowed) && !is_free("(MIT OR ISC) AND GPL-3.0", &allowed));
}

#[test]
fn nothing_banned_and_nothing_from_elsewhere() {
    let deny = deny();
    let registries = texts(&deny["sources"]["allow-registry"]);
    let banned = deny["bans"]["deny"].as_array().unwrap().iter().map(|ban| ban["crate"].as_str().unwrap());
    let banned: Vec<&str> = banned.collect();
    for package in packages() {
        let name = package["name"].as_str().unwrap();
        assert!(!banned.contains(&name), "{name} is banned by deny.toml");
        let known = package["source"].as_str().is_none_or(|source| {
            registries.iter().any(|registry| source.strip_prefix("registry+").is_some_and(|url| url == *registry))
        });
        assert!(known || name == "backstop", "{name} comes from {}", package["source"]);
    }
}
