//! `backstop audit`: the ledger reconciled, on a running gateway or in a stopped one's directory.

use std::path::Path;

use super::client::{Client, Remote};
use super::exit::Failure;
use super::journal;
use super::progress;
use super::table::Table;
use super::text::{Text, plain};
use super::totals::tallies;
use crate::admin::audit::span;
use crate::admin::wire::Audit;
use crate::engine::{Clock as _, SystemClock};
use crate::journal::Journal as _;

/// Account for every delivery that ever came to be; fails, and names the ids, if anything differs
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The stopped gateway's directory instead of a running gateway
    #[arg(long)]
    offline: bool,
    /// Only events received since then: 2026-01-31T12:00:00Z, or a span before now like 2h
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only events received before then
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    #[command(flatten)]
    remote: Remote,
}

/// Audits, and fails if anything differs.
pub(crate) async fn run(args: &Args, config: &Path) -> Result<(), Failure> {
    let bar = progress::waiting("every delivery is accounted for");
    let audit = if args.offline { offline(args, config)? } else { online(args, config).await? };
    bar.finish_and_clear();
    args.remote.output.show(&audit, as_text)?;
    match audit.differences_total {
        0 => Ok(()),
        1 => Err(Failure::failed("1 thing is not as the log has it")),
        many => Err(Failure::failed(format!("{many} things are not as the log has them"))),
    }
}

async fn online(args: &Args, config: &Path) -> Result<Audit, Failure> {
    let bounds = [("since", &args.since), ("until", &args.until)];
    let given = bounds.into_iter().filter_map(|(name, value)| Some((name, value.clone()?)));
    Client::new(&args.remote, config)?.get(&["audit"], &given.collect::<Vec<_>>()).await
}

fn offline(args: &Args, config: &Path) -> Result<Audit, Failure> {
    let span = span(args.since.as_deref(), args.until.as_deref(), SystemClock.now()).map_err(Failure::usage)?;
    let audit = journal::opened(&journal::settings(config)?, |journal| journal.audit(span))?;
    Ok(Audit::new(span, &audit))
}

fn as_text(audit: &Audit) -> Text {
    let mut text = if audit.endpoints.is_empty() { Text::default() } else { tallies(&audit.endpoints) };
    if !audit.differences.is_empty() {
        let mut table = Table::new(&["DIFFERS", "ID", "ENDPOINT"]);
        for difference in &audit.differences {
            let [id, endpoint] = [&difference.id, &difference.endpoint].map(|text| text.as_deref().unwrap_or_default());
            table.row([&difference.what, id, endpoint]);
            table.note(&difference.detail);
        }
        text.push(table.text(""));
    }
    let unnamed = audit.differences_total.saturating_sub(audit.differences.len() as u64);
    if unnamed > 0 {
        text.push_str(&format!("and {unnamed} more that are not named\n"));
    }
    let verdict = if audit.ok { "nothing differs" } else { "NOT AS THE LOG HAS IT" };
    let bound = |word: &str, time: &Option<String>| time.as_ref().map(|time| format!(" {word} {}", plain(time)));
    let range = [bound("since", &audit.since), bound("until", &audit.until)].into_iter().flatten().collect::<String>();
    let Audit { events, deliveries, records, .. } = audit;
    text.push_str(&format!("{events} events, {deliveries} deliveries{range}, {records} records: {verdict}\n"));
    text
}
