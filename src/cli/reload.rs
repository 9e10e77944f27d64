//! `backstop reload`: a running gateway reads its config again.

use std::fmt::Write as _;
use std::path::Path;

use super::client::{Client, Remote};
use super::exit::Failure;
use super::text::plain;
use crate::admin::wire::{ConfigChange, Reloaded};
use crate::config::change;

/// Have a running gateway read its config again
///
/// The file that the gateway was started with is read and checked as a whole. If anything is wrong with it, all of that
/// is printed, and the gateway goes on with what it had. If it is in order it is taken in at once: sources, endpoints,
/// routes, secrets, retention, rates. Nothing in flight is disturbed; deliveries to endpoints that are gone are parked
/// until the name is back. What only a restart takes in (addresses, the journal's settings, those of all deliveries and
/// some more) is named, and stays as it was. SIGHUP and `systemctl reload` do the same. It takes the role admin.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  backstop check && backstop reload
  backstop reload --output json | jq '.needs_restart[].what'")]
pub(crate) struct Args {
    #[command(flatten)]
    remote: Remote,
}

/// Asks for it, and prints what is otherwise now.
pub(crate) async fn run(args: &Args, config: &Path) -> Result<(), Failure> {
    let client = Client::new(&args.remote, config)?;
    let reloaded: Reloaded = client.post(&["reload"], &serde_json::json!({})).await?;
    args.remote.output.show(&reloaded, told)
}

fn told(reloaded: &Reloaded) -> String {
    let Reloaded { applied, needs_restart, warnings } = reloaded;
    let mut text = String::new();
    // Writing to a String cannot fail.
    for warning in warnings {
        let _written = writeln!(text, "warning: {}", plain(warning)).is_ok();
    }
    for change in applied {
        let _written = writeln!(text, "{}", line(change)).is_ok();
    }
    for change in needs_restart {
        let _written = writeln!(text, "needs a restart: {}", line(change)).is_ok();
    }
    if applied.is_empty() && needs_restart.is_empty() {
        text.push_str("nothing has changed\n");
    }
    text
}

fn line(change: &ConfigChange) -> String {
    let keys = change.keys.iter().map(|key| (key.name.as_str(), key.secret));
    plain(&change::line(&change.what, &change.kind, keys))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::wire::ConfigKey;

    #[test]
    fn what_is_otherwise_is_told_line_by_line() {
        let key = |name: &str, secret| ConfigKey { name: name.to_owned(), secret };
        let change = |kind: &'static str, what: &str, keys| ConfigChange { kind: kind.into(), what: what.into(), keys };
        let reloaded = Reloaded {
            applied: vec![
                change("added", "sources.new\u{1b}", vec![]),
                change("changed", "endpoints.crm", vec![key("timeout", false), key("secrets", true)]),
            ],
            needs_restart: vec![change("changed", "server", vec![key("listen", false)])],
            warnings: vec!["gateway.toml:3: routes: x".to_owned()],
        };
        let lines = "warning: gateway.toml:3: routes: x\nsources.new·: added\n\
                     endpoints.crm: changed timeout, secrets (secret)\nneeds a restart: server: changed listen\n";
        assert_eq!(told(&reloaded), lines);
        let nothing = Reloaded { applied: vec![], needs_restart: vec![], warnings: vec![] };
        assert_eq!(told(&nothing), "nothing has changed\n");
    }
}
