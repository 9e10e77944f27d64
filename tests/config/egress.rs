//! Which addresses may be connected to, as the config says it.

use backstop::core::egress::{Policy, Reach};
use backstop::core::network::Network;

use crate::{GOOD, SHIPPED, assert_problem, parse};

/// The policy of the one endpoint, which has `own` in its table, where the gateway's table begins with `gateway`.
fn policy(gateway: &str, own: &str) -> Policy {
    let text = format!("{gateway}\n[endpoints.crm]\nurl = \"http://crm\"\n{own}\n");
    let config = parse(&text).unwrap_or_else(|errors| panic!("{text}{errors}"));
    let [crm] = config.endpoints.as_slice() else { panic!("{config:?}") };
    crm.dial.egress.clone()
}

fn networks(texts: &[&str]) -> Vec<Network> {
    texts.iter().map(|text| text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))).collect()
}

#[test]
fn without_a_word_everything_that_can_be_meant_is_reached() {
    assert_eq!(policy("", ""), Policy::default());
    assert_eq!(parse(SHIPPED).unwrap().egress, Policy::default());
    assert_eq!(Policy::default().reach, Reach::Private);
}

#[test]
fn a_policy_is_a_word_or_a_table() {
    assert_eq!(policy("egress = \"public\"", "").reach, Reach::Public);
    assert_eq!(policy("[egress]\nreach = \"public\"", "").reach, Reach::Public);
    let listed = policy(
        "",
        "egress = { reach = \"listed\", allow = [\"10.0.0.0/8\", \"::1\", \"admin\"], deny = [\"10.9.0.0/16\"] }",
    );
    let (allow, deny) = (networks(&["10.0.0.0/8", "::1"]), networks(&["10.9.0.0/16"]));
    assert_eq!(listed, Policy { reach: Reach::Listed, allow, deny, admin: true });
}

#[test]
fn an_endpoints_own_stands_in_place_of_the_gateways_but_what_is_denied_stays_denied() {
    let gateway = "egress = { reach = \"public\", allow = [\"10.0.0.1\"], deny = [\"10.9.0.0/16\"] }";
    assert_eq!(policy(gateway, "").allow, networks(&["10.0.0.1"]));
    let own = policy(gateway, "egress = { allow = [\"10.0.0.2\"], deny = [\"10.8.0.0/16\", \"10.9.0.0/16\"] }");
    assert_eq!((own.reach, own.allow), (Reach::Private, networks(&["10.0.0.2"])));
    assert_eq!(own.deny, networks(&["10.8.0.0/16", "10.9.0.0/16"]));
    assert_eq!(policy(gateway, "egress = \"private\"").deny, networks(&["10.9.0.0/16"]));
}

#[test]
fn each_mistake_is_named_with_line_and_key() {
    let cases = [
        ("egress = \"open\"", "egress", "must be \"private\""),
        ("egress = 7", "egress", "a text like \"public\" or a table"),
        ("egress = { reach = \"none\" }", "egress.reach", "\"listed\""),
        ("egress = { allow = \"10.0.0.1\" }", "egress.allow", "must be an array"),
        ("egress = { allow = [\"10.0.0.1/8\"] }", "egress.allow[0]", "the network is 10.0.0.0/8"),
        ("egress = { allow = [\"crm.example.com\"] }", "egress.allow[0]", "not a network"),
        ("egress = { deny = [\"admin\"] }", "egress.deny[0]", "not a network"),
        ("egress = { deny = [\"10.0.0.0/33\"] }", "egress.deny[0]", "at most /32"),
        ("egress = { reach = \"listed\" }", "egress.allow", "nothing could be reached"),
        ("egress = { allows = [] }", "egress.allows", "did you mean `allow`?"),
    ];
    for (setting, key, piece) in cases {
        assert_problem(&format!("{setting}\n{GOOD}"), 1, key, piece);
        let own = format!("[endpoints.crm]\nurl = \"http://crm\"\n{setting}\n[[routes]]\nendpoints = [\"crm\"]\n");
        assert_problem(&own, 3, &format!("endpoints.crm.{key}"), piece);
    }
}

#[test]
fn an_address_that_is_refused_is_named_before_anything_starts() {
    let cases = [
        ("", "http://169.254.169.254/latest", "a cloud's metadata address"),
        ("", "http://0xa9fea9fe/", "a cloud's metadata address"),
        ("", "http://[64:ff9b::169.254.169.254]/", "a cloud's metadata address"),
        ("", "http://0/", "an unspecified address"),
        ("", "http://[fe80::1]/", "a link-local address"),
        ("", "http://224.0.0.1/", "a multicast or broadcast address"),
        ("", "http://127.0.0.1:8081/", "own admin listener"),
        ("", "http://[::ffff:127.0.0.1]:8081/", "own admin listener"),
        ("admin = { listen = \"127.0.0.1:443\" }", "https://127.1/", "own admin listener"),
        (
            "admin = { listen = \"[::]:9000\", allow_plain_remote = true }",
            "http://127.0.0.9:9000/",
            "own admin listener",
        ),
        ("egress = \"public\"", "http://127.0.0.1/", "a loopback address, and egress is \"public\""),
        ("egress = \"public\"", "http://[::ffff:10.0.0.1]/", "a private address, and egress is \"public\""),
        ("egress = { deny = [\"10.0.0.0/8\"] }", "http://10.1/", "10.0.0.0/8, which egress denies"),
        ("egress = { reach = \"listed\", allow = [\"10.0.0.1\"] }", "http://8.8.8.8/", "not in egress's list"),
    ];
    for (gateway, url, piece) in cases {
        let text = format!("{gateway}\n[endpoints.crm]\nurl = \"{url}\"\n[[routes]]\nendpoints = [\"crm\"]\n");
        assert_problem(&text, 3, "endpoints.crm.url", piece);
    }
    for (gateway, url) in [
        ("", "http://127.0.0.1:8082/"),
        ("", "http://metadata.google.internal/"),
        ("egress = { allow = [\"admin\"] }", "http://127.0.0.1:8081/"),
        ("egress = { allow = [\"169.254.169.254\"] }", "http://169.254.169.254/"),
        ("egress = { reach = \"public\", allow = [\"127.0.0.0/8\"] }", "http://127.1/"),
    ] {
        let text = format!("{gateway}\n[endpoints.crm]\nurl = \"{url}\"\n");
        assert!(parse(&text).is_ok(), "{text}");
    }
}
