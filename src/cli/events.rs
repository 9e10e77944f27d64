//! `backstop events`, `backstop event ID`: what came in, and what became of it.

use std::fmt::Write as _;
use std::path::Path;

use super::client::{Client, Remote};
use super::exit::Failure;
use super::filters::{Extent, Filters};
use super::screen::print;
use super::table::Table;
use super::text::{Text, plain};
use super::waits;
use crate::admin::wire::{Attempt, Delivery, Event, Octets};

/// How much of an answer's body the timeline shows, in characters.
const BODY_SHOWN_MAX: usize = 200;

/// List events
#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    filters: Filters,
    /// Only events that were routed nowhere
    #[arg(long)]
    unrouted: bool,
    #[command(flatten)]
    extent: Extent,
    #[command(flatten)]
    remote: Remote,
}

/// Show one event: where it went, and every attempt
#[derive(Debug, clap::Args)]
pub(crate) struct ShowArgs {
    /// evt_…, or one of its deliveries
    id: String,
    /// Print the event's body, byte for byte, and nothing else
    #[arg(long)]
    body: bool,
    #[command(flatten)]
    remote: Remote,
}

/// Lists events.
pub(crate) async fn list(args: &ListArgs, config: &Path) -> Result<(), Failure> {
    let client = Client::new(&args.remote, config)?;
    let parameters = args.extent.parameters(&args.filters.selection(args.unrouted));
    args.remote.output.show_list(&client, (&["events"], &parameters), &args.extent, listed).await
}

/// Shows one event, or prints its body.
pub(crate) async fn show(args: &ShowArgs, config: &Path) -> Result<(), Failure> {
    let client = Client::new(&args.remote, config)?;
    let id = event_of(&args.id);
    if args.body {
        return print(&client.get_raw(&["events", &id, "body"]).await?);
    }
    let event: Event = client.get(&["events", &id], &[]).await?;
    args.remote.output.show(&event, story)
}

/// The event's id, also from one of its deliveries'. What is neither is left for the gateway to refuse.
pub(super) fn event_of(id: &str) -> String {
    let delivery: Option<crate::core::id::DeliveryId> = id.parse().ok();
    delivery.map_or_else(|| id.to_owned(), |delivery| delivery.event.to_string())
}

fn listed(events: &[Event]) -> Text {
    let mut table = Table::new(&["EVENT", "RECEIVED", "SOURCE", "TYPE", "KEY", "BYTES", "DELIVERIES"]);
    for event in events {
        let deliveries = event.deliveries.iter().flatten();
        let current = deliveries.filter(|delivery| !delivery.superseded);
        let states: Vec<String> =
            current.map(|delivery| format!("{} {}", delivery.endpoint, delivery.status)).collect();
        let bytes = event.body_bytes.to_string();
        let key = event.key.as_deref().unwrap_or_default();
        let states = if states.is_empty() { "unrouted".to_owned() } else { states.join(", ") };
        table.row([&event.id, &event.received_at, &event.source, &event.event_type, key, &bytes, &states]);
    }
    table.text("no event fits")
}

/// The whole story of an event.
fn story(event: &Event) -> Text {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        // Writing to a String cannot fail.
        let _written = writeln!(text, "{name:<10} {}", plain(value)).is_ok();
    };
    line("event", &event.id);
    line("type", &event.event_type);
    line("key", event.key.as_deref().unwrap_or("-"));
    line("source", &event.source);
    line("received", &event.received_at);
    line("occurred", event.occurred_at.as_deref().unwrap_or("-"));
    event.original.iter().for_each(|original| line("original", &format!("{original}, which was imported")));
    line("body", &format!("{} bytes", event.body_bytes));
    event.trace_id.iter().for_each(|trace| line("trace", trace));
    for (name, value) in event.headers.iter().flatten() {
        line("header", &format!("{name}: {}", octets(value)));
    }
    if event.headers.is_none() {
        let why = if event.payload_kept == Some(false) {
            "no longer kept (retention), nor are body and attempts"
        } else {
            "lost: the event's record was damaged on disk"
        };
        line("headers", why);
    }
    let deliveries = event.deliveries.as_deref().unwrap_or_default();
    if deliveries.is_empty() {
        line("delivered", "nowhere: no route fitted");
    }
    let mut text = Text::from(text);
    deliveries.iter().for_each(|delivery| text.push(timeline(delivery)));
    text
}

fn timeline(delivery: &Delivery) -> Text {
    let mut text = Text::from(format!("\n{}  {}  ", delivery.id, delivery.endpoint));
    text.push_state(&delivery.status);
    text.push_str(&format!(" ({})", delivery.reason));
    let notes = [
        delivery.due_at.as_ref().filter(|_| delivery.waits_for.is_none()).map(|due| format!("due {due}")),
        delivery.replay.as_ref().map(|replay| format!("made by {replay}")),
        delivery.released_out_of_order.then(|| "released_out_of_order".to_owned()),
        delivery.superseded.then(|| "a later delivery took its place".to_owned()),
    ];
    notes.iter().flatten().for_each(|note| text.push_str(&format!("  {note}")));
    text.push_str("\n");
    waits::line(delivery).iter().for_each(|line| text.push_str(&format!("  {}\n", plain(line))));
    text.push_str(&format!("  {}  created\n", delivery.created_at));
    let attempts = delivery.attempts.as_deref().unwrap_or_default();
    let shown = u32::try_from(attempts.len()).unwrap_or(u32::MAX);
    if shown < delivery.attempts_made {
        text.push_str(&format!("  … {} earlier attempts are not shown\n", delivery.attempts_made - shown));
    }
    attempts.iter().for_each(|attempt| text.push(tried(attempt)));
    text
}

fn tried(attempt: &Attempt) -> Text {
    let came_back = match (&attempt.answer, &attempt.failure) {
        (Some(answer), _) => format!("{}  {}", answer.status, excerpt(&answer.body, answer.body_cut)),
        (None, Some(failure)) => format!("{}  {}", failure.class, failure.detail),
        (None, None) => String::new(),
    };
    let Attempt { number, started_at, took_ms, outcome, probe, released_out_of_order, .. } = attempt;
    let marks = [(*probe, " (probe)"), (*released_out_of_order, " (released_out_of_order)")];
    let marks: String = marks.iter().filter(|(set, _)| *set).map(|(_, mark)| *mark).collect();
    let mut text = Text::from(format!("  {started_at}  #{number}{marks} "));
    text.push_state(outcome);
    text.push_str(&format!(" after {took_ms} ms: {}\n", plain(&came_back).trim_end()));
    text
}

pub(super) fn excerpt(body: &Octets, cut: bool) -> String {
    let text = octets(body);
    match text.char_indices().nth(BODY_SHOWN_MAX) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None if cut => format!("{text}…"),
        None => text,
    }
}

pub(super) fn octets(octets: &Octets) -> String {
    match octets {
        Octets::Text(text) => text.clone(),
        Octets::Binary { base64 } => format!("(base64) {base64}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::screen::Screen;

    #[test]
    fn a_delivery_names_its_event() {
        let event = crate::core::id::EventId::from_u128(7);
        assert_eq!(event_of(&event.delivery(3).to_string()), event.to_string());
        assert_eq!(event_of("nonsense"), "nonsense");
    }

    #[test]
    fn a_story_shows_every_attempt_and_steers_no_terminal() {
        let attempt = |number, answer, failure| Attempt {
            number,
            started_at: "T".into(),
            took_ms: 12,
            outcome: "retryable".into(),
            probe: number == 3,
            released_out_of_order: number == 3,
            answer,
            failure,
        };
        let body = Octets::Text("no\u{1b}[2J\nway".into());
        let answer =
            crate::admin::wire::Answer { status: 500, headers: vec![], body, body_cut: true, retry_after_ms: None };
        let failure = crate::admin::wire::Failure { class: "refused".into(), detail: "nobody listens".into() };
        let delivery = Delivery {
            id: "dlv_1_0".into(),
            endpoint: "crm".into(),
            status: "dead".into(),
            reason: "gone".into(),
            due_at: None,
            created_at: "T0".into(),
            changed_at: "T".into(),
            attempts_made: 3,
            probes_failed: 1,
            released_out_of_order: true,
            last_status: None,
            last_failure: None,
            group: None,
            replay: None,
            superseded: true,
            event: None,
            waits_for: None,
            attempts: Some(vec![attempt(2, Some(answer), None), attempt(3, None, Some(failure))]),
        };
        let text = timeline(&delivery).on(Screen::default());
        assert_eq!(
            text,
            "\ndlv_1_0  crm  dead (gone)  released_out_of_order  a later delivery took its place\n  T0  created\n  \
             … 1 earlier attempts are not shown\n  T  #2 retryable after 12 ms: 500  no·[2J·way…\n  T  #3 (probe) \
             (released_out_of_order) retryable after 12 ms: refused  nobody listens\n"
        );
    }
}
