//! The config: every mistake is named with its line and key, all at once, and never with a secret.

#![cfg(feature = "server")]

mod dial;
mod effective;
mod egress;
mod encryption;
mod flow;
mod listeners;
mod local;
mod noise;
mod retention;
mod verify;

use std::io;
use std::path::Path;
use std::time::Duration;

use backstop::config::{Config, ConfigErrors, LogFormat, Problem};
use backstop::core::endpoint::Order;
use backstop::core::lifecycle::Lifecycle;
use backstop::core::rate::Rate;
use backstop::core::retry::RetryPolicy;
use backstop::core::sign::Signing;
use backstop::core::source::{Ack, DedupRule, Place};

const SHIPPED: &str = include_str!("../../gateway.toml");
const JOURNAL_KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A config that is right, for a mistake to be added to.
const GOOD: &str =
    "[sources.fly]\nverify = \"off\"\n[endpoints.crm]\nurl = \"http://crm\"\n[[routes]]\nendpoints = [\"crm\"]\n";

fn env(name: &str) -> Option<String> {
    match name {
        "ACME_SECRET" => Some("planted-acme-secret".to_owned()),
        "FLYFLOW_TOKEN" => Some("flyflow-path-token".to_owned()),
        "CRM_SECRET" => Some(SECRET.to_owned()),
        "CRM_TOKEN" => Some("planted-token".to_owned()),
        "NOISE" => Some("planted noise \u{1}".to_owned()),
        "PORT" => Some("8090".to_owned()),
        "PROXY_PASSWORD" => Some("planted-password".to_owned()),
        "CREDENTIALS_DIRECTORY" => Some("/run/credentials/b".to_owned()),
        "PEM" => Some("-----BEGIN PRIVATE KEY-----planted".to_owned()),
        _ => None,
    }
}

fn read_file(path: &Path) -> io::Result<String> {
    match path.to_str() {
        Some("/etc/b/secret") => Ok(format!("{SECRET}\n")),
        Some("/etc/b/journal.key") => Ok(format!("{JOURNAL_KEY}\n")),
        Some("/etc/b/bad") => Ok("planted-file-content\n".to_owned()),
        Some("/run/credentials/b/erp-token") => Ok("planted-credential\n".to_owned()),
        Some(path) if path.ends_with(".pem") || path.ends_with(".key") => dial::pem(path),
        _ => Err(io::ErrorKind::NotFound.into()),
    }
}

fn parse(text: &str) -> Result<Config, ConfigErrors> {
    Config::parse(text, Path::new("/etc/b/gateway.toml"), &env, &read_file)
}

fn problems(text: &str) -> Vec<Problem> {
    match parse(text) {
        Ok(config) => panic!("{text}\nis right: {config:?}"),
        Err(errors) => errors.problems,
    }
}

/// Asserts that `text` has one problem only, on `line` under `key`, whose message has `piece`.
fn assert_problem(text: &str, line: usize, key: &str, piece: &str) {
    let problems = problems(text);
    let [problem] = problems.as_slice() else { panic!("{text}\n{problems:#?}") };
    assert_eq!((problem.line, problem.key.as_str()), (Some(line), key), "{text}\n{problem}");
    assert!(problem.message.contains(piece), "{text}\n{problem}\nlacks {piece:?}");
}

/// The line of [`GOOD`]'s end, where a table may be appended.
const AFTER: usize = 7;

#[test]
fn the_shipped_file_is_right_and_says_what_the_readme_shows() {
    let config = parse(SHIPPED).unwrap();
    // The quick start needs no secret, so it is open; it listens on this machine only, and says so.
    let [warning] = config.warnings.as_slice() else { panic!("{:?}", config.warnings) };
    assert_eq!(warning.key, "sources.flyflow");
    assert!(warning.message.contains("token = "), "{warning}");
    assert!(config.server.listen.ip().is_loopback());
    assert_eq!(config.server.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.admin.listen.to_string(), "127.0.0.1:8081");
    assert_eq!(config.admin.token_file, Path::new("/etc/b/backstop-data/admin.token"));
    assert_eq!(config.journal.dir, Path::new("/etc/b/backstop-data"));
    let days = |days: u64| Some(Duration::from_secs(days * 24 * 3600));
    assert_eq!((config.retention.default.payload, config.retention.default.metadata), (days(30), days(90)));
    let [crm, billing] = config.endpoints.as_slice() else { panic!("{config:?}") };
    assert_eq!((crm.name.as_str(), crm.url.as_str()), ("crm", "http://127.0.0.1:9001/webhook"));
    assert_eq!(crm.retry, RetryPolicy::default());
    assert_eq!((billing.name.as_str(), billing.url.as_str()), ("billing", "http://127.0.0.1:9002/webhook"));
    assert_eq!(billing.retry.attempts_max, 3);
    assert_eq!(billing.retry.interval_max, Duration::from_secs(2));
}

/// The shipped file with the commented settings that `keep` selects made real.
fn uncommented(keep: impl Fn(&str) -> bool) -> String {
    let real = |line: &str| match line.strip_prefix("# ").filter(|rest| is_setting(rest) && keep(rest)) {
        Some(setting) => format!("{setting}\n"),
        None => format!("{line}\n"),
    };
    SHIPPED.lines().map(real).collect()
}

fn is_setting(text: &str) -> bool {
    let plain = |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    text.split_once(" = ").is_some_and(|(name, _)| plain(name))
}

#[test]
fn every_commented_setting_of_the_shipped_file_is_right() {
    let config = parse(&uncommented(|_| true)).unwrap();
    let crm = &config.endpoints[0];
    assert!(matches!(&crm.signing, Signing::Standard(secrets) if secrets.len() == 1));
    assert_eq!(&crm.headers[0].value[..], b"Bearer planted-token");
    assert_eq!(crm.rate, Some(Rate { count: 600, per: Duration::from_secs(60), burst: 20 }));
    assert_eq!((crm.order, crm.order_hold_max), (Order::Key, Duration::from_secs(900)));
    assert!(crm.permanent.contains(402) && !crm.permanent.contains(404));
    let (start, end, timeout) = ("call_started".to_owned(), "call_ended".to_owned(), Duration::from_secs(7200));
    assert_eq!(config.sources[0].lifecycle, Some(Lifecycle { start, end, timeout }));
}

#[test]
fn every_commented_default_of_the_shipped_file_is_the_default() {
    let defaults = uncommented(|line| !line.contains("# example"));
    assert!(defaults.lines().count() == SHIPPED.lines().count() && defaults != SHIPPED);
    // The lines of the file say the same; so do the values.
    assert!(parse(&defaults).unwrap() == parse(SHIPPED).unwrap());
}

#[test]
fn the_shipped_file_names_every_setting_there_is() {
    let tables = [
        "[server]\nqqqqqq = 1",
        "[admin]\nqqqqqq = 1",
        "[journal]\nqqqqqq = 1",
        "[journal]\nencryption = { keys = [\"file:journal.key\"], qqqqqq = 1 }",
        "[delivery]\nqqqqqq = 1",
        "[refusals]\nqqqqqq = 1",
        "[operations]\nqqqqqq = 1",
        "[log]\nqqqqqq = 1",
        "[egress]\nqqqqqq = 1",
        "[sources.a]\nqqqqqq = 1",
        "[sources.a]\ndedup = { body = true, qqqqqq = 1 }",
        "[sources.a]\nallow = { from = [\"::1\"], qqqqqq = 1 }",
        "[sources.a]\nsecrets = [\"x\"]\nverify = { scheme = \"hmac\", header = \"x\", qqqqqq = 1 }",
        "[sources.a.ack]\nqqqqqq = 1",
        "[sources.a]\nlifecycle = { start = \"a\", end = \"b\", qqqqqq = 1 }",
        "[retention]\nqqqqqq = 1",
        "[sources.a.retention]\nqqqqqq = 1",
        "[endpoints.a]\nurl = \"http://a\"\nqqqqqq = 1",
        "[endpoints.a]\nurl = \"http://a\"\nretry = { qqqqqq = 1 }",
        "[endpoints.a]\nurl = \"http://a\"\nconcurrency = { qqqqqq = 1 }",
        "[endpoints.a]\nurl = \"http://a\"\nrate = { limit = \"1/s\", qqqqqq = 1 }",
        "[endpoints.a]\nurl = \"http://a\"\nbreaker = { qqqqqq = 1 }",
        "[endpoints.a]\nurl = \"http://a\"\negress = { qqqqqq = 1 }",
        "[endpoints.a]\nurl = \"https://a\"\ntls = { qqqqqq = 1 }",
        "[endpoints.a]\nurl = \"http://a\"\nproxy = { url = \"http://p\", qqqqqq = 1 }",
        "[endpoints.a]\nurl = \"http://a\"\nauth = { bearer = \"a\", qqqqqq = 1 }",
        "[endpoints.a]\nurl = \"http://a\"\n[[routes]]\nendpoints = [\"a\"]\nqqqqqq = 1",
        "qqqqqq = 1",
    ];
    for table in tables {
        let problems = problems(table);
        let (_, known) = problems[0].message.split_once("known here: ").unwrap();
        for name in known.split(", ") {
            let shown = [format!("{name} = "), format!("[{name}]"), format!("[{name}."), format!("{name} is ")];
            assert!(shown.iter().any(|form| SHIPPED.contains(form)), "{name} of {table} is not in gateway.toml");
        }
    }
}

#[test]
fn an_empty_file_is_all_defaults_and_a_warning() {
    let config = parse("").unwrap();
    assert_eq!(config.server.connections_max, 1024);
    assert_eq!(config.server.header_timeout, Duration::from_secs(10));
    assert_eq!(config.server.drain_timeout, Duration::from_secs(20));
    assert_eq!(config.server.accept_queue_max, 4096);
    assert_eq!(config.journal.segment_bytes, 64 << 20);
    assert_eq!(config.journal.ballast_bytes, 64 << 20);
    assert_eq!(config.journal.disk_free_min_bytes, 256 << 20);
    assert_eq!(config.journal.index_cache_bytes, 64 << 20);
    assert_eq!(config.journal.keys, []);
    assert_eq!(config.delivery.in_flight_max, 1024);
    assert_eq!(config.delivery.active_max_per_endpoint, 1000);
    assert_eq!(config.delivery.ordered_max_per_endpoint, 20_000);
    assert_eq!(config.delivery.cache_bytes, 64 << 20);
    assert!(config.retention.is_endless());
    assert_eq!((config.log.format, config.log.level.as_str()), (LogFormat::Json, "info"));
    assert!(matches!(config.warnings.as_slice(), [warning] if warning.key == "sources"));
}

#[test]
fn a_preset_is_overridden_key_by_key_and_without_one_nothing_is_read() {
    let text = "[sources.a]\npreset = \"flyflow\"\nkey = \"/other\"\nack = { status = 200, body = \"ok\" }\n\
                body_max = \"2KiB\"\n[sources.b]\nack = { status = 204 }\nbody_max = 10\n\
                [sources.c]\ndedup = { header = \"X-Event-Id\", window = \"1h\" }\n\
                [sources.d]\npreset = \"flyflow\"\ndedup = \"off\"\n";
    let sources = parse(text).unwrap().sources;
    assert_eq!(sources[0].type_at, [Place::Pointer("/event_type".into())]);
    assert_eq!(sources[0].key_at, [Place::Pointer("/other".into())]);
    assert!(matches!(&sources[0].dedup, DedupRule::Fields { pointers, body: true } if pointers.len() == 3));
    let plain = Ack { status: 200, body: Some("ok".into()), content_type: "text/plain; charset=utf-8".into() };
    assert_eq!(sources[0].ack, plain);
    assert_eq!(sources[0].body_max_bytes, 2048);
    assert_eq!(sources[1].type_at, []);
    assert_eq!(sources[1].dedup, DedupRule::Off);
    assert_eq!(sources[1].ack.body.as_deref(), Some(""));
    assert_eq!(sources[1].body_max_bytes, 10);
    assert_eq!(sources[2].dedup, DedupRule::Header("x-event-id".into()));
    assert_eq!(sources[2].dedup_window, Duration::from_secs(3600));
    assert_eq!(sources[3].dedup, DedupRule::Off);
}

#[test]
fn secrets_come_from_the_environment_and_from_files() {
    let text = "[endpoints.a]\nurl = \"https://a:${PORT}/$${x\"\nsecrets = [\"${CRM_SECRET}\", \"file:secret\"]\n\
                [endpoints.b]\nurl = \"http://b\"\nsigning = \"github\"\nsecrets = [\"file:/etc/b/secret\"]\n\
                headers = { X-Key = \"file:secret\" }\n";
    let endpoints = parse(text).unwrap().endpoints;
    assert_eq!(endpoints[0].url, "https://a:8090/$%7Bx");
    assert!(
        matches!(&endpoints[0].signing, Signing::Standard(secrets) if secrets.len() == 2 && secrets[0] == secrets[1])
    );
    assert!(matches!(&endpoints[1].signing, Signing::Github(secrets) if secrets.len() == 1));
    assert_eq!(endpoints[1].headers[0].name, "x-key");
    assert_eq!(&endpoints[1].headers[0].value[..], SECRET.as_bytes());
}

#[test]
fn a_short_timeout_shortens_the_connect_timeouts_default() {
    let config = parse("[endpoints.a]\nurl = \"http://a\"\ntimeout = \"2s\"\n").unwrap();
    assert_eq!(config.endpoints[0].connect_timeout, Duration::from_secs(2));
}

#[test]
fn what_is_unused_is_a_warning_with_its_line() {
    let text =
        format!("{GOOD}source = \"fly\"\n[sources.other]\nverify = \"off\"\n[endpoints.spare]\nurl = \"http://x\"\n");
    let warnings = parse(&text).unwrap().warnings;
    let found: Vec<_> = warnings.iter().map(|warning| (warning.line, warning.key.as_str())).collect();
    assert_eq!(found, [(Some(8), "sources.other"), (Some(10), "endpoints.spare")]);
}

#[test]
fn each_mistake_in_the_plain_tables_is_named_with_line_and_key() {
    let table: &[(&str, usize, &str, &str)] = &[
        ("sevrer = 1", 1, "sevrer", "did you mean `server`?"),
        ("server = 1", 1, "server", "must be a table, not an integer"),
        ("sources = []", 1, "sources", "must be a table, not an array"),
        ("[server]\nlisen = \"x\"", 2, "server.lisen", "did you mean `listen`?"),
        ("[server]\n\"a b\" = 1", 2, "server.\"a b\"", "known here: listen"),
        ("[server]\nlisten = \"localhost\"", 2, "server.listen", "write an IP and a port"),
        ("[server]\nlisten = 8080", 2, "server.listen", "must be a string, not an integer"),
        ("[server]\nconnections_max = 0", 2, "server.connections_max", "must be 1 to 1000000"),
        ("[server]\nconnections_max = -1", 2, "server.connections_max", "must be 1 to 1000000"),
        ("[server]\nconnections_max = 99999999999999999999", 2, "server.connections_max", "must be 1 to"),
        ("[server]\nconnections_max = \"9\"", 2, "server.connections_max", "a whole number, not a string"),
        ("[server]\nconnections_max = 1.5", 2, "server.connections_max", "a whole number, not a float"),
        ("[server]\nheader_timeout = \"soon\"", 2, "server.header_timeout", "not a duration"),
        ("[server]\nheader_timeout = 30", 2, "server.header_timeout", "must be a string, not an integer"),
        ("[server]\ndrain_timeout = \"0s\"", 2, "server.drain_timeout", "from 1ms"),
        ("[server]\naccept_queue_max = 0", 2, "server.accept_queue_max", "must be 1 to"),
        ("[admin]\nlisten = \"0.0.0.0:8081\"", 2, "admin.listen", "allow_plain_remote = true"),
        ("[admin]\nlisten = \"127.0.0.1:8080\"", 2, "admin.listen", "server.listen too"),
        ("[admin]\nallow_plain_remote = \"yes\"", 2, "admin.allow_plain_remote", "true or false, not a string"),
        ("[admin]\ntoken_file = \"\"", 2, "admin.token_file", "must be a path"),
        ("[journal]\nsegment_mib = 0", 2, "journal.segment_mib", "must be 1 to 1024"),
        ("[journal]\ndir = \"${NOT_SET}\"", 2, "journal.dir", "variable NOT_SET is not set"),
        ("[journal]\ndir = \"${\"", 2, "journal.dir", "write `$${`"),
        ("[journal]\ndir = \"${9x}\"", 2, "journal.dir", "write `$${`"),
        ("[delivery]\ncache_mib = 0", 2, "delivery.cache_mib", "must be 1 to"),
        ("[delivery]\nin_flight_max = 0", 2, "delivery.in_flight_max", "must be 1 to"),
        (
            "[delivery]\nordered_max_per_endpoint = 99",
            2,
            "delivery.ordered_max_per_endpoint",
            "must be 100 to 10000000",
        ),
        ("[delivery]\nordered_max_per_endpoint = 10000001", 2, "delivery.ordered_max_per_endpoint", "must be 100 to"),
        ("[delivery]\nordered_max = 100", 2, "delivery.ordered_max", "unknown key"),
        ("[log]\nformat = \"xml\"", 2, "log.format", "\"json\" or \"text\""),
        ("[log]\nlevel = \"loud\"", 2, "log.level", "off, error, warn"),
        ("[log]\nlevel = \"info\"\nlevel = \"info\"", 3, "level", "a second time"),
        ("[sources.a]\n[sources.a]", 2, "a", "a second time"),
        ("[server\nlisten = 1", 1, "", "not TOML"),
    ];
    for (text, line, key, piece) in table {
        assert_problem(text, *line, key, piece);
    }
    assert!(parse("[admin]\nlisten = \"0.0.0.0:8081\"\nallow_plain_remote = true").is_ok());
    assert!(parse("[admin]\nlisten = \"127.0.0.1:0\"\n[server]\nlisten = \"127.0.0.1:0\"").is_ok());
}

#[test]
fn each_mistake_in_a_source_is_named_with_line_and_key() {
    let table: &[(&str, &str, &str)] = &[
        ("preset = \"strip\"", "preset", "there are \"flyflow\""),
        ("type = \"event_type\"", "type", "starts with \"/\""),
        ("key = \"/a~2\"", "key", "\"~0\""),
        ("strict = 1", "strict", "true or false"),
        ("dedup = \"on\"", "dedup", "must be \"off\""),
        ("dedup = 1", "dedup", "must be a table"),
        ("dedup = {}", "dedup", "must be \"off\""),
        ("dedup = { header = \"a\", body = true }", "dedup", "must be \"off\""),
        ("dedup = { fields = [] }", "dedup", "nothing would tell duplicates"),
        ("dedup = { header = \"a b\" }", "dedup.header", "not a header name"),
        ("dedup = { fields = [\"/a\", \"b\"] }", "dedup.fields[1]", "starts with \"/\""),
        ("dedup = { body = true, window = \"0s\" }", "dedup.window", "from 1ms"),
        ("dedup = { body = true, windw = \"1s\" }", "dedup.windw", "did you mean `window`?"),
        ("body_max = \"1MB\"", "body_max", "\"25MiB\""),
        ("body_max = 0", "body_max", "must be 1 to 67108864"),
        ("body_max = \"65MiB\"", "body_max", "to 64MiB"),
        ("body_max = \"17MiB\"", "body_max", "raise journal.segment_mib to 68"),
        ("body_timeout = \"\"", "body_timeout", "not a duration"),
        ("ack = { status = 302 }", "ack.status", "must be 200 to 299"),
        ("ack = { status = 204, body = \"x\" }", "ack.body", "has no body"),
        ("ack = { content_type = \"a\\nb\" }", "ack.content_type", "single line"),
        ("lifecycle = true", "lifecycle", "must be a table"),
        ("lifecycle = { start = \"a\" }", "lifecycle.end", "is missing"),
        ("lifecycle = { end = \"a\" }", "lifecycle.start", "is missing"),
        ("lifecycle = { start = \"a\", end = \"a\" }", "lifecycle.end", "never end"),
        ("lifecycle = { start = \"*a\", end = \"b\" }", "lifecycle.start", "only stand at the end"),
        ("lifecycle = { start = \"a\", end = \"b\", timeout = \"0s\" }", "lifecycle.timeout", "from 1ms"),
        ("lifecycle = { start = \"a\", end = \"b\", timeot = \"1s\" }", "lifecycle.timeot", "mean `timeout`?"),
        ("endpoint = \"crm\"", "endpoint", "unknown key"),
    ];
    for (setting, key, piece) in table {
        assert_problem(&format!("{GOOD}[sources.x]\n{setting}\n"), AFTER + 1, &format!("sources.x.{key}"), piece);
    }
    assert_problem("[sources.backstop]\n", 1, "sources.backstop", "backstop's own");
    assert_problem("[sources.Fly]\n", 1, "sources.Fly", "a name has 1 to 64 characters");
    assert_problem("[sources]\nfly = 1\n", 2, "sources.fly", "must be a table");
    assert_problem("[journal]\nsegment_mib = 1\n[sources.a]\n", 3, "sources.a.body_max", "segment_mib to 4");
}

#[test]
fn each_mistake_in_an_endpoint_is_named_with_line_and_key() {
    let table: &[(&str, &str, &str)] = &[
        ("signing = \"hmac\"", "signing", "\"standard\", \"github\""),
        ("signing = \"standard\"", "signing", "needs a secret"),
        ("signing = \"off\"\nsecrets = [\"${CRM_SECRET}\"]", "secrets", "remove one of the two"),
        ("secrets = \"x\"", "secrets", "must be an array, not a string"),
        ("secrets = [\"${CRM_SECRET}\", \"${NOT_SET}\"]", "secrets[1]", "variable NOT_SET is not set"),
        ("secrets = [\"file:nowhere\"]", "secrets[0]", "cannot be read"),
        ("secrets = [\"%%\"]", "secrets[0]", "base64"),
        ("secrets = [\"\"]", "secrets[0]", "is empty"),
        ("secrets = [7]", "secrets[0]", "must be a string"),
        ("timeout = \"0s\"", "timeout", "from 1ms"),
        ("connect_timeout = \"16s\"", "connect_timeout", "longer than timeout"),
        ("headers = { Host = \"a\" }", "headers.Host", "set by the gateway"),
        ("headers = { webhook-id = \"a\" }", "headers.webhook-id", "set by the gateway"),
        ("headers = { Transfer-Encoding = \"a\" }", "headers.Transfer-Encoding", "set by the gateway"),
        ("headers = { \"a b\" = \"a\" }", "headers.\"a b\"", "not a header name"),
        ("headers = { a = \"x\\ny\" }", "headers.a", "single line"),
        ("headers = { a = \"1\", A = \"2\" }", "headers.A", "a second time"),
        ("permanent = [200]", "permanent[0]", "must be 300 to 599"),
        ("permanent = [\"403-401\"]", "permanent[0]", "a range like"),
        ("permanent = [true]", "permanent[0]", "not a boolean"),
        ("retry = { factor = 0.5 }", "retry.factor", "must be 1.0 to 100.0"),
        ("retry = { factor = nan }", "retry.factor", "must be 1.0 to 100.0"),
        ("retry = { factor = \"2\" }", "retry.factor", "must be a number"),
        ("retry = { attempts_max = 0 }", "retry.attempts_max", "must be 1 to"),
        ("retry = { initial = \"2h\" }", "retry.initial", "longer than interval_max"),
        ("retry = { atempts_max = 3 }", "retry.atempts_max", "did you mean `attempts_max`?"),
        ("retrys = 1", "retrys", "did you mean"),
    ];
    assert_endpoint_problems(table);
    let urls = [
        ("crm", "absolute URL"),
        ("ftp://crm", "only http and https"),
        ("http://", "absolute URL"),
        ("http://user@crm", "put credentials into `headers`"),
        ("http://:pass@crm", "put credentials into `headers`"),
        ("http://crm/#x", "fragment"),
    ];
    for (url, piece) in urls {
        assert_problem(&format!("[endpoints.x]\nurl = \"{url}\"\n"), 2, "endpoints.x.url", piece);
    }
    assert_problem("[endpoints.x]\n", 1, "endpoints.x.url", "is missing");
    assert_problem("[endpoints.\"a/b\"]\n", 1, "endpoints.\"a/b\"", "a name has");
    assert!(parse("[endpoints.x]\nurl = \"http://x\"\nretry = { factor = 3 }").is_ok());
}

/// Asserts what is wrong with an endpoint's last setting, for each (settings, key, piece of the message).
fn assert_endpoint_problems(table: &[(&str, &str, &str)]) {
    for (setting, key, piece) in table {
        let line = AFTER + 1 + setting.matches('\n').count();
        // Its url stands last, so that the setting's line is known.
        let text = format!("{GOOD}[endpoints.x]\n{setting}\nurl = \"http://x\"\n");
        assert_problem(&text, line, &format!("endpoints.x.{key}"), piece);
    }
}

#[test]
fn each_mistake_in_a_route_is_named_with_line_and_key() {
    let table: &[(&str, &str, &str)] = &[
        ("source = \"flx\"\nendpoints = [\"crm\"]", "source", "did you mean `fly`?"),
        ("types = []\nendpoints = [\"crm\"]", "types", "is empty"),
        ("types = [\"a*b\"]\nendpoints = [\"crm\"]", "types[0]", "only stand at the end"),
        ("types = [\"\"]\nendpoints = [\"crm\"]", "types[0]", "is empty"),
        ("endpoints = []", "endpoints", "name at least one"),
        ("endpoints = \"crm\"", "endpoints", "must be an array"),
        ("endpoints = [\"crn\"]", "endpoints[0]", "did you mean `crm`?"),
        ("endpoints = [\"warehouse\"]", "endpoints[0]", "write a table [endpoints.<name>]"),
        ("endpoints = [\"crm\", \"crm\"]", "endpoints[1]", "named twice"),
        ("endpoint = [\"crm\"]\nendpoints = [\"crm\"]", "endpoint", "did you mean `endpoints`?"),
    ];
    for (setting, key, piece) in table {
        assert_problem(&format!("{GOOD}[[routes]]\n{setting}\n"), AFTER + 1, &format!("routes[1].{key}"), piece);
    }
    assert_problem(&format!("{GOOD}[[routes]]\n"), AFTER, "routes[1].endpoints", "is missing");
    assert!(parse(&format!("{GOOD}[[routes]]\nsource = \"backstop\"\nendpoints = [\"crm\"]\n")).is_ok());
    assert_problem("routes = 1", 1, "routes", "must be an array");
    assert_problem("routes = [1]", 1, "routes[0]", "must be a table");
}

#[test]
fn one_event_cannot_go_to_more_endpoints_than_the_journal_holds() {
    let endpoints = |count: usize| -> String {
        (0..count).map(|index| format!("[endpoints.e{index}]\nurl = \"http://e\"\n")).collect()
    };
    let route = |types: &str, range: std::ops::Range<usize>| {
        let names: Vec<String> = range.map(|index| format!("\"e{index}\"")).collect();
        format!("[[routes]]\ntypes = [\"{types}\"]\nendpoints = [{}]\n", names.join(", "))
    };
    let both =
        |first, second| format!("[sources.a]\n{}{}{}", endpoints(300), route(first, 0..200), route(second, 200..300));
    assert!(parse(&both("call_*", "tool_*")).is_ok());
    assert!(parse(&both("call", "call_")).is_ok());
    for (first, second) in [("call_*", "call_end*"), ("call_*", "call_ended"), ("*", "tool"), ("x", "x")] {
        let problems = problems(&both(first, second));
        assert_eq!(problems.len(), 1);
        assert_eq!(problems[0].key, "routes");
        assert!(problems[0].message.contains("to 300 endpoints; at most 256"), "{}", problems[0]);
    }
}

#[test]
fn all_mistakes_are_reported_at_once_in_the_files_order() {
    let text = "\
[server]
listen = \"here\"
colour = \"red\"
[sources.Bad]
[sources.fly]
type = \"t\"
dedup = { fields = [\"x\", \"y\"], window = \"never\" }
[endpoints.crm]
url = \"crm\"
secrets = [\"${ONE}${TWO}\", \"file:gone\"]
headers = { host = \"a\", te = \"\\u0001\" }
[[routes]]
source = \"nobody\"
endpoints = [\"crm\", \"nowhere\"]
[typo]
";
    let errors = parse(text).unwrap_err();
    let found: Vec<_> = errors.problems.iter().map(|problem| (problem.line.unwrap(), problem.key.as_str())).collect();
    let expected = [
        (2, "server.listen"),
        (3, "server.colour"),
        (4, "sources.Bad"),
        (6, "sources.fly.type"),
        (7, "sources.fly.dedup.window"),
        (7, "sources.fly.dedup.fields[0]"),
        (7, "sources.fly.dedup.fields[1]"),
        (9, "endpoints.crm.url"),
        (10, "endpoints.crm.secrets[0]"),
        (10, "endpoints.crm.secrets[0]"),
        (10, "endpoints.crm.secrets[1]"),
        (11, "endpoints.crm.headers.host"),
        (11, "endpoints.crm.headers.te"),
        (11, "endpoints.crm.headers.te"),
        (13, "routes[0].source"),
        (14, "routes[0].endpoints[1]"),
        (15, "typo"),
    ];
    assert_eq!(found, expected);
    let shown = errors.to_string();
    let lines: Vec<&str> = shown.lines().collect();
    assert!(lines[0].starts_with("/etc/b/gateway.toml:2: server.listen: not an address; write"), "{shown}");
    assert_eq!(lines.len(), expected.len() + 1);
    assert_eq!(lines[lines.len() - 1], "17 problems in /etc/b/gateway.toml");
}

#[test]
fn a_file_that_is_not_toml_names_every_broken_line() {
    let problems = problems("[server]\nlisten = \nx = 1\ny = = 2\n");
    let lines: Vec<_> = problems.iter().filter_map(|problem| problem.line).collect();
    assert!(lines.contains(&2) && lines.contains(&4), "{problems:?}");
}

#[test]
fn no_secret_is_ever_shown() {
    let planted = [SECRET, "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "planted"];
    let hide = |shown: String| {
        for secret in planted {
            assert!(!shown.contains(secret), "{secret} in {shown}");
        }
    };
    let good = format!(
        "[endpoints.a]\nurl = \"http://a/planted?planted\"\nsecrets = [\"{SECRET}\", \"${{CRM_SECRET}}\"]\n\
         headers = {{ authorization = \"Bearer ${{CRM_TOKEN}}\" }}\n"
    );
    let config = parse(&good).unwrap();
    hide(format!("{config:?} {config:#?}"));

    // Every key there is, with a secret where none belongs, in each way to write one.
    let keys = SHIPPED.lines().filter_map(|line| {
        let line = line.strip_prefix("# ").unwrap_or(line);
        is_setting(line).then(|| line.split(" = ").next().unwrap_or_default())
    });
    let keys: Vec<&str> = keys.chain(["secret", "ack.body", "dedup.header", "headers.\"a b\"", "headers.x"]).collect();
    for table in ["server", "admin", "journal", "delivery", "log", "sources.a", "endpoints.a", "sources", "endpoints"] {
        for key in &keys {
            for value in [
                "\"${CRM_SECRET}\"".to_owned(),
                "[\"${CRM_TOKEN}\", \"${NOISE}\", \"file:bad\"]".to_owned(),
                "\"file:${NOISE}\"".to_owned(),
                format!("\"{SECRET}"),
                SECRET.to_owned(),
                "\"http://planted:planted@x/#planted\"".to_owned(),
                "{ planted = = 1, x = \"${NOISE}\" }".replace("planted = = 1", "initial = \"planted\""),
            ] {
                match parse(&format!("[{table}]\n{key} = {value}\n[[routes]]\nendpoints = [{value}]\n")) {
                    Ok(config) => hide(format!("{config:?}")),
                    Err(errors) => hide(format!("{errors} {errors:?}")),
                }
            }
        }
    }
}

#[test]
fn a_file_is_loaded_with_paths_from_its_own_folder() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gateway.toml");
    std::fs::write(folder.path().join("key"), format!("{SECRET}\r\n")).unwrap();
    std::fs::write(&path, "[journal]\ndir = \"j\"\n[endpoints.a]\nurl = \"http://a\"\nsecrets = [\"file:key\"]\n")
        .unwrap();
    let config = Config::load(&path).unwrap();
    assert_eq!(config.journal.dir, folder.path().join("j"));
    assert_eq!(config.admin.token_file, folder.path().join("j/admin.token"));

    std::fs::write(&path, b"\xff").unwrap();
    assert!(Config::load(&path).unwrap_err().to_string().contains("not UTF-8"));
    std::fs::write(&path, " ".repeat((1 << 20) + 1)).unwrap();
    assert!(Config::load(&path).unwrap_err().to_string().contains("more than 1048576 bytes"));
    std::fs::remove_file(&path).unwrap();
    let errors = Config::load(&path).unwrap_err();
    assert_eq!(errors.problems[0].line, None);
    assert!(errors.to_string().contains("no such file"));
}

#[test]
fn deep_nesting_is_an_error_and_not_a_stack_overflow() {
    let deep = 300_000;
    assert!(parse(&format!("a = {}", "[".repeat(deep))).is_err());
    assert!(parse(&format!("a = {}", "{a=".repeat(deep))).is_err());
    assert!(parse(&format!("{}a = 1", "a.".repeat(deep))).is_err());
    assert!(parse(&format!("[{}a]", "a.".repeat(deep))).is_err());
}
