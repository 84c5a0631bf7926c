//! The statistics that a program reads.

use super::{Counters, Figure, FigureKind, LatencyHistogram, Unit};
use std::fmt;
use std::time::Duration;

/// Defines [`Stats`] and lists its figures. The first line of each comment is the figure's help text.
macro_rules! stats {
    (
        gauges { $(#[doc = $gauge_help:literal] $(#[$gauge_doc:meta])* $gauge:ident: $gauge_unit:ident,)* }
        counters { $(#[doc = $counter_help:literal] $(#[$counter_doc:meta])* $counter:ident: $counter_unit:ident,)* }
        maxima { $(#[doc = $max_help:literal] $(#[$max_doc:meta])* $max:ident: $max_unit:ident,)* }
    ) => {
        /// What an arena holds, and what it has done since it was built.
        ///
        /// The figures are read one after the other while the arena works, so they may not quite add up.
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize))]
        #[non_exhaustive]
        pub struct Stats {
            $(#[doc = $gauge_help] $(#[$gauge_doc])* pub $gauge: u64,)*
            $(#[doc = $counter_help] $(#[$counter_doc])* pub $counter: u64,)*
            $(#[doc = $max_help] $(#[$max_doc])* pub $max: u64,)*
            /// Time that a refault took, by the clock of the thread that served it.
            ///
            /// A handler thread starts the clock when it has read the message, and stops it a moment after
            /// the faulting thread can go on; the time in which the handler thread wakes up is not part of
            /// it. With inline faults the clock runs inside the signal handler; to enter and to leave the
            /// handler takes the faulting thread a microsecond or two more.
            pub refault_time: LatencyHistogram,
        }

        impl Stats {
            /// All counters and maxima; the gauges are zero.
            pub(crate) fn of(counters: &Counters) -> Self {
                Self {
                    $($gauge: 0,)*
                    $($counter: counters.$counter.get(),)*
                    $($max: counters.$max.get(),)*
                    refault_time: counters.refault_time.snapshot(),
                }
            }

            /// All figures except the histogram, in the order of the fields, for exporters.
            pub fn figures(&self) -> impl Iterator<Item = Figure> {
                macro_rules! figure {
                    ($kind:ident, $name:ident, $unit:ident, $help:literal) => {
                        Figure {
                            name: stringify!($name),
                            value: self.$name,
                            kind: FigureKind::$kind,
                            unit: Unit::$unit,
                            help: $help.trim_ascii(),
                        }
                    };
                }
                [
                    $(figure!(Gauge, $gauge, $gauge_unit, $gauge_help),)*
                    $(figure!(Counter, $counter, $counter_unit, $counter_help),)*
                    $(figure!(Gauge, $max, $max_unit, $max_help),)*
                ]
                .into_iter()
            }
        }
    };
}

stats! {
    gauges {
        /// Bytes of address space that the arena may hand out.
        reserved_bytes: Bytes,
        /// Bytes of blocks that the program has, each rounded up to its size class or to pages.
        allocated_bytes: Bytes,
        /// Bytes in holes: pages of spans without a live block, whose memory is not given back yet.
        ///
        /// A block that a thread has freed and keeps for its next allocation counts as live. The pages are
        /// in memory or evicted. [`trim`](crate::Arena::trim) gives holes back at once. The evictor gives
        /// back those near which the program has allocated nothing for a while.
        hole_bytes: Bytes,
        /// Bytes of memory that the arena's pages take.
        ///
        /// It includes pages that the kernel itself has swapped out. Shared memory has the kernel's own count
        /// (`st_blocks` of the memfd), private memory the arena's.
        memory_bytes: Bytes,
        /// Bytes in pages that are in memory, by the page table's count, while the arena evicts.
        resident_bytes: Bytes,
        /// Bytes in pages that the store holds, before compression.
        stored_bytes: Bytes,
        /// Bytes in pages that the store holds, after compression, before rounding up to slots.
        compressed_bytes: Bytes,
        /// Bytes of memory that the store takes.
        store_bytes: Bytes,
        /// Bytes of memory that the store may take.
        store_limit_bytes: Bytes,
        /// Bytes in pages that could not be brought back. A touch of one is SIGBUS.
        lost_bytes: Bytes,
        /// Bytes in pinned pages. A page counts once for each pin.
        pinned_bytes: Bytes,
    }
    counters {
        /// Faults that the kernel gave to the arena: messages, or signals.
        faults: Count,
        /// Faults that brought a page back from the store.
        refaults: Count,
        /// Pages that faults filled with zeros: the touched page, and the next ones in a sequential write.
        zero_filled_pages: Pages,
        /// Faults on pages that were in memory and only protected.
        protection_faults: Count,
        /// Faults that took a page back from the evictor.
        evictions_cancelled: Count,
        /// Pages that a refault brought back besides the touched page.
        readahead_pages: Pages,
        /// Pages of the readahead sample that the program touched soon after.
        readahead_sampled_hits: Pages,
        /// Pages of the readahead sample that the program did not touch.
        ///
        /// The arena watches a sample of the readahead pages. It makes windows smaller where misses
        /// outnumber hits.
        readahead_sampled_misses: Pages,
        /// Pages that were brought back because the program asked for them.
        prefetched_pages: Pages,
        /// Pages that were read in the store and left there.
        peeks: Pages,
        /// Attempts to bring a page back that had to be repeated.
        fill_retries: Count,
        /// Pages of private memory that the program dropped by a system call, and that came back as zeros.
        dropped_pages: Pages,
        /// Scans of the arena by the evictor.
        scans: Count,
        /// Pages in the regions of each scan.
        scanned_pages: Pages,
        /// Pages that the evictor armed.
        armed_pages: Pages,
        /// Pages of private memory in whose place the evictor had the kernel put huge pages.
        collapsed_pages: Pages,
        /// Looks at the accessed bits of the regions that are not armed.
        accessed_scans: Count,
        /// Looks that another agent made uncertain: it cleared the accessed bits of the process.
        ///
        /// The agent may be a debugger, a profiler or another copy of this library. The first look counts too.
        /// After such a look the evictor does not take a region for idle.
        accessed_interruptions: Count,
        /// Failures to read accessed bits or to separate their mappings.
        ///
        /// One more counts when the arena gives the accessed bits up. It does so after eight looks in a row that
        /// failed or were made uncertain, or when the system does not let the process read them. The evictor then
        /// arms regions to find out whether they are in use.
        accessed_errors: Count,
        /// Nanoseconds of processor time that the evictor used to look at accessed bits, to arm and to scan.
        tracking_nanos: Nanoseconds,
        /// Nanoseconds that the program's threads lost to tracking, by an estimate.
        ///
        /// The pages that scans found touched, and the accessed bits that the processors had to set again. The
        /// evictor times both on pages of its own whenever it clears the accessed bits.
        tracking_fault_nanos: Nanoseconds,
        /// Pages that were evicted.
        evicted_pages: Pages,
        /// Pages that the evictor found to hold one repeated 32-bit word. They cost the store nothing.
        same_filled_pages: Pages,
        /// Pages that stayed because a thread touched them during their eviction.
        touched_during_eviction: Pages,
        /// Pages that stayed because they did not compress to three quarters.
        incompressible_pages: Pages,
        /// Pages that stayed because the store was full.
        store_full_pages: Pages,
        /// Pages that stayed, and regions of 2 MiB that were not scanned, because a system call failed.
        kernel_errors: Count,
        /// Batches whose commit could make a faulting thread wait.
        freezes: Count,
        /// Nanoseconds of all freezes, from the end of the copies to the drop of the pages.
        ///
        /// During a freeze a thread waits if it touches an armed page (under `rwp`), or a page that the
        /// evictor drops (under `zap`).
        freeze_nanos: Nanoseconds,
        /// Waits for the evictor of threads that had brought pages in.
        ///
        /// A thread waits while the arena is above its limit by more than a quarter of the limit or 4 MiB,
        /// whichever is less. The thread is one of the program, or a handler thread that serves a fault.
        limit_waits: Count,
        /// Nanoseconds of all those waits. A single wait ends after 20 ms, or a moment later.
        limit_wait_nanos: Nanoseconds,
        /// Calls on a userfaultfd that the keeper made for a thread of the program.
        ///
        /// The program had closed or replaced the arena's descriptor. The thread waits four microseconds if
        /// the keeper is awake, and tens of microseconds if it sleeps.
        delegated_calls: Count,
        /// Stalls: a thread of the arena, or the owner of a page with a waiter, made no progress.
        ///
        /// See the [stall limit](crate::Builder::stall_limit). For each stall the watchdog writes a line to
        /// standard error.
        stalls: Count,
    }
    maxima {
        /// Nanoseconds of the longest freeze.
        longest_freeze_nanos: Nanoseconds,
    }
}

impl Stats {
    /// Bytes of memory that eviction saves: the bytes of stored pages, less those of the store.
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

    /// The longest time for which a freeze could make a faulting thread wait.
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
        for Figure { name, value, .. } in self.figures() {
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
    fn the_snapshot_has_the_counters_and_times() {
        let counters = Counters::default();
        counters.refaults.add(3);
        counters.refault_time.record(1000);
        let stats = Stats::of(&counters);
        assert_eq!((stats.refaults, stats.refault_time.count()), (3, 1));
        let refaults = stats.figures().find(|figure| figure.name == "refaults").unwrap();
        assert_eq!((refaults.value, refaults.kind), (3, FigureKind::Counter));
        assert_eq!(refaults.help, "Faults that brought a page back from the store.");
        assert!(stats.to_string().contains("refaults                  3\n"));
    }

    #[test]
    fn names_and_help_texts_agree_with_units() {
        for Figure { name, unit, help, .. } in Stats::default().figures() {
            let suffix =
                [("_bytes", Unit::Bytes), ("_pages", Unit::Pages), ("_nanos", Unit::Nanoseconds)];
            for (suffix, of_suffix) in suffix {
                assert!(!name.ends_with(suffix) || unit == of_suffix, "{name}: {unit:?}");
            }
            assert!(help.ends_with('.') && !help.contains('['), "{name}: {help}");
        }
    }

    #[cfg(feature = "serde")]
    #[test]
    fn statistics_are_serialized_by_their_fields() {
        let counters = Counters::default();
        counters.refaults.add(3);
        counters.refault_time.record(5);
        counters.refault_time.record(1000);
        let stats = serde_json::to_value(Stats::of(&counters)).unwrap();
        assert_eq!((&stats["refaults"], &stats["store_bytes"]), (&3.into(), &0.into()));
        let times = serde_json::json!({
            "count": 2, "p50_nanos": 5, "p99_nanos": 1023, "p999_nanos": 1023,
            "buckets": [[5, 1], [1023, 1]],
        });
        assert_eq!(stats["refault_time"], times);
        let evicted = crate::Evicted {
            refusal: Some(crate::SysError::no_memory("mlock")),
            ..Default::default()
        };
        let evicted = serde_json::to_value(evicted).unwrap();
        assert_eq!(evicted["refusal"], serde_json::json!({ "call": "mlock", "errno": 12 }));
        assert_eq!(serde_json::to_value(crate::Lane::Hot).unwrap(), "hot");
    }
}
