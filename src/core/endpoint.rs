//! An endpoint: where deliveries go, and how.

use std::fmt;
use std::time::Duration;

use crate::core::attempt::StatusSet;
use crate::core::event::Header;
use crate::core::name::Name;
use crate::core::retry::RetryPolicy;
use crate::core::sign::Signing;

/// A named downstream URL with its rules, valid by construction of the config.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// What routes and people call it.
    pub name: Name,
    /// An absolute http or https URL.
    pub url: String,
    /// How deliveries are signed.
    pub signing: Signing,
    /// When to try again and when to give up.
    pub retry: RetryPolicy,
    /// Statuses that end a delivery at once, besides 410.
    pub permanent: StatusSet,
    /// Longest time for the connection to stand.
    pub connect_timeout: Duration,
    /// Longest time for a whole attempt, from the first byte to the last.
    pub timeout: Duration,
    /// Most attempts on their way at a time. Later the window's upper bound.
    pub concurrency_max: usize,
    /// Headers added to every delivery; they win over the sender's.
    pub headers: Vec<Header>,
}

impl fmt::Debug for Endpoint {
    /// Without URL and headers, which may hold credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("name", &self.name).finish_non_exhaustive()
    }
}
