//! `backstop failures`: what is dead or retried, in groups that look alike, each to be replayed as one.

use std::path::Path;

use super::client::{Client, Remote};
use super::exit::Failure;
use super::filters::Filters;
use super::table::Table;
use super::text::Text;
use crate::admin::wire::Failures;

/// Group what is dead or retried by what went wrong; `backstop replay --group ID` delivers a group again
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    filters: Filters,
    /// At most this many groups
    #[arg(long, value_name = "COUNT", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    #[command(flatten)]
    remote: Remote,
}

/// Lists the groups, the largest first.
pub(crate) async fn run(args: &Args, config: &Path) -> Result<(), Failure> {
    let client = Client::new(&args.remote, config)?;
    let mut parameters = args.filters.selection(false).parameters();
    parameters.push(("limit", args.limit.to_string()));
    let failures: Failures = client.get(&["failures"], &parameters).await?;
    args.remote.output.show(&failures, listed)
}

fn listed(failures: &Failures) -> Text {
    let mut table = Table::new(&["GROUP", "ENDPOINT", "WHAT", "COUNT", "DEAD", "FIRST", "LAST", "SAMPLE"]);
    for group in &failures.items {
        let status = group.status.map(|status| status.to_string());
        let what = status.as_deref().unwrap_or(&group.class);
        let [count, dead] = [group.count, group.dead].map(|count| count.to_string());
        let sample = &group.sample;
        let (first, last) = (&group.first_at, &group.last_at);
        table.row([&group.id, &group.endpoint, what, &count, &dead, first, last, &sample.delivery]);
        if !sample.text.is_empty() {
            table.note(&sample.text);
        }
    }
    let mut text = table.text("nothing has failed that fits");
    if failures.other > 0 {
        text.push_str(&format!("{} more in other groups\n", failures.other));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::wire::{FailureGroup, FailureSample};
    use crate::cli::screen::Screen;

    #[test]
    fn a_group_is_a_row_and_its_sample_a_note() {
        let group = |status, class: &'static str, text: &str| FailureGroup {
            id: "flg_1".into(),
            endpoint: "crm".into(),
            class: class.into(),
            status,
            count: 12,
            dead: 2,
            first_at: "T0".into(),
            last_at: "T1".into(),
            sample: FailureSample {
                delivery: "dlv_1_0".into(),
                event: "evt_1".into(),
                event_type: "call_ended".into(),
                key: None,
                text: text.into(),
            },
        };
        let items = vec![group(Some(500), "status", "no\u{1b}tenant"), group(None, "refused", "")];
        let text = listed(&Failures { items, deliveries: 25, groups: 3, other: 1 }).on(Screen::default());
        let expected = "GROUP  ENDPOINT  WHAT     COUNT  DEAD  FIRST  LAST  SAMPLE\n\
                        flg_1  crm       500      12     2     T0     T1    dlv_1_0\n  no·tenant\n\
                        flg_1  crm       refused  12     2     T0     T1    dlv_1_0\n1 more in other groups\n";
        assert_eq!(text, expected);
    }
}
