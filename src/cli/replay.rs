//! `backstop replay`, `replays`: delivering again.
//!
//! One event or delivery is replayed at once; many, by filters, are a job of the gateway, which goes on
//! whether or not this command watches it. It can be watched again later, paused, resumed, stopped, done again.

mod watch;

use std::path::Path;
use std::time::Duration;

use super::client::{Client, Remote};
use super::events::event_of;
use super::exit::Failure;
use super::filters::Filters;
use super::screen::say;
use super::table::Table;
use super::text::{Text, plain};
use crate::admin::wire::{
    Made, OpenReplay, Plan, Replay, ReplayAgain, ReplayDelivery, ReplayEvent, Replays, Selection, Trial, TrialAnswer,
};

/// So long a replay waits for its own plan before it begins.
const PLAN_TIME: Duration = Duration::from_secs(3);

/// Deliver again: one event or delivery by its id, or everything that fits the filters
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
    /// evt_… (everywhere it was sent, or --to) or dlv_… (where that one went)
    id: Option<String>,
    #[command(flatten)]
    filters: Filters,
    /// Events that were routed nowhere: to where routes send them now, or --to
    #[arg(long)]
    unrouted: bool,
    /// To this endpoint instead
    #[arg(long, value_name = "NAME")]
    to: Option<String>,
    /// Also where a delivery is still waiting; for one event or delivery
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    terms: Terms,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
    /// Send copies of the newest to this URL instead, and compare the answers; nothing changes
    #[arg(long, value_name = "URL", conflicts_with_all = ["to", "dry_run", "detach"])]
    to_url: Option<String>,
    /// How many copies a trial sends
    #[arg(long, value_name = "COUNT", requires = "to_url")]
    copies: Option<usize>,
    /// Do not watch a replay by filters; `backstop replay watch ID` does later
    #[arg(long)]
    detach: bool,
    #[command(flatten)]
    remote: Remote,
}

/// How a replay by filters goes about its work.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
struct Terms {
    /// Make no more than this: 10/s, 600/min, 5000/h
    #[arg(long)]
    rate: Option<String>,
    /// Newest events first
    #[arg(long)]
    newest: bool,
    /// Leave out events of a type that happened longer ago: tool_call=5m; may be given again
    #[arg(long, value_name = "TYPE=SPAN", value_parser = max_age)]
    max_age: Vec<(String, String)>,
    /// Leave out what has got there since by a later delivery
    #[arg(long)]
    skip_if_delivered_later: bool,
    /// Pause when so many of its deliveries have failed
    #[arg(long, value_name = "COUNT")]
    stop_after_failures: Option<u64>,
    /// Make so many at first, and no more until all of them are delivered
    #[arg(long, value_name = "COUNT")]
    canary: Option<u64>,
    /// A name for this request: asked for again, nothing is begun twice
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Watch a replay until it has ended
    Watch(One),
    /// Make nothing more until it is resumed
    Pause(One),
    /// Go on; failures until now do not stop it again
    Resume(One),
    /// Stop it for good; deliveries already made stay
    Cancel(One),
    /// Begin one with what an earlier one has left
    Rerun(RerunArgs),
}

#[derive(Debug, clap::Args)]
struct One {
    /// rpl_…
    id: String,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, clap::Args)]
struct RerunArgs {
    #[command(flatten)]
    of: One,
    /// What it had not come to when it was cancelled, in place of what failed of it
    #[arg(long)]
    rest: bool,
    /// Do not watch it
    #[arg(long)]
    detach: bool,
}

/// List replays
#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    remote: Remote,
}

fn max_age(text: &str) -> Result<(String, String), String> {
    let (of, age) = text.split_once('=').ok_or("write a type and a span, like tool_call=5m or '*=7d'")?;
    Ok((of.to_owned(), age.to_owned()))
}

/// Replays one, begins a replay of many and watches it, or does something to one that was begun.
pub(crate) async fn run(args: &Args, config: &Path) -> Result<(), Failure> {
    if let Some(verb) = &args.verb {
        return turn(verb, config).await;
    }
    let selection = args.filters.selection(args.unrouted);
    match &args.id {
        Some(_) if selection != Selection::default() => Err(Failure::usage("give either an id or filters, not both")),
        Some(_) if args.terms != Terms::default() || args.dry_run || args.to_url.is_some() => {
            Err(Failure::usage("terms, --dry-run and --to-url are for replays by filters; one by its id is `--id`"))
        }
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
    let terms = args.terms.clone();
    let asked = OpenReplay {
        filter,
        to: args.to.clone(),
        rate: terms.rate,
        order: terms.newest.then(|| "newest".to_owned()),
        max_age: terms.max_age.into_iter().collect(),
        skip_if_delivered_later: terms.skip_if_delivered_later,
        stop_after_failures: terms.stop_after_failures,
        canary: terms.canary,
        dry_run: args.dry_run,
        to_url: args.to_url.clone(),
        copies: args.copies,
    };
    if args.dry_run {
        let plan: Plan = client.post(&["replays"], &asked).await?;
        return args.remote.output.show(&plan, planned);
    }
    if args.to_url.is_some() {
        let trial: Trial = client.post(&["replays"], &asked).await?;
        return args.remote.output.show(&trial, tried);
    }
    let key = terms.idempotency_key.as_deref();
    // The bar needs an end: what a dry run counts, if that does not take long.
    let dry = OpenReplay { dry_run: true, ..asked.clone() };
    let plan: Option<Plan> = match args.detach {
        true => None,
        false => tokio::time::timeout(PLAN_TIME, client.post(&["replays"], &dry)).await.ok().transpose()?,
    };
    let opened: Replay = client.post_keyed(&["replays"], key, &asked).await?;
    let replay = match args.detach {
        true => opened,
        false => watch::until_ended(opened, plan.map(|plan| plan.selected), client).await?,
    };
    args.remote.output.show(&replay, watch::summary)?;
    let statuses = &replay.filter.statuses;
    if replay.state == "completed" && replay.selected == 0 && asked.filter.statuses.is_empty() && !statuses.is_empty() {
        say(&plain(&format!("nothing fitted; without --status only what is {} is meant", statuses.join(" or "))));
    }
    Ok(())
}

async fn turn(verb: &Verb, config: &Path) -> Result<(), Failure> {
    let (word, one) = match verb {
        Verb::Watch(one) => ("watch", one),
        Verb::Pause(one) => ("pause", one),
        Verb::Resume(one) => ("resume", one),
        Verb::Cancel(one) => ("cancel", one),
        Verb::Rerun(args) => ("rerun", &args.of),
    };
    let client = Client::new(&one.remote, config)?;
    let replay: Replay = match verb {
        Verb::Watch(one) => {
            let replay = client.get(&["replays", &one.id], &[]).await?;
            watch::until_ended(replay, None, &client).await?
        }
        Verb::Rerun(args) => {
            let what = Some(if args.rest { "rest" } else { "failed" }.to_owned());
            let begun = client.post(&["replays", &one.id, word], &ReplayAgain { what }).await?;
            if args.detach { begun } else { watch::until_ended(begun, None, &client).await? }
        }
        _ => client.post(&["replays", &one.id, word], &serde_json::Map::new()).await?,
    };
    one.remote.output.show(&replay, watch::summary)
}

fn planned(plan: &Plan) -> Text {
    let span = plan.oldest.as_deref().zip(plan.newest.as_deref());
    let span = span.map(|(oldest, newest)| format!(", of events from {oldest} to {newest}")).unwrap_or_default();
    let takes = plan.takes_ms.map(|takes| format!("; takes {} at this rate", watch::span(takes))).unwrap_or_default();
    let mut text = format!("{} selected, {} would be made{span}{takes}\n", plan.selected, plan.would_make);
    let skipped: Vec<String> = watch::reasons(&plan.skipped_by).map(|(why, count)| format!("{count} {why}")).collect();
    if !skipped.is_empty() {
        text.push_str(&format!("skipped: {}\n", skipped.join(", ")));
    }
    let mut text = Text::from(text);
    let mut table = Table::new(&["BY", "", "COUNT"]);
    let ages: Vec<(&String, u64)> = plan.by_age.iter().map(|(age, count)| (age, *count)).collect();
    let counted = |of: &std::collections::BTreeMap<String, u64>| -> Vec<(String, u64)> {
        of.iter().map(|(name, count)| (name.clone(), *count)).collect()
    };
    let parts = [("endpoint", counted(&plan.by_endpoint)), ("status", counted(&plan.by_status))];
    for (by, counts) in parts.into_iter().chain([("type", counted(&plan.by_type))]) {
        counts.iter().for_each(|(name, count)| table.row([by, name, &count.to_string()]));
    }
    for (age, count) in ages.into_iter().filter(|(_, count)| *count > 0) {
        table.row(["age up to", age, &count.to_string()]);
    }
    for sample in &plan.samples {
        let because = sample.delivery.as_deref().unwrap_or(&sample.event);
        table.row(["sample", because, &format!("{} to {}", sample.event_type, sample.to)]);
    }
    text.push(table.text("nothing would be made"));
    text
}

fn tried(trial: &Trial) -> Text {
    let mut table = Table::new(&["DELIVERY", "ENDPOINT", "BEFORE", "NOW", "OUTCOME"]);
    let answer = |answer: &TrialAnswer| {
        let said = answer.status.map(|status| status.to_string()).or(answer.failure.as_ref().map(|it| it.to_string()));
        format!("{} in {} ms", said.unwrap_or_default(), answer.took_ms)
    };
    for copy in &trial.items {
        let before = copy.before.as_ref().map(answer).unwrap_or_else(|| "-".to_owned());
        table.row([&copy.delivery, &copy.endpoint, &before, &answer(&copy.now), &copy.outcome]);
    }
    let Trial { copies, delivered, differ, .. } = trial;
    let median = |of: Option<u64>| of.map_or_else(|| "-".to_owned(), |millis| format!("{millis} ms"));
    let (before, now) = (median(trial.median_before_ms), median(trial.median_ms));
    let sum =
        format!("{copies} copies: {delivered} taken, {differ} answered otherwise; median {now}, before {before}\n");
    let mut text = table.text("nothing fits: no copy was sent");
    text.push_str(&sum);
    text
}

/// Lists replays.
pub(crate) async fn list(args: &ListArgs, config: &Path) -> Result<(), Failure> {
    let client = Client::new(&args.remote, config)?;
    let replays: Replays = client.get(&["replays"], &[]).await?;
    args.remote.output.show(&replays, |replays| {
        let columns = [
            "REPLAY",
            "CREATED",
            "BY",
            "STATE",
            "TO",
            "SELECTED",
            "QUEUED",
            "SKIPPED",
            "DELIVERED",
            "FAILED",
            "FILTER",
        ];
        let mut table = Table::new(&columns);
        for replay in &replays.items {
            let counts = [replay.selected, replay.queued, replay.skipped, replay.delivered, replay.dead];
            let [selected, queued, skipped, delivered, dead] = counts.map(|count| count.to_string());
            let (to, filter) = (replay.to.as_deref().unwrap_or_default(), filter(&replay.filter));
            let state = watch::state(replay);
            let (id, at, by) = (&replay.id, &replay.created_at, replay.by.as_deref().unwrap_or_default());
            table.row([id, at, by, &state, to, &selected, &queued, &skipped, &delivered, &dead, &filter]);
        }
        table.text("there was no replay yet")
    })
}

fn filter(selection: &Selection) -> String {
    let parameters = selection.parameters().into_iter();
    parameters.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
}
