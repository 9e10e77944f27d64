//! `backstop replay`, `replays`: delivering again.
//!
//! One event or delivery is replayed at once; many, by filters, are a job of the gateway, which goes on
//! whether or not this command watches it.

use std::path::Path;
use std::time::Duration;

use indicatif::ProgressBar;

use super::client::{Client, Remote};
use super::events::event_of;
use super::exit::Failure;
use super::filters::Filters;
use super::table::Table;
use crate::admin::wire::{Made, OpenReplay, Replay, ReplayDelivery, ReplayEvent, Replays, Selection};

/// How often a replay that is watched is asked about.
const WATCH_PERIOD: Duration = Duration::from_millis(250);

/// Deliver again: one event or delivery by its id, or everything that fits the filters
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// evt_… (everywhere it was sent, or --to) or dlv_… (where that one went)
    id: Option<String>,
    #[command(flatten)]
    filters: Filters,
    /// Events that were routed nowhere; needs --to
    #[arg(long)]
    unrouted: bool,
    /// To this endpoint instead
    #[arg(long, value_name = "NAME")]
    to: Option<String>,
    /// Also where a delivery is still waiting; for one event or delivery
    #[arg(long)]
    force: bool,
    /// Do not wait until a replay by filters has queued everything
    #[arg(long)]
    detach: bool,
    #[command(flatten)]
    remote: Remote,
}

/// List replays
#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    remote: Remote,
}

/// Replays one, or begins a replay of many and follows it.
pub(crate) async fn run(args: &Args, config: &Path) -> Result<(), Failure> {
    let selection = args.filters.selection(args.unrouted);
    match &args.id {
        Some(_) if selection != Selection::default() => Err(Failure::usage("give either an id or filters, not both")),
        Some(id) => one(args, id, &Client::new(&args.remote, config)?).await,
        None if selection == Selection::default() => Err(Failure::usage(
            "say what to replay: an evt_ or dlv_ id, or filters; everything that failed is `--status failed`",
        )),
        None if args.force => Err(Failure::usage("--force is for one event or delivery, not for filters")),
        None => many(args, selection, &Client::new(&args.remote, config)?).await,
    }
}

async fn one(args: &Args, id: &str, client: &Client) -> Result<(), Failure> {
    let force = args.force;
    let made: Made = if id.starts_with("dlv_") && args.to.is_none() {
        client.post(&["deliveries", id, "replay"], &ReplayDelivery { force }).await?
    } else {
        client.post(&["events", &event_of(id), "replay"], &ReplayEvent { to: args.to.clone(), force }).await?
    };
    args.remote.output.show(&made, |made| {
        let mut table = Table::new(&["DELIVERY", "ENDPOINT"]);
        made.deliveries.iter().for_each(|delivery| table.row([&delivery.id, &delivery.endpoint]));
        table.text("nothing was made")
    })
}

async fn many(args: &Args, filter: Selection, client: &Client) -> Result<(), Failure> {
    let opened: Replay = client.post(&["replays"], &OpenReplay { filter, to: args.to.clone() }).await?;
    let replay = if args.detach { opened } else { follow(opened, client).await? };
    args.remote.output.show(&replay, |replay| {
        let Replay { id, state, selected, queued, skipped, .. } = replay;
        format!("{id} {state}: {selected} selected, {queued} queued, {skipped} skipped\n")
    })
}

/// Waits until the replay runs no more.
async fn follow(mut replay: Replay, client: &Client) -> Result<Replay, Failure> {
    let progress = ProgressBar::new_spinner();
    while replay.state == "running" {
        progress.set_message(format!("{}: {} selected, {} queued", replay.id, replay.selected, replay.queued));
        progress.tick();
        tokio::time::sleep(WATCH_PERIOD).await;
        replay = client.get(&["replays", &replay.id], &[]).await?;
    }
    progress.finish_and_clear();
    Ok(replay)
}

/// Lists replays.
pub(crate) async fn list(args: &ListArgs, config: &Path) -> Result<(), Failure> {
    let client = Client::new(&args.remote, config)?;
    let replays: Replays = client.get(&["replays"], &[]).await?;
    args.remote.output.show(&replays, |replays| {
        let mut table = Table::new(&["REPLAY", "CREATED", "STATE", "TO", "SELECTED", "QUEUED", "SKIPPED", "FILTER"]);
        for replay in &replays.items {
            let [selected, queued, skipped] =
                [replay.selected, replay.queued, replay.skipped].map(|count| count.to_string());
            let to = replay.to.as_deref().unwrap_or_default();
            let filter = filter(&replay.filter);
            table.row([&replay.id, &replay.created_at, &replay.state, to, &selected, &queued, &skipped, &filter]);
        }
        table.text("there was no replay yet")
    })
}

fn filter(selection: &Selection) -> String {
    let parameters = selection.parameters().into_iter();
    parameters.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
}
