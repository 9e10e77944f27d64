//! `backstop failed`: the dead letters, and on request deliveries in any other state, with what they wait for.

use std::path::Path;

use super::client::{Client, Remote};
use super::exit::Failure;
use super::filters::{Extent, Filters};
use super::table::Table;
use super::text::Text;
use super::waits;
use crate::admin::wire::Delivery;

/// List deliveries that failed, or with --status others
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only what waits for an endpoint that the config does not have
    #[arg(long)]
    parked: bool,
    #[command(flatten)]
    filters: Filters,
    #[command(flatten)]
    extent: Extent,
    #[command(flatten)]
    remote: Remote,
}

/// Lists deliveries.
pub(crate) async fn run(args: &Args, config: &Path) -> Result<(), Failure> {
    let client = Client::new(&args.remote, config)?;
    let mut parameters = args.extent.parameters(&args.filters.selection(false));
    if args.parked {
        parameters.push(("parked", "true".to_owned()));
    }
    let empty = if args.filters.statuses.is_empty() { "no failed delivery fits" } else { "no delivery fits" };
    let listed = |deliveries: &[Delivery]| listed(deliveries, empty);
    args.remote.output.show_list(&client, (&["deliveries"], &parameters), &args.extent, listed).await
}

/// Deliveries as a table.
pub(super) fn listed(deliveries: &[Delivery], empty: &str) -> Text {
    let mut table = Table::new(&["DELIVERY", "ENDPOINT", "TYPE", "KEY", "STATUS", "REASON", "TRIES", "LAST", "SINCE"]);
    for delivery in deliveries {
        let (event_type, key) =
            delivery.event.as_ref().map_or(("", None), |event| (event.event_type.as_str(), event.key.as_deref()));
        let status = delivery.last_status.map(|status| status.to_string());
        let last = status.as_deref().or(delivery.last_failure.as_deref()).unwrap_or_default();
        table.row([
            &delivery.id,
            &delivery.endpoint,
            event_type,
            key.unwrap_or_default(),
            &delivery.status,
            &delivery.reason,
            &delivery.attempts_made.to_string(),
            last,
            &delivery.changed_at,
        ]);
        waits::line(delivery).iter().for_each(|line| table.note(line));
    }
    table.text(empty)
}
