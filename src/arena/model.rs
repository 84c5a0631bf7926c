//! Two or three threads on one or two pages, in every order of their steps, by the model checker loom.
//!
//! The real table, resolver, evictor, trackers and store run on the simulated kernel. The page words and
//! all locks are loom's, so a guarantee that a memory ordering does not give does not hold here. Loom
//! treats SeqCst accesses as AcqRel, and models fences as such. `LOOM_MAX_PREEMPTIONS` bounds the
//! preemptions of an order; loom leaves out orders with more.

use crate::alloc::BlockMap;
use crate::evict::{Evictor, EvictorOptions};
use crate::fault::inline::Inline;
use crate::fault::{EmptyPages, Peeked, Resolver};
use crate::prim::sync::thread;
use crate::prim::{PAGE_SIZE, PageIndex, PageRange, Tick};
use crate::store::SLAB_BYTES;
use crate::sys::backing::{FaultDelivery, MemoryKind};
use crate::sys::platform::Kernel;
use crate::sys::sigbus::{self, Registration};
use crate::table::State;
use crate::track::{Core, Tracker};
use std::io::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// An arena of a few pages, with inline faults.
struct World {
    kernel: Arc<Kernel>,
    core: Arc<Core>,
    resolver: Arc<Resolver>,
    evictor: Mutex<Option<Evictor>>,
    expected: Mutex<Vec<[u8; 8]>>,
    _registration: Registration,
}

impl World {
    fn new(memory: MemoryKind, tracker: Tracker, pages: usize, slabs: usize) -> Arc<Self> {
        let kernel = Kernel::boot();
        let bytes = pages * PAGE_SIZE;
        let core = Core::new(bytes, memory, tracker, 0, FaultDelivery::Signals, slabs * SLAB_BYTES);
        let core = Arc::new(core.unwrap());
        let map = Arc::new(BlockMap::new(pages).unwrap());
        let resolver = Arc::new(Resolver::new(Arc::clone(&core), map));
        let evictor = Evictor::new(Arc::clone(&core), EvictorOptions::TEST, None).unwrap();
        let inline = Arc::new(Inline::new(Arc::clone(&resolver), Box::new(|| ())));
        let registration = sigbus::register(0..1, inline).unwrap();
        let world = Self {
            kernel,
            core,
            resolver,
            evictor: Mutex::new(Some(evictor)),
            expected: Mutex::new(vec![[0; 8]; pages]),
            _registration: registration,
        };
        (0..pages).for_each(|page| world.write(page, page as u8 + 1));
        Arc::new(world)
    }

    /// Fills a page: with one repeated word, which takes no room in the store, or, if `value` is above
    /// 100, with bytes that compress.
    fn write(&self, page: usize, value: u8) {
        let word = [value, 0, 0, 0, value, 0, 0, 0];
        let written = self.kernel.write(PageIndex(page), |bytes| {
            let mut expected = self.expected.lock().unwrap();
            assert_eq!(bytes[..8], expected[page], "page {page}");
            bytes.chunks_mut(8).for_each(|chunk| chunk.copy_from_slice(&word));
            if value > 100 {
                bytes[PAGE_SIZE - 1] = value;
            }
            expected[page] = word;
        });
        written.unwrap();
    }

    fn read(&self, page: usize) {
        let read = self.kernel.read(PageIndex(page), |bytes| {
            let expected = self.expected.lock().unwrap()[page];
            assert_eq!(bytes[..8], expected, "page {page}");
        });
        read.unwrap();
    }

    fn all(&self) -> PageRange {
        self.core.table.all()
    }

    /// Evicts in the tick in which the pages were touched, so that a touch changes no word.
    fn evict(&self) -> usize {
        let mut evictor = self.evictor.lock().unwrap().take().unwrap();
        let pages = evictor.evict_all(Tick::new(0), self.all()).pages;
        *self.evictor.lock().unwrap() = Some(evictor);
        pages
    }

    fn prefetch(&self) {
        self.resolver.restore(self.all(), EmptyPages::Leave).unwrap();
    }

    fn release(&self, page: usize) {
        self.resolver.release(PageIndex(page).only()).unwrap();
        self.expected.lock().unwrap()[page] = [0; 8];
    }

    fn check(&self) {
        self.all().iter().for_each(|page| self.read(page.0));
        self.core.table.check().unwrap();
        let words = self.core.table.extent().iter().map(|page| self.core.table.load(page));
        self.core
            .store
            .check(words.filter(|w| w.state() == State::Stored).map(|w| w.handle()))
            .unwrap();
    }
}

/// The steps of one thread.
type Part = fn(&World);

/// Runs the parts in every order: the first in the checking thread, each other in a thread of its own.
fn check(test: &str, pages: usize, slabs: usize, before: Part, parts: &'static [Part]) {
    let kinds = [
        (MemoryKind::Shared, Tracker::Zap),
        (MemoryKind::Shared, Tracker::Rwp),
        (MemoryKind::Private, Tracker::Accessed),
        (MemoryKind::Private, Tracker::Rwp),
    ];
    for (memory, tracker) in kinds {
        let mut model = loom::model::Builder::new();
        model.max_branches = 100_000;
        model.preemption_bound = model.preemption_bound.or(Some(1));
        let orders = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&orders);
        model.check(move || {
            counted.fetch_add(1, Ordering::Relaxed);
            let world = World::new(memory, tracker, pages, slabs);
            before(&world);
            let others: Vec<_> = parts[1..]
                .iter()
                .map(|part| {
                    let world = Arc::clone(&world);
                    thread::start(String::new(), move || part(&world))
                })
                .collect();
            parts[0](&world);
            others.into_iter().for_each(|other| other.join().unwrap());
            world.check();
        });
        let orders = orders.load(Ordering::Relaxed);
        let bound = model.preemption_bound.unwrap_or(0);
        let mut out = std::io::stdout().lock();
        let _ = writeln!(out, "{test}, {memory}, {tracker}: orders={orders} preemptions<={bound}");
        // With fewer orders the parts would never meet.
        assert!(orders > 20, "{test}, {memory}, {tracker}: {orders} orders");
    }
}

fn nothing(_: &World) {}

fn evict(world: &World) {
    world.evict();
}

fn evict_all(world: &World) {
    assert_eq!(world.evict(), world.all().pages());
}

#[test]
fn evict_and_write() {
    check("evict_and_write", 1, 0, nothing, &[evict, |world| world.write(0, 9)]);
}

#[test]
fn evict_read_and_write() {
    check(
        "evict_read_and_write",
        1,
        0,
        nothing,
        &[evict, |world| world.write(0, 9), |world| world.read(0)],
    );
}

#[test]
fn two_faults_on_a_page() {
    check(
        "two_faults_on_a_page",
        1,
        0,
        evict_all,
        &[|world| world.read(0), |world| world.write(0, 9)],
    );
}

#[test]
fn fault_and_prefetch() {
    check(
        "fault_and_prefetch",
        2,
        0,
        evict_all,
        &[|world| world.prefetch(), |world| world.write(1, 9)],
    );
}

#[test]
fn evict_and_prefetch() {
    check("evict_and_prefetch", 2, 0, nothing, &[evict, |world| world.prefetch()]);
}

/// Reads the first page where it is: in the store or in memory.
fn peek(world: &World) {
    let mut bytes = [0; PAGE_SIZE];
    match world.resolver.peek(PageIndex(0), 0..8, &mut bytes) {
        Peeked::Stored => assert_eq!(bytes[..8], world.expected.lock().unwrap()[0]),
        Peeked::InMemory => world.read(0),
        Peeked::Lost => panic!("nothing is damaged"),
    }
}

#[test]
fn evict_and_peek() {
    check("evict_and_peek", 1, 0, nothing, &[evict, peek]);
}

#[test]
fn fault_and_peek() {
    check("fault_and_peek", 1, 0, evict_all, &[|world| world.read(0), peek]);
}

#[test]
fn two_peeks() {
    check("two_peeks", 1, 0, evict_all, &[peek, peek]);
}

#[test]
fn evict_and_free() {
    check("evict_and_free", 1, 0, nothing, &[evict, |world| world.release(0)]);
}

/// A page that a touch took back from the evictor is not free before the evictor is done with it.
#[test]
fn evict_touch_and_free() {
    check(
        "evict_touch_and_free",
        1,
        0,
        nothing,
        &[evict, |world| {
            world.write(0, 9);
            world.release(0);
        }],
    );
}

/// A thread that has seen only the page word reads the block.
#[test]
fn evict_and_prefetch_a_block() {
    let before = |world: &World| world.write(0, 101);
    check("evict_and_prefetch_a_block", 1, 1, before, &[evict, |world| world.prefetch()]);
}

#[test]
fn free_and_prefetch() {
    check(
        "free_and_prefetch",
        1,
        0,
        evict_all,
        &[|world| world.release(0), |world| world.prefetch()],
    );
}

/// Pins the first page, brings it back, and waits until the evictor is done with it.
fn pin(world: &World) {
    let page = PageIndex(0).only();
    world.core.table.pins().add(page);
    let is_done = || {
        let word = world.core.table.load(page.start);
        word.state() == State::Resident && !word.is_in_batch()
    };
    while {
        world.resolver.restore(page, EmptyPages::Populate).unwrap();
        !is_done()
    } {
        thread::yield_now();
    }
    // If it is claimed, the evictor is about to give it up.
    let word = world.core.table.load(page.start);
    assert!(!matches!(word.state(), State::Dropping | State::Stored), "pinned, and {word:?}");
    world.read(0);
    world.core.table.pins().remove(page);
}

#[test]
fn evict_and_pin() {
    check("evict_and_pin", 1, 0, nothing, &[evict, pin]);
}

/// The fault frees the slot that the evictor needs.
#[test]
fn fault_and_compaction() {
    let before = |world: &World| {
        world.write(0, 101);
        evict_all(world);
        world.write(1, 102);
    };
    check("fault_and_compaction", 2, 1, before, &[evict, |world| world.read(0)]);
}
