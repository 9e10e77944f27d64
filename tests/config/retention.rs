//! How long events are kept: what each setting means, what a source has from the table for all, and each mistake.

use std::time::Duration;

use backstop::core::name::Name;
use backstop::core::retention::Keep;

use crate::{parse, problems};

const fn days(days: u64) -> Option<Duration> {
    Some(Duration::from_secs(days * 24 * 3600))
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn keep(text: &str, source: &str) -> Keep {
    let config = parse(text).unwrap_or_else(|errors| panic!("{text}\n{errors}"));
    config.retention.of(&name(source))
}

#[test]
fn a_source_has_what_it_leaves_out_from_the_table_for_all() {
    let text = "[retention]\npayload = \"7d\"\nmetadata = \"30d\"\nbytes_max = \"1GiB\"\n\
                [sources.a]\n[sources.b.retention]\npayload = \"12h\"\n\
                [sources.c]\nretention = { payload = \"forever\", metadata = \"forever\" }\n";
    let all = Keep { payload: days(7), metadata: days(30), bytes_max: Some(1 << 30) };
    assert_eq!(keep(text, "a"), all);
    assert_eq!(keep(text, "gone-from-the-config"), all);
    assert_eq!(keep(text, "b"), Keep { payload: Some(Duration::from_secs(12 * 3600)), ..all });
    assert_eq!(keep(text, "c"), Keep { payload: None, metadata: None, ..all });
}

#[test]
fn without_an_end_of_its_own_the_payload_ends_with_the_rest() {
    assert_eq!(keep("[retention]\nmetadata = \"30d\"", "a").payload, days(30));
    assert_eq!(keep("[retention]\npayload = \"7d\"", "a"), Keep { payload: days(7), ..Keep::default() });
    assert_eq!(keep("", "a"), Keep::default());
}

#[test]
fn the_config_says_which_endpoints_there_are() {
    let config = parse("[endpoints.crm]\nurl = \"http://x\"\n").unwrap();
    assert_eq!(config.retention.endpoints, [name("crm")].into());
}

#[test]
fn mistakes_are_named_with_their_place() {
    for (text, key, message) in [
        ("[retention]\npayload = \"30d\"\nmetadata = \"7d\"", "retention.metadata", "is shorter than payload"),
        (
            "[retention]\npayload = \"30d\"\n[sources.a.retention]\nmetadata = \"7d\"",
            "sources.a.retention.metadata",
            "is shorter than payload",
        ),
        (
            "[retention]\npayload = \"forever\"\nmetadata = \"7d\"",
            "retention.metadata",
            "is shorter than payload, which is kept forever",
        ),
        ("[retention]\npayload = \"0d\"", "retention.payload", "must be from 1ms to 3660d"),
        ("[retention]\npayload = \"4000d\"", "retention.payload", "must be from 1ms to 3660d"),
        ("[retention]\npayload = \"a week\"", "retention.payload", "not a time to keep"),
        ("[retention]\npayload = 7", "retention.payload", "must be a string"),
        ("[retention]\nbytes_max = \"1MiB\"", "retention.bytes_max", "is less than two log segments, 128MiB"),
        ("[retention]\nbyte_max = \"1GiB\"", "retention.byte_max", "did you mean `bytes_max`?"),
    ] {
        let found = problems(text);
        assert!(found.iter().any(|it| it.key == key && it.message.contains(message)), "{text}: {found:?}");
    }
}

#[test]
fn what_was_done_by_whom_is_kept_within_bounds() {
    let operations = |text: &str| parse(text).unwrap_or_else(|errors| panic!("{text}\n{errors}")).operations;
    assert_eq!((operations("").age_max, operations("").bytes_max), (days(396), 16 << 20));
    assert_eq!(operations("operations.age_max = \"forever\"").age_max, None);
    assert_eq!(operations("[operations]\nage_max = \"30d\"\nsize_mib = 1").age_max, days(30));
    for wrong in ["operations.age_max = \"0d\"", "operations.size_mib = 0", "operations.size_mib = 4096"] {
        assert!(parse(wrong).is_err(), "{wrong}");
    }
}
