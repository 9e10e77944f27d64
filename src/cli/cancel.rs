//! `backstop cancel`: a delivery taken back, or everything that waits and fits the filters, or a replay stopped.

use std::path::Path;

use super::client::{Client, Remote};
use super::exit::Failure;
use super::filters::Filters;
use crate::admin::wire::{CancelDeliveries, Cancelled, Delivery, Replay, Selection};

/// Take back deliveries that wait: one by its id, or everything that fits the filters; or stop a replay
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// dlv_… or rpl_…
    id: Option<String>,
    #[command(flatten)]
    filters: Filters,
    #[command(flatten)]
    remote: Remote,
}

/// Cancels one, or many.
pub(crate) async fn run(args: &Args, config: &Path) -> Result<(), Failure> {
    let filter = args.filters.selection(false);
    match &args.id {
        Some(_) if filter != Selection::default() => Err(Failure::usage("give either an id or filters, not both")),
        Some(id) => one(args, id, &Client::new(&args.remote, config)?).await,
        None if filter == Selection::default() => Err(Failure::usage(
            "say what to cancel: a dlv_ or rpl_ id, or filters; everything that waits for crm is `--endpoint crm`",
        )),
        None => many(args, filter, &Client::new(&args.remote, config)?).await,
    }
}

async fn one(args: &Args, id: &str, client: &Client) -> Result<(), Failure> {
    let nothing = serde_json::json!({});
    if id.starts_with("rpl_") {
        let replay: Replay = client.post(&["replays", id, "cancel"], &nothing).await?;
        return args.remote.output.show(&replay, |replay| format!("{} {}\n", replay.id, replay.state));
    }
    let delivery: Delivery = client.post(&["deliveries", id, "cancel"], &nothing).await?;
    args.remote.output.show(&delivery, |delivery| format!("{} {}\n", delivery.id, delivery.status))
}

async fn many(args: &Args, filter: Selection, client: &Client) -> Result<(), Failure> {
    let done: Cancelled = client.post(&["deliveries", "cancel"], &CancelDeliveries { filter }).await?;
    args.remote.output.show(&done, |Cancelled { cancelled, in_flight }| match in_flight {
        0 => format!("{cancelled} cancelled\n"),
        _ => format!("{cancelled} cancelled; {in_flight} on their way were left alone\n"),
    })
}
