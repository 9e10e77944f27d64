//! Watching a replay: a bar while it goes on, a sentence when it has ended.

use std::time::Duration;

use indicatif::ProgressBar;

use crate::admin::wire::{Replay, SkippedBy};
use crate::cli::client::Client;
use crate::cli::exit::{Exit, Failure};
use crate::cli::progress;
use crate::cli::screen::say;
use crate::cli::text::plain;

/// How often it is asked about.
const PERIOD: Duration = Duration::from_millis(250);
/// So often in a row there may be no answer.
const SILENT_MAX: u32 = 120;

/// Watches until the replay is paused or cancelled, or has come to its end with all its deliveries. `total`: so many fit, if that is known.
///
/// Interrupted, the command ends and the replay goes on.
pub(super) async fn until_ended(mut replay: Replay, total: Option<u64>, client: &Client) -> Result<Replay, Failure> {
    let bar = bar(total);
    if bar.is_hidden() && goes_on(&replay) {
        say(&format!("{} is watched until it has ended; it goes on if this is interrupted", plain(&replay.id)));
    }
    let mut silent = 0;
    while goes_on(&replay) {
        bar.set_position(ended(&replay));
        bar.set_message(message(&replay));
        tokio::time::sleep(PERIOD).await;
        match client.get(&["replays", &replay.id], &[]).await {
            Ok(now) => (replay, silent) = (now, 0),
            // It may be starting again: the replay goes on then.
            Err(failure) if failure.exit == Exit::Unreachable && silent < SILENT_MAX => silent += 1,
            Err(failure) => return Err(failure),
        }
    }
    bar.finish_and_clear();
    Ok(replay)
}

fn bar(total: Option<u64>) -> ProgressBar {
    let Some(total) = total else { return ProgressBar::new_spinner() };
    ProgressBar::new(total).with_style(progress::style("{bar:30} {pos}/{len} {msg} ({eta} left; Ctrl-C detaches)"))
}

fn goes_on(replay: &Replay) -> bool {
    replay.state == "running" || (replay.state == "completed" && replay.open > 0)
}

/// Of what it selected: made and ended, or passed over.
const fn ended(replay: &Replay) -> u64 {
    replay.skipped + replay.delivered + replay.dead + replay.withdrawn
}

fn message(replay: &Replay) -> String {
    let Replay { delivered, dead, retrying, skipped, .. } = replay;
    format!("{}: {delivered} delivered, {dead} dead, {retrying} retrying, {skipped} skipped", replay.id)
}

/// How it stands, in a sentence.
pub(super) fn summary(replay: &Replay) -> String {
    let Replay { id, selected, queued, skipped, delivered, .. } = replay;
    let state = state(replay);
    let mut text =
        format!("{id} {state}: {selected} selected, {queued} queued, {skipped} skipped; {delivered} delivered");
    let others = [(replay.open, "waiting"), (replay.dead, "dead"), (replay.withdrawn, "taken back")];
    for (count, word) in others.into_iter().filter(|(count, _)| *count > 0) {
        text.push_str(&format!(", {count} {word}"));
    }
    text.push('\n');
    for (why, count) in reasons(&replay.skipped_by) {
        text.push_str(&format!("  skipped {count}: {why}\n"));
    }
    text
}

/// Its state, and why if it is paused.
pub(super) fn state(replay: &Replay) -> String {
    let hold = replay.hold.as_ref().map(|hold| format!(" ({hold})")).unwrap_or_default();
    format!("{}{hold}", replay.state)
}

/// Why deliveries were skipped, where any were.
pub(super) fn reasons(skipped: &SkippedBy) -> impl Iterator<Item = (&'static str, u64)> {
    let reasons = [
        ("waiting already", skipped.waiting),
        ("too old", skipped.too_old),
        ("delivered later", skipped.delivered_later),
        ("body out of retention", skipped.body_gone),
        ("routed nowhere now", skipped.nowhere),
    ];
    reasons.into_iter().filter(|(_, count)| *count > 0)
}

/// A span for people, to the second.
pub(super) fn span(millis: u64) -> String {
    let seconds = millis.div_ceil(1000);
    let parts = [(seconds / 3600, "h"), (seconds / 60 % 60, "min"), (seconds % 60, "s")];
    let said: Vec<String> =
        parts.iter().filter(|(count, _)| *count > 0).map(|(count, unit)| format!("{count} {unit}")).collect();
    if said.is_empty() { "no time".to_owned() } else { said.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_said_in_hours_minutes_and_seconds() {
        for (millis, said) in [(0, "no time"), (1, "1 s"), (61_000, "1 min 1 s"), (7_200_000, "2 h")] {
            assert_eq!(span(millis), said);
        }
    }
}
