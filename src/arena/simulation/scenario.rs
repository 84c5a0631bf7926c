//! The programs that the simulation runs.

use crate::fault::FaultMode;
use crate::sys::backing::MemoryKind;
use crate::track::Tracker;

/// An operation of a thread of the program. A range is its first page and the page after its last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    /// Writes a whole page.
    Fill(usize),
    /// Writes a word in each half of a page.
    Write(usize),
    Read(usize),
    /// Evicts the pages that are not touched meanwhile.
    Evict(usize, usize),
    /// A whole cycle of the evictor, with a resident limit of this number of pages.
    Cycle(usize),
    Prefetch(usize, usize),
    Ensure(usize, usize),
    /// Reads a page without making it resident.
    Peek(usize),
    Populate(usize, usize),
    Free(usize, usize),
    Forget(usize, usize),
    /// Pins, reads, and unpins.
    Pin(usize, usize),
    Cold(usize, usize),
    WillNeed(usize, usize),
    Stop,
}

impl Op {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Fill(_) | Self::Write(_) | Self::Read(_) => "fault",
            Self::Evict(..) => "evict",
            Self::Cycle(_) => "cycle",
            Self::Prefetch(..) => "prefetch",
            Self::Ensure(..) => "ensure",
            Self::Peek(_) => "peek",
            Self::Populate(..) => "populate",
            Self::Free(..) => "free",
            Self::Forget(..) => "forget",
            Self::Pin(..) => "pin",
            Self::Cold(..) | Self::WillNeed(..) => "hint",
            Self::Stop => "stop",
        }
    }
}

/// A program, and the configuration of its arena.
#[derive(Clone, Debug)]
pub(super) struct Scenario {
    pub(super) name: &'static str,
    pub(super) memory: MemoryKind,
    pub(super) tracker: Tracker,
    pub(super) faults: FaultMode,
    pub(super) handlers: usize,
    /// Whether the evictor thread evicts, rather than the main thread.
    pub(super) own_thread: bool,
    /// The most slabs that the store may have.
    pub(super) slabs: usize,
    pub(super) pages: usize,
    /// The operations before the first injection.
    pub(super) before: &'static [Op],
    pub(super) main: &'static [Op],
    /// The operations of each other thread, which runs if no other thread can or the run's plan says so.
    pub(super) other_threads: &'static [&'static [Op]],
}

impl Scenario {
    pub(super) fn title(&self) -> String {
        format!("{}, {}, {}, {}", self.name, self.memory, self.tracker, self.faults)
    }
}

use Op::*;

const FILL_3: &[Op] = &[Fill(0), Fill(1), Fill(2)];

/// (name, pages, slabs, whether the evictor thread evicts, before, main, other threads)
type Program =
    (&'static str, usize, usize, bool, &'static [Op], &'static [Op], &'static [&'static [Op]]);

const PROGRAMS: &[Program] = &[
    // No other thread waits for anything else, so that all are running when the arena stops.
    (
        "stop at once",
        3,
        4,
        true,
        &[Fill(0), Fill(1), Evict(0, 3), Read(1)],
        &[Stop],
        &[&[Write(0)], &[Read(2)], &[Write(1), Evict(0, 3)]],
    ),
    // The smallest programs, with the most orders of steps.
    ("one page", 1, 4, false, &[Fill(0)], &[Evict(0, 1)], &[&[Write(0)], &[Read(0)]]),
    ("one page freed", 1, 4, false, &[Fill(0)], &[Evict(0, 1)], &[&[Write(0), Free(0, 1)]]),
    // All states of a page, with another thread at each transition.
    (
        "whole life",
        5,
        4,
        false,
        &[Fill(0), Fill(1), Fill(2), Write(3)],
        &[
            Evict(0, 5),
            Read(0),
            Prefetch(0, 5),
            Write(1),
            Evict(0, 5),
            Free(2, 4),
            Write(2),
            Read(4),
        ],
        &[&[Write(0)], &[Read(1), Write(1)], &[Prefetch(0, 2)], &[Pin(0, 2)]],
    ),
    (
        "cycle",
        3,
        4,
        false,
        FILL_3,
        &[Cycle(9), Cycle(1), Read(0), Cycle(0)],
        &[&[Write(0)], &[Read(2), Write(2)]],
    ),
    // Two faults on a page at the same time.
    (
        "two faults",
        2,
        4,
        false,
        &[Fill(0), Fill(1), Evict(0, 2)],
        &[Evict(0, 2)],
        &[&[Read(0), Write(1)], &[Write(0)], &[Read(1)]],
    ),
    // Runs of pages, some of which another thread restores.
    (
        "runs",
        6,
        4,
        false,
        &[Fill(0), Fill(1), Fill(2), Fill(3), Fill(4), Fill(5), Evict(0, 6)],
        &[Read(0), Read(1), Read(2), Read(3), Read(4)],
        &[&[Prefetch(1, 6)], &[Write(5), Write(4)], &[Ensure(2, 4)]],
    ),
    // Peeks at pages that another thread restores.
    (
        "peek",
        3,
        4,
        false,
        &[Fill(0), Fill(1), Fill(2), Evict(0, 3)],
        &[Peek(0), Peek(1), Evict(0, 3), Peek(0), Peek(2)],
        &[&[Peek(0), Read(0)], &[Prefetch(0, 2)], &[Read(1), Peek(1)]],
    ),
    (
        "free",
        4,
        4,
        false,
        &[Fill(0), Fill(1), Fill(2), Fill(3), Evict(0, 2)],
        &[Free(0, 4), Populate(0, 2), Write(0), Fill(2), Evict(0, 4), Forget(0, 4), Read(3)],
        &[&[Prefetch(0, 4)], &[Ensure(1, 3)]],
    ),
    // A store with room for same-filled pages only.
    (
        "store full",
        3,
        0,
        false,
        FILL_3,
        &[Evict(0, 3), Read(1), Evict(0, 3)],
        &[&[Write(0)], &[Write(1)]],
    ),
    (
        "noise",
        8,
        1,
        false,
        &[Fill(6), Fill(7), Fill(0)],
        &[Evict(0, 8), Read(7), Evict(0, 8)],
        &[&[Write(7)], &[Write(6)]],
    ),
    (
        "pins",
        2,
        4,
        false,
        &[Fill(0), Fill(1)],
        &[Evict(0, 2), Evict(0, 2)],
        &[&[Pin(0, 2)], &[Pin(1, 2), Write(1)]],
    ),
    // The evictor thread, hints, and the end.
    (
        "stop",
        4,
        4,
        true,
        &[Fill(0), Fill(1), Fill(2), Fill(3)],
        &[Evict(0, 3), WillNeed(0, 1), Cold(1, 2), Stop, Write(0), Free(3, 4)],
        &[&[Write(0), Read(1)], &[Read(2), Write(2)], &[Evict(0, 3)]],
    ),
    (
        "first touches",
        4,
        4,
        true,
        &[],
        &[Write(0), Write(1), Write(2), Evict(0, 4), Stop],
        &[&[Read(0)], &[Write(1), Write(3)]],
    ),
];

/// Every program in every kind of arena.
pub(super) fn scenarios() -> Vec<Scenario> {
    let kinds = [
        (MemoryKind::Shared, Tracker::Rwp),
        (MemoryKind::Shared, Tracker::Zap),
        (MemoryKind::Private, Tracker::Rwp),
        (MemoryKind::Private, Tracker::Accessed),
    ];
    let modes = [(FaultMode::Handler, 1), (FaultMode::Inline, 0)];
    let arenas = kinds.iter().flat_map(|kind| modes.map(|mode| (*kind, mode)));
    let mut all = Vec::new();
    for &(name, pages, slabs, own_thread, before, main, other_threads) in PROGRAMS {
        for ((memory, tracker), (faults, handlers)) in arenas.clone() {
            all.push(Scenario {
                name,
                memory,
                tracker,
                faults,
                handlers,
                own_thread,
                slabs,
                pages,
                before,
                main,
                other_threads,
            });
        }
    }
    all
}
