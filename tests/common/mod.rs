//! Code that the test programs share: the trackers and fault modes that work here, and reports of skipped
//! tests.

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
use thermocline::{Arena, Backing, Builder, FaultMode, Lane, Tracker};

/// All lanes, to choose one by its number.
pub const LANES: [Lane; 3] = [Lane::Default, Lane::Hot, Lane::Cold];

/// Whether the environment expects a feature of this kernel: `THERMOCLINE_EXPECT=rwp,pagemap_scan,-poison`. A
/// test fails instead of skipping if an expected feature is missing, or if a feature with a minus is there.
pub fn expected(name: &str) -> Option<bool> {
    let list = std::env::var("THERMOCLINE_EXPECT").ok()?;
    list.split(',').find_map(|item| match item.trim().strip_prefix('-') {
        Some(absent) => (absent == name).then_some(false),
        None => (item.trim() == name).then_some(true),
    })
}

/// Reports that a test skips because the feature `what` is missing. The test harness does not capture the
/// line.
///
/// # Panics
///
/// Panics if the environment expects `what`.
pub fn skip(test: &str, what: &str, reason: &str) {
    leave_out("SKIPPED", test, what, reason);
}

/// Reports that a test skips a part, in the same way as [`skip`].
///
/// # Panics
///
/// As [`skip`] does.
pub fn skip_part(test: &str, what: &str, reason: &str) {
    leave_out("PARTLY", test, what, reason);
}

fn leave_out(word: &str, test: &str, what: &str, reason: &str) {
    assert_ne!(expected(what), Some(true), "{test}: {what} is expected here, but: {reason}");
    let line = format!("{word} {test}: {reason}\n");
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}

/// Sets a flag when it is dropped, also by a panic. Threads that work until the flag is set then end when the
/// test fails.
pub struct SetOnDrop<'a>(pub &'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Whether a list in the environment contains `name`, or there is no such list.
fn is_named(variable: &str, name: &impl fmt::Display) -> bool {
    let list = std::env::var(variable).ok();
    list.is_none_or(|list| list.split(',').any(|item| item == name.to_string()))
}

/// The trackers that work here, limited to those in the environment: `THERMOCLINE_TRACKERS=rwp`. Reports
/// PARTLY for a missing one.
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
        // The name is not "rwp", because another run tests that tracker.
        skip_part(test, "rwp here", "not with rwp: the environment leaves it out");
    }
    trackers
}

/// A kind of memory, a tracker and a fault mode. Tests run with each setup that works here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setup {
    pub backing: Backing,
    pub tracker: Tracker,
    pub fault_mode: FaultMode,
}

impl Setup {
    /// Parses the output of [`fmt::Display`].
    pub fn parse(text: &str) -> Self {
        let (tracker, mode) = text.split_once('/').unwrap();
        let (backing, tracker) = match tracker.strip_prefix("private-") {
            Some(tracker) => (Backing::Private, tracker),
            None => (Backing::Shared, tracker),
        };
        Self {
            backing,
            tracker: match tracker {
                "rwp" => Tracker::Rwp,
                "zap" => Tracker::Zap,
                "accessed" => Tracker::Accessed,
                _ => panic!("{text}"),
            },
            fault_mode: if mode == "inline" { FaultMode::Inline } else { FaultMode::Handler },
        }
    }

    pub fn is_inline(self) -> bool {
        self.fault_mode == FaultMode::Inline
    }
}

impl fmt::Display for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.backing == Backing::Private { "private-" } else { "" };
        write!(f, "{kind}{}/{}", self.tracker, self.fault_mode)
    }
}

/// The trackers that work here on private memory, limited to those in the environment:
/// `THERMOCLINE_TRACKERS=private-rwp`. Reports PARTLY for a missing one.
pub fn private_trackers(test: &str) -> Vec<Tracker> {
    let probe = thermocline::probe();
    let mut trackers = vec![Tracker::Rwp, Tracker::Accessed];
    trackers.retain(|tracker| {
        let name = format!("private-{tracker}");
        let works = match tracker {
            Tracker::Rwp => probe.can_rwp_private(),
            _ => probe.can_accessed_private(),
        };
        if !works {
            let reason = format!("not with {name}: this kernel lacks what it needs");
            skip_part(test, &name, &reason);
        } else if !is_named("THERMOCLINE_TRACKERS", &name) {
            skip_part(
                test,
                &format!("{name} here"),
                &format!("not with {name}: the environment leaves it out"),
            );
        }
        works && is_named("THERMOCLINE_TRACKERS", &name)
    });
    trackers
}

/// The trackers that work here, each with both fault modes, limited to those in the environment:
/// `THERMOCLINE_FAULT_MODES=inline`.
pub fn setups(test: &str) -> Vec<Setup> {
    let mut modes = vec![FaultMode::Handler, FaultMode::Inline];
    modes.retain(|mode| is_named("THERMOCLINE_FAULT_MODES", mode));
    assert!(!modes.is_empty(), "THERMOCLINE_FAULT_MODES names no fault mode");
    let shared = trackers(test).into_iter().map(|tracker| (Backing::Shared, tracker));
    let private = private_trackers(test).into_iter().map(|tracker| (Backing::Private, tracker));
    let setup = |(backing, tracker)| {
        modes.iter().map(move |&fault_mode| Setup { backing, tracker, fault_mode })
    };
    shared.chain(private).flat_map(setup).collect()
}

/// The setups with inline faults.
pub fn inline_setups(test: &str) -> Vec<Setup> {
    setups(test).into_iter().filter(|setup| setup.is_inline()).collect()
}

/// An arena that evicts nothing by itself during a test.
pub fn quiet(setup: Setup) -> Builder {
    Arena::builder()
        .reserve(1 << 30)
        .backing(setup.backing)
        .tracker(setup.tracker)
        .fault_mode(setup.fault_mode)
        .scan_interval(Duration::from_secs(3600))
        .tracking_budget(1.0)
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
