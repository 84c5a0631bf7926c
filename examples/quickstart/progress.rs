//! Progress bars on standard error, if that is a terminal. Important output goes to standard output.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::env;

/// Redraws per second: a serial console cannot take more.
const HZ: u8 = 4;

pub(crate) fn bytes(len: usize) -> ProgressBar {
    bar(len, "{wide_bar} {binary_bytes}/{binary_total_bytes}")
}

pub(crate) fn documents(len: usize) -> ProgressBar {
    bar(len, "{wide_bar} {human_pos}/{human_len}")
}

/// For work of unknown duration.
pub(crate) fn spinner() -> ProgressBar {
    ProgressBar::with_draw_target(None, target()).with_style(ProgressStyle::default_spinner())
}

fn bar(len: usize, template: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(len as u64), target());
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

fn target() -> ProgressDrawTarget {
    // A terminal without cursor movement would get a line for each redraw.
    match env::var_os("TERM") {
        Some(term) if term != "dumb" => ProgressDrawTarget::stderr_with_hz(HZ),
        _ => ProgressDrawTarget::hidden(),
    }
}
