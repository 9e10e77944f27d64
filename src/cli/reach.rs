//! Why no answer came, or not one of the gateway's: where it was tried, how the command came to that address, and what
//! to do about it.
//!
//! Causes are read from the typed errors of the client, never from their text.

use std::error::Error;
use std::fmt;
use std::path::{Path, PathBuf};

use rustls::CertificateError;

use super::exit::{Exit, Failure};
use super::text::plain;
use crate::admin::wire;

/// Where an address or a token was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Whence {
    /// On the command line, by this option.
    Option(&'static str),
    /// In the environment, in this variable.
    Variable(&'static str),
    /// In this setting of the config.
    Setting(&'static str, PathBuf),
    /// The command made it by itself.
    Own,
}

/// Who was asked.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    /// What should have answered.
    pub(crate) what: &'static str,
    /// Its base URL.
    pub(crate) base: String,
    /// How the command came to it.
    pub(crate) whence: Whence,
}

impl Whence {
    /// Whence a value is that `option` or `variable` gave: the same text may stand in both.
    pub(crate) fn given(option: &'static str, variable: &'static str, value: &str) -> Self {
        match std::env::var(variable) {
            Ok(text) if text == value => Self::Variable(variable),
            _ => Self::Option(option),
        }
    }

    /// Whence a value is that the config at `path` gave.
    pub(crate) fn setting(name: &'static str, path: &Path) -> Self {
        Self::Setting(name, path.to_owned())
    }
}

impl Asked {
    /// No answer came.
    pub(crate) fn silent(&self, error: &reqwest::Error) -> Failure {
        let Self { what, base, whence } = self;
        let base = base.trim_end_matches('/');
        let (cause, hint) = (cause(error), self.hint(error));
        Failure {
            exit: Exit::Unreachable,
            message: plain(&format!("{what} does not answer at {base} ({cause}); that is {whence}: {hint}")),
        }
    }

    /// No answer came in time.
    pub(crate) fn late(&self) -> Failure {
        let Self { what, base, whence } = self;
        let base = base.trim_end_matches('/');
        let message = format!("{what} does not answer at {base} in time; that is {whence}");
        Failure { exit: Exit::Unreachable, message: plain(&message) }
    }

    /// An answer came that is no success.
    pub(crate) fn refused(&self, status: u16, body: &[u8]) -> Failure {
        let problem: Option<wire::Problem> = serde_json::from_slice(body).ok();
        match problem {
            Some(wire::Problem { detail, problems, .. }) if problems.len() > 1 => {
                // Each on a line that begins with its place, for editors to jump there.
                let lines: String = problems.iter().map(|problem| plain(problem) + "\n").collect();
                Failure::status(status, format!("the config is refused\n{lines}{}", plain(&detail)))
            }
            Some(problem) => Failure::status(status, plain(&problem.detail)),
            None => self.stranger(&format!("it answers {status}, and not as backstop does")),
        }
    }

    /// Somebody else answered.
    pub(crate) fn stranger(&self, why: &str) -> Failure {
        let Self { what, base, whence } = self;
        let base = base.trim_end_matches('/');
        Failure::failed(plain(&format!("{what} is not at {base}; that is {whence}: {why}")))
    }

    fn hint(&self, error: &reqwest::Error) -> String {
        let is_https = self.base.starts_with("https:");
        let broke_off = || {
            let hyper = find::<hyper::Error>(error);
            hyper.is_some_and(|error| error.is_parse() || error.is_incomplete_message())
                || find::<std::io::Error>(error)
                    .is_some_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset)
        };
        match find::<rustls::Error>(error) {
            Some(rustls::Error::InvalidMessage(_)) => {
                "no TLS is spoken there; write http:// if it is a listener without TLS".to_owned()
            }
            // Of all that is wrong with it, this is what has no name of its own and happens.
            Some(rustls::Error::InvalidCertificate(CertificateError::Other(_))) => {
                "no server can show such a certificate, if it is an authority's; openssl makes one that can with \
                 `-addext basicConstraints=critical,CA:FALSE`"
                    .to_owned()
            }
            Some(rustls::Error::InvalidCertificate(_)) => {
                "say with --ca who vouches for its certificate, and call it by a name that stands in it".to_owned()
            }
            Some(_) => "TLS could not be agreed on".to_owned(),
            None if !is_https && broke_off() => "is it a listener with TLS? Then write https://".to_owned(),
            None => match self.whence {
                Whence::Setting(..) | Whence::Own => "is `backstop serve` running with this config?".to_owned(),
                _ => "is `backstop serve` running there?".to_owned(),
            },
        }
    }
}

impl fmt::Display for Whence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Option(option) => f.write_str(option),
            Self::Variable(variable) => write!(f, "the variable {variable}"),
            Self::Setting(setting, path) => write!(f, "{setting} of {}", path.display()),
            Self::Own => f.write_str("a gateway of its own"),
        }
    }
}

/// The innermost cause: those around it repeat the URL.
fn cause(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".to_owned();
    }
    causes(error).last().map_or_else(String::new, ToString::to_string)
}

/// An error and its causes, those inside an I/O error as well.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| {
        let inside = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        inside.map(|inside| inside as &(dyn Error + 'static)).or_else(|| error.source())
    })
}

fn find<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    causes(error).find_map(|cause| cause.downcast_ref())
}
