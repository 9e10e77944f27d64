//! `backstop operations`: what was done by whom.

use std::path::Path;

use super::client::{Client, Remote};
use super::exit::Failure;
use super::filters::Extent;
use super::table::Table;
use super::text::Text;
use crate::admin::wire::Operation;

/// List what was done by whom, and what was tried
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// By the holder of this token
    #[arg(long, value_name = "NAME")]
    who: Option<String>,
    /// Of this kind, like replay.begin or endpoint.pause; `endpoint.*` fits every ending
    #[arg(long)]
    what: Option<String>,
    /// Done to this: a name or an id
    #[arg(long, value_name = "ID")]
    object: Option<String>,
    /// done, denied, refused, failed or unknown
    #[arg(long)]
    result: Option<String>,
    /// Asked for since then: 2026-01-31T12:00:00Z, or a span before now like 2h
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Asked for before then
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    #[command(flatten)]
    extent: Extent,
    #[command(flatten)]
    remote: Remote,
}

/// Lists.
pub(crate) async fn run(args: &Args, config: &Path) -> Result<(), Failure> {
    let order = args.extent.oldest.then(|| "oldest".to_owned());
    let given = [
        ("who", &args.who),
        ("what", &args.what),
        ("object", &args.object),
        ("result", &args.result),
        ("since", &args.since),
        ("until", &args.until),
        ("order", &order),
    ];
    let given = given.into_iter().filter_map(|(name, value)| Some((name, value.clone()?)));
    let client = Client::new(&args.remote, config)?;
    let given: Vec<_> = given.collect();
    args.remote.output.show_list(&client, (&["operations"], &given), &args.extent, listed).await
}

fn listed(operations: &[Operation]) -> Text {
    let mut table = Table::new(&["AT", "WHO", "FROM", "WHAT", "OBJECT", "RESULT"]);
    for operation in operations {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let (who, from, object) = (text(&operation.who), text(&operation.from), text(&operation.object));
        table.row([&operation.at, &who, &from, &operation.what, &object, &operation.result]);
        if !operation.parameters.is_null() {
            table.note(&operation.parameters.to_string());
        }
        if let Some(detail) = &operation.detail {
            table.note(detail);
        }
        if operation.repeats > 0 {
            table.note(&format!("and {} like it before", operation.repeats));
        }
    }
    table.text("no operation fits")
}
