//! Progress bars. They are drawn on standard error if that is a terminal, and nowhere otherwise;
//! what must be read in any case is written to standard output.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::env;

/// Drawings in a second: a console on a serial line takes no more.
const HZ: u8 = 4;

pub(crate) fn bytes(len: usize) -> ProgressBar {
    bar(len, "{wide_bar} {binary_bytes}/{binary_total_bytes}")
}

pub(crate) fn documents(len: usize) -> ProgressBar {
    bar(len, "{wide_bar} {human_pos}/{human_len}")
}

/// For work of which nobody knows how long it takes.
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
    // What cannot move its cursor would write a line for each drawing.
    match env::var_os("TERM") {
        Some(term) if term != "dumb" => ProgressDrawTarget::stderr_with_hz(HZ),
        _ => ProgressDrawTarget::hidden(),
    }
}
