//! `backstop refused`: requests that became no event, listed, shown, and taken in after all.

use std::path::Path;

use clap::Subcommand;

use super::client::{Client, Remote};
use super::events::octets;
use super::exit::Failure;
use super::filters::Extent;
use super::table::Table;
use super::text::{Text, plain};
use crate::admin::wire::{IngestRefusal, Refusal};

/// List requests that became no event: duplicates, and what a source refused
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show one, with what was kept of its body
    Show(ShowArgs),
    /// Make an event of one by the rules that its source has now
    Ingest(IngestArgs),
}

#[derive(Debug, clap::Args)]
struct ListArgs {
    /// For this source
    #[arg(long)]
    source: Option<String>,
    /// duplicate, too_large, headers_too_large, malformed, unverified or quarantined
    #[arg(long)]
    reason: Option<String>,
    /// Refused since then: 2026-01-31T12:00:00Z, or a span before now like 2h
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Refused before then
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    #[command(flatten)]
    extent: Extent,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, clap::Args)]
struct ShowArgs {
    /// ref_…
    id: String,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, clap::Args)]
struct IngestArgs {
    /// ref_…
    id: String,
    /// Also if the same event is there, or was made of it already
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    remote: Remote,
}

/// Lists, shows, or has taken in.
pub(crate) async fn run(args: &Args, config: &Path) -> Result<(), Failure> {
    match &args.verb {
        None => list(&args.list, config).await,
        Some(Verb::Show(args)) => show(args, config).await,
        Some(Verb::Ingest(args)) => ingest(args, config).await,
    }
}

async fn list(args: &ListArgs, config: &Path) -> Result<(), Failure> {
    let order = args.extent.oldest.then(|| "oldest".to_owned());
    let given = [
        ("source", &args.source),
        ("reason", &args.reason),
        ("since", &args.since),
        ("until", &args.until),
        ("order", &order),
    ];
    let given = given.into_iter().filter_map(|(name, value)| Some((name, value.clone()?)));
    let client = Client::new(&args.remote, config)?;
    let given: Vec<_> = given.collect();
    args.remote.output.show_list(&client, (&["refusals"], &given), &args.extent, listed).await
}

async fn show(args: &ShowArgs, config: &Path) -> Result<(), Failure> {
    let refusal: Refusal = Client::new(&args.remote, config)?.get(&["refusals", &args.id], &[]).await?;
    args.remote.output.show(&refusal, story)
}

async fn ingest(args: &IngestArgs, config: &Path) -> Result<(), Failure> {
    let asked = IngestRefusal { force: args.force };
    let refusal: Refusal = Client::new(&args.remote, config)?.post(&["refusals", &args.id, "ingest"], &asked).await?;
    let event = |refusal: &Refusal| format!("{}\n", plain(refusal.event.as_deref().unwrap_or_default()));
    args.remote.output.show(&refusal, event)
}

fn listed(refusals: &[Refusal]) -> Text {
    let mut table = Table::new(&["REFUSED", "AT", "SOURCE", "REASON", "BYTES", "KEPT", "EVENT"]);
    for refusal in refusals {
        let bytes = refusal.body_bytes.map_or_else(|| "?".to_owned(), |bytes| bytes.to_string());
        let kept = if refusal.whole { "whole".to_owned() } else { refusal.body_kept_bytes.to_string() };
        let event = refusal.event.as_deref().unwrap_or_default();
        table.row([&refusal.id, &refusal.at, &refusal.source, &refusal.reason, &bytes, &kept, event]);
        table.note(&refusal.detail);
    }
    table.text("no refused request fits")
}

fn story(refusal: &Refusal) -> String {
    let mut lines = vec![
        ("refused", refusal.id.clone()),
        ("at", refusal.at.clone()),
        ("source", refusal.source.clone()),
        ("reason", format!("{}: {}", refusal.reason, refusal.detail)),
        ("peer", refusal.peer.clone().unwrap_or("-".to_owned())),
        ("event", refusal.event.clone().unwrap_or("-".to_owned())),
    ];
    let length = refusal.body_bytes.map_or_else(|| "? bytes".to_owned(), |bytes| format!("{bytes} bytes"));
    let kept = if refusal.whole { String::new() } else { format!(", {} of them kept", refusal.body_kept_bytes) };
    lines.push(("body", format!("{length}{kept}")));
    let headers = refusal.headers.iter().flatten();
    lines.extend(headers.map(|(name, value)| ("header", format!("{name}: {}", octets(value)))));
    let mut text: String = lines.iter().map(|(name, value)| format!("{name:<10} {}\n", plain(value))).collect();
    if let Some(body) = refusal.body.as_ref().filter(|_| refusal.body_kept_bytes > 0) {
        text.push_str(&format!("\n{}\n", plain(&octets(body))));
    }
    text
}
