//! Where a command's words go: how wide it is, whether it shows colours, and whether anybody reads on.
//!
//! Standard output has a width and colours only if it is a terminal: what is piped or kept in a file is the same
//! everywhere. Colours are `--color`'s to say, then those of the variables `NO_COLOR` and `CLICOLOR_FORCE`. A reader that
//! goes away (`| head`) is no error, on either stream.

use std::io::{self, IsTerminal as _, Write as _};
use std::ops::ControlFlow;

use anstream::{AutoStream, ColorChoice};
use clap::builder::styling::{AnsiColor, Style};
use rustix::event::{PollFd, PollFlags, poll};

use super::exit::Failure;

/// Narrower than this no terminal is taken to be.
const WIDTH_MIN: usize = 20;

/// When colours are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum Colour {
    /// On a terminal, unless NO_COLOR is set
    #[default]
    Auto,
    /// Also in pipes and files
    Always,
    /// Nowhere
    Never,
}

/// What words are shown on. The default is a file: as wide as it takes, and without colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Screen {
    /// Columns of text on it.
    pub(crate) width: Option<usize>,
    /// Whether it shows colours.
    pub(crate) colour: bool,
}

/// What a word means to whoever looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// As it should be.
    Good,
    /// It may become so.
    Pending,
    /// Something is wrong.
    Bad,
    /// Of no further concern.
    Quiet,
    /// It names what stands below.
    Title,
}

impl Colour {
    /// From now on it holds for everything that this process prints.
    pub(crate) fn hold(self) {
        let choice = match self {
            Self::Auto => ColorChoice::Auto,
            Self::Always => ColorChoice::Always,
            Self::Never => ColorChoice::Never,
        };
        choice.write_global();
    }
}

impl Screen {
    /// Standard output.
    pub(crate) fn stdout() -> Self {
        let stdout = io::stdout();
        let width = if stdout.is_terminal() { width() } else { None };
        Self { width, colour: AutoStream::choice(&stdout) != ColorChoice::Never }
    }

    /// `text`, in the colour of what it means.
    pub(crate) fn tint(self, text: &str, meaning: Option<Meaning>) -> String {
        match meaning.filter(|_| self.colour) {
            Some(meaning) => {
                let style = meaning.style();
                format!("{style}{text}{style:#}")
            }
            None => text.to_owned(),
        }
    }
}

impl Meaning {
    /// Of a word for how something stands or ended, or of an HTTP status; `None` if it says neither good nor bad.
    pub(crate) fn of(word: &str) -> Option<Self> {
        Some(match word {
            "delivered" | "ok" | "completed" | "done" | "imported" | "acknowledged" => Self::Good,
            "retrying" | "retryable" | "scheduled" | "paused" | "half open" | "silent" | "throttled" | "running"
            | "maybe_delivered" | "unrouted" | "duplicate" => Self::Pending,
            "dead" | "failed" | "open" | "permanent" | "refused" | "denied" | "parked" | "unverified"
            | "quarantined" => Self::Bad,
            "cancelled" | "expired" | "unknown" => Self::Quiet,
            status => match status.parse().ok().filter(|_| status.len() == 3)? {
                200..300_u16 => Self::Good,
                300..600 => Self::Bad,
                _ => return None,
            },
        })
    }

    const fn style(self) -> Style {
        match self {
            Self::Good => AnsiColor::Green.on_default(),
            Self::Pending => AnsiColor::Yellow.on_default(),
            Self::Bad => AnsiColor::Red.on_default(),
            Self::Quiet => Style::new().dimmed(),
            Self::Title => Style::new().bold(),
        }
    }
}

/// How wide the terminal is: as COLUMNS says, or else as it says itself.
fn width() -> Option<usize> {
    let said = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    let own = || rustix::termios::tcgetwinsize(io::stdout()).ok().map(|size| usize::from(size.ws_col));
    said.or_else(own).filter(|width| *width >= WIDTH_MIN)
}

/// Writes to standard output. `Break` if nobody reads it any more: whoever goes on for long need not.
pub(crate) fn put(bytes: &[u8]) -> Result<ControlFlow<()>, Failure> {
    flow(io::stdout().lock().write_all(bytes).and_then(|()| io::stdout().flush()))
}

/// What a write came to.
pub(crate) fn flow(written: io::Result<()>) -> Result<ControlFlow<()>, Failure> {
    match written {
        Ok(()) => Ok(ControlFlow::Continue(())),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ControlFlow::Break(())),
        Err(error) => Err(Failure::failed(format!("the result cannot be written: {error}"))),
    }
}

/// Whether standard output is a pipe or a socket that nobody reads any more.
pub(crate) fn is_abandoned() -> bool {
    let stdout = io::stdout();
    let mut looked = [PollFd::new(&stdout, PollFlags::empty())];
    let now = rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut looked, Some(&now)).is_ok() && looked.iter().any(|it| it.revents().contains(PollFlags::ERR))
}

/// Writes the whole of a result to standard output.
pub(crate) fn print(bytes: &[u8]) -> Result<(), Failure> {
    put(bytes).map(|_| ())
}

/// Says something beside the result, on standard error; if nobody hears it, that is all right.
pub(crate) fn say(text: &str) {
    let _heard = writeln!(io::stderr().lock(), "{text}").is_ok();
}

/// Says why the command failed.
pub(crate) fn complain(text: &str) {
    let style = Meaning::Bad.style();
    let _heard = writeln!(AutoStream::auto(io::stderr().lock()), "{style}backstop:{style:#} {text}").is_ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_statuses_have_a_meaning() {
        let meaning = |words: &[&str]| words.iter().map(|word| Meaning::of(word)).collect::<Vec<_>>();
        assert_eq!(meaning(&["delivered", "200", "299"]), [Some(Meaning::Good); 3]);
        assert_eq!(meaning(&["dead", "open", "302", "500"]), [Some(Meaning::Bad); 4]);
        assert_eq!(meaning(&["retrying", "half open"]), [Some(Meaning::Pending); 2]);
        assert_eq!(meaning(&["", "crm", "42", "0200", "100", "600", "+20"]), [None; 7]);
    }

    #[test]
    fn a_file_has_no_colours() {
        let tint = |screen: Screen| screen.tint("dead", Meaning::of("dead"));
        assert_eq!(tint(Screen::default()), "dead");
        assert_eq!(tint(Screen { width: None, colour: true }), "\u{1b}[31mdead\u{1b}[0m");
    }
}
