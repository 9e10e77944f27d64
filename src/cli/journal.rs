//! `backstop journal verify | rebuild | stats | export`: looking after the journal.
//!
//! The journal verbs work on the directory itself, so the gateway must not be running; the lock sees to it.

use std::fmt::Write as _;
use std::ops::ControlFlow;
use std::path::Path;

use clap::Subcommand;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::exit::Failure;
use super::output::Output;
use super::{client, export, progress};
use crate::admin::exports;
use crate::core::filter::Filter;
use crate::engine::{Clock as _, SystemClock};
use crate::gateway::journal_settings;
use crate::journal::audit::Span;
use crate::journal::embedded::{EmbeddedJournal, Progress, Settings, Verified};
use crate::journal::{Counters, Journal as _, JournalError, Query};

/// Look after the journal of a stopped gateway
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
    /// How the result is printed
    #[arg(long, value_enum, default_value_t, global = true)]
    output: Output,
}

#[derive(Debug, Clone, Subcommand)]
enum Verb {
    /// Read the whole log and hold the index against it; fails if anything is damaged
    Verify,
    /// Build the index again from the log
    Rebuild,
    /// Show sizes and totals
    Stats,
    /// Write its events as lines of JSON, as `backstop export` does of a running gateway
    Export(Box<export::Wanted>),
}

/// What a journal verb found.
#[derive(Debug, Serialize)]
struct Found {
    records: u64,
    log_bytes: u64,
    index_bytes: u64,
    rebuilt: Option<String>,
    cut_off: Vec<Stretch>,
    damaged: Vec<Stretch>,
    accepted: u64,
    unrouted: u64,
    deliveries: u64,
    attempts: u64,
    /// Of the events, let go of by retention.
    dropped: u64,
    oldest_received_at: Option<String>,
    /// Of the log, since it began.
    freed_bytes: u64,
    /// Of those, damaged.
    freed_damaged_bytes: u64,
    agrees: bool,
}

/// A part of the log.
#[derive(Debug, Serialize)]
struct Stretch {
    position: u64,
    bytes: u64,
}

/// Runs a journal verb.
pub(crate) fn run(args: &Args, config: &Path) -> Result<(), Failure> {
    let settings = settings(config)?;
    let found = match &args.verb {
        Verb::Verify => verify(&settings)?,
        Verb::Rebuild => {
            EmbeddedJournal::distrust_index(&settings).map_err(failed)?;
            Found { rebuilt: Some("as asked".to_owned()), ..look(&settings)? }
        }
        Verb::Stats => look(&settings)?,
        Verb::Export(wanted) => return export(wanted, &settings),
    };
    args.output.show(&found, as_text)?;
    if found.damaged.is_empty() && found.agrees {
        Ok(())
    } else {
        Err(Failure::failed("the journal is damaged: what is named above is lost, the rest is intact"))
    }
}

/// Exports what there is, and fails if some of it was lost.
fn export(wanted: &export::Wanted, settings: &Settings) -> Result<(), Failure> {
    let query = exports::asked(&wanted.parameters(), SystemClock.now()).map_err(Failure::usage)?;
    let mut file = export::Sheet::open(wanted, None)?;
    let exported = opened(settings, |journal| {
        let mut query = query;
        let written = loop {
            let part = exports::part(journal, query.clone())?;
            match file.write(&part.lines, part.held) {
                Ok(ControlFlow::Continue(())) if part.next.is_some() => query.after = part.next,
                Ok(flow) => break Ok(flow),
                Err(failure) => break Err(failure),
            }
        };
        Ok(written.map(|flow| (flow, stretches(&journal.report().findings.damaged))))
    })??;
    let (flow, damaged) = exported;
    if flow.is_break() {
        return Ok(());
    }
    file.end()?;
    match damaged.as_slice() {
        [] => Ok(()),
        [Stretch { position, .. }, ..] => Err(Failure::failed(format!(
            "the journal is damaged in {} places, first at {position}: what stood there is not in the export",
            damaged.len()
        ))),
    }
}

/// Where the config says that the journal is.
pub(super) fn settings(config: &Path) -> Result<Settings, Failure> {
    let config = client::load(config)?;
    if !config.journal.dir.is_dir() {
        let dir = config.journal.dir.display();
        return Err(Failure::failed(format!("there is no journal at {dir}; `backstop serve` makes it")));
    }
    Ok(journal_settings(&config.journal, SystemClock.now()))
}

fn verify(settings: &Settings) -> Result<Found, Failure> {
    let bar = progress::waiting("the whole log is read");
    let Verified { findings, accepted } = EmbeddedJournal::verify(settings).map_err(failed)?;
    bar.finish_and_clear();
    let found = look(settings)?;
    let agrees = found.agrees && accepted.is_none_or(|accepted| found.accepted == accepted);
    Ok(Found {
        records: findings.records,
        cut_off: stretches(&findings.torn),
        damaged: stretches(&findings.damaged),
        agrees,
        ..found
    })
}

/// Opens the journal, has it asked, and closes it.
pub(super) fn opened<T>(
    settings: &Settings,
    ask: impl FnOnce(&EmbeddedJournal) -> Result<T, JournalError>,
) -> Result<T, Failure> {
    let bar = ProgressBar::hidden();
    let journal = EmbeddedJournal::open(settings, &|progress| show(&bar, progress)).map_err(failed)?;
    bar.finish_and_clear();
    let answer = ask(&journal).map_err(failed)?;
    journal.close().map_err(failed)?;
    Ok(answer)
}

/// What there is, and whether an audit is clean.
fn look(settings: &Settings) -> Result<Found, Failure> {
    let asked = opened(settings, |journal| {
        let bar = progress::waiting("the index is held against the log");
        let audit = journal.audit(Span::default())?;
        bar.finish_and_clear();
        let oldest = Query { filter: Filter::default(), after: None, newest_first: false, limit: 1 };
        Ok((audit, journal.report().clone(), journal.sizes(), journal.events(&oldest)?))
    });
    let (audit, report, sizes, oldest) = asked?;
    let counters = &audit.counters;
    Ok(Found {
        records: report.findings.records,
        log_bytes: sizes.log_bytes,
        index_bytes: sizes.index_bytes,
        rebuilt: report.rebuilt,
        cut_off: stretches(&report.findings.torn),
        damaged: stretches(&report.findings.damaged),
        accepted: counters.accepted,
        unrouted: counters.unrouted,
        deliveries: sum(counters, |tally| tally.routed + tally.replayed),
        attempts: sum(counters, |tally| tally.attempts),
        dropped: counters.dropped,
        oldest_received_at: oldest.items.first().map(|view| view.head.received_at.to_string()),
        freed_bytes: sizes.begin.0,
        freed_damaged_bytes: counters.damaged_bytes,
        agrees: audit.is_clean(),
    })
}

/// A bar on stderr, if that is a terminal, from the first word of a long start on.
fn show(bar: &ProgressBar, progress: Progress) {
    if bar.length().is_none() {
        let style = ProgressStyle::with_template("reading the log {wide_bar} {bytes}/{total_bytes} {eta}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_length(progress.total_bytes);
        bar.set_draw_target(indicatif::ProgressDrawTarget::stderr());
    }
    bar.set_position(progress.done_bytes);
}

fn sum(counters: &Counters, of: impl Fn(&crate::journal::Tally) -> u64) -> u64 {
    counters.endpoints.values().map(of).sum()
}

fn stretches(found: &[(crate::journal::log::Position, u64)]) -> Vec<Stretch> {
    found.iter().map(|(position, bytes)| Stretch { position: position.0, bytes: *bytes }).collect()
}

fn failed(error: JournalError) -> Failure {
    Failure::failed(error.to_string())
}

fn as_text(found: &Found) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &dyn std::fmt::Display| {
        // Writing to a String cannot fail.
        let _written = writeln!(text, "{name:<20}{value}").is_ok();
    };
    line("records read", &found.records);
    line("log bytes", &found.log_bytes);
    line("index bytes", &found.index_bytes);
    line("events", &found.accepted);
    line("  routed nowhere", &found.unrouted);
    line("deliveries", &found.deliveries);
    line("attempts", &found.attempts);
    line("let go of", &found.dropped);
    line("bytes given back", &found.freed_bytes);
    if let Some(oldest) = &found.oldest_received_at {
        line("oldest event kept", oldest);
    }
    if found.freed_damaged_bytes > 0 {
        let what = "bytes of those were damaged: what stood there was lost";
        line("let go of DAMAGED", &format!("{} {what}", found.freed_damaged_bytes));
    }
    if let Some(why) = &found.rebuilt {
        line("index built again", why);
    }
    for Stretch { position, bytes } in &found.cut_off {
        line("cut-off write", &format!("{bytes} bytes at {position}: never acknowledged"));
    }
    for Stretch { position, bytes } in &found.damaged {
        line("DAMAGED", &format!("{bytes} bytes at {position}: what stood there is lost"));
    }
    line("counters agree", &if found.agrees { "yes" } else { "NO" });
    text
}
