//! `backstop export`: events whole, as lines of JSON, for a backup, for another gateway, for `jq`.
//!
//! The gateway gives an export part by part, and what is asked for next depends on what was written: a full pipe or a
//! slow disk holds the export up and nobody else. The last line says that all of it is there. One that was cut off has
//! none, and goes on with `--cursor`.

use std::fs::File;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use indicatif::ProgressBar;

use super::client::{Client, Gateway};
use super::exit::Failure;
use super::filters::Filters;
use super::progress;
use super::screen::{flow, say};
use super::text::plain;
use crate::admin::exports::line;
use crate::admin::wire::{Counters, ExportEnd, ExportNext, Selection};

/// Events asked for at a time, if their bodies are small.
const PART_EVENTS: &str = "1000";
/// What stands for standard input and output.
pub(super) const STANDARD: &str = "-";

/// Write events, with bodies, deliveries and attempts, as lines of JSON
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    wanted: Wanted,
    #[command(flatten)]
    gateway: Gateway,
}

/// What is exported, and where to.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Wanted {
    /// A file that is not there yet; `-` is standard output
    #[arg(value_name = "FILE", default_value = STANDARD)]
    to: PathBuf,
    #[command(flatten)]
    filters: Filters,
    /// Only events that were routed nowhere
    #[arg(long)]
    unrouted: bool,
    /// Newest first
    #[arg(long)]
    newest: bool,
    /// Go on where an earlier export ended
    #[arg(long)]
    cursor: Option<String>,
}

/// Where an export is written to.
pub(crate) struct Sheet {
    out: Box<dyn Write>,
    bar: ProgressBar,
    /// What was written.
    held: ExportEnd,
}

impl Wanted {
    /// What to ask for, as the API takes it.
    pub(crate) fn parameters(&self) -> Vec<(&'static str, String)> {
        let selection = self.filters.selection(self.unrouted);
        let mut parameters = selection.parameters();
        parameters.push(("order", if self.newest { "newest" } else { "oldest" }.to_owned()));
        parameters.push(("limit", PART_EVENTS.to_owned()));
        parameters.extend(self.cursor.clone().map(|cursor| ("cursor", cursor)));
        parameters
    }
}

impl Sheet {
    /// Makes the file, for so many events if that is known.
    pub(crate) fn open(wanted: &Wanted, total: Option<u64>) -> Result<Self, Failure> {
        let to = &wanted.to;
        let out: Box<dyn Write> = if to == Path::new(STANDARD) {
            Box::new(io::stdout())
        } else {
            let why = |error: io::Error| match error.kind() {
                io::ErrorKind::AlreadyExists => "is there already; name a file that is not there yet".to_owned(),
                _ => format!("cannot be made: {error}"),
            };
            let made = File::create_new(to);
            Box::new(made.map_err(|error| Failure::failed(format!("{} {}", to.display(), why(error))))?)
        };
        Ok(Self { out, bar: progress::counting("events", total), held: ExportEnd::default() })
    }

    /// Adds lines. `Break` if nobody reads them any more.
    pub(crate) fn write(&mut self, lines: &[u8], held: ExportEnd) -> Result<ControlFlow<()>, Failure> {
        self.held.events += held.events;
        self.held.without_payload += held.without_payload;
        self.bar.set_position(self.held.events);
        self.put(lines)
    }

    /// Says in the last line that all of it is there.
    pub(crate) fn end(&mut self) -> Result<(), Failure> {
        let mut last = Vec::new();
        line(&mut last, &serde_json::json!({ "end": self.held }));
        let read_on = self.put(&last)?;
        self.bar.finish_and_clear();
        if read_on.is_break() {
            return Ok(());
        }
        let ExportEnd { events, without_payload } = self.held;
        let gone = if without_payload == 0 {
            String::new()
        } else {
            format!(", {without_payload} of them without body, which is not kept any more or was damaged")
        };
        let noun = if events == 1 { "event" } else { "events" };
        say(&format!("{events} {noun}{gone}"));
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<ControlFlow<()>, Failure> {
        flow(self.out.write_all(bytes).and_then(|()| self.out.flush()))
    }
}

/// Exports from a running gateway.
pub(crate) async fn run(args: &Args, config: &Path) -> Result<(), Failure> {
    let client = Client::of(&args.gateway, config)?;
    let mut parameters = args.wanted.parameters();
    let mut sheet = Sheet::open(&args.wanted, total(&args.wanted, &client).await?)?;
    loop {
        let part = client.get_part(&["events", "export"], &parameters).await;
        let part = part.map_err(|failure| cut_off(&failure, &parameters, sheet.held.events))?;
        let (lines, next) = split(&part).ok_or_else(|| {
            let broken = Failure::failed("the gateway's answer broke off");
            cut_off(&broken, &parameters, sheet.held.events)
        })?;
        if sheet.write(lines, next.part)?.is_break() {
            return Ok(());
        }
        let Some(cursor) = next.next else { return sheet.end() };
        parameters.retain(|(name, _)| *name != "cursor");
        parameters.push(("cursor", cursor));
    }
}

/// How many events there are to export, if all of them are.
async fn total(wanted: &Wanted, client: &Client) -> Result<Option<u64>, Failure> {
    let is_narrowed = wanted.unrouted || wanted.cursor.is_some();
    if is_narrowed || wanted.filters.selection(false) != Selection::default() {
        return Ok(None);
    }
    let counters: Counters = client.get(&["counters"], &[]).await?;
    Ok(Some(counters.accepted.saturating_sub(counters.dropped)))
}

/// A part's events, and what its last line says.
pub(super) fn split(part: &[u8]) -> Option<(&[u8], ExportNext)> {
    let lines = part.strip_suffix(b"\n")?;
    let begin = lines.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
    Some((part.get(..begin)?, serde_json::from_slice(lines.get(begin..)?).ok()?))
}

/// What went wrong, and how the export can go on.
fn cut_off(failure: &Failure, parameters: &[(&str, String)], events: u64) -> Failure {
    let cursor = parameters.iter().find(|(name, _)| *name == "cursor");
    let go_on =
        cursor.map(|(_, cursor)| format!("; {events} events are written, go on with --cursor {}", plain(cursor)));
    Failure { exit: failure.exit, message: format!("{failure}{}", go_on.unwrap_or_default()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_that_broke_off_is_known_by_its_end() {
        let whole = b"{\"id\":1,\"headers\":[]}\n{\"id\":2}\n{\"next\":\"evt_2\",\"part\":{\"events\":2,\"without_payload\":1}}\n";
        let (lines, next) = split(whole).unwrap();
        assert_eq!(lines, b"{\"id\":1,\"headers\":[]}\n{\"id\":2}\n");
        assert_eq!(next.next.as_deref(), Some("evt_2"));
        assert_eq!(next.part, ExportEnd { events: 2, without_payload: 1 });
        for cut in 0..whole.len() {
            assert_eq!(split(&whole[..cut]), None, "cut at {cut}");
        }
        assert!(split(b"{\"next\":null,\"part\":{\"events\":0,\"without_payload\":0}}\n").unwrap().0.is_empty());
    }
}
