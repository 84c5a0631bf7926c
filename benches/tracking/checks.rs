//! `--self-test`: checks of the calculations. `cargo test` does not run tests in a benchmark with a `main`.

use crate::Trouble;
use crate::kernel::user_and_system_ticks;
use crate::layout::{LINE, LINES, Layout, WORDS, walk};
use crate::loads::{Beat, Load, Setup, Timing};
use crate::options::{Options, Task};
use crate::report::{median, worst};
use crate::watch::Watch;
use crate::zipf::{Zipf, step, uniform};
use std::collections::HashSet;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

pub(crate) fn run() -> Result<(), Trouble> {
    zipf_ranks_are_as_frequent_as_their_shares();
    a_walk_visits_each_line_of_its_group_once();
    medians_are_in_the_middle();
    loads_rest_and_change_halves_in_time();
    each_region_has_one_warm_page();
    assert_eq!(user_and_system_ticks("1 (a) b) S 0 0 0 0 0 0 0 0 0 0 7 5 0"), Some(12));
    options_are_understood()
}

fn zipf_ranks_are_as_frequent_as_their_shares() {
    let (zipf, count, draws) = (Zipf::new(1000), 1000, 200_000);
    let mut seen = vec![0_u32; count];
    let mut state = 1;
    (0..draws).for_each(|_| seen[zipf.rank(uniform(step(&mut state, 0)))] += 1);
    let shares: f64 = (0..count).map(|rank| zipf.share(rank)).sum();
    assert!((shares - 1.0).abs() < 1e-9, "{shares}");
    for (from, to) in [(0, 1), (1, 2), (2, 10), (10, 100), (100, 1000)] {
        let expected: f64 = (from..to).map(|rank| zipf.share(rank)).sum();
        let part = f64::from(seen[from..to].iter().sum::<u32>()) / f64::from(draws);
        // The method is exact for the first two ranks only.
        assert!((part / expected - 1.0).abs() < 0.15, "{from}: {part} of {expected}");
    }
    assert_eq!(zipf.rank(1.0 - f64::EPSILON / 2.0), count - 1);
}

fn a_walk_visits_each_line_of_its_group_once() {
    let groups = [vec![0, 3, 4], vec![2]];
    let layout = Layout::new(6, &groups);
    let words: Vec<AtomicU64> =
        (0..6 * WORDS).map(|index| AtomicU64::new(layout.word(index))).collect();
    for (group, first) in groups.iter().zip(layout.first_words()) {
        let mut seen = HashSet::new();
        let mut index = first;
        for _ in 0..group.len() * LINES {
            assert!(index.is_multiple_of(LINE) && group.contains(&((index / WORDS) as u32)));
            assert!(seen.insert(index), "the walk returned to {index} too early");
            index = walk(&words, index, 1);
        }
        assert_eq!(index, first);
    }
    assert_eq!(layout.wrong_pages(&words, |_| 0), 0);
    words[WORDS + 5].store(1, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(layout.wrong_pages(&words, |_| 0), 1);
    assert_eq!(layout.wrong_pages(&words, |page| u64::from(page == 2)), 2);
}

fn medians_are_in_the_middle() {
    assert_eq!(median(vec![]), None);
    assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
    assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
    assert_eq!(worst([Some(1.0), None, Some(0.5), Some(0.7)].into_iter()), Some(2));
    assert_eq!(worst([Some(1.0), None].into_iter()), None);
}

fn loads_rest_and_change_halves_in_time() {
    let timing = |load, seconds| Timing::new(load, 1.0, Duration::from_secs(seconds), None);
    let at = |load, tenths: u64| timing(load, 30).beat(Duration::from_millis(tenths * 100), 2);
    assert_eq!(at(Load::Bursts, 39), Beat::Touch { group: 0 });
    assert_eq!(at(Load::Bursts, 45), Beat::Rest { left: Duration::from_millis(1500) });
    assert_eq!(at(Load::Phases, 105), Beat::Touch { group: 1 });
    assert_eq!(at(Load::Phases, 205), Beat::Touch { group: 0 });
    assert_eq!(timing(Load::Turns, 30).length, Duration::from_secs(32));
    assert_eq!(timing(Load::Idle, 30).cold_age, Duration::from_secs(4));
    assert_eq!(timing(Load::Idle, 3).cold_age, Duration::from_secs(1));
    assert_eq!(timing(Load::Warm, 30).settle, Duration::from_secs(39));
    let cold_age = Some(Duration::from_secs(40));
    let timing = Timing::new(Load::Zipf, 1.0, Duration::from_secs(30), cold_age);
    assert_eq!(
        (timing.scan_interval, timing.length),
        (Duration::from_secs(1), 3 * timing.cold_age)
    );
}

fn each_region_has_one_warm_page() {
    let setup = Setup::new(Load::OnePerRegion, 0.03125, &Options::default());
    assert_eq!((setup.layout.pages(), setup.untouched.len()), (8192, 8192 - 16));
    let all = Setup::new(Load::Idle, 0.03125, &Options::default());
    assert_eq!(all.untouched.len(), 8192);
}

fn options_are_understood() -> Result<(), Trouble> {
    let parse = |given: &[&str]| {
        Task::parse(lexopt::Parser::from_iter(["tracking"].iter().chain(given).copied()))
    };
    let options = |given: &[&str]| match parse(given)? {
        Task::Compare(options) => Ok::<Options, Trouble>(options),
        _ => Err("a task without a comparison".into()),
    };
    let given = options(&["--load", "hot,idle", "--watch=zap", "--gib", "2,0.5"])?;
    assert_eq!(given.loads, [Load::Hot, Load::Idle]);
    assert_eq!(given.watches, [Watch::None, Watch::Zap]);
    assert_eq!(given.gib, [0.5, 2.0]);
    assert_eq!(options(&["--quick", "--bench"])?.gib, [0.25]);
    for wrong in [["--load", "cold"], ["--gib", "0"], ["--seconds", "0"], ["--foreign", "-1"]] {
        assert!(parse(&wrong).is_err(), "{wrong:?}");
    }
    Ok(())
}
