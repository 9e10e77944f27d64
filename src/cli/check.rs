//! `backstop check`: is the config in order, and what does it come to?

use std::fmt::Write as _;
use std::path::Path;

use super::client;
use super::exit::Failure;
use super::screen::{print, say};

/// Check the config: every error at once, with its line and key
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print all settings as they hold, defaults and presets included; secrets are ***
    #[arg(long)]
    effective: bool,
}

/// Prints what the config describes, and its warnings; fails with every error it has.
pub(crate) fn run(args: &Args, path: &Path) -> Result<(), Failure> {
    let config = client::load(path)?;
    let mut text = String::new();
    for warning in &config.warnings {
        // Writing to a String cannot fail.
        let _written = writeln!(text, "warning: {warning}").is_ok();
    }
    if args.effective {
        // What is printed can be read as a config, so it is nothing but one.
        if !text.is_empty() {
            say(text.trim_end());
        }
        return print(config.effective().as_bytes());
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
