//! Random programs, compared with a plain model, in arenas of all kinds.
//! `THERMOCLINE_SEED=7 THERMOCLINE_CASES=1000 cargo test --test model programs_of` runs more programs of one
//! thread, from another seed.

#![cfg(feature = "allocator-api2")]
#![allow(missing_docs, unsafe_code)]

mod common;

use allocator_api2::alloc::Allocator;
use common::blocks::{Block, Claims, bytes_not_zero, layout};
use common::child::{child_case, forbid_userfaultfd, passes_in_child};
use common::pages::eventually;
use common::program::{Outcome, Program, asked};
use common::{LANES, Setup, quiet, scaled, setups};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use std::str::FromStr;
use std::time::Duration;
use thermocline::{Advice, Arena, Lane};

/// A program of four threads. A failure prints its seed.
fn program(seed: u64) -> Program {
    let operations = scaled(24_000, 1600);
    let most_time = Duration::MAX;
    Program { seed, threads: 4, operations, bytes: 4 << 20, rounds: 4, limits: false, most_time }
}

fn nothing_is_wrong(program: Program, arena: &Arena, between: impl Fn(u64)) {
    let outcome = program.run(arena, between);
    let right = Outcome { operations: program.operations, wrong: 0, overlaps: 0, ..outcome };
    assert_eq!(outcome, right, "{program:?} {}", arena.stats());
}

#[test]
fn nothing_is_wrong_under_a_tiny_limit() {
    for setup in setups("model::nothing_is_wrong_under_a_tiny_limit") {
        let arena = quiet(setup)
            .resident_limit(4 << 20)
            .scan_interval(Duration::from_millis(5))
            .cold_age(Duration::from_secs(600))
            .build()
            .unwrap();
        let program = program(1);
        nothing_is_wrong(program, &arena, |round| {
            if round == program.rounds - 1 {
                eventually(&arena, "enough", |stats| stats.evicted_pages > scaled(1000, 50));
            }
        });
    }
}

#[test]
fn nothing_is_wrong_with_poisoned_blocks() {
    for setup in setups("model::nothing_is_wrong_with_poisoned_blocks") {
        let interval = Duration::from_millis(1);
        let builder = quiet(setup).scan_interval(interval).cold_age(interval).zeal(true);
        let arena = builder.poison_freed(true).build().unwrap();
        nothing_is_wrong(program(2), &arena, |_| ());
    }
}

#[test]
fn nothing_is_wrong_with_a_full_store() {
    for setup in setups("model::nothing_is_wrong_with_a_full_store") {
        let interval = Duration::from_millis(1);
        let builder = quiet(setup).scan_interval(interval).cold_age(interval).zeal(true);
        let arena = builder.store_limit(1 << 20).build().unwrap();
        nothing_is_wrong(program(3), &arena, |_| ());
    }
}

/// After a stop the blocks are plain memory.
#[test]
fn nothing_is_wrong_before_and_after_a_stop() {
    for setup in setups("model::nothing_is_wrong_before_and_after_a_stop") {
        let interval = Duration::from_millis(1);
        let arena =
            quiet(setup).scan_interval(interval).cold_age(interval).zeal(true).build().unwrap();
        nothing_is_wrong(program(4), &arena, |round| {
            if round == 1 {
                arena.stop().unwrap();
            }
        });
    }
}

#[test]
fn nothing_is_wrong_in_plain_memory() {
    if child_case().is_none() {
        passes_in_child("nothing_is_wrong_in_plain_memory", "plain");
        return;
    }
    forbid_userfaultfd();
    let arena = Arena::builder().plain_memory_fallback(true).reserve(1 << 30).build().unwrap();
    assert!(arena.evict_now().is_err());
    nothing_is_wrong(program(5), &arena, |_| ());
    assert_eq!(arena.stats().memory_bytes, 0);
}

#[derive(Clone, Debug)]
enum Step {
    Allocate { lane: Lane, size: usize, shift: u32, zeroed: bool },
    Resize { pick: usize, lane: Lane, size: usize, shift: u32, zeroed: bool },
    Free(usize),
    Write(usize),
    Read(usize),
    Advise(usize, Advice),
    Prefetch(usize),
    Ensure(usize),
    Peek(usize),
    Pin(usize),
    ResidentLimit(Option<usize>),
    MemoryLimit(Option<usize>),
    Evict,
    Trim,
    Stop,
}

/// Random steps, with `last` as one of the kinds.
fn steps(last: Step) -> impl Strategy<Value = Vec<Step>> {
    let size = prop_oneof![
        6 => 1usize..600,
        3 => 600usize..40_000,
        1 => 40_000usize..400_000,
        1 => 400_000usize..2 << 20,
    ];
    let lane = (0..LANES.len()).prop_map(|lane| LANES[lane]);
    let shift = prop_oneof![8 => 0u32..5, 2 => 5u32..15, 1 => 15u32..22];
    let block = (lane, size, shift, any::<bool>());
    let limit = prop_oneof![1 => Just(None), 2 => (256usize << 10..4 << 20).prop_map(Some)];
    let advice = prop_oneof![2 => Just(Advice::Cold), 1 => Just(Advice::WillNeed)];
    let pick = any::<prop::sample::Index>().prop_map(|index| index.index(1 << 16));
    let step = prop_oneof![
        8 => block.clone().prop_map(|(lane, size, shift, zeroed)| {
            Step::Allocate { lane, size, shift, zeroed }
        }),
        3 => (pick.clone(), block).prop_map(|(pick, (lane, size, shift, zeroed))| {
            Step::Resize { pick, lane, size, shift, zeroed }
        }),
        6 => pick.clone().prop_map(Step::Free),
        2 => pick.clone().prop_map(Step::Write),
        3 => pick.clone().prop_map(Step::Read),
        3 => (pick.clone(), advice).prop_map(|(pick, advice)| Step::Advise(pick, advice)),
        1 => pick.clone().prop_map(Step::Prefetch),
        1 => pick.clone().prop_map(Step::Ensure),
        1 => pick.clone().prop_map(Step::Peek),
        1 => pick.prop_map(Step::Pin),
        1 => limit.clone().prop_map(Step::ResidentLimit),
        1 => limit.prop_map(Step::MemoryLimit),
        1 => Just(Step::Evict),
        1 => Just(Step::Trim),
        1 => Just(last),
    ];
    vec(step, 1..120)
}

/// The live blocks with their content.
struct Model<'a> {
    arena: &'a Arena,
    claims: &'a Claims,
    blocks: Vec<Block>,
    stamps: u64,
}

/// The largest number of blocks. The arena has room for as many in any arrangement.
const MOST: usize = 40;

impl Model<'_> {
    fn stamp(&mut self) -> u64 {
        self.stamps += 1;
        self.stamps
    }

    fn add(&mut self, block: Block) {
        assert!(self.claims.claim(&block), "{block:?} overlaps another");
        self.blocks.push(block);
    }

    fn remove(&mut self, pick: usize) -> Option<Block> {
        if self.blocks.is_empty() {
            return None;
        }
        let block = self.blocks.swap_remove(pick % self.blocks.len());
        assert_eq!(block.wrong(), 0, "{block:?}");
        self.claims.release(&block);
        Some(block)
    }

    fn picked(&mut self, pick: usize) -> Option<&mut Block> {
        let count = self.blocks.len();
        self.blocks.get_mut(pick % count.max(1))
    }

    fn step(&mut self, step: &Step) {
        let arena = self.arena;
        match *step {
            Step::Allocate { lane, size, shift, zeroed } if self.blocks.len() < MOST => {
                let layout = layout(size, 1 << shift);
                let arena = arena.lane(lane);
                let given =
                    if zeroed { arena.allocate_zeroed(layout) } else { arena.allocate(layout) };
                let given = given.unwrap();
                assert!(!zeroed || bytes_not_zero(given, 0, size) == 0, "{layout:?}");
                let stamp = self.stamp();
                self.add(Block::new(given, layout, stamp));
            }
            Step::Resize { pick, lane, size, shift, zeroed } => {
                let Some(mut block) = self.remove(pick) else { return };
                let (old, new) = (block.layout, layout(size, 1 << shift));
                let handle = arena.lane(lane);
                // SAFETY: the block was allocated with the old layout, and has the new one from here on.
                let given = unsafe {
                    match (size < old.size(), zeroed) {
                        (true, _) => handle.shrink(block.pointer, old, new).unwrap(),
                        (false, false) => handle.grow(block.pointer, old, new).unwrap(),
                        (false, true) => {
                            let given = handle.grow_zeroed(block.pointer, old, new).unwrap();
                            assert_eq!(bytes_not_zero(given, old.size(), size), 0, "{new:?}");
                            given
                        }
                    }
                };
                assert_eq!(block.resized(given, new), 0, "{old:?} to {new:?}");
                self.add(block);
            }
            Step::Free(pick) => {
                if let Some(block) = self.remove(pick) {
                    block.free(arena);
                }
            }
            Step::Write(pick) => {
                let stamp = self.stamp();
                if let Some(block) = self.picked(pick) {
                    block.restamp(stamp);
                }
            }
            Step::Read(pick) => {
                if let Some(block) = self.picked(pick) {
                    assert_eq!(block.wrong(), 0, "{block:?}");
                }
            }
            Step::Advise(pick, advice) => {
                if let Some(block) = self.picked(pick) {
                    asked(arena.advise(block.range(), advice));
                }
            }
            Step::Prefetch(pick) => {
                if let Some(block) = self.picked(pick) {
                    asked(arena.prefetch(block.range()));
                }
            }
            Step::Ensure(pick) => {
                if let Some(block) = self.picked(pick) {
                    arena.ensure(block.range()).unwrap();
                }
            }
            Step::Peek(pick) => {
                if let Some(block) = self.picked(pick) {
                    // `peek` must not return the buffer's old content.
                    let mut buffer = vec![0x5a; 100];
                    assert_eq!(block.wrong_at_a_peek(arena, &mut buffer), 0, "{block:?}");
                }
            }
            Step::Pin(pick) => {
                if let Some(block) = self.picked(pick) {
                    let pinned = arena.pin(block.range()).unwrap();
                    assert_eq!(block.wrong(), 0, "{block:?}");
                    drop(pinned);
                }
            }
            Step::ResidentLimit(limit) => asked(arena.set_resident_limit(limit)),
            Step::MemoryLimit(limit) => asked(arena.set_memory_limit(limit)),
            Step::Evict => asked(arena.evict_now()),
            Step::Trim => drop(arena.trim()),
            Step::Stop => arena.stop().unwrap(),
            Step::Allocate { .. } => {}
        }
    }
}

fn run_steps(arena: &Arena, claims: &Claims, steps: &[Step]) {
    let mut model = Model { arena, claims, blocks: Vec::new(), stamps: 0 };
    for step in steps {
        model.step(step);
        let usable: usize = model.blocks.iter().map(|block| block.usable).sum();
        assert_eq!(arena.stats().allocated_bytes, usable as u64, "{step:?}");
    }
    arena.check().unwrap();
    while let Some(block) = model.remove(0) {
        block.free(arena);
    }
    assert_eq!(arena.stats().allocated_bytes, 0);
    assert_eq!(arena.stats().dropped_pages, 0);
    arena.check().unwrap();
}

fn from_environment<T: FromStr>(name: &str) -> Option<T> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is no such number: {text}")))
}

/// Runs the same programs each time, or those of the seed in the environment.
fn runner() -> TestRunner {
    let cases = from_environment("THERMOCLINE_CASES").unwrap_or(scaled(24, 3));
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&from_environment("THERMOCLINE_SEED").unwrap_or(1u64).to_le_bytes());
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &seed))
}

fn small_and_busy(setup: Setup) -> Arena {
    let interval = Duration::from_millis(1);
    let builder = quiet(setup).scan_interval(interval).cold_age(interval).zeal(true);
    builder.reserve(512 << 20).build().unwrap()
}

/// All programs run in one arena. proptest prints the shortest program that fails.
#[test]
fn programs_of_one_thread_do_what_the_model_does() {
    for setup in setups("model::programs_of_one_thread") {
        let arena = small_and_busy(setup);
        let claims = Claims::new(&arena);
        runner()
            .run(&steps(Step::Trim), |steps| {
                asked(arena.set_resident_limit(None));
                asked(arena.set_memory_limit(None));
                run_steps(&arena, &claims, &steps);
                Ok(())
            })
            .unwrap_or_else(|e| panic!("{setup}: {e}"));
    }
}

/// After the stop the calls about residence may return `NotSwapping`.
#[test]
fn programs_that_stop_the_arena_do_what_the_model_does() {
    for setup in setups("model::programs_that_stop_the_arena") {
        runner()
            .run(&steps(Step::Stop), |steps| {
                let arena = small_and_busy(setup);
                run_steps(&arena, &Claims::new(&arena), &steps);
                Ok(())
            })
            .unwrap_or_else(|e| panic!("{setup}: {e}"));
    }
}

/// The threads change the limits too.
#[test]
fn nothing_is_wrong_while_limits_change() {
    for setup in setups("model::nothing_is_wrong_while_limits_change") {
        let arena = quiet(setup)
            .scan_interval(Duration::from_millis(1))
            .cold_age(Duration::from_secs(500))
            .build()
            .unwrap();
        let program = Program { limits: true, ..program(6) };
        nothing_is_wrong(program, &arena, |round| {
            if round == program.rounds - 1 {
                arena.set_resident_limit(Some(1 << 20)).unwrap();
                eventually(&arena, "enough", |stats| stats.evicted_pages > scaled(1000, 50));
            }
        });
    }
}
