//! What the listeners take, as the config says it.

use std::path::Path;
use std::time::Duration;

use backstop::config::TlsFiles;
use backstop::core::rate::Rate;

use crate::{assert_problem, parse};

#[test]
fn limits_have_defaults_that_fit_each_other() {
    let server = parse("").unwrap().server;
    assert_eq!((server.connections_max, server.connections_max_per_address), (1024, 256));
    assert_eq!((server.header_timeout, server.idle_timeout), (Duration::from_secs(10), Duration::from_secs(60)));
    assert_eq!((server.bytes_per_sec_min, server.rate, server.tls), (100, None, None));
    let trusted: Vec<String> = server.trusted_proxies.iter().map(ToString::to_string).collect();
    assert_eq!(trusted, ["127.0.0.0/8", "::1"]);
    for (max, per_address) in [(1, 1), (3, 1), (4000, 1000)] {
        let server = parse(&format!("[server]\nconnections_max = {max}")).unwrap().server;
        assert_eq!(server.connections_max_per_address, per_address);
    }
}

#[test]
fn limits_are_what_the_file_says() {
    let text = "[server]\nconnections_max = 9\nconnections_max_per_address = 9\ntrusted_proxies = []\n\
                idle_timeout = \"5s\"\nbytes_per_sec_min = 0\nrate = \"5/s\"\n\
                [sources.fly]\nrate = { limit = \"100/s\", burst = 200 }\n";
    let config = parse(text).unwrap();
    assert_eq!(config.server.connections_max_per_address, 9);
    assert_eq!(config.server.trusted_proxies, []);
    assert_eq!((config.server.idle_timeout, config.server.bytes_per_sec_min), (Duration::from_secs(5), 0));
    let per = Duration::from_secs(1);
    assert_eq!(config.server.rate, Some(Rate { count: 5, per, burst: 5 }));
    assert_eq!(config.sources[0].rate, Some(Rate { count: 100, per, burst: 200 }));
}

#[test]
fn certificates_are_files_beside_the_config() {
    let config =
        parse("[server]\ntls = { cert = \"a.pem\", key = \"/k/a.key\" }\n[admin]\ntls.cert = \"b\"\ntls.key = \"c\"");
    let config = config.unwrap();
    let files = |certificates: &str, key: &str| {
        Some(TlsFiles { certificates: Path::new(certificates).into(), key: Path::new(key).into() })
    };
    assert_eq!(config.server.tls, files("/etc/b/a.pem", "/k/a.key"));
    assert_eq!(config.admin.tls, files("/etc/b/b", "/etc/b/c"));
}

#[test]
fn the_admin_api_goes_to_other_machines_by_tls_or_by_word() {
    let remote = "[admin]\nlisten = \"10.0.0.1:8081\"\n";
    assert!(parse(&format!("{remote}tls = {{ cert = \"a\", key = \"b\" }}")).is_ok());
    assert!(parse(&format!("{remote}allow_plain_remote = true")).is_ok());
    assert_problem(remote, 2, "admin.listen", "tls = { cert");
    assert_problem(&format!("{remote}allow_plain_remote = false"), 2, "admin.listen", "allow_plain_remote = true");
    assert_problem("[admin]\nallow_remote = false", 2, "admin.allow_remote", "allow_plain_remote");
}

#[test]
fn names_of_the_admin_listener_are_hosts_without_ports() {
    let config = parse("[admin]\nhosts = [\"Ops.Example.com\", \"10.0.0.9\", \"fd00::9\"]").unwrap();
    assert_eq!(config.admin.hosts, ["ops.example.com", "10.0.0.9", "fd00::9"]);
    for bad in ["", "ops.example.com:8081", "https://ops", "a b", "[::1]", "é"] {
        assert_problem(&format!("[admin]\nhosts = [\"{bad}\"]"), 2, "admin.hosts[0]", "without a port");
    }
}

#[test]
fn what_a_listener_cannot_do_is_refused() {
    for (text, key, piece) in [
        ("[server]\ntls = true", "server.tls", "a table like { cert"),
        ("[server]\ntls = { cert = \"a\" }", "server.tls.key", "is missing"),
        ("[server]\ntls = { key = \"a\" }", "server.tls.cert", "is missing"),
        ("[server]\ntls = { cert = \"a\", key = \"\" }", "server.tls.key", "must be a path"),
        ("[server]\ntls = { cert = \"a\", key = \"b\", ca = \"c\" }", "server.tls.ca", "unknown key"),
        ("[admin]\ntls = { cert = \"a\" }", "admin.tls.key", "is missing"),
        ("[server]\nconnections_max_per_address = 2000", "server.connections_max_per_address", "limits nothing"),
        ("[server]\nconnections_max_per_address = 0", "server.connections_max_per_address", "1 to 1000000"),
        ("[server]\ntrusted_proxies = [\"10.0.0.1/8\"]", "server.trusted_proxies[0]", "the network is 10.0.0.0/8"),
        ("[server]\ntrusted_proxies = \"10.0.0.0/8\"", "server.trusted_proxies", "an array"),
        ("[server]\nrate = \"0/s\"", "server.rate", "at least 1"),
        ("[sources.x]\nrate = { burst = 1 }", "sources.x.rate.limit", "is missing"),
    ] {
        assert_problem(text, 2, key, piece);
    }
}
