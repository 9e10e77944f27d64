//! Who may send: presets, recipes, secrets, tokens, networks; what means nothing is refused.

use std::io;
use std::path::Path;
use std::time::Duration;

use backstop::config::Config;
use backstop::core::source::{DedupRule, Place, Source};
use backstop::core::verify::credential::Credential;
use backstop::core::verify::handshake::Handshake;
use backstop::core::verify::hmac::{Layout, TimePlace, Unit};
use backstop::core::verify::{OnFail, Scheme};

use crate::{AFTER, GOOD, assert_problem, parse, problems};

fn source(settings: &str) -> Source {
    let text = format!("[sources.a]\n{settings}\n");
    parse(&text).unwrap_or_else(|errors| panic!("{text}{errors}")).sources.remove(0)
}

#[test]
fn each_preset_knows_how_its_sender_is_verified_and_read() {
    let pointer = |text: &str| Place::Pointer(text.into());
    let header = |text: &str| Place::Header(text.into());
    let cases: [(&str, &str, &str, Place, u16); 12] = [
        ("standard", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "", pointer("/type"), 202),
        ("svix", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "", pointer("/type"), 202),
        ("stripe", "whsec_x", "", pointer("/type"), 202),
        ("github", "x", "", header("x-github-event"), 202),
        ("slack", "x", "", pointer("/event/type"), 200),
        ("shopify", "x", "", header("x-shopify-topic"), 200),
        ("twilio", "x", "public_url = \"https://a.example/\"", Place::Form("MessageStatus".into()), 204),
        ("retell", "x", "", pointer("/event"), 202),
        ("vapi", "x", "", pointer("/message/type"), 200),
        ("zoom", "x", "", pointer("/event"), 200),
        ("meta", "x", "verify_token = \"agreed\"", pointer("/object"), 200),
        ("microsoft", "x", "", pointer("/value/0/lifecycleEvent"), 202),
    ];
    for (preset, secret, more, first_type, status) in cases {
        let source = source(&format!("preset = \"{preset}\"\nsecrets = [\"{secret}\"]\n{more}"));
        assert!(!source.verification.is_open(), "{preset}");
        assert_eq!((source.type_at.first(), source.ack.status), (Some(&first_type), status), "{preset}");
        assert!(source.ack.body.as_deref() == (status == 204).then_some(""), "{preset}");
        // Without a secret, or without saying that none is wanted, it is a mistake.
        let text = format!("[sources.a]\npreset = \"{preset}\"\n{more}\n");
        let problem = problems(&text).remove(0);
        assert_eq!(problem.key, "sources.a.secrets", "{preset}: {problem}");
        if more.is_empty() || preset == "meta" {
            let open = format!("{text}verify = \"off\"\n");
            assert!(parse(&open).unwrap().sources[0].verification.is_open(), "{preset}");
        }
    }
}

#[test]
fn what_a_preset_knows_is_what_its_provider_does() {
    let preset = |name: &str, more: &str| source(&format!("preset = \"{name}\"\nsecrets = [\"x\"]\n{more}"));
    assert_eq!(preset("github", "").body_max_bytes, 16 << 20, "a quarter of a segment, for that is less than 25 MiB");
    let large = parse("[journal]\nsegment_mib = 100\n[sources.a]\npreset = \"github\"\nsecrets = [\"x\"]\n").unwrap();
    assert_eq!(large.sources[0].body_max_bytes, 25 << 20);
    assert_eq!(preset("github", "").dedup, DedupRule::Header("x-github-delivery".into()));
    assert_eq!(preset("stripe", "").dedup, DedupRule::Fields { pointers: vec!["/id".into()], body: false });
    assert_eq!(preset("microsoft", "").dedup, DedupRule::Off);
    assert_eq!(preset("slack", "").verification.handshake, Some(Handshake::Slack));
    assert_eq!(preset("zoom", "").verification.handshake, Some(Handshake::Zoom));
    assert_eq!(preset("microsoft", "").verification.handshake, Some(Handshake::Microsoft));
    assert!(matches!(preset("meta", "verify_token = \"t\"").verification.handshake, Some(Handshake::Meta(_))));
    assert_eq!(preset("github", "").verification.handshake, None);
    let vapi = Scheme::Credential(Credential::Header("x-vapi-secret".into()));
    assert_eq!(preset("vapi", "").verification.scheme, vapi);
    assert_eq!(preset("vapi", "verify = \"bearer\"").verification.scheme, Scheme::Credential(Credential::Bearer));
    let retell = preset("retell", "tolerance = \"10m\"").verification;
    assert_eq!(retell.tolerance, Duration::from_secs(600));
    assert!(matches!(&retell.scheme, Scheme::Hmac(recipe) if recipe.time.as_ref().unwrap().unit == Unit::Millis));
}

#[test]
fn a_recipe_says_all_that_a_sender_may_do_differently() {
    let plain = source("secrets = [\"x\"]\nverify = { scheme = \"hmac\", header = \"X-Sig\" }").verification;
    let Scheme::Hmac(recipe) = plain.scheme else { panic!() };
    assert_eq!(recipe.header, "x-sig");
    assert_eq!(recipe.layout, Layout::Plain { prefix: String::new(), separator: None });
    assert!(recipe.time.is_none() && recipe.id.is_none());
    let full = "secrets = [\"00ff\"]\npublic_url = \"https://a.example/hooks/\"\nverify = { scheme = \"hmac\", header = \"x-sig\", pair = \"v1\", \
                separator = \";\", template = \"{id}.{timestamp}.{url}.{body}\", hash = \"sha512\", encoding = \"base64url\", \
                timestamp = \"pair:t\", unit = \"ms\", id = \"x-id\", secret_encoding = \"hex\" }";
    let full = source(full).verification;
    assert_eq!(full.public_url.as_deref(), Some("https://a.example/hooks"));
    let Scheme::Hmac(recipe) = full.scheme else { panic!() };
    assert_eq!(recipe.layout, Layout::Pairs { separator: ';', signature: "v1".into() });
    let time = recipe.time.unwrap();
    assert_eq!((time.place, time.unit), (TimePlace::Pair("t".into()), Unit::Millis));
    assert_eq!(recipe.id.as_deref(), Some("x-id"));
    let key = source("secrets = [\"x\"]\nverify = { scheme = \"api_key\", header = \"X-Api-Key\" }").verification;
    assert_eq!(key.scheme, Scheme::Credential(Credential::Header("x-api-key".into())));
    let places = source("type = [\"/a\", \"header:X-Event\", \"form:Type\"]\nverify = \"off\"").type_at;
    let expected = [Place::Pointer("/a".into()), Place::Header("x-event".into()), Place::Form("Type".into())];
    assert_eq!(places, expected);
}

/// `tests/config/dial.rs` parses the examples of the shipped file; this asks what they mean.
#[test]
fn the_recipe_of_the_shipped_file_is_right() {
    let example: String = crate::SHIPPED
        .lines()
        .filter_map(|line| line.strip_prefix("#   "))
        .map(|line| line.to_owned() + "\n")
        .collect();
    let config = parse(&example).unwrap_or_else(|errors| panic!("{example}\n{errors}"));
    let [acme] = config.sources.as_slice() else { panic!("{config:?}") };
    let Scheme::Hmac(recipe) = &acme.verification.scheme else { panic!("{acme:?}") };
    assert!(recipe.template.has_time() && recipe.template.has_id() && !recipe.template.has_url());
    assert_eq!(acme.verification.secrets.len(), 1);
}

#[test]
fn secrets_and_tokens_rotate_and_come_from_where_secrets_come_from() {
    let verification = source(
        "preset = \"github\"\nsecrets = [\"file:secret\", \"${CRM_TOKEN}\"]\ntoken = [\"${FLYFLOW_TOKEN}\", \"file:secret\"]\n\
         allow = { from = [\"192.0.2.0/24\", \"::1\"], proxies = [\"10.0.0.0/8\"] }\non_fail = \"quarantine\"",
    )
    .verification;
    assert_eq!((verification.secrets.len(), verification.tokens.len()), (2, 2));
    assert_eq!(verification.on_fail, OnFail::Quarantine);
    let allowed = verification.allowed.as_ref().unwrap();
    assert_eq!((allowed.from.len(), allowed.proxies.len()), (2, 1));
    let shown = format!("{verification:?}");
    for secret in ["planted-token", "flyflow-path-token", "MfKQ"] {
        assert!(!shown.contains(secret), "{shown}");
    }
}

#[test]
fn a_source_that_takes_everybodys_events_is_a_warning_until_it_is_meant() {
    let warned = |settings: &str| {
        let text =
            format!("[sources.a]\n{settings}\n[endpoints.b]\nurl = \"http://b\"\n[[routes]]\nendpoints = [\"b\"]\n");
        let warnings = parse(&text).unwrap().warnings;
        warnings.iter().map(|warning| (warning.line, warning.key.clone(), warning.message.clone())).collect::<Vec<_>>()
    };
    for open in ["", "preset = \"flyflow\"", "type = \"/a\""] {
        let [(line, key, message)] = &warned(open)[..] else { panic!("{open}") };
        assert_eq!((*line, key.as_str()), (Some(1), "sources.a"), "{open}");
        assert!(message.contains("takes events from everybody"), "{message}");
        assert_eq!(message.contains("/in/<source>/<token>"), open.contains("flyflow"), "{message}");
    }
    for closed in [
        "verify = \"off\"",
        "preset = \"flyflow\"\nverify = \"off\"",
        "token = \"0123456789abcdef\"",
        "allow = [\"::1\"]",
        "verify = \"bearer\"\nsecrets = [\"x\"]",
    ] {
        assert_eq!(warned(closed), [], "{closed}");
    }
}

#[test]
fn each_mistake_about_a_sender_is_named_with_line_and_key() {
    let table: &[(&str, &str, &str)] = &[
        ("verify = \"gitub\"", "verify", "must be one of \"off\", \"standard\""),
        ("verify = 1", "verify", "must be a table"),
        ("verify = { scheme = \"md5\" }", "verify.scheme", "\"hmac\" or \"api_key\""),
        ("verify = {}", "verify.scheme", "\"hmac\" or \"api_key\""),
        ("verify = \"github\"", "secrets", "is missing or empty"),
        ("verify = \"github\"\nsecrets = []", "secrets", "is missing or empty"),
        ("preset = \"github\"", "secrets", "or not, with verify = \"off\""),
        ("secrets = [\"x\"]", "secrets", "nothing is verified"),
        ("verify = \"off\"\nsecrets = [\"x\"]", "secrets", "nothing is verified"),
        ("verify = \"github\"\nsecrets = [\"\"]", "secrets[0]", "is empty"),
        ("verify = \"github\"\nsecrets = [\"${NOT_SET}\"]", "secrets[0]", "NOT_SET is not set"),
        ("verify = \"standard\"\nsecrets = [\"x\"]", "secrets[0]", "base64"),
        ("verify = \"standard\"\nsecrets = [\"whsk_AAAA\"]", "secrets[0]", "private key"),
        ("verify = \"basic\"\nsecrets = [\"user\"]", "secrets[0]", "\"user:${PASSWORD}\""),
        ("verify = \"twilio\"\nsecrets = [\"x\"]", "public_url", "is missing"),
        (
            "verify = \"twilio\"\nsecrets = [\"x\"]\npublic_url = \"a.example\"",
            "public_url",
            "https://hooks.example.com",
        ),
        ("verify = \"twilio\"\nsecrets = [\"x\"]\npublic_url = \"https://a/?b\"", "public_url", "before /in/"),
        ("verify = \"github\"\nsecrets = [\"x\"]\npublic_url = \"https://a\"", "public_url", "does not sign the URL"),
        ("verify = \"github\"\nsecrets = [\"x\"]\ntolerance = \"5m\"", "tolerance", "signs no time"),
        ("verify = \"slack\"\nsecrets = [\"x\"]\ntolerance = \"2h\"", "tolerance", "1s to 1h"),
        (
            "verify = \"slack\"\nsecrets = [\"x\"]\ndedup = { body = true, window = \"9m\" }",
            "dedup",
            "twice the tolerance",
        ),
        ("verify = \"bearer\"\nsecrets = [\"x\"]\ndedup = \"message\"", "dedup", "verifies no signature"),
        ("token = \"short\"", "token", "16 to 256"),
        ("token = \"0123456789abcde/\"", "token", "16 to 256"),
        ("token = [\"0123456789abcdef\", \"short\"]", "token[1]", "16 to 256"),
        ("token = []", "token", "lists no token"),
        ("token = 7", "token", "must be an array"),
        ("allow = []", "allow", "lists no network"),
        ("allow = [\"192.0.2.1/24\"]", "allow[0]", "192.0.2.0/24"),
        ("allow = { from = [\"::1\"], proxys = [] }", "allow.proxys", "did you mean `proxies`?"),
        ("allow = { proxies = [\"::1\"] }", "allow.from", "is missing"),
        ("on_fail = \"quarantine\"", "on_fail", "everybody may send"),
        ("token = \"0123456789abcdef\"\non_fail = \"drop\"", "on_fail", "\"reject\" or \"quarantine\""),
        ("verify_token = \"x\"", "verify_token", "of handshake \"meta\""),
        ("handshake = \"x\"", "handshake", "\"slack\", \"zoom\""),
        ("handshake = \"meta\"", "verify_token", "is missing"),
        ("dedup = { message = true, body = true }", "dedup", "must be \"off\""),
        ("preset = \"meta\"\nsecrets = [\"x\"]", "verify_token", "is missing"),
        ("type = \"heder:x\"", "type", "\"header:x-event\""),
        ("type = \"header:a b\"", "type", "not a header name"),
        ("type = [\"/a\", \"form:\"]", "type[1]", "names no field"),
        ("type = []", "type", "lists no place"),
    ];
    assert_mistakes(table);
}

/// Asserts for each of a source's settings that there is one mistake, at its key.
fn assert_mistakes(table: &[(&str, &str, &str)]) {
    for (setting, key, piece) in table {
        // The key stands on the first line that begins with its first word, or where the source does.
        let word = key.split(['.', '[']).next().unwrap_or_default();
        let at = setting.lines().position(|line| line.starts_with(&format!("{word} =")));
        let line = AFTER + at.map_or(0, |at| at + 1);
        assert_problem(&format!("{GOOD}[sources.x]\n{setting}\n"), line, &format!("sources.x.{key}"), piece);
    }
}

#[test]
fn each_mistake_in_a_recipe_is_named_with_line_and_key() {
    let hmac = |rest: &str| format!("secrets = [\"x\"]\nverify = {{ scheme = \"hmac\", header = \"x-s\", {rest} }}");
    let table: &[(&str, &str, &str)] = &[
        (&hmac("template = \"{timestamp}.{body}\""), "verify.timestamp", "is missing"),
        (&hmac("timestamp = \"x-t\""), "verify.timestamp", "is not signed"),
        (&hmac("template = \"{timestamp}.{body}\", timestamp = \"pair:t\""), "verify.timestamp", "set `pair`"),
        (&hmac("template = \"{boddy}\""), "verify.template", "between braces"),
        (&hmac("template = \"{id}{body}\""), "verify.template", "needs a character"),
        (&hmac("id = \"x-id\""), "verify.id", "dedup = { header"),
        (&hmac("template = \"{id}.{body}\""), "verify.id", "is missing"),
        (&hmac("unit = \"ms\""), "verify.unit", "not set"),
        (&hmac("unit = \"h\""), "verify.unit", "\"s\" or \"ms\""),
        (&hmac("hash = \"md5\""), "verify.hash", "\"sha256\""),
        (&hmac("encoding = \"base32\""), "verify.encoding", "\"base64url\""),
        (&hmac("secret_encoding = \"utf8\""), "verify.secret_encoding", "\"text\""),
        (&hmac("separator = \"ab\""), "verify.separator", "one character"),
        (&hmac("pair = \"v1\", prefix = \"x\""), "verify.prefix", "exclude each other"),
        (&hmac("header2 = \"x\""), "verify.header2", "did you mean `header`?"),
        ("secrets = [\"x\"]\nverify = { scheme = \"hmac\" }", "verify.header", "is missing"),
        ("secrets = [\"x\"]\nverify = { scheme = \"api_key\" }", "verify.header", "is missing"),
        (&hmac("secret_encoding = \"hex\"").replace("[\"x\"]", "[\"planted\"]"), "secrets[0]", "not hex"),
    ];
    assert_mistakes(table);
}

/// What the README shows of several providers.
#[test]
fn the_readmes_examples_are_right() {
    let readme = include_str!("../../README.md");
    let (_, section) = readme.split_once("## Several providers").unwrap();
    let (_, example) = section.split_once("```toml").unwrap();
    let (example, _) = example.split_once("```").unwrap();
    let env = |_: &str| Some("a-value-of-some-length".to_owned());
    let config =
        Config::parse(example, Path::new("/etc/b/gateway.toml"), &env, &|_| Err(io::ErrorKind::NotFound.into()));
    let sources = config.unwrap_or_else(|errors| panic!("{errors}")).sources;
    assert_eq!(sources.len(), 5);
    assert!(sources.iter().all(|source| !source.verification.is_open()));
}
