//! `backstop counters`: how many deliveries stand where.

use std::collections::BTreeMap;
use std::path::Path;

use super::client::{Client, Remote};
use super::exit::Failure;
use super::table::Table;
use super::text::Text;
use crate::admin::wire::{Counters, Tally};

/// Ask the running gateway
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    remote: Remote,
}

/// Shows how many deliveries stand where.
pub(crate) async fn counters(args: &Args, config: &Path) -> Result<(), Failure> {
    let counters: Counters = Client::new(&args.remote, config)?.get(&["counters"], &[]).await?;
    args.remote.output.show(&counters, |counters| {
        let Counters { accepted, unrouted, parked, in_flight, started_at, .. } = counters;
        let parked = if *parked == 0 { String::new() } else { format!("; {parked} deliveries parked") };
        let turned_away = counters.turned_away.iter().filter(|(_, count)| **count > 0);
        let turned_away: Vec<String> = turned_away.map(|(reason, count)| format!("{count} {reason}")).collect();
        let kept = kept(counters);
        let turned_away = if turned_away.is_empty() { "nothing".to_owned() } else { turned_away.join(", ") };
        let mut text = Text::from(format!(
            "{accepted} events accepted, {unrouted} of them unrouted; {in_flight} attempts in flight{parked}\n{kept}\n\
             turned away since {started_at}: {turned_away}\n"
        ));
        text.push(tallies(&counters.endpoints));
        text
    })
}

/// What is kept, and what retention has let go of.
fn kept(counters: &Counters) -> String {
    let oldest = counters.oldest_received_at.as_ref();
    let oldest = oldest.map_or("no events are kept".to_owned(), |at| format!("the oldest event kept is of {at}"));
    let mut text = format!("{oldest}; {} were let go of, {} bytes given back", counters.dropped, counters.freed_bytes);
    if counters.damaged_bytes > 0 {
        text += &format!(", {} of all that went were damaged", counters.damaged_bytes);
    }
    text
}

/// How many deliveries stand where, by endpoint.
pub(super) fn tallies(endpoints: &BTreeMap<String, Tally>) -> Text {
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
    for (name, tally) in endpoints {
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
