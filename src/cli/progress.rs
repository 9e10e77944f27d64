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
    styled(total.map_or_else(ProgressBar::new_spinner, ProgressBar::new), template).with_message(what)
}

/// A file of so many bytes.
pub(super) fn reading(what: &'static str, total: u64) -> ProgressBar {
    styled(ProgressBar::new(total), "{msg} {bar:30} {bytes}/{total_bytes} ({bytes_per_sec}, {eta} left)")
        .with_message(what)
}

/// What somebody else does and tells nothing of until it is done.
pub(super) fn waiting(what: impl Into<std::borrow::Cow<'static, str>>) -> ProgressBar {
    let bar = styled(ProgressBar::new_spinner(), "{spinner} {msg} {elapsed}").with_message(what);
    bar.enable_steady_tick(TICK);
    bar
}

fn styled(bar: ProgressBar, template: &str) -> ProgressBar {
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
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
        ] {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
    }
}
