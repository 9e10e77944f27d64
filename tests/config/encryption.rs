//! `[journal.encryption]`: keys from files, credentials and the environment, and what is said of those that are none.

use backstop::config::Config;
use backstop::core::sealing::KeyId;

use crate::{GOOD, assert_problem, parse};

const HEX: &str = "202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f";

fn ids(config: &Config) -> Vec<KeyId> {
    config.journal.keys.iter().map(backstop::core::sealing::SealingKey::id).collect()
}

#[test]
fn keys_come_in_their_order_from_wherever_secrets_come_from() {
    let text = format!("{GOOD}[journal.encryption]\nkeys = [\"{HEX}\", \"file:journal.key\"]\n");
    let config = parse(&text).unwrap();
    assert_eq!(ids(&config).iter().map(ToString::to_string).collect::<Vec<_>>(), ["72dbb733", "630dcd29"]);
    let inline = format!("{GOOD}[journal]\nencryption = {{ keys = [\"file:/etc/b/journal.key\"] }}\n");
    assert_eq!(ids(&parse(&inline).unwrap()), ids(&config)[1..]);
    // Neither what holds nor what is printed of it shows a key.
    let said = format!("{:?}\n{}", config, config.effective());
    assert!(said.contains("encryption = { keys = [\"***\", \"***\"] }"), "{said}");
    assert!(!said.contains(HEX) && !said.contains(crate::JOURNAL_KEY));
}

#[test]
fn what_is_no_key_is_named_with_its_place_and_not_shown() {
    for (keys, key, piece) in [
        ("[]", "journal.encryption.keys", "lists no key"),
        ("[\"\"]", "journal.encryption.keys[0]", "the key is empty"),
        ("[\"planted words\"]", "journal.encryption.keys[0]", "openssl rand -base64 32"),
        ("[\"file:/etc/b/bad\"]", "journal.encryption.keys[0]", "32 bytes in base64 or hex"),
        ("[\"file:journal.key\", \"00010203\"]", "journal.encryption.keys[1]", "this one 4"),
        ("[\"file:journal.key\", \"file:/etc/b/journal.key\"]", "journal.encryption.keys[1]", "a second time"),
        ("[\"file:gone\"]", "journal.encryption.keys[0]", "cannot be read"),
        ("[7]", "journal.encryption.keys[0]", "must be a string"),
        ("\"file:journal.key\"", "journal.encryption.keys", "must be an array"),
    ] {
        let text = format!("{GOOD}[journal.encryption]\nkeys = {keys}\n");
        assert_problem(&text, 8, key, piece);
        let told = parse(&text).map(drop).unwrap_err().to_string();
        assert!(!told.contains("planted"), "{told}");
    }
    assert_problem(&format!("{GOOD}[journal.encryption]\n"), 7, "journal.encryption.keys", "lists no key");
    assert_problem(&format!("{GOOD}[journal]\nencryption = true\n"), 8, "journal.encryption", "must be a table");
}
