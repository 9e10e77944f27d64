//! What `check --effective` prints: the whole config, which reads back as itself, and no secret of it.

use backstop::config::{Config, REDACTED};

use crate::{SHIPPED, parse};

/// Every kind of setting, none of them secret, none at its default.
const EVERYTHING: &str = r#"
server = { listen = "[::1]:9080", tls = { cert = "s.pem", key = "s.key" }, connections_max = 7, connections_max_per_address = 6, trusted_proxies = ["10.0.0.0/8", "::1"], header_timeout = "1m 1s", idle_timeout = "2m", bytes_per_sec_min = 0, rate = "9/s", drain_timeout = "1ms", accept_queue_max = 8 }
admin = { listen = "0.0.0.0:9081", allow_plain_remote = true, hosts = ["ops.example", "fd00::1"], token_file = "/run/it's \"quoted\".token" }
journal = { dir = "/var/b", segment_mib = 128, ballast_mib = 3, disk_free_min_mib = 5, index_cache_mib = 6 }
delivery = { in_flight_max = 9, active_max_per_endpoint = 10, ordered_max_per_endpoint = 110, cache_mib = 12 }
refusals = { count_max = 0, size_mib = 8 }
operations = { age_max = "30h", size_mib = 17 }
log = { format = "text", level = "trace" }
retention = { payload = "36h", metadata = "90d", bytes_max = "3GiB" }
egress = { reach = "public", allow = ["10.0.0.0/8", "admin"], deny = ["10.9.0.0/16", "fd00::/8"] }
[sources.fly]
preset = "flyflow"
key = "/a~1b/\"c\""
strict = true
body_max = 1000
body_timeout = "2s"
rate = { limit = "100/min", burst = 7 }
ack = { status = 200, body = "ok\n{id}", content_type = "text/plain" }
lifecycle = { start = "call_started", end = "call_*", timeout = "3h" }
retention = { payload = "7d", metadata = "forever" }
[sources.shop]
dedup = { header = "x-event-id", window = "2h" }
body_max = "2MiB"
[sources.all]
dedup = "off"
verify = "off"
handshake = "microsoft"
type = ["header:x-event", "/type", "form:Type"]
allow = ["192.0.2.0/24"]
[sources.behind]
allow = { from = ["192.0.2.0/24", "::1"], proxies = ["10.0.0.1"] }
on_fail = "quarantine"
[endpoints.erp]
url = "https://erp.example.com/hooks"
tls = { ca = "erp-ca.pem", machine_roots = true, identity = "backstop.pem", key = "backstop.key" }
proxy = "http://proxy:3128"
egress = { reach = "listed", allow = ["10.1.2.3", "2606:4700::/32"], deny = ["10.1.2.4"] }
timeout = "7s"
connect_timeout = "300ms"
concurrency = 3
rate = { limit = "90/h", burst = 4 }
breaker = "off"
order = "endpoint"
order_hold_max = "20m"
permanent = [404, "500-502"]
retry = { initial = "2s", factor = 1.5, interval_max = "2h", attempts_max = 200, age_max = "168h", retry_after_max = "10m" }
[endpoints.crm]
url = "http://crm"
rate = "100/min"
breaker = { failures = 6, failure_rate = 0.25, samples_min = 21, window = "61s", probe_initial = "6s", probe_max = "7m" }
order = "key"
[[routes]]
source = "fly"
types = ["call_*", "tool_call"]
endpoints = ["erp", "crm"]
[[routes]]
endpoints = ["crm"]
[[routes]]
source = "backstop"
endpoints = ["erp"]
"#;

/// The config, without the places of its warnings.
fn read(text: &str) -> Config {
    let config = parse(text).unwrap_or_else(|errors| panic!("{text}\n{errors}"));
    Config { warnings: Vec::new(), ..config }
}

#[test]
fn what_is_printed_reads_back_as_the_same_config() {
    for text in [EVERYTHING, SHIPPED, "", "[endpoints.crm]\nurl = \"http://crm\"\nretry = {}\n"] {
        let config = read(text);
        let printed = config.effective();
        assert!(read(&printed) == config, "{text}\nis printed as\n{printed}");
        assert!(!printed.contains(REDACTED), "{printed}");
    }
}

#[test]
fn no_secret_is_printed_and_each_is_seen_to_be_there() {
    let text = r#"
[endpoints.erp]
url = "http://erp/hooks?key=planted&b=planted"
secrets = ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "${CRM_SECRET}"]
headers = { x-team = "planted", x-other = "${CRM_TOKEN}" }
auth = { basic = { user = "planted", password = "planted" } }
proxy = { url = "http://proxy:3128", user = "planted", password = "planted" }
[endpoints.git]
url = "http://git"
signing = "github"
secrets = ["planted"]
[[routes]]
endpoints = ["erp", "git"]
"#;
    let printed = read(text).effective();
    for secret in ["planted", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "cGxhbnRlZDpwbGFudGVk"] {
        assert!(!printed.contains(secret), "{printed}");
    }
    for line in [
        r#"url = "http://erp/hooks?***""#,
        r#"secrets = ["***", "***"]"#,
        r#"headers = { "x-team" = "***", "x-other" = "***", "authorization" = "***" }"#,
        r#"proxy = { url = "http://proxy:3128/", user = "***", password = "***" }"#,
        r#"signing = "github""#,
        r#"secrets = ["***"]"#,
    ] {
        assert!(printed.lines().any(|printed| printed == line), "{line} in\n{printed}");
    }
    // It is TOML: what is refused of it is what was taken out.
    let refused = parse(&printed)
        .map(|config| panic!("{config:?}"))
        .unwrap_or_else(|errors: backstop::config::ConfigErrors| errors);
    assert!(refused.problems.iter().all(|problem| problem.key.contains("secrets")), "{refused}");
}

/// With every scheme there is. What stands for their secrets is a secret, too, so it can be read back.
#[test]
fn how_senders_are_verified_reads_back_as_itself() {
    let by_hand = |rest: &str| format!("verify = {{ scheme = \"hmac\", header = \"x-sig\", {rest} }}");
    let verified = [
        "preset = \"github\"".to_owned(),
        "preset = \"stripe\"\ntolerance = \"61s\"".to_owned(),
        "preset = \"slack\"\non_fail = \"quarantine\"".to_owned(),
        "preset = \"shopify\"".to_owned(),
        "preset = \"twilio\"\npublic_url = \"https://a.example/b\"".to_owned(),
        "preset = \"retell\"".to_owned(),
        "preset = \"vapi\"".to_owned(),
        "preset = \"zoom\"".to_owned(),
        "preset = \"meta\"\nverify_token = \"***\"".to_owned(),
        "preset = \"microsoft\"".to_owned(),
        "verify = \"bearer\"".to_owned(),
        "verify = { scheme = \"api_key\", header = \"x-key\" }".to_owned(),
        by_hand("prefix = \"a=\", separator = \";\", hash = \"sha512\", encoding = \"base64\""),
        by_hand(
            "pair = \"v1\", template = \"{id}.{timestamp}.{body}\", timestamp = \"pair:t\", unit = \"ms\", id = \"x-id\"",
        ) + "\ndedup = { message = true, window = \"3h\" }",
        by_hand("template = \"{url}{body}\", hash = \"sha1\", encoding = \"base64url\"")
            + "\npublic_url = \"https://a.example\"",
    ];
    for source in verified {
        let config = read(&format!("[sources.a]\nsecrets = [\"***\", \"***\"]\n{source}\n"));
        let printed = config.effective();
        assert!(read(&printed) == config, "{source}\nis printed as\n{printed}");
    }
    // Secrets that are no text of one's own, and tokens, are seen to be there.
    let text = "[sources.a]\npreset = \"standard\"\nsecrets = [\"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"]\n\
                token = \"a-planted-token-of-the-path\"\n[sources.b]\nverify = \"basic\"\nsecrets = [\"u:planted\"]\n";
    let printed = read(text).effective();
    assert!(!printed.contains("planted") && !printed.contains("MfKQ"), "{printed}");
    for line in [r#"verify = "standard""#, r#"verify = "basic""#, r#"secrets = ["***"]"#, r#"token = ["***"]"#] {
        assert!(printed.lines().any(|printed| printed == line), "{line} in\n{printed}");
    }
}
