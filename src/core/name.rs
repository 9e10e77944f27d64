//! The name of a source or an endpoint: short, plain, safe in a path, a log line and a metric label.

use std::fmt;
use std::sync::Arc;

/// A valid name: 1 to 64 characters of `a-z 0-9 - _`, starting with a letter or digit. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

/// Why a text is not a [`Name`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NameError;

impl Name {
    /// The longest name, in bytes.
    pub const LEN_MAX: usize = 64;

    /// A name, or an error if `text` is not one.
    pub fn new(text: &str) -> Result<Self, NameError> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let starts_plain = text.bytes().next().is_some_and(plain);
        let rest_plain = text.bytes().all(|byte| plain(byte) || byte == b'-' || byte == b'_');
        if starts_plain && rest_plain && text.len() <= Self::LEN_MAX { Ok(Self(text.into())) } else { Err(NameError) }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

impl std::borrow::Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name has 1 to 64 characters of a-z, 0-9, '-' and '_' and starts with a letter or digit")
    }
}

impl std::error::Error for NameError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_and_plain() {
        for good in ["a", "crm", "call-center_2", "0", &"x".repeat(64)] {
            assert_eq!(Name::new(good).unwrap().as_str(), good);
        }
        for bad in ["", "-a", "_a", "A", "a b", "a/b", "é", "a.b", &"x".repeat(65)] {
            assert_eq!(Name::new(bad), Err(NameError), "{bad}");
        }
    }
}
