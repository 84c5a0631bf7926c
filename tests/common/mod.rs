//! What the test programs share: which trackers and fault modes there are to test here, and saying so
//! when there is none.

#![allow(dead_code, reason = "each test program uses a part of it")]

pub mod blocks;
pub mod child;
#[cfg(feature = "allocator-api2")]
pub mod numbers;
pub mod pages;
pub mod plugin;
#[cfg(feature = "allocator-api2")]
pub mod program;
pub mod robust;
pub mod signals;
pub mod stacks;
pub mod tracer;

use std::fmt;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use thermocline::{Arena, Builder, FaultMode, Lane, Tracker};

/// All lanes, to choose one by its number.
pub const LANES: [Lane; 3] = [Lane::Default, Lane::Hot, Lane::Cold];

/// What the environment says of this kernel: `THERMOCLINE_EXPECT=rwp,pagemap_scan,-poison`. What is
/// named must be there, and a test that skips for want of it fails; what is named with a minus must
/// not be there.
pub fn expected(name: &str) -> Option<bool> {
    let list = std::env::var("THERMOCLINE_EXPECT").ok()?;
    list.split(',').find_map(|item| match item.trim().strip_prefix('-') {
        Some(absent) => (absent == name).then_some(false),
        None => (item.trim() == name).then_some(true),
    })
}

/// Says that a test, or a part of it, was left out, past the harness's capturing of output.
///
/// # Panics
///
/// Panics where the environment says that `what` must be there.
pub fn skip(test: &str, what: &str, reason: &str) {
    leave_out("SKIPPED", test, what, reason);
}

/// Says that a part of a test was left out, likewise.
///
/// # Panics
///
/// As [`skip`] does.
pub fn skip_part(test: &str, what: &str, reason: &str) {
    leave_out("PARTLY", test, what, reason);
}

fn leave_out(word: &str, test: &str, what: &str, reason: &str) {
    assert_ne!(expected(what), Some(true), "{test}: {what} must be here, but: {reason}");
    let line = format!("{word} {test}: {reason}\n");
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}

/// Sets a flag when it is dropped, by a panic too: threads that work until the flag is set must not
/// go on for ever when the test has failed.
pub struct SetOnDrop<'a>(pub &'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Whether a list in the environment names this one, or there is no such list.
fn is_named(variable: &str, name: &impl fmt::Display) -> bool {
    let list = std::env::var(variable).ok();
    list.is_none_or(|list| list.split(',').any(|item| item == name.to_string()))
}

/// The trackers that work here, or those alone that the environment names:
/// `THERMOCLINE_TRACKERS=rwp`. A test that runs with one of two says that it ran partly.
pub fn trackers(test: &str) -> Vec<Tracker> {
    let probe = thermocline::probe();
    let mut trackers = Vec::new();
    if !probe.can_zap() {
        skip(test, "userfaultfd", "the zap tracker does not work here");
    } else if is_named("THERMOCLINE_TRACKERS", &Tracker::Zap) {
        trackers.push(Tracker::Zap);
    } else {
        skip_part(test, "zap", "not with zap: the environment leaves it out");
    }
    if !probe.can_rwp() {
        skip_part(test, "rwp", "not with rwp: this kernel has no read-write protection");
    } else if is_named("THERMOCLINE_TRACKERS", &Tracker::Rwp) {
        trackers.push(Tracker::Rwp);
    } else {
        // The other part of it is another run's.
        skip_part(test, "rwp here", "not with rwp: the environment leaves it out");
    }
    assert!(!probe.can_zap() || !trackers.is_empty(), "THERMOCLINE_TRACKERS names no tracker");
    trackers
}

/// A way for an arena to work, of which every test tries each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setup {
    pub tracker: Tracker,
    pub fault_mode: FaultMode,
}

impl Setup {
    /// What [`fmt::Display`] has written.
    pub fn parse(text: &str) -> Self {
        let (tracker, mode) = text.split_once('/').unwrap();
        Self {
            tracker: if tracker == "rwp" { Tracker::Rwp } else { Tracker::Zap },
            fault_mode: if mode == "inline" { FaultMode::Inline } else { FaultMode::Handler },
        }
    }

    pub fn is_inline(self) -> bool {
        self.fault_mode == FaultMode::Inline
    }
}

impl fmt::Display for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.tracker, self.fault_mode)
    }
}

/// The trackers that work here, each with both fault modes, or with those alone that the environment
/// names: `THERMOCLINE_FAULT_MODES=inline`.
pub fn setups(test: &str) -> Vec<Setup> {
    let mut modes = vec![FaultMode::Handler, FaultMode::Inline];
    modes.retain(|mode| is_named("THERMOCLINE_FAULT_MODES", mode));
    assert!(!modes.is_empty(), "THERMOCLINE_FAULT_MODES names no fault mode");
    let setup = |tracker| modes.iter().map(move |&fault_mode| Setup { tracker, fault_mode });
    trackers(test).into_iter().flat_map(setup).collect()
}

/// Those of them in which the thread that touches a page serves itself.
pub fn inline_setups(test: &str) -> Vec<Setup> {
    setups(test).into_iter().filter(|setup| setup.is_inline()).collect()
}

/// An arena that evicts nothing by itself within the time of a test.
pub fn quiet(setup: Setup) -> Builder {
    Arena::builder()
        .reserve(1 << 30)
        .tracker(setup.tracker)
        .fault_mode(setup.fault_mode)
        .scan_interval(Duration::from_secs(3600))
        .cold_age(Duration::from_secs(3600))
}

/// `full` on a real machine, `small` under emulation.
pub fn scaled<T>(full: T, small: T) -> T {
    if std::env::var("THERMOCLINE_TEST_SCALE").is_ok_and(|scale| scale == "small") {
        small
    } else {
        full
    }
}
