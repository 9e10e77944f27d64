//! `backstop operations`: what was done by whom.

use std::path::Path;

use serde_json::{Map, Value};

use super::client::{Client, Remote};
use super::exit::Failure;
use super::filters::Extent;
use super::table::Table;
use super::text::Text;
use crate::admin::wire::Operation;

/// List what was done by whom, and what was tried
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// By the holder of this token
    #[arg(long, value_name = "NAME")]
    who: Option<String>,
    /// Of this kind, like replay.begin or endpoint.pause; `endpoint.*` fits every ending
    #[arg(long)]
    what: Option<String>,
    /// Done to this: a name or an id
    #[arg(long, value_name = "ID")]
    object: Option<String>,
    /// done, denied, refused, failed or unknown
    #[arg(long)]
    result: Option<String>,
    /// Asked for since then: 2026-01-31T12:00:00Z, or a span before now like 2h
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Asked for before then
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    #[command(flatten)]
    extent: Extent,
    #[command(flatten)]
    remote: Remote,
}

/// Lists.
pub(crate) async fn run(args: &Args, config: &Path) -> Result<(), Failure> {
    let order = args.extent.oldest.then(|| "oldest".to_owned());
    let given = [
        ("who", &args.who),
        ("what", &args.what),
        ("object", &args.object),
        ("result", &args.result),
        ("since", &args.since),
        ("until", &args.until),
        ("order", &order),
    ];
    let given = given.into_iter().filter_map(|(name, value)| Some((name, value.clone()?)));
    let client = Client::new(&args.remote, config)?;
    let given: Vec<_> = given.collect();
    args.remote.output.show_list(&client, (&["operations"], &given), &args.extent, listed).await
}

/// What was asked for, without what was left open; `None` if that is all.
fn given(parameters: &Value) -> Option<Value> {
    match parameters {
        Value::Null => None,
        Value::Object(fields) => {
            let fields: Map<String, Value> =
                fields.iter().filter_map(|(name, value)| Some((name.clone(), given(value)?))).collect();
            (!fields.is_empty()).then_some(Value::Object(fields))
        }
        value => Some(value.clone()),
    }
}

fn listed(operations: &[Operation]) -> Text {
    let mut table = Table::new(&["AT", "WHO", "FROM", "WHAT", "OBJECT", "RESULT"]);
    for operation in operations {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let (who, from, object) = (text(&operation.who), text(&operation.from), text(&operation.object));
        table.row([&operation.at, &who, &from, &operation.what, &object, &operation.result]);
        if let Some(parameters) = given(&operation.parameters) {
            table.note(&parameters.to_string());
        }
        if let Some(detail) = &operation.detail {
            table.note(detail);
        }
        if operation.repeats > 0 {
            table.note(&format!("and {} like it before", operation.repeats));
        }
    }
    table.text("no operation fits")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_was_left_open_is_not_shown() {
        assert_eq!(given(&Value::Null), None);
        assert_eq!(given(&json!({ "rate": null, "max_age": {} })), None);
        let asked = json!({ "canary": null, "filter": { "since": "1h", "until": null, "type": [] }, "dry_run": false });
        assert_eq!(given(&asked), Some(json!({ "filter": { "since": "1h", "type": [] }, "dry_run": false })));
        assert_eq!(given(&json!("cut {\"a\":")), Some(json!("cut {\"a\":")));
    }
}
