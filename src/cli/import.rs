//! `backstop import`: new events made of exported ones.
//!
//! The file is read a part at a time and never held whole. Whatever breaks off, the file, the connection, the gateway:
//! the import is done again, and what was imported is known again. What cannot become an event is named by its line.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::ProgressBar;
use serde::Serialize;

use super::client::{Client, Remote};
use super::exit::Failure;
use super::export::STANDARD;
use super::progress;
use super::screen::say;
use super::text::plain;
use crate::admin::DATA_MAX_BYTES;
use crate::admin::imports::LINES_MAX;
use crate::admin::wire::{Imported, Imports};

/// Bytes of lines at which a part is sent.
const PART_BYTES: usize = 4 << 20;
/// How long the gateway has for making room before the import gives up.
const PATIENCE: u32 = 120;
/// How long to wait before what was not taken is brought again.
const PAUSE: Duration = Duration::from_secs(1);
/// Most lines named that are refused.
const NAMED_MAX: usize = 20;

/// Make new events of exported ones; the same line never makes two
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What `backstop export` wrote; `-` is standard input
    #[arg(value_name = "FILE")]
    from: PathBuf,
    /// The source whose events they become
    #[arg(long, value_name = "NAME")]
    source: String,
    /// Send them where the routes of now say; without it they are unrouted, for a replay to send
    #[arg(long)]
    route: bool,
    #[command(flatten)]
    remote: Remote,
}

/// What came of an import.
#[derive(Debug, Default, Serialize)]
struct Outcome {
    imported: u64,
    duplicates: u64,
    refused: u64,
    /// The first of those refused.
    lines: Vec<Refused>,
    /// Whether the file ended with the line that says so.
    whole: bool,
}

/// A line that no event can be made of.
#[derive(Debug, Serialize)]
struct Refused {
    line: u64,
    why: String,
}

/// Lines to be sent.
#[derive(Debug, Default)]
struct Part {
    /// By their numbers, from 1.
    lines: Vec<(u64, Vec<u8>)>,
    bytes: usize,
}

/// What a file has next.
#[derive(Debug, PartialEq, Eq)]
enum Line {
    Text(Vec<u8>),
    /// It has more than [`DATA_MAX_BYTES`].
    TooLong,
}

/// Imports, and fails if any line was refused.
pub(crate) async fn run(args: &Args, config: &Path) -> Result<(), Failure> {
    let client = Client::new(&args.remote, config)?;
    let (mut reader, bar) = open(&args.from)?;
    let mut outcome = Outcome::default();
    let parameters = [("source", args.source.clone()), ("route", args.route.to_string())];
    let mut part = Part::default();
    let (mut number, mut read) = (0, 0);
    loop {
        let line = next_line(&mut reader).map_err(|error| unread(&args.from, &error))?;
        number += 1;
        read += line.as_ref().map_or(0, Line::bytes);
        let ends = line.is_none();
        match line {
            Some(Line::Text(text)) if text.starts_with(b"{\"end\":") => outcome.whole = true,
            Some(Line::Text(text)) if !text.trim_ascii().is_empty() => part.add(number, text),
            Some(Line::TooLong) => outcome.refuse(number, format!("it is longer than {DATA_MAX_BYTES} bytes")),
            Some(Line::Text(_)) | None => {}
        }
        if ends || part.is_full() {
            send(&client, &parameters, std::mem::take(&mut part), &mut outcome).await?;
            bar.set_position(if bar.length().is_some() { read } else { number });
        }
        if ends {
            break;
        }
    }
    bar.finish_and_clear();
    args.remote.output.show(&outcome, as_text)?;
    if !outcome.whole {
        say("the file has no last line that says that it is whole: it may have been cut off");
    }
    match outcome.refused {
        0 => Ok(()),
        1 => Err(Failure::failed("1 line made no event")),
        refused => Err(Failure::failed(format!("{refused} lines made no event"))),
    }
}

/// Sends a part's lines until each of them is settled.
async fn send(
    client: &Client,
    parameters: &[(&'static str, String)],
    mut part: Part,
    outcome: &mut Outcome,
) -> Result<(), Failure> {
    let mut waits = 0;
    while !part.lines.is_empty() {
        let body = part.lines.iter().flat_map(|(_, line)| line.iter().chain(b"\n")).copied().collect();
        let imports: Imports = client.post_lines(&["events", "import"], parameters, body).await?;
        if imports.items.len() != part.lines.len() {
            return Err(Failure::failed("the gateway did not say of every line what became of it"));
        }
        let before = part.lines.len();
        let mut why = None;
        let told = part.lines.into_iter().zip(imports.items);
        let left = told.filter_map(|(line, told)| {
            if told.outcome == "not_now" {
                why = told.detail;
                return Some(line);
            }
            outcome.count(line.0, told);
            None
        });
        part = Part { lines: left.collect(), bytes: 0 };
        waits = if part.lines.len() < before { 0 } else { waits + 1 };
        if let (Some(why), Some((line, _))) = (why, part.lines.first()) {
            if waits > PATIENCE {
                let why = plain(&why);
                return Err(Failure::failed(format!(
                    "line {line} and what is behind it were not taken: {why}; try again later"
                )));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
    Ok(())
}

impl Part {
    fn add(&mut self, number: u64, line: Vec<u8>) {
        self.bytes += line.len();
        self.lines.push((number, line));
    }

    fn is_full(&self) -> bool {
        self.lines.len() >= LINES_MAX || self.bytes >= PART_BYTES
    }
}

impl Outcome {
    fn count(&mut self, line: u64, told: Imported) {
        match &*told.outcome {
            "imported" => self.imported += 1,
            "duplicate" => self.duplicates += 1,
            _ => self.refuse(line, told.detail.unwrap_or_default()),
        }
    }

    fn refuse(&mut self, line: u64, why: String) {
        self.refused += 1;
        if self.lines.len() < NAMED_MAX {
            self.lines.push(Refused { line, why });
        }
    }
}

/// What is read, and how far it has come: in bytes, if it is known how many there are, else in lines.
fn open(from: &Path) -> Result<(Box<dyn BufRead>, ProgressBar), Failure> {
    if from == Path::new(STANDARD) {
        return Ok((Box::new(BufReader::new(io::stdin())), progress::counting("lines", None)));
    }
    let file = File::open(from).map_err(|error| unread(from, &error))?;
    let length = file.metadata().ok().filter(std::fs::Metadata::is_file).map(|found| found.len());
    let bar = length.map_or_else(|| progress::counting("lines", None), |bytes| progress::reading("importing", bytes));
    Ok((Box::new(BufReader::with_capacity(1 << 20, file)), bar))
}

impl Line {
    /// How much of the file it is, with its end.
    fn bytes(&self) -> u64 {
        match self {
            Self::Text(text) => text.len() as u64 + 1,
            Self::TooLong => DATA_MAX_BYTES as u64,
        }
    }
}

fn unread(from: &Path, error: &io::Error) -> Failure {
    Failure::failed(format!("{} cannot be read: {error}", from.display()))
}

/// The next line without its end; a longer one than can be sent is passed over.
fn next_line(reader: &mut dyn BufRead) -> io::Result<Option<Line>> {
    let mut line = Vec::new();
    let most = DATA_MAX_BYTES as u64;
    (&mut *reader).take(most).read_until(b'\n', &mut line)?;
    if line.ends_with(b"\n") {
        line.pop();
        return Ok(Some(Line::Text(line)));
    }
    if (line.len() as u64) < most {
        return Ok((!line.is_empty()).then_some(Line::Text(line)));
    }
    reader.skip_until(b'\n')?;
    Ok(Some(Line::TooLong))
}

fn as_text(outcome: &Outcome) -> String {
    let Outcome { imported, duplicates, refused, lines, .. } = outcome;
    let mut text = String::new();
    for Refused { line, why } in lines {
        text.push_str(&format!("line {line}: {}\n", plain(why)));
    }
    let unnamed = refused - lines.len() as u64;
    if unnamed > 0 {
        text.push_str(&format!("and {unnamed} more lines\n"));
    }
    text.push_str(&format!("{imported} imported, {duplicates} imported before, {refused} refused\n"));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_where_the_file_does() {
        let mut reader: &[u8] = b"one\n\ntwo";
        let mut next = || next_line(&mut reader).unwrap();
        assert_eq!(next(), Some(Line::Text(b"one".to_vec())));
        assert_eq!(next(), Some(Line::Text(Vec::new())));
        assert_eq!(next(), Some(Line::Text(b"two".to_vec())));
        assert_eq!(next(), None);
    }

    #[test]
    fn a_line_that_is_too_long_is_passed_over() {
        let long = vec![b'x'; DATA_MAX_BYTES + 10];
        let mut file = BufReader::new(io::Read::chain(&long[..], &b"\nnext\n"[..]));
        assert_eq!(next_line(&mut file).unwrap(), Some(Line::TooLong));
        assert_eq!(next_line(&mut file).unwrap(), Some(Line::Text(b"next".to_vec())));
        assert_eq!(next_line(&mut file).unwrap(), None);
    }
}
