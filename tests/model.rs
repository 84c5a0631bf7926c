//! Random programs against a plain model, in arenas of all kinds.

#![cfg(feature = "allocator-api2")]
#![allow(missing_docs, unsafe_code)]

mod common;

use allocator_api2::alloc::Allocator;
use common::blocks::{Block, Claims, bytes_not_zero, layout};
use common::child::{child_case, forbid_userfaultfd, passes_in_child};
use common::pages::eventually;
use common::program::{Outcome, Program};
use common::{Setup, quiet, scaled, setups};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::time::Duration;
use thermocline::{Advice, Arena, Lane};

/// Seeds differ from test to test, and are said where one fails.
fn program(seed: u64) -> Program {
    let operations = scaled(24_000, 1600);
    Program { seed, threads: 4, operations, bytes: 4 << 20, rounds: 4 }
}

fn nothing_is_wrong(program: Program, arena: &Arena, between: impl Fn(u64)) {
    let outcome = program.run(arena, between);
    let right = Outcome { operations: program.operations, wrong: 0, overlaps: 0, ..outcome };
    assert_eq!(outcome, right, "{program:?} {}", arena.stats());
}

#[test]
fn under_a_tiny_limit() {
    for setup in setups("model::under_a_tiny_limit") {
        let arena = quiet(setup)
            .resident_limit(4 << 20)
            .scan_interval(Duration::from_millis(5))
            .cold_age(Duration::from_secs(600))
            .build()
            .unwrap();
        let program = program(1);
        nothing_is_wrong(program, &arena, |round| {
            if round == program.rounds - 1 {
                eventually(&arena, "enough", |stats| stats.evicted > scaled(1000, 50));
            }
        });
    }
}

#[test]
fn while_freed_memory_is_overwritten() {
    for setup in setups("model::while_freed_memory_is_overwritten") {
        let interval = Duration::from_millis(1);
        let builder = quiet(setup).scan_interval(interval).cold_age(interval).zeal();
        let arena = builder.poison_freed().build().unwrap();
        nothing_is_wrong(program(2), &arena, |_| ());
    }
}

#[test]
fn where_the_store_is_full() {
    for setup in setups("model::where_the_store_is_full") {
        let interval = Duration::from_millis(1);
        let builder = quiet(setup).scan_interval(interval).cold_age(interval).zeal();
        let arena = builder.store_limit(1 << 20).build().unwrap();
        nothing_is_wrong(program(3), &arena, |_| ());
    }
}

/// Blocks of an arena that is brought to a stand go on as plain memory.
#[test]
fn before_and_after_the_arena_is_stopped() {
    for setup in setups("model::before_and_after_the_arena_is_stopped") {
        let interval = Duration::from_millis(1);
        let arena = quiet(setup).scan_interval(interval).cold_age(interval).zeal().build().unwrap();
        nothing_is_wrong(program(4), &arena, |round| {
            if round == 1 {
                arena.stop().unwrap();
            }
        });
    }
}

#[test]
fn in_plain_memory() {
    if child_case().is_none() {
        passes_in_child("in_plain_memory", "plain");
        return;
    }
    forbid_userfaultfd();
    let arena = Arena::builder().or_plain_memory().reserve(1 << 30).build().unwrap();
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
    Cold(usize),
    Prefetch(usize),
    Pin(usize),
    Evict,
    Trim,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let size = prop_oneof![
        6 => 1usize..600,
        3 => 600usize..40_000,
        1 => 40_000usize..400_000,
        1 => 400_000usize..2 << 20,
    ];
    let lane = (0..Lane::ALL.len()).prop_map(|lane| Lane::ALL[lane]);
    let shift = prop_oneof![8 => 0u32..5, 2 => 5u32..15, 1 => 15u32..22];
    let block = (lane, size, shift, any::<bool>());
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
        2 => pick.clone().prop_map(Step::Cold),
        1 => pick.clone().prop_map(Step::Prefetch),
        1 => pick.prop_map(Step::Pin),
        1 => Just(Step::Evict),
        1 => Just(Step::Trim),
    ];
    vec(step, 1..120)
}

/// The blocks there are, and what each must hold.
struct Model<'a> {
    arena: &'a Arena,
    claims: &'a Claims,
    blocks: Vec<Block>,
    stamps: u64,
}

/// Blocks in all, so that the arena has room for them wherever they lie.
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
                let handle = arena.handle().in_lane(lane);
                // SAFETY: the block was allocated with the old layout, and has the new one from
                // here on.
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
            Step::Cold(pick) => {
                if let Some(block) = self.picked(pick) {
                    arena.advise(block.range(), Advice::Cold).unwrap();
                }
            }
            Step::Prefetch(pick) => {
                if let Some(block) = self.picked(pick) {
                    arena.prefetch(block.range()).unwrap();
                }
            }
            Step::Pin(pick) => {
                if let Some(block) = self.picked(pick) {
                    let pinned = arena.pin(block.range()).unwrap();
                    assert_eq!(block.wrong(), 0, "{block:?}");
                    drop(pinned);
                }
            }
            Step::Evict => drop(arena.evict_now().unwrap()),
            Step::Trim => drop(arena.trim()),
            Step::Allocate { .. } => {}
        }
    }
}

fn run_steps(arena: &Arena, claims: &Claims, steps: &[Step]) {
    let mut model = Model { arena, claims, blocks: Vec::new(), stamps: 0 };
    for step in steps {
        model.step(step);
        let usable: usize = model.blocks.iter().map(|block| block.usable).sum();
        assert_eq!(arena.stats().allocated_bytes, usable, "{step:?}");
    }
    arena.check().unwrap();
    while let Some(block) = model.remove(0) {
        block.free(arena);
    }
    assert_eq!(arena.stats().allocated_bytes, 0);
    arena.check().unwrap();
}

/// What fails is told as the shortest program that fails.
fn every_program_is_right(setup: Setup) {
    let interval = Duration::from_millis(1);
    let builder = quiet(setup).scan_interval(interval).cold_age(interval).zeal();
    let arena = builder.reserve(512 << 20).build().unwrap();
    let claims = Claims::new(&arena);
    let config = Config { cases: scaled(24, 3), failure_persistence: None, ..Config::default() };
    TestRunner::new(config)
        .run(&steps(), |steps| {
            run_steps(&arena, &claims, &steps);
            Ok(())
        })
        .unwrap_or_else(|e| panic!("{setup}: {e}"));
}

#[test]
fn programs_of_one_thread_do_what_the_model_does() {
    for setup in setups("model::programs_of_one_thread") {
        every_program_is_right(setup);
    }
}
