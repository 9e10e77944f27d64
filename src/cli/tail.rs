//! `backstop tail`: what happens, as it happens.
//!
//! The gateway tells what is durable. Where the connection is lost, the command says so, comes again until it is ended,
//! and says from when to when it saw nothing; where it was too slow, it says how much it missed. Nothing is filled in:
//! lists have what was.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;

use super::client::{Client, Remote, Unanswered};
use super::exit::Failure;
use super::output::{Output, lines};
use super::screen::{Screen, is_abandoned, put, say};
use super::stream::Stream;
use super::text::{Text, plain};
use crate::admin::wire::{Arrived, Circuit, Happening, Stood, Tried};
use crate::core::source::ALERTS;

/// How often it is seen whether anybody reads on.
const LOOK: Duration = Duration::from_secs(1);
/// Between two tries to come again, at first and at most.
const PAUSE_MIN: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Follow what happens: events that come in, attempts to deliver them, endpoints that fail or come back
///
/// One line each, until Ctrl-C. A connection that is lost is taken up again, with a word on stderr about what was not
/// seen; with --output jsonl the lines `begun` and `missed` say it, too. Filters add up; a change of an endpoint has no source, type or key, and only attempts have a status.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  backstop tail
  backstop tail --source flyflow --type 'call_*'
  backstop tail --what attempts --status dead,retrying --output jsonl | jq .failure")]
pub(crate) struct Args {
    /// Only these kinds of happenings
    #[arg(long, value_enum, value_delimiter = ',')]
    what: Vec<What>,
    /// Only what concerns this endpoint
    #[arg(long, value_name = "NAME")]
    endpoint: Option<String>,
    #[command(flatten)]
    which: Which,
    /// Only attempts that leave their delivery so: delivered, retrying or dead
    #[arg(long = "status", value_name = "STATUS", value_delimiter = ',')]
    statuses: Vec<String>,
    #[command(flatten)]
    remote: Remote,
}

/// Whose events.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct Which {
    /// Only events of this source
    #[arg(long, value_name = "NAME")]
    pub(super) source: Option<String>,
    /// Only events of these types; `call_*` fits every ending
    #[arg(long = "type", value_name = "TYPE", value_delimiter = ',')]
    pub(super) types: Vec<String>,
    /// Only events with this key (for Flyflow the call id); may be given again
    #[arg(long = "key", value_name = "KEY")]
    pub(super) keys: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum What {
    /// Events that were accepted
    Events,
    /// Attempts to deliver them
    Attempts,
    /// Endpoints that were paused, resumed, failed or came back
    Endpoints,
}

/// A stream that is taken up again where it was lost.
pub(super) struct Feed<'a> {
    client: &'a Client,
    parameters: Vec<(&'static str, String)>,
    stream: Option<Stream>,
    pause: Duration,
}

/// What a feed has next.
pub(super) enum Next {
    /// It begins, for the first time or again.
    Begun(String),
    /// This happened.
    Happened(Box<Happening>),
    /// The stream is lost, and why if that is known; the next call takes it up again.
    Lost(Option<String>),
}

impl Which {
    pub(super) fn parameters(&self) -> Vec<(&'static str, String)> {
        let source = self.source.clone().map(|source| ("source", source));
        let types = (!self.types.is_empty()).then(|| ("type", self.types.join(",")));
        let keys = self.keys.iter().map(|key| ("key", key.clone()));
        source.into_iter().chain(types).chain(keys).collect()
    }
}

impl<'a> Feed<'a> {
    /// Begins to follow; the first time it must be there.
    pub(super) async fn open(client: &'a Client, parameters: Vec<(&'static str, String)>) -> Result<Self, Failure> {
        let stream = Some(client.follow(&["feed"], &parameters).await?);
        Ok(Self { client, parameters, stream, pause: PAUSE_MIN })
    }

    /// Waits for what is next. If the wait is given up, nothing is lost.
    pub(super) async fn next(&mut self) -> Result<Next, Failure> {
        let Some(stream) = &mut self.stream else {
            tokio::time::sleep(self.pause).await;
            self.pause = (self.pause * 2).min(PAUSE_MAX);
            return match self.client.follow(&["feed"], &self.parameters).await {
                Ok(stream) => {
                    self.stream = Some(stream);
                    Box::pin(self.next()).await
                }
                // It starts again, or has no place for one more who follows.
                Err(Unanswered::Now(_)) => Ok(Next::Lost(None)),
                Err(Unanswered::Refused(failure)) => Err(failure),
            };
        };
        Ok(match stream.next().await {
            Some(Happening::Begun { at }) => {
                self.pause = PAUSE_MIN;
                Next::Begun(at)
            }
            Some(Happening::Bye) => self.lost("the gateway ends the stream"),
            Some(happening) => Next::Happened(Box::new(happening)),
            None => self.lost("the connection to the gateway is lost"),
        })
    }

    fn lost(&mut self, why: &str) -> Next {
        self.stream = None;
        Next::Lost(Some(why.to_owned()))
    }
}

/// What the gateway has of a noun, by name.
#[derive(Deserialize)]
struct Names {
    items: Vec<Named>,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

/// Says that nothing may ever come if the gateway has no such source or endpoint: it is followed all the same, for the
/// config may name it later.
pub(super) async fn say_if_unknown(client: &Client, noun: &str, wanted: Option<&str>) -> Result<(), Failure> {
    let Some(wanted) = wanted else { return Ok(()) };
    let plural = format!("{noun}s");
    let Names { items } = client.get(&[&plural], &[]).await?;
    let names = items.into_iter().map(|item| item.name);
    let names: Vec<String> = names.chain((noun == "source").then(|| ALERTS.to_owned())).collect();
    if !names.iter().any(|name| name == wanted) {
        let known = names.join(", ");
        say(&plain(&format!("the gateway has no {noun} {wanted} now, so nothing will come; it has {known}")));
    }
    Ok(())
}

/// Follows until it is interrupted, or nobody reads any more.
pub(crate) async fn run(args: &Args, config: &Path) -> Result<(), Failure> {
    let client = Client::new(&args.remote, config)?;
    let following = follow(args, &client);
    tokio::select! {
        followed = following => followed,
        interrupted = tokio::signal::ctrl_c() => interrupted.map_err(|error| Failure::failed(error.to_string())),
        () = abandoned() => Ok(()),
    }
}

/// Waits until nobody reads any more.
pub(super) async fn abandoned() {
    let mut looks = tokio::time::interval(LOOK);
    loop {
        looks.tick().await;
        if is_abandoned() {
            return;
        }
    }
}

async fn follow(args: &Args, client: &Client) -> Result<(), Failure> {
    let mut feed = Feed::open(client, parameters(args)).await?;
    say_if_unknown(client, "source", args.which.source.as_deref()).await?;
    say_if_unknown(client, "endpoint", args.endpoint.as_deref()).await?;
    let screen = Screen::stdout();
    let mut seen_until: Option<String> = None;
    loop {
        let happening = match feed.next().await? {
            Next::Begun(at) => {
                let at = plain(&at);
                say(&match seen_until.replace(at.clone()) {
                    Some(last) => format!("back since {at}; what happened after {last} is not shown, lists have it"),
                    None => format!("following since {at}; Ctrl-C ends"),
                });
                Happening::Begun { at }
            }
            Next::Lost(why) => {
                why.iter().for_each(|why| say(&format!("{why}; coming again")));
                continue;
            }
            Next::Happened(happening) => *happening,
        };
        if let Some(at) = at(&happening) {
            seen_until = Some(plain(at));
        }
        if let Happening::Missed { count } = happening {
            say(&format!("too much at a time: {count} happenings were missed"));
        }
        let printed = match args.remote.output {
            Output::Table => line(&happening).on(screen),
            // A stream has no whole that could be one JSON text.
            Output::Json | Output::Jsonl => lines(&happening)?,
        };
        if put(printed.as_bytes())?.is_break() {
            return Ok(());
        }
    }
}

fn parameters(args: &Args) -> Vec<(&'static str, String)> {
    let kinds = args.what.iter().map(|what| match what {
        What::Events => "events",
        What::Attempts => "attempts",
        What::Endpoints => "endpoints",
    });
    let mut parameters = args.which.parameters();
    parameters.extend(kinds.map(|kind| ("what", kind.to_owned())));
    parameters.extend(args.endpoint.clone().map(|endpoint| ("endpoint", endpoint)));
    parameters.extend(args.statuses.iter().map(|status| ("status", status.clone())));
    parameters
}

/// When it happened.
fn at(happening: &Happening) -> Option<&str> {
    match happening {
        Happening::Event(Arrived { event, .. }) => Some(&event.received_at),
        Happening::Attempt(Tried { started_at, .. }) => Some(started_at),
        Happening::Endpoint(Stood { at, .. }) => Some(at),
        _ => None,
    }
}

/// One line for people; of what they are told otherwise, none.
fn line(happening: &Happening) -> Text {
    match happening {
        Happening::Event(arrived) => arrived_line(arrived),
        Happening::Attempt(tried) => tried_line(tried),
        Happening::Endpoint(stood) => stood_line(stood),
        _ => Text::default(),
    }
}

fn arrived_line(Arrived { event, endpoints }: &Arrived) -> Text {
    let to = if endpoints.is_empty() { "nowhere: no route fitted".to_owned() } else { endpoints.join(", ") };
    let key = event.key.as_deref().unwrap_or("-");
    let (at, source, of, id) = (&event.received_at, &event.source, &event.event_type, &event.id);
    Text::from(plain(&format!("{at}  event     {source}  {of}  {key}  {id}  to {to}")) + "\n")
}

fn tried_line(tried: &Tried) -> Text {
    let mut text = Text::from(plain(&format!("{}  attempt   {}  ", tried.started_at, tried.endpoint)));
    text.push_state(&tried.status);
    let probe = if tried.probe { " (probe)" } else { "" };
    text.push_str(&format!("  #{}{probe} ", tried.number));
    match (tried.last_status, &tried.failure) {
        (Some(status), _) => text.push_state(&status.to_string()),
        (None, failure) => text.push_bad(failure.as_ref().map_or("-", |failure| &*failure.class)),
    }
    let mut rest = format!(" in {} ms", tried.took_ms);
    for part in [&tried.event_type, &tried.key].into_iter().flatten() {
        // Writing to a String cannot fail.
        let _written = write!(rest, "  {part}").is_ok();
    }
    let again = tried.due_at.as_ref().map(|due| format!("  again {due}")).unwrap_or_default();
    text.push_str(&(plain(&format!("{rest}  {}{again}", tried.id)) + "\n"));
    text
}

fn stood_line(stood: &Stood) -> Text {
    let mut text = Text::from(plain(&format!("{}  endpoint  {}  ", stood.at, stood.endpoint)));
    let (state, more) = match (&stood.pause, &stood.circuit, &stood.held_until) {
        (Some(pause), ..) => {
            let note = pause.note.as_ref().map(|note| format!(": {note}")).unwrap_or_default();
            ("paused", format!("by {}{note}", pause.cause))
        }
        (None, Circuit::Open { cause, probe_at, .. }, _) => {
            ("open", format!("by {}, the next probe at {probe_at}", cause.replace('_', " ")))
        }
        (None, Circuit::HalfOpen { allowed, .. }, _) => ("half open", format!("{allowed} at a time")),
        (None, _, Some(until)) => ("silent", format!("until {until}")),
        (None, Circuit::Closed, None) => ("ok", String::new()),
        (None, Circuit::Unknown, None) => ("unknown", String::new()),
    };
    text.push_state(state);
    text.push_str(&(plain(&format!("  {more}")).trim_end().to_owned() + "\n"));
    text
}
