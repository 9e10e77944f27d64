//! `backstop journal verify | rebuild | stats | export`: looking after the journal.
//!
//! The journal verbs work on the directory itself, so the gateway must not be running; the lock sees to it.

use std::fmt::Write as _;
use std::ops::ControlFlow;
use std::path::Path;

use clap::Subcommand;
use indicatif::ProgressBar;
use serde::Serialize;

use super::exit::Failure;
use super::output::Output;
use super::{client, export, progress};
use crate::admin::exports;
use crate::config::Local;
use crate::core::sealing::KeyId;
use crate::engine::{Clock as _, SystemClock};
use crate::gateway::journal_settings;
use crate::journal::audit::Span;
use crate::journal::embedded::{EmbeddedJournal, Progress, Settings, Verified};
use crate::journal::log::{Extent, Seals};
use crate::journal::{Counters, Journal as _, JournalError};

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
    /// By key; last what is not sealed.
    sealed: Vec<Sealed>,
    /// Keys without which nobody knows what is sealed with them.
    missing_keys: Vec<String>,
    cut_off: Vec<Stretch>,
    damaged: Vec<Stretch>,
    /// Missing with a key.
    #[serde(flatten)]
    told: Option<Told>,
}

/// What the records and the index say.
#[derive(Debug, Serialize)]
struct Told {
    index_bytes: u64,
    rebuilt: Option<String>,
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

/// How much of the log is sealed with a key, or with none.
#[derive(Debug, Serialize)]
struct Sealed {
    key: Option<String>,
    segments: u64,
    bytes: u64,
    /// As far as all records were read.
    records: Option<u64>,
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
            let found = look(&settings)?;
            let as_asked = |told| Told { rebuilt: Some("as asked".to_owned()), ..told };
            Found { told: found.told.map(as_asked), ..found }
        }
        Verb::Stats => look(&settings)?,
        Verb::Export(wanted) => return export(wanted, &settings),
    };
    args.output.show(&found, as_text)?;
    if found.damaged.is_empty() && found.told.as_ref().is_none_or(|told| told.agrees) {
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
    let config = Local::load_with_keys(config).map_err(|errors| client::refused(&errors))?;
    if !config.journal.dir.is_dir() {
        let dir = config.journal.dir.display();
        return Err(Failure::failed(format!("there is no journal at {dir}; `backstop serve` makes it")));
    }
    Ok(journal_settings(&config.journal, SystemClock.now()))
}

fn verify(settings: &Settings) -> Result<Found, Failure> {
    let bar = progress::waiting("the whole log is read");
    let verified = EmbeddedJournal::verify(settings).map_err(failed)?;
    bar.finish_and_clear();
    let Verified { findings, accepted, seals, missing_keys } = verified;
    let found = if missing_keys.is_empty() { Some(look(settings)?) } else { None };
    let told = found.and_then(|found| found.told).map(|told| {
        let agrees = told.agrees && accepted.is_none_or(|accepted| told.accepted == accepted);
        Told { agrees, ..told }
    });
    let unsealed = findings.records - findings.sealed.values().sum::<u64>();
    let records =
        |key: Option<KeyId>| Some(key.map_or(unsealed, |key| findings.sealed.get(&key).copied().unwrap_or(0)));
    Ok(Found {
        records: findings.records,
        log_bytes: seals.values().map(|extent| extent.bytes).sum(),
        sealed: sealed(&seals, records),
        missing_keys: missing_keys.iter().map(ToString::to_string).collect(),
        cut_off: stretches(&findings.torn),
        damaged: stretches(&findings.damaged),
        told,
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
        Ok((audit, journal.report().clone(), journal.sizes(), journal.seals(), journal.oldest()?))
    });
    let (audit, report, sizes, seals, oldest) = asked?;
    let counters = &audit.counters;
    let told = Told {
        index_bytes: sizes.index_bytes,
        rebuilt: report.rebuilt,
        accepted: counters.accepted,
        unrouted: counters.unrouted,
        deliveries: sum(counters, |tally| tally.routed + tally.replayed),
        attempts: sum(counters, |tally| tally.attempts),
        dropped: counters.dropped,
        oldest_received_at: oldest.map(|at| at.to_string()),
        freed_bytes: sizes.begin.0,
        freed_damaged_bytes: counters.damaged_bytes,
        agrees: audit.is_clean(),
    };
    Ok(Found {
        records: report.findings.records,
        log_bytes: sizes.log_bytes,
        sealed: sealed(&seals, |_| None),
        missing_keys: Vec::new(),
        cut_off: stretches(&report.findings.torn),
        damaged: stretches(&report.findings.damaged),
        told: Some(told),
    })
}

/// Nothing to say of a log that is not sealed at all.
fn sealed(seals: &Seals, records: impl Fn(Option<KeyId>) -> Option<u64>) -> Vec<Sealed> {
    if seals.keys().all(Option::is_none) {
        return Vec::new();
    }
    let of = |(key, extent): (&Option<KeyId>, &Extent)| Sealed {
        key: key.map(|key| key.to_string()),
        segments: extent.segments,
        bytes: extent.bytes,
        records: records(*key),
    };
    // None comes first in the map.
    seals.iter().rev().map(of).collect()
}

/// A bar on stderr, if that is a terminal, from the first word of a long start on.
fn show(bar: &ProgressBar, progress: Progress) {
    if bar.length().is_none() {
        bar.set_style(progress::style("reading the log {wide_bar} {bytes}/{total_bytes} {eta}"));
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
    for Sealed { key, segments, bytes, records } in &found.sealed {
        let with = key.as_ref().map_or("not sealed".to_owned(), |key| format!("sealed by {key}"));
        let records = records.map_or(String::new(), |records| format!(", records {records}"));
        line(&with, &format!("segments {segments}, bytes {bytes}{records}"));
    }
    if let Some(told) = &found.told {
        line("index bytes", &told.index_bytes);
        line("events", &told.accepted);
        line("  routed nowhere", &told.unrouted);
        line("deliveries", &told.deliveries);
        line("attempts", &told.attempts);
        line("let go of", &told.dropped);
        line("bytes given back", &told.freed_bytes);
        if let Some(oldest) = &told.oldest_received_at {
            line("oldest event kept", oldest);
        }
        if told.freed_damaged_bytes > 0 {
            let what = "bytes of those were damaged: what stood there was lost";
            line("let go of DAMAGED", &format!("{} {what}", told.freed_damaged_bytes));
        }
        if let Some(why) = &told.rebuilt {
            line("index built again", why);
        }
    }
    for Stretch { position, bytes } in &found.cut_off {
        line("cut-off write", &format!("{bytes} bytes at {position}: never acknowledged"));
    }
    for Stretch { position, bytes } in &found.damaged {
        line("DAMAGED", &format!("{bytes} bytes at {position}: what stood there is lost"));
    }
    for key in &found.missing_keys {
        line("key missing", &format!("{key}: whether its records are whole is known, not what they say"));
    }
    if let Some(told) = &found.told {
        line("counters agree", &if told.agrees { "yes" } else { "NO" });
    }
    text
}
