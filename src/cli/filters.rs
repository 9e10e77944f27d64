//! The filters that lists and replays share, as options.

use crate::admin::wire::Selection;

/// Which events or deliveries are meant. Every option that is given must fit.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Filters {
    /// Deliveries to this endpoint
    #[arg(long, value_name = "NAME")]
    pub(crate) endpoint: Option<String>,
    /// Events of this source
    #[arg(long, value_name = "NAME")]
    pub(crate) source: Option<String>,
    /// Events of these types; `call_*` fits every ending
    #[arg(long = "type", value_name = "TYPE", value_delimiter = ',')]
    pub(crate) types: Vec<String>,
    /// Events with this key (for Flyflow the call id); may be given again
    #[arg(long = "key", value_name = "KEY")]
    pub(crate) keys: Vec<String>,
    /// Only these: evt_… with its deliveries, or dlv_…
    #[arg(long = "id", value_name = "ID", value_delimiter = ',')]
    pub(crate) ids: Vec<String>,
    /// failed, dead, retrying, scheduled, delivered, cancelled or expired
    #[arg(long = "status", value_name = "STATUS", value_delimiter = ',')]
    pub(crate) statuses: Vec<String>,
    /// Deliveries that stand where they stand for this reason, like attempts_exhausted or gone
    #[arg(long)]
    pub(crate) reason: Option<String>,
    /// Deliveries that failed alike: a group that `backstop failures` lists
    #[arg(long, value_name = "ID")]
    pub(crate) group: Option<String>,
    /// Events received since then: 2026-01-31T12:00:00Z, or a span before now like 2h
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// Events received before then
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<String>,
    /// Events that happened since then by their own word, or else by when they were received
    #[arg(long, value_name = "TIME")]
    pub(crate) occurred_since: Option<String>,
    /// Events that happened before then
    #[arg(long, value_name = "TIME")]
    pub(crate) occurred_until: Option<String>,
    /// Deliveries that this replay made
    #[arg(long = "made-by", value_name = "ID")]
    pub(crate) replay: Option<String>,
    /// Also deliveries that a later one has taken the place of
    #[arg(long)]
    pub(crate) include_superseded: bool,
}

/// How much of a list, and in which order.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Extent {
    /// At most this many
    #[arg(long, value_name = "COUNT", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) limit: u32,
    /// All of it, however long
    #[arg(long, conflicts_with = "limit")]
    pub(crate) all: bool,
    /// Oldest first
    #[arg(long)]
    pub(crate) oldest: bool,
    /// Go on where an earlier list ended
    #[arg(long)]
    pub(crate) cursor: Option<String>,
}

impl Filters {
    /// As the API takes it.
    pub(crate) fn selection(&self, unrouted: bool) -> Selection {
        let it = self.clone();
        Selection {
            endpoint: it.endpoint,
            source: it.source,
            types: it.types,
            keys: it.keys,
            ids: it.ids,
            statuses: it.statuses,
            reason: it.reason,
            group: it.group,
            since: it.since,
            until: it.until,
            occurred_since: it.occurred_since,
            occurred_until: it.occurred_until,
            replay: it.replay,
            include_superseded: it.include_superseded,
            unrouted,
        }
    }
}

impl Extent {
    /// At most this many.
    pub(crate) fn limit(&self) -> usize {
        if self.all { usize::MAX } else { usize::try_from(self.limit).unwrap_or(usize::MAX) }
    }

    /// The query parameters of a list of `selection`; the limit is the client's business.
    pub(crate) fn parameters(&self, selection: &Selection) -> Vec<(&'static str, String)> {
        let mut parameters = selection.parameters();
        if self.oldest {
            parameters.push(("order", "oldest".to_owned()));
        }
        parameters
    }
}
