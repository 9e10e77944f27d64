//! `backstop endpoint`: how the endpoints stand, whether anything is sent to them, and whether they take it.

mod test;

use std::path::Path;

use jiff::SignedDuration;

use super::client::{Client, Remote};
use super::exit::Failure;
use super::table::Table;
use super::text::{Text, plain};
use crate::admin::wire::{Breaker, Circuit, Endpoint, Endpoints, Limits, Pause, PauseEndpoint};

/// See to the endpoints: list, show, pause, resume and test them
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    List(AllArgs),
    Show(ShowArgs),
    Pause(PauseArgs),
    Resume(ResumeArgs),
    Test(test::Args),
}

/// Show the endpoints and how they stand
///
/// One row each: whether anything keeps deliveries from it, what is on its way there, what waits, what has failed.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  backstop endpoint list
  backstop endpoint list --output jsonl | jq -r 'select(.backlog > 0).name'")]
struct AllArgs {
    #[command(flatten)]
    remote: Remote,
}

/// Show one endpoint: how it stands, its URL and its limits
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  backstop endpoint show crm")]
struct ShowArgs {
    /// Which endpoint
    name: String,
    #[command(flatten)]
    remote: Remote,
}

/// As `backstop endpoint list`; with a name as `backstop endpoint show`
#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    /// Only this one
    name: Option<String>,
    #[command(flatten)]
    remote: Remote,
}

/// Send nothing to an endpoint until it is resumed: its deliveries wait and spend no attempt
#[derive(Debug, clap::Args)]
pub(crate) struct PauseArgs {
    /// Which endpoint
    name: String,
    /// Why, for whoever looks next
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    note: String,
    #[command(flatten)]
    remote: Remote,
}

/// Send to a paused endpoint again, few at first
#[derive(Debug, clap::Args)]
pub(crate) struct ResumeArgs {
    /// Which endpoint
    name: String,
    #[command(flatten)]
    remote: Remote,
}

/// Does what is asked for.
pub(crate) async fn run(args: &Args, config: &Path) -> Result<(), Failure> {
    match &args.verb {
        Verb::List(args) => all(&args.remote, config).await,
        Verb::Show(args) => show(&args.name, &args.remote, config).await,
        Verb::Pause(args) => pause(args, config).await,
        Verb::Resume(args) => resume(args, config).await,
        Verb::Test(args) => test::run(args, config).await,
    }
}

/// Lists the endpoints, or shows one.
pub(crate) async fn list(args: &ListArgs, config: &Path) -> Result<(), Failure> {
    match &args.name {
        Some(name) => show(name, &args.remote, config).await,
        None => all(&args.remote, config).await,
    }
}

async fn all(remote: &Remote, config: &Path) -> Result<(), Failure> {
    let endpoints: Endpoints = Client::new(remote, config)?.get(&["endpoints"], &[]).await?;
    remote.output.show(&endpoints, |endpoints| listed(&endpoints.items))
}

async fn show(name: &str, remote: &Remote, config: &Path) -> Result<(), Failure> {
    let endpoint: Endpoint = Client::new(remote, config)?.get(&["endpoints", name], &[]).await?;
    remote.output.show(&endpoint, shown)
}

/// Pauses one.
pub(crate) async fn pause(args: &PauseArgs, config: &Path) -> Result<(), Failure> {
    let client = Client::new(&args.remote, config)?;
    let asked = PauseEndpoint { note: args.note.clone() };
    let paused: Endpoint = client.post(&["endpoints", &args.name, "pause"], &asked).await?;
    args.remote.output.show(&paused, |paused| listed(std::slice::from_ref(paused)))
}

/// Resumes one.
pub(crate) async fn resume(args: &ResumeArgs, config: &Path) -> Result<(), Failure> {
    let client = Client::new(&args.remote, config)?;
    let resumed: Endpoint = client.post(&["endpoints", &args.name, "resume"], &serde_json::json!({})).await?;
    args.remote.output.show(&resumed, |resumed| listed(std::slice::from_ref(resumed)))
}

/// A row an endpoint, with a line more for each thing that is wrong with it.
fn listed(endpoints: &[Endpoint]) -> Text {
    let mut table = Table::new(&["ENDPOINT", "STATE", "SINCE", "IN FLIGHT", "WINDOW", "WAITING", "FAILED"]);
    for endpoint in endpoints {
        let (state, since) = state(endpoint);
        let lane = endpoint.lane.as_ref();
        let in_flight = lane.map(|lane| lane.in_flight.to_string()).unwrap_or_default();
        let window = lane.map(|lane| lane.window.to_string()).unwrap_or_default();
        let (waiting, failed) = (endpoint.backlog.to_string(), endpoint.deliveries.failed.to_string());
        table.row([&endpoint.name, state, since, &in_flight, &window, &waiting, &failed]);
        notes(endpoint).iter().for_each(|note| table.note(note));
    }
    table.text("there is no endpoint")
}

/// Its row, and what the config says of it.
fn shown(endpoint: &Endpoint) -> Text {
    let mut text = listed(std::slice::from_ref(endpoint));
    let mut line = |name: &str, value: &str| text.push_str(&format!("{name:<10} {}\n", plain(value)));
    line("url", endpoint.url.as_deref().unwrap_or("-"));
    line("signing", endpoint.signing.as_deref().unwrap_or("-"));
    let Some(limits) = &endpoint.limits else { return text };
    let Limits { concurrency_min: min, concurrency_max: max, order, .. } = limits;
    line("window", &if min == max { max.to_string() } else { format!("{min} to {max}") });
    let burst = limits.rate_burst.map(|burst| format!(", burst {burst}")).unwrap_or_default();
    line("rate", &format!("{}{burst}", limits.rate.as_deref().unwrap_or("-")));
    let hold = limits.order_hold_max_ms.map(|hold| format!(", held for at most {}", span(hold))).unwrap_or_default();
    line("order", &format!("{order}{hold}"));
    line("breaker", &limits.breaker.as_ref().map_or_else(|| "off".to_owned(), breaker));
    let (connect, whole) = (span(limits.connect_timeout_ms), span(limits.timeout_ms));
    line("timeout", &format!("{whole}, {connect} to connect"));
    line("gives up", &format!("after {} attempts or {}", limits.attempts_max, span(limits.age_max_ms)));
    text
}

fn breaker(breaker: &Breaker) -> String {
    let Breaker { failures, failure_rate, samples_min, window_ms, probe_initial_ms, probe_max_ms } = *breaker;
    let (window, first, longest) = (span(window_ms), span(probe_initial_ms), span(probe_max_ms));
    format!(
        "opens at {failures} failures in a row, or {failure_rate} of {samples_min} or more within {window}; \
         probes after {first}, then up to {longest} apart"
    )
}

/// Milliseconds as people write a span, like `1m 30s`.
fn span(millis: u64) -> String {
    let span = SignedDuration::from_millis(i64::try_from(millis).unwrap_or(i64::MAX));
    format!("{span:#}")
}

/// The first thing that keeps deliveries from an endpoint, and since when.
fn state(endpoint: &Endpoint) -> (&str, &str) {
    let silent = endpoint.lane.as_ref().is_some_and(|lane| lane.held_until.is_some());
    match (&endpoint.pause, &endpoint.circuit) {
        _ if !endpoint.configured => ("parked", ""),
        (Some(pause), _) => ("paused", &pause.since),
        (None, Circuit::Open { since, .. }) => ("open", since),
        (None, Circuit::HalfOpen { since, .. }) => ("half open", since),
        (None, _) if silent => ("silent", ""),
        (None, Circuit::Closed) => ("ok", ""),
        (None, Circuit::Unknown) => ("unknown", ""),
    }
}

/// Everything that keeps deliveries from an endpoint, a line each.
fn notes(endpoint: &Endpoint) -> Vec<String> {
    let mut notes = Vec::new();
    if !endpoint.configured {
        notes.push("the config does not have it; its deliveries wait until it does".to_owned());
    }
    if let Some(Pause { cause, note, .. }) = &endpoint.pause {
        let said = note.as_ref().map(|note| format!(": {note}")).unwrap_or_default();
        notes.push(format!("paused by {}{said}", if cause == "gone" { "itself" } else { cause }));
    }
    match &endpoint.circuit {
        Circuit::Open { cause, last_status, last_failure, probe_at, probes_failed, .. } => {
            let status = last_status.map(|status| status.to_string());
            let last = status.as_deref().or(last_failure.as_deref()).unwrap_or("unknown");
            let cause = cause.replace('_', " ");
            let probes = match probes_failed {
                0 => "no probe yet".to_owned(),
                1 => "1 probe failed".to_owned(),
                count => format!("{count} probes failed"),
            };
            notes.push(format!("opened by {cause}, last {last}; {probes}, the next at {probe_at}"));
        }
        Circuit::HalfOpen { allowed, .. } => notes.push(format!("coming back: {allowed} at a time")),
        Circuit::Closed | Circuit::Unknown => {}
    }
    if let Some(until) = endpoint.lane.as_ref().and_then(|lane| lane.held_until.as_deref()) {
        notes.push(format!("it asked for silence until {until}"));
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::wire::{Lane, Tally};
    use crate::cli::screen::Screen;

    fn endpoint(pause: Option<Pause>, circuit: Circuit) -> Endpoint {
        let lane = Lane {
            in_flight: 1,
            fresh: 3,
            waiting: 4,
            behind: false,
            window: 8,
            lines_held: 0,
            held_until: None,
            rate_next_at: None,
        };
        Endpoint {
            name: "crm".into(),
            configured: true,
            url: None,
            signing: None,
            limits: None,
            pause,
            circuit,
            lane: Some(lane),
            backlog: 7,
            deliveries: Tally { failed: 2, ..Tally::default() },
        }
    }

    fn open() -> Circuit {
        Circuit::Open {
            since: "T1".into(),
            cause: "consecutive_failures".into(),
            last_status: None,
            last_failure: Some("refused".into()),
            probe_at: "T2".into(),
            probes_failed: 2,
        }
    }

    #[test]
    fn a_row_says_how_an_endpoint_stands_and_what_is_wrong_below_it() {
        let row = |endpoint: Endpoint| {
            listed(&[endpoint]).on(Screen::default()).lines().skip(1).collect::<Vec<_>>().join("\n")
        };
        assert_eq!(row(endpoint(None, Circuit::Closed)), "crm       ok     -      1          8       7        2");
        assert_eq!(
            row(endpoint(None, open())),
            "crm       open   T1     1          8       7        2\n  opened by consecutive failures, last refused; \
             2 probes failed, the next at T2"
        );
        let pause = Pause { since: "T3".into(), cause: "operator".into(), note: Some("moving\u{1b}[2J".into()) };
        let both = row(endpoint(Some(pause), Circuit::HalfOpen { since: "T1".into(), allowed: 4 }));
        assert_eq!(
            both,
            "crm       paused  T3     1          8       7        2\n  paused by operator: moving·[2J\n  \
             coming back: 4 at a time"
        );
        let gone = Pause { since: "T".into(), cause: "gone".into(), note: None };
        assert!(row(endpoint(Some(gone), Circuit::Closed)).ends_with("\n  paused by itself"));
        let parked = Endpoint { configured: false, lane: None, ..endpoint(None, Circuit::Closed) };
        assert!(
            row(parked).starts_with("crm       parked  -      -          -       7        2\n  the config does not")
        );
    }

    #[test]
    fn one_endpoint_is_shown_with_its_limits() {
        let breaker = Breaker {
            failures: 5,
            failure_rate: 0.5,
            samples_min: 20,
            window_ms: 60_000,
            probe_initial_ms: 5_000,
            probe_max_ms: 90_000,
        };
        let limits = Limits {
            concurrency_min: 1,
            concurrency_max: 8,
            rate: Some("600/min".into()),
            rate_burst: Some(20),
            order: "key".into(),
            order_hold_max_ms: Some(600_000),
            breaker: Some(breaker),
            connect_timeout_ms: 5_000,
            timeout_ms: 15_000,
            attempts_max: 50,
            age_max_ms: 259_200_000,
        };
        let of = |limits| Endpoint { limits: Some(limits), url: Some("http://crm/".into()), ..endpoint(None, open()) };
        let text = shown(&of(limits.clone())).on(Screen::default());
        for line in [
            "url        http://crm/",
            "signing    -",
            "window     1 to 8",
            "rate       600/min, burst 20",
            "order      key, held for at most 10m",
            "breaker    opens at 5 failures in a row, or 0.5 of 20 or more within 1m; probes after 5s, then up to \
             1m 30s apart",
            "timeout    15s, 5s to connect",
            "gives up   after 50 attempts or 72h",
        ] {
            assert!(text.lines().any(|other| other == line), "{line} is not in\n{text}");
        }
        let plain = Limits { concurrency_min: 8, rate: None, rate_burst: None, breaker: None, ..limits };
        let text = shown(&of(plain)).on(Screen::default());
        for line in ["window     8", "rate       -", "breaker    off"] {
            assert!(text.lines().any(|other| other == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn silence_is_a_state_where_nothing_else_is_wrong() {
        let mut silent = endpoint(None, Circuit::Closed);
        silent.lane = silent.lane.map(|lane| Lane { held_until: Some("T9".into()), ..lane });
        assert_eq!(state(&silent), ("silent", ""));
        assert_eq!(notes(&silent), ["it asked for silence until T9"]);
    }
}
