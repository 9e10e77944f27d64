//! `backstop listen TARGET`: copies of live events for a process on this machine, while it is being written.
//!
//! The copies are made here, by the same transport that delivers: body and headers are byte for byte what an endpoint
//! would get. The gateway makes no delivery of them and notes nothing, for it is only read. Promises: none is left out,
//! whatever breaks off in between, for the feed only says when to look, and what is copied is read behind the last one
//! that was; they go one at a time, in the order in which they came; none is sent twice, and none again if it is refused.

mod copy;

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use super::client::{Client, Remote, Unanswered};
use super::exit::Failure;
use super::export::split;
use super::output::{Output, lines};
use super::screen::{Screen, put, say};
use super::tail::{Feed, Next, Which, abandoned, say_if_unknown};
use super::text::plain;
use crate::admin::wire::{Event, Happening, Page};
use crate::core::id::EventId;
use copy::Copier;

/// Events that are read at a time.
const PART_EVENTS: &str = "50";
/// Before it is read again after nobody answered.
const PAUSE: Duration = Duration::from_secs(1);

/// Send copies of live events to a process on this machine, while you write it
///
/// One line per event, with what the process answered, until Ctrl-C. Deliveries are not disturbed: the gateway is only
/// read, so a token that may look (role read) is enough. Nothing is left out while the connection is lost; what the
/// process refuses is not sent again. Copies have the header `backstop-listen: true`, and are signed by Standard Webhooks
/// with a secret of this run, which is shown, or with the one given.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  backstop listen 3000 --source flyflow
  backstop listen http://127.0.0.1:3000/hook --type 'call_*' --since 1h
  BACKSTOP_LISTEN_SECRET=whsec_… backstop listen localhost:3000/hook --output jsonl")]
pub(crate) struct Args {
    /// Where they go: a port of this machine, a host with a port, or a URL
    #[arg(value_name = "PORT|URL", value_parser = copy::target)]
    to: String,
    #[command(flatten)]
    which: Which,
    /// First those received since then: 2026-01-31T12:00:00Z, or a span before now like 2h
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// What they are signed with, whsec_… or whsk_… [default: a secret of this run]
    #[arg(long, env = "BACKSTOP_LISTEN_SECRET", hide_env_values = true, value_name = "SECRET")]
    secret: Option<String>,
    /// Do not sign them
    #[arg(long, conflicts_with = "secret")]
    unsigned: bool,
    #[command(flatten)]
    remote: Remote,
}

/// Who reads events and has them copied.
struct Listener<'a> {
    client: &'a Client,
    parameters: Vec<(&'static str, String)>,
    since: Option<String>,
    /// The last event that was copied, or else the last before the first that will be.
    behind: Option<EventId>,
    copier: Copier,
    output: Output,
    screen: Screen,
}

/// Copies until it is interrupted, or nobody reads any more.
pub(crate) async fn run(args: &Args, config: &Path) -> Result<(), Failure> {
    let client = Client::new(&args.remote, config)?;
    let copier = Copier::new(&args.to, args.secret.as_deref(), args.unsigned)?;
    let listening = listen(args, &client, copier);
    tokio::select! {
        listened = listening => listened,
        interrupted = tokio::signal::ctrl_c() => interrupted.map_err(|error| Failure::failed(error.to_string())),
        () = abandoned() => Ok(()),
    }
}

async fn listen(args: &Args, client: &Client, copier: Copier) -> Result<(), Failure> {
    let parameters = args.which.parameters();
    let followed = parameters.iter().cloned().chain([("what", "events".to_owned())]).collect();
    let mut feed = Feed::open(client, followed).await?;
    say_if_unknown(client, "source", args.which.source.as_deref()).await?;
    let newest: Page<Event> = client.get(&["events"], &[("limit", "1".to_owned())]).await?;
    let newest = newest.items.first().and_then(|event| event.id.parse().ok());
    let behind = if args.since.is_some() { None } else { newest };
    let of = args.which.source.as_deref().map(|source| format!(" of {source}")).unwrap_or_default();
    say(&plain(&format!("copies of events{of} go to {}, {}", args.to, copier.signed_how())));
    let mut listener = Listener {
        client,
        parameters,
        since: args.since.clone(),
        behind,
        copier,
        output: args.remote.output,
        screen: Screen::stdout(),
    };
    if listener.copy_all().await?.is_break() {
        return Ok(());
    }
    listener.since = None;
    listener.behind = listener.behind.max(newest);
    let mut was_lost = false;
    loop {
        match feed.next().await? {
            Next::Lost(why) => {
                was_lost = true;
                why.iter().for_each(|why| say(&format!("{why}; coming again, and nothing is left out")));
                continue;
            }
            Next::Happened(happening) => match &*happening {
                Happening::Event(arrived) if !listener.is_ahead(&arrived.event.id) => continue,
                Happening::Event(_) | Happening::Missed { .. } => {}
                _ => continue,
            },
            // Some may have come meanwhile.
            Next::Begun(at) => {
                if std::mem::take(&mut was_lost) {
                    say(&format!("back since {}", plain(&at)));
                }
            }
        }
        if listener.copy_all().await?.is_break() {
            return Ok(());
        }
    }
}

impl Listener<'_> {
    /// Whether this event has not been copied yet.
    fn is_ahead(&self, id: &str) -> bool {
        id.parse::<EventId>().is_ok_and(|id| self.behind.is_none_or(|behind| id > behind))
    }

    /// Copies every event behind the last one. `Break` if nobody reads any more what is printed.
    async fn copy_all(&mut self) -> Result<ControlFlow<()>, Failure> {
        let mut cursor = self.behind.map(|id| id.to_string());
        let mut has_said = false;
        loop {
            let part = match self.client.get_part_now(&["events", "export"], &self.asked(cursor)).await {
                Ok(part) => part,
                Err(Unanswered::Refused(failure)) => return Err(failure),
                Err(Unanswered::Now(failure)) => {
                    if !std::mem::replace(&mut has_said, true) {
                        say(&format!("{failure}; coming again, and nothing is left out"));
                    }
                    tokio::time::sleep(PAUSE).await;
                    cursor = self.behind.map(|id| id.to_string());
                    continue;
                }
            };
            let (events, next) = split(&part).ok_or_else(|| Failure::failed("the gateway's answer broke off"))?;
            for line in events.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                if self.copy(line).await?.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
            cursor = next.next;
            if cursor.is_none() {
                return Ok(ControlFlow::Continue(()));
            }
        }
    }

    fn asked(&self, cursor: Option<String>) -> Vec<(&'static str, String)> {
        let mut asked = self.parameters.clone();
        asked.push(("order", "oldest".to_owned()));
        asked.push(("limit", PART_EVENTS.to_owned()));
        asked.extend(self.since.clone().map(|since| ("since", since)));
        asked.extend(cursor.map(|cursor| ("cursor", cursor)));
        asked
    }

    async fn copy(&mut self, line: &[u8]) -> Result<ControlFlow<()>, Failure> {
        let event: Event = serde_json::from_slice(line)
            .map_err(|error| Failure::failed(format!("what the gateway gave is no event: {error}")))?;
        let (id, copied) = self.copier.copy(event).await?;
        self.behind = Some(id);
        let printed = match self.output {
            Output::Table => copied.line().on(self.screen),
            Output::Json | Output::Jsonl => lines(&copied)?,
        };
        put(printed.as_bytes())
    }
}
