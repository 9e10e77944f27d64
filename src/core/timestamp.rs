//! A point in wall-clock time, as milliseconds since the Unix epoch.
//!
//! The core never asks what time it is; it is told. Wall time is used throughout because due times
//! outlive the process. What is absent: time zones (everything is UTC) and sub-millisecond precision.

use std::fmt;
use std::time::Duration;

/// Milliseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The epoch itself: "as early as possible".
    pub const ZERO: Self = Self(0);
    /// Later than anything: "never".
    pub const MAX: Self = Self(u64::MAX);

    /// A time from milliseconds since the epoch.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the epoch.
    #[must_use]
    pub const fn millis(self) -> u64 {
        self.0
    }

    /// Whole seconds since the epoch, rounded down (what webhook signatures carry).
    #[must_use]
    pub const fn seconds(self) -> u64 {
        self.0 / 1000
    }

    /// This time plus `span`; saturates at [`Timestamp::MAX`].
    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(duration_millis(span)))
    }

    /// How long after `earlier` this is; zero if it is not after it.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// This time moved along with a wall clock that jumped by so many milliseconds. "Never" and "as early as
    /// possible" stay what they are.
    #[must_use]
    pub const fn shifted(self, by: i64) -> Self {
        match self {
            Self::ZERO | Self::MAX => self,
            Self(millis) => Self(millis.saturating_add_signed(by)),
        }
    }

    /// Reads an RFC 3339 time with any offset. `None` if it is not one, or lies before 1970.
    #[must_use]
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        let parsed: jiff::Timestamp = text.trim().parse().ok()?;
        u64::try_from(parsed.as_millisecond()).ok().map(Self)
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC with milliseconds, e.g. `2026-11-23T16:29:00.000Z`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = i64::try_from(self.0).unwrap_or(i64::MAX);
        match jiff::Timestamp::from_millisecond(millis) {
            Ok(time) => write!(f, "{time:.3}"),
            Err(_) => f.write_str("never"),
        }
    }
}

/// Reads a span as people write it, like `90s`, `2h 30m` or `7d`; a day has 24 hours. `None` if it is none, or goes back.
#[must_use]
pub fn parse_span(text: &str) -> Option<Duration> {
    let span: jiff::Span = text.trim().parse().ok()?;
    let signed = span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).ok()?;
    Duration::try_from(signed).ok()
}

/// A duration in whole milliseconds, saturating.
#[must_use]
pub fn duration_millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc3339_round_trips_and_keeps_milliseconds() {
        let time = Timestamp::parse_rfc3339("2023-06-08T12:30:00.250+02:00").unwrap();
        assert_eq!(time.to_string(), "2023-06-08T10:30:00.250Z");
        assert_eq!(Timestamp::parse_rfc3339(&time.to_string()), Some(time));
    }

    #[test]
    fn spans_are_read_as_people_write_them() {
        let seconds = |text: &str| parse_span(text).map(|span| span.as_secs_f64());
        assert_eq!(seconds("90s"), Some(90.0));
        assert_eq!(seconds(" 2h 30m "), Some(9000.0));
        assert_eq!(seconds("500ms"), Some(0.5));
        assert_eq!(seconds("1w 1d"), Some(8.0 * 86400.0));
        for text in ["", "soon", "5", "-3s", "1h ago", "1y", "1 month", "99999999999999999999s"] {
            assert_eq!(parse_span(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in ["", "yesterday", "1686220200", "2023-06-08", "1969-12-31T23:59:59Z"] {
            assert_eq!(Timestamp::parse_rfc3339(text), None, "{text}");
        }
    }

    #[test]
    fn arithmetic_saturates() {
        assert_eq!(Timestamp::MAX.after(Duration::from_secs(1)), Timestamp::MAX);
        assert_eq!(Timestamp::ZERO.since(Timestamp::MAX), Duration::ZERO);
        assert_eq!(Timestamp::MAX.to_string(), "never");
    }
}
