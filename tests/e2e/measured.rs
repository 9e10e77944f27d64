//! The metrics: of a gateway to which something of everything has happened, held against the README's list of them,
//! Prometheus' own tool, and the dashboard and alert rules in `deploy/`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::http;
use crate::place::{Gateway, Place};
use crate::sink::{MUCH_LATER, OK, Sink};

/// A family of a scrape.
#[derive(Debug, Default, PartialEq, Eq)]
struct Family {
    kind: String,
    help: String,
    /// Labels of its samples.
    labels: BTreeSet<String>,
    samples: usize,
}

fn config(crm: &Sink, odd: &Sink) -> String {
    format!(
        r#"
        [sources.flyflow]
        preset = "flyflow"
        [endpoints.crm]
        url = "{crm}"
        rate = "1/h"
        [endpoints.down]
        url = "http://127.0.0.1:1/"
        breaker.failures = 1
        [endpoints.odd]
        url = "{odd}"
        [endpoints.paused]
        url = "{crm}"
        [[routes]]
        types = ["call_started", "call_ended"]
        endpoints = ["crm", "down", "odd", "paused"]
        "#,
        crm = crm.url(),
        odd = odd.url()
    )
}

/// A gateway to which something of everything has happened.
fn used(place: &Place) -> Gateway {
    let gateway = place.serve();
    assert_eq!(gateway.ask("POST", "endpoints/paused/pause", "{}").status, 200);
    for kind in ["call_started", "call_ended", "elsewhere", "elsewhere"] {
        let event =
            format!("{{\"event_type\": \"{kind}\", \"call_id\": \"{kind}\", \"timestamp\": \"2026-01-31T12:00:00Z\"}}");
        gateway.post(&event);
    }
    gateway.until("endpoints/down", |endpoint| endpoint["circuit"]["state"] == "open");
    gateway.until("endpoints/odd", |endpoint| endpoint["lane"]["held_until"].is_string());
    gateway.until_count("crm", "delivered", 1);
    gateway
}

fn scrape(gateway: &Gateway) -> String {
    let token = format!("authorization: Bearer {}\r\n", gateway.token());
    let answer = http::ask(&gateway.admin, "GET", "/metrics", &token, b"").unwrap();
    assert_eq!(answer.status, 200);
    String::from_utf8(answer.body).unwrap()
}

/// Name and labels of every sample line.
fn samples(text: &str) -> impl Iterator<Item = (&str, BTreeMap<&str, &str>)> {
    text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).map(|line| {
        let series = line.rsplit_once(' ').unwrap().0;
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let labels = labels.trim_end_matches('}').split("\",").filter(|label| !label.is_empty());
        (name, labels.map(|label| label.trim_end_matches('"').split_once("=\"").unwrap()).collect())
    })
}

/// The family that a sample is of.
fn family_of<'a>(sample: &'a str, families: &BTreeMap<String, Family>) -> &'a str {
    let cut = ["_bucket", "_sum", "_count"].iter().find_map(|ending| sample.strip_suffix(ending));
    cut.filter(|name| families.get(*name).is_some_and(|family| family.kind == "histogram")).unwrap_or(sample)
}

fn families(text: &str) -> BTreeMap<String, Family> {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    for line in text.lines() {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            kind.clone_into(&mut families.entry(name.to_owned()).or_default().kind);
        } else if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            help.trim_end_matches('.').clone_into(&mut families.entry(name.to_owned()).or_default().help);
        }
    }
    for (name, labels) in samples(text) {
        let name = family_of(name, &families).to_owned();
        let family = families.get_mut(&name).unwrap_or_else(|| panic!("{name} is told of nowhere"));
        family.samples += 1;
        family.labels.extend(labels.into_keys().filter(|label| *label != "le").map(str::to_owned));
    }
    families
}

/// What the README says of each: a row `| name | kind | labels | help |`.
fn listed() -> BTreeMap<String, Family> {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let rows = readme.lines().filter(|line| line.starts_with("| `backstop_") || line.starts_with("| `process_"));
    let row = |line: &str| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [name, kind, labels, help] = cells.as_slice() else { panic!("{line}") };
        let labels = labels.split(", ").map(|label| label.trim_matches('`').to_owned());
        let labels = labels.filter(|label| !label.is_empty()).collect();
        let (kind, help) = ((*kind).to_owned(), (*help).to_owned());
        (name.trim_matches('`').to_owned(), Family { kind, help, labels, samples: 0 })
    };
    rows.map(row).collect()
}

fn deploy(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(name)
}

/// Prometheus' tool; `None` where it is not installed, which is no excuse where everything is to be tested.
fn promtool(arguments: &[&str], input: &str) -> Option<String> {
    let mut command = Command::new("promtool");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "promtool (Debian's package prometheus) is not there: {error}");
            println!("promtool (Debian's package prometheus) is not there, so what it says is not known: {error}");
            return None;
        }
    };
    // It ends as soon as it knows enough.
    let _written = child.stdin.take().unwrap().write_all(input.as_bytes()).is_ok();
    let ran = child.wait_with_output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "promtool {arguments:?}: {said}");
    Some(said)
}

/// Every query of the dashboard, with what Grafana puts into it.
fn queries() -> Vec<String> {
    fn gather(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                found.extend(fields.get("expr").and_then(Value::as_str).map(str::to_owned));
                fields.values().for_each(|value| gather(value, found));
            }
            Value::Array(items) => items.iter().for_each(|value| gather(value, found)),
            _ => {}
        }
    }
    let dashboard = std::fs::read_to_string(deploy("grafana.json")).unwrap();
    let mut found = Vec::new();
    gather(&serde_json::from_str(&dashboard).unwrap(), &mut found);
    let filled = |query: String| {
        let spans = query.replace("$__rate_interval", "5m").replace("$__range", "1h");
        spans.replace("\"$job\"", "\".*\"").replace("\"$instance\"", "\".*\"").replace("\"$endpoint\"", "\".*\"")
    };
    found.into_iter().map(filled).collect()
}

/// The metrics that stand in a query or a file of rules.
fn metrics_in(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("backstop_") || word.starts_with("process_")).collect()
}

#[test]
fn every_metric_is_listed_and_none_else() {
    let (crm, odd) = (Sink::answering(OK), Sink::answering(MUCH_LATER));
    let place = Place::new(&config(&crm, &odd));
    let gateway = used(&place);
    let text = scrape(&gateway);
    let (told, listed) = (families(&text), listed());
    let rows = told.iter().map(|(name, Family { kind, help, labels, .. })| {
        let labels = labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ");
        format!("| `{name}` | {kind} | {labels} | {help} |\n")
    });
    let wanted: String = rows.collect();
    for (name, family) in &told {
        let row = listed.get(name).unwrap_or_else(|| panic!("{name} is not in the README's list:\n{wanted}"));
        assert_eq!((&row.kind, &row.help), (&family.kind, &family.help), "{name}");
        assert!(family.samples == 0 || row.labels == family.labels, "{name}: {:?} {:?}", row.labels, family.labels);
    }
    for name in listed.keys() {
        assert!(told.contains_key(name), "{name} is in the README's list and not told");
    }
    if let Some(said) = promtool(&["check", "metrics"], &text) {
        assert_eq!(said, "", "promtool check metrics");
    }
    // What somebody may ask for or say makes no series.
    for number in 0..20 {
        let path = format!("/in/nobody-{number}");
        assert_eq!(http::ask(&gateway.ingest, "POST", &path, "", b"{}").unwrap().status, 404);
        gateway.accept(&format!("{{\"event_type\": \"nobody-{number}\", \"call_id\": \"nobody-{number}\"}}"));
        assert_eq!(gateway.ask("GET", &format!("endpoints/nobody-{number}"), "").status, 404);
    }
    let after = scrape(&gateway);
    let mut values = samples(&after).flat_map(|(_, labels)| labels.into_values());
    assert!(values.all(|value| !value.contains("nobody")), "{after}");
    gateway.stop();
}

#[test]
fn what_is_deployed_asks_for_metrics_that_there_are() {
    let listed = listed();
    let is_there = |name: &str| listed.contains_key(family_of(name, &listed));
    let queries = queries();
    assert!(queries.len() > 40, "{queries:#?}");
    let rules: String =
        ["alerts.yml", "alerts_test.yml"].map(|name| std::fs::read_to_string(deploy(name)).unwrap()).concat();
    for text in queries.iter().chain([&rules]) {
        let asked = metrics_in(text);
        assert!(!asked.is_empty(), "{text}");
        for name in asked {
            assert!(is_there(name), "there is no {name}: {text}");
        }
    }
    // Its tool reads queries in rules only.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("queries.yml");
    let records: Vec<Value> = queries
        .iter()
        .enumerate()
        .map(|(number, query)| serde_json::json!({ "record": format!("query_{number}"), "expr": query }))
        .collect();
    let groups = serde_json::json!({ "groups": [{ "name": "dashboard", "rules": records }] });
    std::fs::write(&file, groups.to_string()).unwrap();
    promtool(&["check", "rules", file.to_str().unwrap()], "");
    promtool(&["check", "rules", deploy("alerts.yml").to_str().unwrap()], "");
    promtool(&["test", "rules", deploy("alerts_test.yml").to_str().unwrap()], "");
}
