//! `backstop endpoint test NAME`: an event of the gateway's own on the way of every event, and what the endpoint says.

use std::path::Path;
use std::time::Duration;

use crate::admin::wire::{Attempt, Delivery, Made, On};
use crate::cli::client::{Client, Remote};
use crate::cli::events::excerpt;
use crate::cli::exit::Failure;
use crate::cli::text::{Text, plain};
use crate::cli::{progress, waits};
use crate::core::timestamp::parse_span;

/// How often the delivery is asked about.
const PERIOD: Duration = Duration::from_millis(100);

/// Send a test event to an endpoint, and show what it answers
///
/// The event takes the way of every event: it is journaled, signed, sent under the egress policy, counted and listed
/// (its source is `backstop`, its type `backstop.endpoint.test`). A test that is not delivered is tried again like any other delivery.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  backstop endpoint test crm
  backstop endpoint test crm --wait 2m --output json

Exit codes: 0 delivered · 1 not delivered by its first attempt, or none was made in time")]
pub(crate) struct Args {
    /// Which endpoint
    name: String,
    /// How long to wait for the first attempt
    #[arg(long, value_name = "SPAN", default_value = "30s", value_parser = span)]
    wait: Duration,
    #[command(flatten)]
    remote: Remote,
}

fn span(text: &str) -> Result<Duration, String> {
    parse_span(text).ok_or_else(|| "write a span like 30s or 2m".to_owned())
}

/// Sends one, and waits for its first attempt.
pub(crate) async fn run(args: &Args, config: &Path) -> Result<(), Failure> {
    let client = Client::new(&args.remote, config)?;
    let made: Made = client.post(&["endpoints", &args.name, "test"], &serde_json::json!({})).await?;
    let Some(made) = made.deliveries.first() else { return Err(Failure::failed("no test event was made")) };
    let bar = progress::waiting(format!("{} is tested", plain(&args.name)));
    let began = tokio::time::Instant::now();
    let delivery = loop {
        let delivery: Delivery = client.get(&["deliveries", &made.id], &[]).await?;
        if last(&delivery).is_some() || is_held(&delivery) || began.elapsed() >= args.wait {
            break delivery;
        }
        if let Some(line) = waits::line(&delivery) {
            bar.set_message(format!("{}: it {}", plain(&args.name), plain(&line)));
        }
        tokio::time::sleep(PERIOD).await;
    };
    bar.finish_and_clear();
    args.remote.output.show(&delivery, told)?;
    match last(&delivery) {
        Some(attempt) if attempt.outcome == "delivered" => Ok(()),
        Some(_) if delivery.status == "dead" => Err(Failure::failed("the test event was not taken")),
        Some(_) => Err(Failure::failed(format!(
            "the test event was not taken, and is tried again until it is; `backstop cancel {}` takes it back",
            made.id
        ))),
        None => {
            let when = if is_held(&delivery) { "now" } else { "in time" };
            let id = &made.id;
            Err(Failure::failed(format!(
                "nothing was sent {when}; {id} waits, and `backstop cancel {id}` takes it back"
            )))
        }
    }
}

fn last(delivery: &Delivery) -> Option<&Attempt> {
    delivery.attempts.as_ref()?.last()
}

/// Whether nothing will be sent before somebody does something.
fn is_held(delivery: &Delivery) -> bool {
    delivery.waits_for.as_ref().is_some_and(|waits| matches!(waits.on, On::Pause { .. } | On::Parked))
}

fn told(delivery: &Delivery) -> Text {
    let mut text = Text::from(format!("{}  {}  ", delivery.id, delivery.endpoint));
    let Some(attempt) = last(delivery) else {
        text.push_state("scheduled");
        let waits = waits::line(delivery).map(|line| format!("  {}", plain(&line)));
        text.push_str(&format!("{}\n", waits.unwrap_or_default()));
        return text;
    };
    text.push_state(&attempt.outcome);
    text.push_str(&format!(" after {} ms: ", attempt.took_ms));
    match (&attempt.answer, &attempt.failure) {
        (Some(answer), _) => {
            text.push_state(&answer.status.to_string());
            text.push_str(&format!("  {}", plain(&excerpt(&answer.body, answer.body_cut))));
        }
        (None, Some(failure)) => text.push_str(&plain(&format!("{}  {}", failure.class, failure.detail))),
        (None, None) => {}
    }
    text.push_str("\n");
    text
}
