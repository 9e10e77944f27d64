//! An operation: something that somebody had the gateway do, or tried to.

use std::fmt;
use std::str::FromStr;

use crate::core::event::cut;
use crate::core::role::Role;
use crate::core::timestamp::Timestamp;

/// Longest text of any field but the parameters, in bytes.
pub const TEXT_LEN_MAX: usize = 500;
/// Longest parameters, in bytes.
pub const PARAMETERS_LEN_MAX: usize = 4096;

/// What an operation is called by: `opr_` and a number that grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OperationId(pub u64);

/// What was asked for, by whom. It holds no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// When.
    pub at: Timestamp,
    /// By whom; `None` if nobody knows.
    pub who: Option<Who>,
    /// From which address; `None` on the gateway's own machine, in its directory.
    pub from: Option<String>,
    /// What: a noun and a verb, like `endpoint.pause`.
    pub what: String,
    /// What it was to be done to, if that is one thing.
    pub object: Option<String>,
    /// How, as JSON without secrets; empty if nothing was said.
    pub parameters: String,
    /// How many like it, turned away just as well, came before and were not noted one by one.
    pub repeats: u64,
}

/// Who had something done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Who {
    /// What the holder of the token is called.
    pub name: String,
    /// What the token is called by.
    pub token: Option<String>,
    /// What its holder might do then.
    pub role: Role,
}

/// What an operation came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// When.
    pub at: Timestamp,
    /// The answer's HTTP status.
    pub status: u16,
    /// What came to be, or why nothing did.
    pub detail: String,
}

/// What an operation came to, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ending {
    /// It was done.
    Done,
    /// It was not for this one to ask for.
    Denied,
    /// It made no sense, or not as things stood.
    Refused,
    /// The gateway could not.
    Failed,
    /// It is under way, or the gateway ended before it was over: it may have been done, or a part of it.
    Unknown,
}

impl Operation {
    /// The same with every text cut to what is kept.
    #[must_use]
    pub fn bounded(self) -> Self {
        let text = |text: &str| cut(text, TEXT_LEN_MAX).to_owned();
        Self {
            from: self.from.as_deref().map(text),
            what: text(&self.what),
            object: self.object.as_deref().map(text),
            parameters: cut(&self.parameters, PARAMETERS_LEN_MAX).to_owned(),
            ..self
        }
    }
}

impl Outcome {
    /// An outcome; a long detail is cut.
    #[must_use]
    pub fn new(at: Timestamp, status: u16, detail: &str) -> Self {
        Self { at, status, detail: cut(detail, TEXT_LEN_MAX).to_owned() }
    }
}

impl Ending {
    /// Every word.
    pub const ALL: [Self; 5] = [Self::Done, Self::Denied, Self::Refused, Self::Failed, Self::Unknown];

    /// In a word, what an outcome says.
    #[must_use]
    pub fn of(outcome: Option<&Outcome>) -> Self {
        match outcome.map(|outcome| outcome.status) {
            None => Self::Unknown,
            Some(..=399) => Self::Done,
            Some(401 | 403) => Self::Denied,
            Some(400..=499) => Self::Refused,
            Some(_) => Self::Failed,
        }
    }

    /// The word used in the API and the CLI.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Denied => "denied",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        }
    }

    /// What this word means.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|ending| ending.as_str() == name)
    }
}

impl fmt::Display for OperationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "opr_{}", self.0)
    }
}

impl FromStr for OperationId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let digits = text.strip_prefix("opr_").filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
        digits.and_then(|digits| digits.parse().ok()).map(Self).ok_or(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ending_is_the_status_in_a_word() {
        let ending = |status| Ending::of(Some(&Outcome::new(Timestamp::ZERO, status, "")));
        let told = [(200, "done"), (202, "done"), (400, "refused"), (401, "denied"), (403, "denied"), (409, "refused")];
        for (status, word) in told.into_iter().chain([(499, "refused"), (500, "failed"), (503, "failed")]) {
            assert_eq!(ending(status).as_str(), word, "{status}");
        }
        assert_eq!(Ending::of(None), Ending::Unknown);
        assert!(Ending::ALL.iter().all(|ending| Ending::from_name(ending.as_str()) == Some(*ending)));
    }

    #[test]
    fn an_id_is_read_back() {
        assert_eq!(OperationId(32).to_string().parse(), Ok(OperationId(32)));
        for bad in ["", "opr_", "32", "opr_+1", "opr_-1", "opr_99999999999999999999", "evt_1"] {
            assert_eq!(bad.parse::<OperationId>(), Err(()), "{bad}");
        }
    }

    #[test]
    fn texts_are_cut_where_a_character_ends() {
        let long = "é".repeat(5000);
        let operation = Operation {
            at: Timestamp::ZERO,
            who: None,
            from: Some(long.clone()),
            what: long.clone(),
            object: Some(long.clone()),
            parameters: long.clone(),
            repeats: 0,
        };
        let bounded = operation.bounded();
        assert_eq!(bounded.object.unwrap().len(), TEXT_LEN_MAX);
        assert_eq!(bounded.parameters.len(), PARAMETERS_LEN_MAX);
        assert_eq!(Outcome::new(Timestamp::ZERO, 200, &long).detail.len(), TEXT_LEN_MAX);
    }
}
