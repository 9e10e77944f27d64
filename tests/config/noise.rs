//! The config from noise and from spoiled files: nothing panics, an error names a problem, and no secret is said.

use proptest::prelude::*;

use crate::{SHIPPED, parse};

proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in any::<String>()) {
        drop(parse(&text));
    }

    #[test]
    fn text_that_looks_like_a_config_never_panics_and_an_error_names_a_problem(
        pieces in prop::collection::vec(prop::sample::select(vec![
            "[server]", "[sources.a]", "[endpoints.a]", "[[routes]]", "[sources]", "listen", "url", "secrets", "dedup",
            "body_max", "retry", "endpoints", "types", "ack", "headers", "factor", "concurrency", "min", "rate", "limit",
            "breaker", "failure_rate", "window", "order", "order_hold_max", "\"key\"", "\"off\"", "\"9/s\"", " = ", "\n", "\n", "{ ", " }", "[",
            "]", ", ", ".", "\"", "\"/a\"", "\"é${\"", "\"${CRM_SECRET}\"", "\"file:bad\"", "\"1s\"", "\"1MiB\"",
            "\"http://a\"", "0", "-1", "1e400", "nan", "1979-05-27", "true", "99999999999999999999", "#", "'''", "é",
        ]), 0..40)
    ) {
        if let Err(errors) = parse(&pieces.concat()) {
            prop_assert!(!errors.problems.is_empty());
            prop_assert!(!errors.to_string().contains("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"));
        }
    }

    #[test]
    fn a_shipped_file_with_a_piece_cut_out_never_panics(from in 0..SHIPPED.len(), length in 0..200_usize) {
        let to = (from + length).min(SHIPPED.len());
        if let (Some(before), Some(after)) = (SHIPPED.get(..from), SHIPPED.get(to..)) {
            drop(parse(&format!("{before}{after}")));
        }
    }
}
