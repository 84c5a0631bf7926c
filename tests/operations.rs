//! Random programs of four threads under zeal, with a great many operations:
//! `THERMOCLINE_OPERATIONS=10000000 cargo test --release --test operations -- --nocapture`.

#![cfg(feature = "allocator-api2")]
#![allow(missing_docs)]
#![allow(clippy::print_stdout, reason = "the line at the end is the result")]

mod common;

use common::pages::eventually;
use common::program::Program;
use common::{quiet, scaled, setups};
use std::time::{Duration, Instant};

#[test]
fn no_byte_is_wrong_and_no_two_blocks_overlap_after_very_many_operations() {
    let operations = std::env::var("THERMOCLINE_OPERATIONS").map_or(scaled(60_000, 3200), |text| {
        text.parse().expect("THERMOCLINE_OPERATIONS is a number")
    });
    for setup in setups("no_byte_is_wrong_and_no_two_blocks_overlap") {
        let interval = Duration::from_millis(1);
        let arena =
            quiet(setup).scan_interval(interval).cold_age(interval).zeal(true).build().unwrap();
        let rounds = (operations / 200_000).clamp(4, 100);
        let program = Program {
            seed: 7,
            threads: 4,
            operations,
            bytes: 4 << 20,
            rounds,
            limits: true,
            most_time: Duration::MAX,
        };
        let start = Instant::now();
        // On a busy machine the evictor may not have evicted enough yet.
        let outcome = program.run(&arena, |round| {
            if round == rounds - 1 {
                eventually(&arena, "enough", |stats| stats.evicted_pages > scaled(1000, 100));
            }
        });
        let stats = arena.stats();
        println!(
            "{setup} operations={} wrong={} overlaps={} evicted={} refaults={} seconds={:.1}",
            outcome.operations,
            outcome.wrong,
            outcome.overlaps,
            stats.evicted_pages,
            stats.refaults,
            start.elapsed().as_secs_f64()
        );
        assert_eq!((outcome.wrong, outcome.overlaps), (0, 0), "{setup}: {program:?}\n{stats}");
        assert_eq!((stats.lost_bytes, stats.kernel_errors), (0, 0), "{setup}: {stats}");
    }
}
