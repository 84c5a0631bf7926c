//! Progress bars. They are drawn on standard error if that is a terminal, and nowhere otherwise;
//! what must be read in any case is written to standard output.

use indicatif::{ProgressBar, ProgressStyle};

pub(crate) fn bytes(len: usize) -> ProgressBar {
    bar(len, "{wide_bar} {binary_bytes}/{binary_total_bytes}")
}

pub(crate) fn documents(len: usize) -> ProgressBar {
    bar(len, "{wide_bar} {human_pos}/{human_len}")
}

fn bar(len: usize, template: &str) -> ProgressBar {
    let bar = ProgressBar::new(len as u64);
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// For work of which nobody knows how long it takes.
pub(crate) fn spinner() -> ProgressBar {
    ProgressBar::new_spinner()
}
