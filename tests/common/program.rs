//! Random programs: threads that allocate, resize, write, read and free blocks, send them to each other,
//! and make every other call of an arena meanwhile.

#![allow(dead_code, unsafe_code, reason = "each test program uses a part of it")]

use super::LANES;
use super::blocks::{Block, Claims, Random, bytes_not_zero};
use allocator_api2::alloc::Allocator;
use std::alloc::Layout;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};
use thermocline::{Advice, Arena, ArenaError, HeapStats, Lane, PinGuard};

#[derive(Clone, Copy, Debug)]
pub struct Program {
    pub seed: u64,
    pub threads: usize,
    /// Sum over all threads.
    pub operations: u64,
    /// About the bytes that each thread has in its blocks.
    pub bytes: usize,
    /// How often all threads end and everything is checked.
    pub rounds: u64,
    /// Whether the program changes the arena's limits. At the end of a round there is no limit.
    pub limits: bool,
    /// The threads leave out the operations that they have not begun after this time.
    pub most_time: Duration,
}

/// The result of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub operations: u64,
    /// Bytes that were compared.
    pub checked: u64,
    pub wrong: u64,
    pub overlaps: u64,
}

/// The state that the threads share.
struct Model<'a> {
    arena: &'a Arena,
    start: Instant,
    most_time: Duration,
    limits: bool,
    claims: &'a Claims,
    live: AtomicU64,
    live_bytes: AtomicU64,
    operations: AtomicU64,
    checked: AtomicU64,
    wrong: AtomicU64,
    overlaps: AtomicU64,
}

impl Model<'_> {
    fn add(&self, block: &Block) {
        if !self.claims.claim(block) {
            self.overlaps.fetch_add(1, Ordering::Relaxed);
        }
        self.live.fetch_add(1, Ordering::Relaxed);
        self.live_bytes.fetch_add(block.usable as u64, Ordering::Relaxed);
    }

    fn remove(&self, block: &Block) {
        self.claims.release(block);
        self.live.fetch_sub(1, Ordering::Relaxed);
        self.live_bytes.fetch_sub(block.usable as u64, Ordering::Relaxed);
    }

    fn wrong(&self, words: u64) {
        self.wrong.fetch_add(words, Ordering::Relaxed);
    }

    fn verify(&self, block: &Block) {
        self.checked.fetch_add(block.layout.size() as u64, Ordering::Relaxed);
        self.wrong(block.wrong());
    }

    fn free(&self, block: Block) {
        self.verify(&block);
        self.remove(&block);
        block.free(self.arena);
    }

    /// Compares the arena's figures with the model. No thread may be at work.
    fn check(&self) {
        self.arena.check().unwrap();
        let stats = self.arena.heap_stats().unwrap();
        let (live, bytes) = (&self.live, &self.live_bytes);
        assert_eq!(blocks_in(&stats), live.load(Ordering::Relaxed), "{stats}");
        assert_eq!(stats.live_bytes(), bytes.load(Ordering::Relaxed), "{stats}");
        assert_eq!(self.arena.stats().allocated_bytes, stats.live_bytes());
    }
}

/// The number of live blocks.
fn blocks_in(stats: &HeapStats) -> u64 {
    let small: u64 = stats.lanes.iter().flat_map(|lane| &lane.classes).map(|c| c.live).sum();
    small + stats.large
}

struct Worker {
    number: u64,
    random: Random,
    sequence: u64,
    blocks: Vec<Block>,
    held: usize,
    pins: VecDeque<PinGuard>,
    peeked: Vec<u8>,
    inbox: Receiver<Block>,
    outboxes: Vec<Sender<Block>>,
}

/// Most blocks are small, a few are larger than a region.
pub fn random_size(random: &mut Random) -> usize {
    let most = match random.below(1000) {
        0..=699 => 256,
        700..=899 => 4096,
        900..=979 => 40_000,
        980..=997 => 300_000,
        _ => 2 << 20,
    };
    1 + random.below(most)
}

fn random_align(random: &mut Random) -> usize {
    match random.below(200) {
        0 => 1 << random.below(22),
        1..=20 => 1 << random.below(14),
        _ => 1 << random.below(5),
    }
}

/// A limit below the size of a program's blocks, or no limit.
fn random_limit(random: &mut Random) -> Option<usize> {
    (!random.one_in(3)).then(|| (256 << 10) + random.below(8 << 20))
}

/// Panics at any error except the one of an arena that evicts nothing.
pub fn asked<T>(answer: Result<T, ArenaError>) {
    match answer {
        Ok(_) | Err(ArenaError::NotSwapping) => {}
        Err(e) => panic!("{e}"),
    }
}

impl Worker {
    fn lane(&mut self) -> Lane {
        LANES[self.random.below(LANES.len())]
    }

    fn stamp(&mut self) -> u64 {
        self.sequence += 1;
        self.number << 32 | (self.sequence & 0xffff_ffff)
    }

    fn allocate(&mut self, model: &Model<'_>) {
        let size = random_size(&mut self.random);
        let layout = Layout::from_size_align(size, random_align(&mut self.random)).unwrap();
        let (lane, stamp) = (self.lane(), self.stamp());
        let given = if self.random.one_in(4) {
            let given = model.arena.lane(lane).allocate_zeroed(layout).unwrap();
            model.wrong(bytes_not_zero(given, 0, size));
            given
        } else {
            model.arena.lane(lane).allocate(layout).unwrap()
        };
        let block = Block::new(given, layout, stamp);
        model.add(&block);
        self.held += block.usable;
        self.blocks.push(block);
    }

    fn pick(&mut self) -> Option<usize> {
        // Mostly one of the latest 30, so that older blocks become cold.
        let from = if self.random.one_in(3) { 0 } else { self.blocks.len().saturating_sub(30) };
        let count = self.blocks.len() - from;
        (count > 0).then(|| from + self.random.below(count))
    }

    fn take_out(&mut self) -> Option<Block> {
        let at = self.pick()?;
        let block = self.blocks.swap_remove(at);
        self.held -= block.usable;
        Some(block)
    }

    fn resize(&mut self, model: &Model<'_>) {
        let Some(mut block) = self.take_out() else { return };
        let old = block.layout;
        // Sometimes by a little, so that the block can stay in place.
        let size = match self.random.below(3) {
            0 => random_size(&mut self.random),
            1 => 1 + self.random.below(old.size() * 2),
            _ => old.size() + self.random.below(20_000),
        };
        let align = if self.random.one_in(10) { 1 << self.random.below(13) } else { old.align() };
        let new = Layout::from_size_align(size, align).unwrap();
        let handle = model.arena.lane(self.lane());
        model.remove(&block);
        // SAFETY: the block was allocated with the old layout, and has the new one from here on.
        let given = unsafe {
            if size < old.size() {
                handle.shrink(block.pointer, old, new)
            } else if self.random.one_in(2) {
                let given = handle.grow_zeroed(block.pointer, old, new).unwrap();
                model.wrong(bytes_not_zero(given, old.size(), size));
                Ok(given)
            } else {
                handle.grow(block.pointer, old, new)
            }
        };
        model.wrong(block.resized(given.unwrap(), new));
        model.add(&block);
        self.held += block.usable;
        self.blocks.push(block);
    }

    /// Makes a call about the residence of one block or of the whole arena.
    fn ask(&mut self, model: &Model<'_>) {
        let arena = model.arena;
        let Some(at) = self.pick() else { return };
        let range = self.blocks[at].range();
        match self.random.below(48) {
            0 => asked(arena.evict_now()),
            1 => drop(arena.trim()),
            2 => assert!(arena.heap_stats().unwrap().fragmentation() <= 1.0),
            3 => assert!(arena.stats().lost_bytes == 0),
            4..=18 => asked(arena.advise(range, Advice::Cold)),
            19..=22 => asked(arena.advise(range, Advice::WillNeed)),
            23..=27 => asked(arena.prefetch(range)),
            28..=33 => arena.ensure(range).unwrap(),
            34..=39 => model.wrong(self.blocks[at].wrong_at_a_peek(arena, &mut self.peeked)),
            40 if model.limits => {
                asked(arena.set_resident_limit(random_limit(&mut self.random)));
            }
            41 if model.limits => {
                asked(arena.set_memory_limit(random_limit(&mut self.random)));
            }
            _ => {
                self.pins.push_back(arena.pin(range).unwrap());
                if self.pins.len() > 3 {
                    self.pins.pop_front();
                }
            }
        }
    }

    fn step(&mut self, model: &Model<'_>, bytes: usize) {
        match self.random.below(1000) {
            0..=399 if self.held < bytes => self.allocate(model),
            400..=449 => {
                if let Some(block) = self.take_out() {
                    let to = self.random.below(self.outboxes.len());
                    self.outboxes[to].send(block).unwrap();
                }
            }
            450..=499 => {
                if let Ok(block) = self.inbox.try_recv() {
                    model.verify(&block);
                    if self.random.one_in(2) {
                        model.free(block);
                    } else {
                        self.held += block.usable;
                        self.blocks.push(block);
                    }
                }
            }
            500..=599 => self.resize(model),
            600..=699 => {
                let stamp = self.stamp();
                if let Some(at) = self.pick() {
                    model.verify(&self.blocks[at]);
                    self.blocks[at].restamp(stamp);
                }
            }
            700..=779 => {
                if let Some(at) = self.pick() {
                    model.verify(&self.blocks[at]);
                }
            }
            780..=794 => self.ask(model),
            _ => {
                if let Some(block) = self.take_out() {
                    model.free(block);
                }
            }
        }
    }

    fn work(&mut self, model: &Model<'_>, operations: u64, bytes: usize) {
        let is_over = || model.start.elapsed() > model.most_time;
        let mut done = 0;
        while done < operations && !is_over() {
            self.step(model, bytes);
            done += 1;
        }
        model.operations.fetch_add(done, Ordering::Relaxed);
    }
}

impl Program {
    /// Runs it in an arena in which nothing is allocated, and calls `between` after each round.
    pub fn run(&self, arena: &Arena, between: impl Fn(u64)) -> Outcome {
        let outcome = self.run_beside(arena, &Claims::new(arena), between);
        arena.trim();
        let stats = arena.heap_stats().unwrap();
        assert_eq!(stats.held_bytes(), 0, "{stats}");
        arena.check().unwrap();
        outcome
    }

    /// The same in an arena with other blocks, which are not freed meanwhile. `claims` is empty.
    pub fn run_beside(&self, arena: &Arena, claims: &Claims, between: impl Fn(u64)) -> Outcome {
        let before = arena.heap_stats().unwrap();
        let model = Model {
            arena,
            start: Instant::now(),
            most_time: self.most_time,
            limits: self.limits,
            claims,
            live: AtomicU64::new(blocks_in(&before)),
            live_bytes: AtomicU64::new(before.live_bytes()),
            operations: AtomicU64::new(0),
            checked: AtomicU64::new(0),
            wrong: AtomicU64::new(0),
            overlaps: AtomicU64::new(0),
        };
        let (outboxes, inboxes): (Vec<_>, Vec<_>) = (0..self.threads).map(|_| channel()).unzip();
        let mut workers: Vec<Worker> = (0..)
            .zip(inboxes)
            .map(|(number, inbox)| Worker {
                number,
                random: Random::new(self.seed << 8 | number),
                sequence: 0,
                blocks: Vec::new(),
                held: 0,
                pins: VecDeque::new(),
                peeked: Vec::new(),
                inbox,
                outboxes: outboxes.clone(),
            })
            .collect();
        for round in 0..self.rounds {
            let operations = self.operations / self.rounds / self.threads as u64;
            thread::scope(|scope| {
                let model = &model;
                let work = |worker| {
                    let work =
                        move |worker: &mut Worker| worker.work(model, operations, self.bytes);
                    scope.spawn(move || work(worker))
                };
                let handles: Vec<_> = workers.iter_mut().map(work).collect();
                handles.into_iter().for_each(|handle| {
                    handle.join().unwrap_or_else(|_| panic!("in round {round} of {self:?}"));
                });
            });
            if self.limits {
                asked(arena.set_resident_limit(None));
                asked(arena.set_memory_limit(None));
            }
            model.check();
            between(round);
        }
        for worker in workers {
            worker.inbox.try_iter().chain(worker.blocks).for_each(|block| model.free(block));
        }
        model.check();
        assert!(model.claims.is_empty());
        Outcome {
            operations: model.operations.into_inner(),
            checked: model.checked.into_inner(),
            wrong: model.wrong.into_inner(),
            overlaps: model.overlaps.into_inner(),
        }
    }
}
