//! `backstop call ID`: one call (or whatever a source's key is) as a timeline: what happened, and where it got to.
//! `backstop gaps`: the calls of which something is missing.

use std::fmt::Write as _;
use std::path::Path;

use super::client::{Client, Remote};
use super::exit::Failure;
use super::table::Table;
use super::text::{Text, plain};
use super::waits;
use crate::admin::wire::{Delivery, Event, Gaps, Timeline};

/// Show a call: all its events in order, and where each got to
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What the source's events have as their key: for Flyflow the call id
    id: String,
    /// Only events of this source
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// At most this many events
    #[arg(long, value_name = "COUNT", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    #[command(flatten)]
    remote: Remote,
}

/// List calls that never ended, ended without a beginning, or have not arrived everywhere
#[derive(Debug, clap::Args)]
pub(crate) struct GapsArgs {
    /// Only calls of this source
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// `never_ended`, `ended_without_start` or `undelivered`
    #[arg(long)]
    kind: Option<String>,
    /// At most this many of the undelivered, and of the others
    #[arg(long, value_name = "COUNT", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    /// Go on where an earlier list ended
    #[arg(long)]
    cursor: Option<String>,
    #[command(flatten)]
    remote: Remote,
}

/// Shows a call.
pub(crate) async fn run(args: &Args, config: &Path) -> Result<(), Failure> {
    let client = Client::new(&args.remote, config)?;
    let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);
    let ask = async |left: usize, cursor: Option<String>| -> Result<Timeline, Failure> {
        let mut parameters = vec![("limit", left.clamp(1, 1000).to_string())];
        parameters.extend(args.source.clone().map(|source| ("source", source)));
        parameters.extend(cursor.map(|cursor| ("cursor", cursor)));
        client.get(&["keys", &args.id], &parameters).await
    };
    let mut call = ask(limit, None).await?;
    while let Some(cursor) = call.next.take_if(|_| call.items.len() < limit) {
        let page = ask(limit - call.items.len(), Some(cursor)).await?;
        let mut items = call.items;
        items.extend(page.items);
        call = Timeline { items, ..page };
    }
    args.remote.output.show_part(&call, call.next.as_deref(), told)
}

fn told(call: &Timeline) -> Text {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        // Writing to a String cannot fail.
        let _written = writeln!(text, "{name:<12} {}", plain(value)).is_ok();
    };
    line("call", &call.key);
    line("complete", if call.complete { "yes" } else { "no" });
    for missing in &call.missing {
        line("missing", &format!("its {}: no {} of {} was received", missing.part, missing.event_type, missing.source));
    }
    line("events", &format!("{}, from {} to {}", call.events, call.first_at, call.last_at));
    for (endpoint, counts) in &call.endpoints {
        let counts: Vec<String> = counts.iter().map(|(status, count)| format!("{count} {status}")).collect();
        line(endpoint, &counts.join(", "));
    }
    text.push('\n');
    let mut text = Text::from(text);
    text.push(timeline(&call.items));
    text
}

fn timeline(events: &[Event]) -> Text {
    let mut table = Table::new(&["AT", "TYPE", "SOURCE", "EVENT"]);
    for event in events {
        let at = event.occurred_at.as_deref().unwrap_or(&event.received_at);
        table.row([at, &event.event_type, &event.source, &event.id]);
        let deliveries = event.deliveries.as_deref().unwrap_or_default();
        if deliveries.is_empty() {
            table.note("went nowhere: no route fitted");
        }
        for delivery in deliveries.iter().filter(|delivery| !delivery.superseded) {
            table.note(&got_to(delivery));
            waits::line(delivery).iter().for_each(|line| table.note(&format!("  {line}")));
        }
    }
    table.text("no event is shown")
}

/// Where one event got to at one endpoint.
fn got_to(delivery: &Delivery) -> String {
    let Delivery { endpoint, status, reason, attempts_made, .. } = delivery;
    let answer = delivery.last_status.map(|status| status.to_string());
    let last = answer.as_deref().or(delivery.last_failure.as_deref());
    let last = last.map_or_else(String::new, |last| format!(", last {last}"));
    let tries = if *attempts_made == 1 { "1 try".to_owned() } else { format!("{attempts_made} tries") };
    format!("{endpoint}: {status} ({reason}), {tries}{last}")
}

/// Lists gaps.
pub(crate) async fn gaps(args: &GapsArgs, config: &Path) -> Result<(), Failure> {
    let client = Client::new(&args.remote, config)?;
    let given = [("source", &args.source), ("kind", &args.kind), ("cursor", &args.cursor)];
    let mut parameters = vec![("limit", args.limit.to_string())];
    parameters.extend(given.into_iter().filter_map(|(name, value)| Some((name, value.clone()?))));
    let gaps: Gaps = client.get(&["gaps"], &parameters).await?;
    args.remote.output.show_part(&gaps, gaps.next.as_deref(), gapped)
}

fn gapped(gaps: &Gaps) -> Text {
    let mut table = Table::new(&["CALL", "SOURCE", "GAP", "SINCE", "EVENT", "TYPE", "WHERE"]);
    for gap in &gaps.items {
        let places = gap.endpoints.join(", ");
        table.row([&gap.key, &gap.source, &gap.kind, &gap.since, &gap.event, &gap.event_type, &places]);
    }
    let mut text = table.text("no call has a gap");
    if gaps.other > 0 {
        text.push_str(&format!("{} deliveries of more undelivered calls\n", gaps.other));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::wire::Gap;
    use crate::cli::screen::Screen;

    #[test]
    fn a_gap_is_a_row() {
        let gap = Gap {
            kind: "undelivered".into(),
            source: "flyflow".into(),
            key: "c1".into(),
            since: "T".into(),
            event: "evt_1".into(),
            event_type: "call_ended".into(),
            endpoints: vec!["crm".into(), "bill".into()],
            deliveries: 3,
            alert: None,
        };
        let text = gapped(&Gaps { items: vec![gap], other: 7, next: None }).on(Screen::default());
        let expected = "CALL  SOURCE   GAP          SINCE  EVENT  TYPE        WHERE\n\
                        c1    flyflow  undelivered  T      evt_1  call_ended  crm, bill\n\
                        7 deliveries of more undelivered calls\n";
        assert_eq!(text, expected);
    }
}
