//! The child process: one arena after the other. In each of them some threads work while disturbances run.

use super::case::Case;
use super::common::blocks::{Claims, Random};
use super::common::pages::eventually;
use super::common::program::Program;
use super::common::{SetOnDrop, scaled};
use super::guard::ALIVE;
use super::machine::{self, Counts};
use super::scene::{Disturbance, Scene};
use super::standing::STANDING;
use super::{
    advice, descriptors, forks, holes, interrupts, knobs, options, owners, pressure, starvation,
    tasks, witness,
};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use thermocline::{Arena, Swapping};

/// The disturbances, by the names of their threads. Starvation recognises the threads by these names and
/// does not starve them.
const DISTURBANCES: [(&str, Disturbance); 11] = [
    ("chaos-visits", witness::visit),
    ("chaos-visits", witness::visit),
    ("chaos-knobs", knobs::turn),
    ("chaos-advice", advice::advise),
    ("chaos-signals", interrupts::send),
    ("chaos-hunger", starvation::starve),
    ("chaos-forks", forks::fork_often),
    ("chaos-closes", descriptors::close),
    ("chaos-owners", owners::end),
    ("chaos-waves", pressure::press),
    ("chaos-machine", machine::disturb),
];

/// Sums over all arenas.
#[derive(Default)]
struct Sums {
    served: u64,
    refaults: u64,
    evicted: u64,
    refused: u64,
    checked: u64,
    arenas: u64,
    steps: BTreeMap<&'static str, u64>,
}

impl Sums {
    /// Whether the run has evicted and restored enough to mean something.
    fn is_enough(&self) -> bool {
        let enough = scaled(5000, 100);
        self.evicted > enough && self.refaults > enough
    }
}

/// Runs `case` and prints its line of results.
pub fn run(case: &Case) {
    let mut random = Random::new(case.seed);
    let (mut sums, start, before) = (Sums::default(), Instant::now(), Counts::now());
    interrupts::start();
    let is_enough = |sums: &Sums| sums.is_enough() && before.since().is_enough();
    // A busy machine gets more time.
    while start.elapsed() < case.time || (!is_enough(&sums) && start.elapsed() < 10 * case.time) {
        let builder = options::any(case.setup, &mut random);
        let time = (case.time / 6).min(Duration::from_secs(20));
        let _printed = PrintedOnPanic(format!("{case}, after {:?}: {builder:?}", start.elapsed()));
        live(&builder.build().unwrap(), &mut random, time, &mut sums);
    }
    interrupts::stop();
    assert!(sums.is_enough(), "too little happened");
    let counts = before.since();
    counts.assert_enough();
    sums.checked += STANDING.checked.load(Ordering::Relaxed);
    sums.steps.insert("chaos-handled", interrupts::handled());
    let mut line = format!(
        "chaos kernel={} tracker={} faults={} seconds={:.1} seed={}",
        std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap().trim(),
        case.setup.tracker,
        case.setup.fault_mode,
        start.elapsed().as_secs_f64(),
        case.seed,
    );
    write!(
        line,
        " arenas={} served={} refaults={} bytes_checked={} evicted={} refused={} wrong=0 lost=0 {counts}",
        sums.arenas, sums.served, sums.refaults, sums.checked, sums.evicted, sums.refused,
    )
    .unwrap();
    let names = sums.steps.iter().map(|(name, steps)| format!("{}:{steps}", &name[6..]));
    println!("{line} disturbances={}", names.collect::<Vec<_>>().join(","));
}

/// Prints the options of the arena in which a check failed.
struct PrintedOnPanic(String);

impl Drop for PrintedOnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            let _ = writeln!(std::io::stderr(), "{}", self.0);
        }
    }
}

/// Runs the programs and the disturbances in one arena.
fn live(arena: &Arena, random: &mut Random, time: Duration, sums: &mut Sums) {
    let (start, over) = (Instant::now(), AtomicBool::new(false));
    let claims = Claims::new(arena);
    owners::open(arena);
    STANDING.open(arena, 64 + random.below(scaled(4000, 400)));
    let scene = Scene { arena, over: &over, main: tasks::gettid() };
    thread::scope(|scope| {
        let begin = |(name, disturbance): (&'static str, Disturbance)| {
            let random = Random::new(random.next() >> 8);
            let body = move || (name, disturbance(scene, random));
            thread::Builder::new().name(name.to_owned()).spawn_scoped(scope, body).unwrap()
        };
        let disturbances = DISTURBANCES.map(begin);
        let set = SetOnDrop(&over);
        while start.elapsed() < time {
            let program = Program {
                seed: random.next() >> 16,
                threads: 1 + random.below(4),
                operations: scaled(12_000, 400),
                bytes: (256 + random.below(scaled(4096, 1024))) << 10,
                rounds: 1 + random.next() % 4,
                // `knobs` changes the limits.
                limits: false,
                // A starved machine may need minutes for the operations.
                most_time: time,
            };
            let outcome = program.run_beside(arena, &claims, |_| println!("{ALIVE}"));
            assert_eq!((outcome.wrong, outcome.overlaps), (0, 0), "{program:?}\n{}", arena.stats());
            sums.checked += outcome.checked;
            // After the program and not beside it, because the program counts the blocks.
            *sums.steps.entry("chaos-holes").or_default() += holes::make(arena, random);
        }
        if random.one_in(3) {
            arena.stop().unwrap();
        }
        drop(set);
        for disturbance in disturbances {
            let (name, steps) = disturbance.join().unwrap();
            *sums.steps.entry(name).or_default() += steps;
        }
    });
    STANDING.close(arena);
    owners::close(arena);
    nothing_is_left(arena);
    let stats = arena.stats();
    sums.arenas += 1;
    sums.served += stats.faults;
    sums.refaults += stats.refaults;
    sums.evicted += stats.evicted_pages;
    sums.refused += stats.kernel_errors;
}

/// Checks that the arena holds no memory after all blocks are freed.
fn nothing_is_left(arena: &Arena) {
    arena.trim();
    arena.check().unwrap();
    // The evictor trims the store now and then.
    if arena.swapping() != Swapping::Stopped {
        eventually(arena, "an empty store", |stats| stats.store_bytes == 0);
    }
    let (stats, heap) = (arena.stats(), arena.heap_stats().unwrap());
    assert_eq!(heap.held_bytes(), 0, "{heap}");
    let held =
        (stats.allocated_bytes, stats.resident_bytes, stats.stored_bytes, stats.pinned_bytes);
    assert_eq!(held, (0, 0, 0, 0), "{stats}");
    let held = (stats.memory_bytes, stats.store_bytes, stats.lost_bytes, arena.excess_bytes());
    assert_eq!(held, (0, 0, 0, 0), "{stats}");
    assert!(stats.refaults <= stats.faults, "{stats}");
    let tried = stats.evicted_pages + stats.touched_during_eviction + stats.kernel_errors;
    assert!(stats.same_filled_pages <= tried, "{stats}");
}
