//! What users see.

use super::{Counters, LatencyHistogram};
use std::fmt;
use std::time::Duration;

macro_rules! stats {
    (
        gauges { $($(#[$gauge_doc:meta])* $gauge:ident,)* }
        counters { $($(#[$counter_doc:meta])* $counter:ident,)* }
    ) => {
        /// What an arena holds and what it has done since it was built.
        ///
        /// The figures are read one after the other while the arena works on, so they may not
        /// quite add up.
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Stats {
            $($(#[$gauge_doc])* pub $gauge: u64,)*
            $($(#[$counter_doc])* pub $counter: u64,)*
            /// Time that a refault took, by the clock of the thread that served it. A handler's
            /// begins when it has read the message; the toucher waits for it to wake up besides, and
            /// goes on a moment before it is done. Served inline, it begins and ends in the signal
            /// handler; entering and leaving that takes the toucher a microsecond or two besides.
            pub refault_time: LatencyHistogram,
        }

        impl Stats {
            /// All counters, and nothing held.
            pub(crate) fn of(counters: &Counters) -> Self {
                Self {
                    $($gauge: 0,)*
                    $($counter: counters.$counter.get(),)*
                    refault_time: counters.refault_time.snapshot(),
                }
            }

            /// Each figure's name and value, in the order of the fields; for exporters.
            pub fn figures(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($gauge), self.$gauge),)* $((stringify!($counter), self.$counter),)*]
                    .into_iter()
            }
        }
    };
}

stats! {
    gauges {
        /// Bytes of address space that the arena may hand out.
        reserved_bytes,
        /// Bytes that are handed out, rounded up to slots and pages.
        allocated_bytes,
        /// Bytes in holes: whole pages without a byte of a block, among pages that small blocks share, whose
        /// memory has not been given back yet. A block counts too that a thread has freed and keeps for
        /// its next allocation. Holes are in memory or evicted. [`trim`](crate::Arena::trim) gives them
        /// back at once; by themselves they go when nothing was allocated near them for a while.
        hole_bytes,
        /// Bytes of memory that the arena's pages take, by the kernel's count (`st_blocks` of the
        /// memfd). It contains what the kernel itself has swapped out.
        memory_bytes,
        /// Bytes in pages that are in memory, by the page table's count, while the arena swaps.
        resident_bytes,
        /// Bytes in pages that the store holds, before they were compressed.
        stored_bytes,
        /// The same pages compressed, before rounding up to slots.
        compressed_bytes,
        /// Bytes of memory that the store takes.
        store_bytes,
        /// Bytes of memory that the store may take.
        store_limit_bytes,
        /// Bytes in pages that could not be given back; touching them is SIGBUS.
        lost_bytes,
        /// Bytes in pages that are pinned, counted once for each pin.
        pinned_bytes,
    }
    counters {
        /// Touches that the kernel could not resolve by itself: messages, or signals.
        faults,
        /// Faults that brought a page back from the store.
        refaults,
        /// Pages that were populated by a fault: the touched one, and those behind it where memory
        /// is written from one end to the other.
        zero_filled_pages,
        /// Faults on pages that were in memory and only protected.
        protection_faults,
        /// Faults that took a page back from the evictor.
        evictions_cancelled,
        /// Pages that were brought back together with a neighbour that was touched.
        readahead_pages,
        /// Of the pages brought along, a sample is watched: those that were touched soon after.
        readahead_sampled_hits,
        /// Those of the sample that were not. How many pages are brought along follows from it.
        readahead_sampled_misses,
        /// Pages that were brought back because the program asked for them.
        prefetched_pages,
        /// Times that a page was read in the store and left there.
        peeks,
        /// Attempts to bring a page back that had to be repeated.
        fill_retries,
        /// Times that the evictor has looked at the arena.
        scans,
        /// Pages of the regions that were looked at, each time.
        scanned_pages,
        /// Pages that were watched anew.
        armed_pages,
        /// Pages that were evicted.
        evicted_pages,
        /// Pages on their way out that hold one 32-bit word over and over, and cost the store
        /// nothing.
        same_filled_pages,
        /// Pages that were touched on their way out, and stayed.
        touched_during_eviction,
        /// Pages that did not compress to three quarters, and stayed.
        incompressible_pages,
        /// Pages that stayed because the store was full.
        store_full_pages,
        /// Pages that stayed, and regions of 2 MiB that could not be looked at, because a system
        /// call failed.
        kernel_errors,
        /// Times that eviction held up others.
        freezes,
        /// For how long in all, in nanoseconds, from when the copies were finished to when the pages
        /// were dropped. With read-write protection whoever touches a watched page meanwhile waits
        /// for a handler; with zapped page tables, whoever touches a page that is being dropped.
        freeze_nanos,
        /// For how long at the longest, in nanoseconds.
        longest_freeze_nanos,
        /// Times that a thread which had brought pages in waited for the evictor, because the arena was far
        /// above its limit: by more than a quarter of it, or 4 MiB. Such a thread is one of the program, or
        /// a handler thread with a fault of the program's.
        limit_waits,
        /// For how long in all, in nanoseconds. A single wait ends after 20 ms, or a moment later.
        limit_wait_nanos,
        /// Calls on a userfaultfd that a thread of the arena made for a thread of the program, because the
        /// program had closed or replaced the arena's descriptor. Each costs the waiting thread four microseconds
        /// where the keeper is awake, and tens where it has to be woken.
        delegated_calls,
        /// Times that a thread of the arena, or the owner of a page that others waited for, did not go
        /// on for the [stall limit](crate::Builder::stall_limit). Anything but zero deserves a look at
        /// standard error.
        stalls,
    }
}

impl Stats {
    /// Bytes of memory that would be taken more if nothing had been evicted.
    #[must_use]
    pub fn saved_bytes(&self) -> u64 {
        self.stored_bytes.saturating_sub(self.store_bytes)
    }

    /// Bytes stored for each byte of memory that the store takes; none if it takes none.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
    pub fn ratio(&self) -> Option<f64> {
        (self.store_bytes > 0).then(|| self.stored_bytes as f64 / self.store_bytes as f64)
    }

    /// How long eviction has held up others at the longest.
    #[must_use]
    pub fn longest_freeze(&self) -> Duration {
        Duration::from_nanos(self.longest_freeze_nanos)
    }
}

impl Default for Stats {
    fn default() -> Self {
        Self::of(&Counters::default())
    }
}

/// A line per figure: the name, two spaces or more, the value.
impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in self.figures() {
            writeln!(f, "{name:<24}  {value}")?;
        }
        for (name, quantile) in [("p50", 0.5), ("p99", 0.99)] {
            let time = self.refault_time.quantile(quantile).unwrap_or_default();
            writeln!(f, "refault_nanos_{name:<10}  {}", time.as_nanos())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_reaches_the_snapshot() {
        let counters = Counters::default();
        counters.refaults.add(3);
        counters.refault_time.record(1000);
        let stats = Stats::of(&counters);
        assert_eq!((stats.refaults, stats.refault_time.count()), (3, 1));
        assert!(stats.figures().any(|figure| figure == ("refaults", 3)));
        assert!(stats.to_string().contains("refaults                  3\n"));
    }
}
