//! An endpoint: where deliveries go, and how.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::core::attempt::StatusSet;
use crate::core::breaker::BreakerPolicy;
use crate::core::dial::Dial;
use crate::core::event::Header;
use crate::core::name::Name;
use crate::core::rate::Rate;
use crate::core::retry::RetryPolicy;
use crate::core::sign::Signing;
use crate::core::window::Concurrency;

/// How long a failing delivery holds those behind it, unless its endpoint says otherwise.
pub const ORDER_HOLD_MAX_DEFAULT: Duration = Duration::from_secs(15 * 60);

/// A named downstream URL with its rules, valid by construction of the config.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// What routes and people call it.
    pub name: Name,
    /// An absolute http or https URL.
    pub url: String,
    /// How the way there is opened.
    pub dial: Arc<Dial>,
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
    /// Between how many and how many attempts may be on their way at a time.
    pub concurrency: Concurrency,
    /// How many attempts may begin in a span of time, if there is such a limit.
    pub rate: Option<Rate>,
    /// When deliveries are held because the endpoint is down; `None`: never.
    pub breaker: Option<BreakerPolicy>,
    /// Which deliveries wait for each other.
    pub order: Order,
    /// How long a failing delivery holds those behind it; after that they pass.
    pub order_hold_max: Duration,
    /// Headers added to every delivery; they win over the sender's.
    pub headers: Vec<Header>,
}

/// Which deliveries of an endpoint wait for each other. They go by their events' order, one at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// None do.
    #[default]
    None,
    /// Those with the same key.
    Key,
    /// All of them.
    Endpoint,
}

impl Order {
    /// Every order.
    pub const ALL: [Self; 3] = [Self::None, Self::Key, Self::Endpoint];

    /// The word used in the config, the API and the CLI.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Key => "key",
            Self::Endpoint => "endpoint",
        }
    }
}

impl Endpoint {
    /// An endpoint with every rule at its default.
    #[must_use]
    pub fn new(name: Name, url: String) -> Self {
        Self {
            name,
            url,
            dial: Arc::default(),
            signing: Signing::Off,
            retry: RetryPolicy::default(),
            permanent: StatusSet::default(),
            connect_timeout: Duration::from_secs(5),
            timeout: Duration::from_secs(15),
            concurrency: Concurrency::default(),
            rate: None,
            breaker: Some(BreakerPolicy::default()),
            order: Order::None,
            order_hold_max: ORDER_HOLD_MAX_DEFAULT,
            headers: Vec::new(),
        }
    }
}

impl fmt::Debug for Endpoint {
    /// Without URL and headers, which may hold credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("name", &self.name).finish_non_exhaustive()
    }
}
