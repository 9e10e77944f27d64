//! `backstop counters`, and `audit` of a running gateway.

use std::path::Path;

use super::client::{Client, Remote};
use super::exit::Failure;
use super::table::Table;
use crate::admin::wire::{Audit, Counters};

/// Ask the running gateway
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(super) remote: Remote,
}

/// Shows how many deliveries stand where.
pub(crate) async fn counters(args: &Args, config: &Path) -> Result<(), Failure> {
    let counters: Counters = Client::new(&args.remote, config)?.get(&["counters"], &[]).await?;
    args.remote.output.show(&counters, |counters| {
        let Counters { accepted, unrouted, in_flight, started_at, .. } = counters;
        let turned_away = counters.turned_away.iter().filter(|(_, count)| **count > 0);
        let turned_away: Vec<String> = turned_away.map(|(reason, count)| format!("{count} {reason}")).collect();
        let turned_away = if turned_away.is_empty() { "nothing".to_owned() } else { turned_away.join(", ") };
        format!(
            "{accepted} events accepted, {unrouted} of them unrouted; {in_flight} attempts in flight\n\
             turned away since {started_at}: {turned_away}\n{}",
            tallies(counters)
        )
    })
}

fn tallies(counters: &Counters) -> String {
    let header = [
        "ENDPOINT",
        "ROUTED",
        "REPLAYED",
        "ATTEMPTS",
        "SCHEDULED",
        "RETRYING",
        "DELIVERED",
        "DEAD",
        "FAILED",
        "CANCELLED",
        "EXPIRED",
    ];
    let mut table = Table::new(&header);
    for (name, tally) in &counters.endpoints {
        let counts = [
            tally.routed,
            tally.replayed,
            tally.attempts,
            tally.scheduled,
            tally.retrying,
            tally.delivered,
            tally.dead,
            tally.failed,
            tally.cancelled,
            tally.expired,
        ];
        let [routed, replayed, attempts, scheduled, retrying, delivered, dead, failed, cancelled, expired] =
            &counts.map(|count| count.to_string());
        table.row([name, routed, replayed, attempts, scheduled, retrying, delivered, dead, failed, cancelled, expired]);
    }
    table.text("no delivery was made yet")
}

/// Has the gateway count everything again; fails if the counters do not agree.
pub(crate) async fn audit(args: &Args, config: &Path) -> Result<(), Failure> {
    let audit: Audit = Client::new(&args.remote, config)?.get(&["audit"], &[]).await?;
    args.remote.output.show(&audit, audited)?;
    if audit.ok { Ok(()) } else { Err(Failure::failed("the counters do not agree with what is stored")) }
}

fn audited(audit: &Audit) -> String {
    let Audit { ok, exact, events, deliveries, .. } = audit;
    let verdict = match (ok, exact) {
        (true, true) => "every count agrees",
        (true, false) => "every count that can be compared under traffic agrees",
        (false, _) => "counts differ",
    };
    let mut text = format!("{events} events, {deliveries} deliveries: {verdict}\n");
    if !ok {
        let mut table = Table::new(&["ENDPOINT", "COUNT", "COUNTER", "RECOUNT"]);
        for difference in &audit.differences {
            let endpoint = difference.endpoint.as_deref().unwrap_or_default();
            let [counter, recount] = [difference.counter, difference.recount].map(|count| count.to_string());
            table.row([endpoint, &difference.count, &counter, &recount]);
        }
        text.push_str(&table.text(""));
    }
    text
}
