//! `backstop check`: is the config in order?

use std::fmt::Write as _;
use std::path::Path;

use super::client;
use super::exit::Failure;
use super::table::print;

/// Prints what the config describes, and its warnings; fails with every error it has.
pub(crate) fn run(path: &Path) -> Result<(), Failure> {
    let config = client::load(path)?;
    let mut text = String::new();
    for warning in &config.warnings {
        // Writing to a String cannot fail.
        let _written = writeln!(text, "warning: {warning}").is_ok();
    }
    let (sources, endpoints) = (config.sources.len(), config.endpoints.len());
    let _written = writeln!(
        text,
        "{} is in order: {sources} source{}, {endpoints} endpoint{}",
        path.display(),
        plural(sources),
        plural(endpoints)
    )
    .is_ok();
    print(text.as_bytes())
}

const fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}
