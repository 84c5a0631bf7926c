//! Times what tracking adds to a touch, on pages of its own.
//!
//! The costs depend on the processor and on a hypervisor: to set an accessed bit takes some ten nanoseconds, or
//! half a microsecond where the hypervisor shadows the page tables.

#![allow(unsafe_code)]

use super::view::View;
use crate::prim::PAGE_SIZE;
use crate::sys::error::SysError;
use crate::sys::outcome::TouchCosts;
use memmap2::{Advice, UncheckedAdvice};
use std::ops::{Range, RangeInclusive};
use std::time::Instant;

/// Pages that are touched between two readings of the clock.
const RUN: usize = 16;
/// Of these runs the fastest counts, because a thread may lose its processor during a run.
const RUNS: usize = 4;
/// Costs are within this range. A cost of zero would allow looks without end.
const NANOS: RangeInclusive<u64> = 10..=10_000;

/// Shared memory in small pages.
#[derive(Debug)]
pub(super) struct TouchMeter(View);

impl TouchMeter {
    pub(super) fn new() -> Result<Self, SysError> {
        let view = View::of_new_memory(RUNS * RUN * PAGE_SIZE, 0)?;
        let _ = view.advise(Advice::NoHugePage);
        let _ = view.advise(Advice::DontDump);
        let this = Self(view);
        this.touch(0..RUNS * RUN);
        Ok(this)
    }

    /// Measures. The accessed bits of the process's shared memory must have been cleared, and its TLBs flushed.
    /// None if the kernel refuses to unmap the pages.
    pub(super) fn measure(&self) -> Option<TouchCosts> {
        let bit = fastest(|run| {
            let first = self.time(run.clone());
            first.saturating_sub(self.time(run))
        });
        // SAFETY: on a shared mapping MADV_DONTNEED drops page-table entries, never contents.
        let zap =
            unsafe { self.0.unchecked_advise_range(UncheckedAdvice::DontNeed, 0, self.0.len()) };
        zap.ok()?;
        let fault = fastest(|run| self.time(run));
        Some(TouchCosts { bit_nanos: bit, fault_nanos: fault })
    }

    fn time(&self, run: Range<usize>) -> u64 {
        let start = Instant::now();
        self.touch(run);
        u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Writes, because a read fault would map neighbours too.
    fn touch(&self, pages: Range<usize>) {
        for page in pages {
            // SAFETY: within the mapping, which only one thread at a time uses.
            unsafe { self.0.base().wrapping_add(page * PAGE_SIZE).write_volatile(1) };
        }
    }
}

/// Nanoseconds per page of the fastest run.
fn fastest(time: impl Fn(Range<usize>) -> u64) -> u64 {
    let runs = (0..RUNS).map(|run| time(run * RUN..(run + 1) * RUN));
    let fastest = runs.min().unwrap_or(0) / RUN as u64;
    fastest.clamp(*NANOS.start(), *NANOS.end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_takes_longer_than_a_touch_of_a_mapped_page() {
        let meter = TouchMeter::new().unwrap();
        let costs = meter.measure().unwrap();
        assert!(NANOS.contains(&costs.bit_nanos) && NANOS.contains(&costs.fault_nanos));
        // The bits are set, so the first touch costs as much as the second.
        assert!(costs.fault_nanos > costs.bit_nanos, "{costs:?}");
    }

    #[test]
    fn the_fastest_run_counts() {
        assert_eq!(fastest(|run| if run.start == 32 { 16 * 70 } else { 16 * 9000 }), 70);
        assert_eq!(fastest(|_| 0), 10);
        assert_eq!(fastest(|_| u64::MAX), 10_000);
    }
}
