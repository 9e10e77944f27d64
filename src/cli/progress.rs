//! How far long work has come: on standard error, and only if that is a terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// How often what cannot be counted shows that it goes on.
const TICK: Duration = Duration::from_millis(120);

/// What is counted, like `events`; with a bar if it is known how many there are.
pub(super) fn counting(what: &'static str, total: Option<u64>) -> ProgressBar {
    let template = match total {
        Some(_) => "{bar:30} {human_pos}/{human_len} {msg} ({per_sec}, {eta} left)",
        None => "{spinner} {human_pos} {msg} ({per_sec})",
    };
    total.map_or_else(ProgressBar::new_spinner, ProgressBar::new).with_style(style(template)).with_message(what)
}

/// A file of so many bytes.
pub(super) fn reading(what: &'static str, total: u64) -> ProgressBar {
    let template = "{msg} {bar:30} {bytes}/{total_bytes} ({bytes_per_sec}, {eta} left)";
    ProgressBar::new(total).with_style(style(template)).with_message(what)
}

/// What somebody else does and tells nothing of until it is done.
pub(super) fn waiting(what: impl Into<std::borrow::Cow<'static, str>>) -> ProgressBar {
    let bar = ProgressBar::new_spinner().with_style(style("{spinner} {msg} {elapsed}")).with_message(what);
    bar.enable_steady_tick(TICK);
    bar
}

/// What a bar looks like.
pub(super) fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_template_can_be_drawn() {
        for template in [
            "{bar:30} {human_pos}/{human_len} {msg} ({per_sec}, {eta} left)",
            "{spinner} {human_pos} {msg} ({per_sec})",
            "{msg} {bar:30} {bytes}/{total_bytes} ({bytes_per_sec}, {eta} left)",
            "{spinner} {msg} {elapsed}",
            "reading the log {wide_bar} {bytes}/{total_bytes} {eta}",
            "{bar:30} {pos}/{len} {msg} ({eta} left; Ctrl-C detaches)",
        ] {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
    }
}
