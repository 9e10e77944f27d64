//! How a command ends: its exit code, and the one sentence that says why it failed.

use std::fmt;
use std::process::ExitCode;

use super::screen;

/// The exit codes, for scripts. Never renumber.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// Done.
    Ok = 0,
    /// Tried, and failed.
    Failed = 1,
    /// The command line, a filter or the config makes no sense.
    Usage = 2,
    /// The gateway did not answer.
    Unreachable = 3,
    /// The gateway refused: no such thing, not as things stand, or not by this token's role (403, 404, 409, 422).
    Refused = 4,
}

/// A command that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// With which code.
    pub(crate) exit: Exit,
    /// Why, in one sentence, without a secret.
    pub(crate) message: String,
}

impl Failure {
    /// Tried, and failed.
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self { exit: Exit::Failed, message: message.into() }
    }

    /// What was asked for makes no sense.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, message: message.into() }
    }

    /// An answer with this status, which is not a success.
    pub(crate) fn status(status: u16, message: impl Into<String>) -> Self {
        let exit = match status {
            400 => Exit::Usage,
            403 | 404 | 409 | 422 => Exit::Refused,
            _ => Exit::Failed,
        };
        Self { exit, message: message.into() }
    }
}

/// Says on stderr why a command failed, and gives its exit code.
pub(crate) fn conclude(result: Result<(), Failure>) -> ExitCode {
    let exit = match result {
        Ok(()) => Exit::Ok,
        Err(failure) => {
            screen::complain(&failure.message);
            failure.exit
        }
    };
    ExitCode::from(exit as u8)
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_told_from_failures() {
        let exit = |status| Failure::status(status, "").exit;
        assert_eq!([403, 404, 409, 422].map(exit), [Exit::Refused; 4]);
        assert_eq!(exit(400), Exit::Usage);
        assert_eq!([401, 405, 413, 500, 503].map(exit), [Exit::Failed; 5]);
    }
}
