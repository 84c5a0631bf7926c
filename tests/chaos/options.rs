//! Random options for an arena.

use super::common::blocks::Random;
use super::common::{Setup, quiet};
use std::time::Duration;
use thermocline::Builder;

const KIB: usize = 1 << 10;

/// Random valid options.
pub fn any(setup: Setup, random: &mut Random) -> Builder {
    let interval = Duration::from_millis([1, 2, 10, 50][random.below(4)]);
    let mut builder = quiet(setup)
        .reserve([256 << 20, 1 << 30][random.below(2)])
        .scan_interval(interval)
        .cold_age(interval * [1, 4, 100][random.below(3)])
        .handler_threads([1, 2, 3, 8][random.below(4)]);
    if random.one_in(3) {
        builder = builder.zeal(true);
    }
    if random.one_in(3) {
        builder = builder.poison_freed(true);
    }
    if random.one_in(2) {
        builder = builder.resident_limit((512 + random.below(8 * KIB)) * KIB);
    }
    if random.one_in(2) {
        builder = builder.memory_limit((1024 + random.below(16 * KIB)) * KIB);
    }
    if random.one_in(3) {
        builder = builder.store_limit((1024 + random.below(4 * KIB)) * KIB);
    }
    builder
}
