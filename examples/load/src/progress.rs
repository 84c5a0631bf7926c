//! A progress bar on standard error, if that is a terminal.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::time::Duration;

/// Redraws per second: a serial console cannot take more.
const HZ: u8 = 4;

#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
    /// The phase's duration; without it, the phase has a number of replies.
    length: Option<Duration>,
}

impl Progress {
    pub(crate) fn of_answers(phase: &str, count: u64) -> Self {
        Self {
            bar: bar(phase, count, "{prefix:5} {wide_bar} {human_pos}/{human_len} {msg}"),
            length: None,
        }
    }

    pub(crate) fn of_time(phase: &str, length: Duration) -> Self {
        let seconds = length.as_secs().max(1);
        let bar = bar(phase, seconds, "{prefix:5} {wide_bar} {pos}/{len} s {msg}");
        Self { bar, length: Some(length) }
    }

    pub(crate) fn show(&self, answers: u64, time: Duration) {
        self.bar.set_position(self.length.map_or(answers, |_| time.as_secs()));
        let rate = answers as f64 / time.as_secs_f64().max(1e-3);
        self.bar.set_message(format!("{rate:.0}/s"));
    }

    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

fn bar(phase: &str, len: u64, template: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(len), ProgressDrawTarget::stderr_with_hz(HZ))
        .with_prefix(phase.to_owned());
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
