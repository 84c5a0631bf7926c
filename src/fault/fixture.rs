//! A resolver with memory of its own, for tests.

#![allow(unsafe_code)]

use super::*;
use crate::common;
use crate::prim::PAGE_SIZE;
use crate::store::{Compressor, Put};
use crate::sys::backing::{FaultDelivery, MemoryKind};
use crate::sys::uapi::UffdMsg;
use crate::track::Tracker;

/// Pages of the fixture's memory.
const PAGES: usize = 4096;

/// A resolver without handler threads and without an evictor.
pub(super) struct Fixture {
    pub(super) resolver: Resolver,
    compressor: Compressor,
    /// The first page that no run has used.
    next: usize,
}

/// The bytes of a page. No two pages have a word in common.
pub(super) fn bytes_of(page: PageIndex) -> Vec<u8> {
    (0..PAGE_SIZE as u64 / 8).flat_map(|i| (page.0 as u64 * 1000 + i / 8).to_le_bytes()).collect()
}

pub(super) fn is_damaged(damaged: usize, i: usize) -> bool {
    i < usize::BITS as usize && damaged >> i & 1 == 1
}

impl Fixture {
    pub(super) fn new(kind: Tracker) -> Self {
        let bytes = PAGES * PAGE_SIZE;
        let core =
            Core::new(bytes, MemoryKind::Shared, kind, 0, FaultDelivery::Messages(1), 64 << 20)
                .unwrap();
        let map = Arc::new(BlockMap::new(PAGES).unwrap());
        let resolver = Resolver::new(Arc::new(core), map);
        Self { resolver, compressor: Compressor::new(), next: 1 }
    }

    /// Stores a page, as the evictor does.
    fn store(&mut self, page: PageIndex, damaged: bool) {
        let Core { table, store, .. } = &*self.resolver.core;
        table.begin_fill(page, Word::EMPTY).unwrap();
        let _ = table.finish_fill(page, Word::EMPTY);
        table.claim(page, table.load(page)).unwrap();
        let bytes = bytes_of(page);
        let Put::Compressed(handle) = store.put(&mut self.compressor, &bytes, page.0 as u64) else {
            panic!("the page does not compress");
        };
        assert!(table.publish(page, handle));
        let _ = table.finish_drop(page);
        if damaged {
            store.corrupt(handle);
        }
    }

    /// Stores a run of `pages` pages. `damaged` has a bit for each page, which is set for a damaged one. The
    /// pages next to the run are empty.
    pub(super) fn stored(&mut self, pages: usize, damaged: usize) -> PageRange {
        let run = PageRange::new(self.next, self.next + pages);
        self.next = run.end.0 + 1;
        for (i, page) in run.iter().enumerate() {
            self.store(page, is_damaged(damaged, i));
        }
        run
    }

    pub(super) fn state(&self, page: PageIndex) -> State {
        self.resolver.core.table.load(page).state()
    }

    /// Reads a page as the program does. The page must be resident.
    pub(super) fn read(&self, page: PageIndex) -> u8 {
        assert_eq!(self.state(page), State::Resident);
        let address = self.resolver.core.backing.base().wrapping_add(page.offset());
        // SAFETY: within the mapping, and nothing writes there.
        unsafe { address.read_volatile() }
    }

    /// Lets `threads` threads touch a page, and serves their faults as one batch of a handler thread.
    pub(super) fn serve_touches(&self, page: PageIndex, threads: usize) {
        let backing = &self.resolver.core.backing;
        let address = backing.base().wrapping_add(page.offset());
        std::thread::scope(|scope| {
            for _ in 0..threads {
                let at = std::sync::atomic::AtomicPtr::new(address);
                // SAFETY: within the mapping, and nothing writes there.
                scope.spawn(move || unsafe { at.into_inner().read_volatile() });
            }
            let mut messages = vec![UffdMsg::default(); threads];
            let mut got = 0;
            while got < threads {
                got += backing.uffds()[0].read(&mut messages[got..]).unwrap();
                std::thread::yield_now();
            }
            let progress = self.resolver.progress(0);
            handler::serve_batch(&self.resolver, progress, &messages, &|| ()).unwrap();
        });
    }

    /// Restores a page as a fault does, with the stored pages of `window` next to it.
    pub(super) fn restore_within(
        &self,
        window: PageRange,
        page: PageIndex,
    ) -> (Resolved, PageRange) {
        let was = self.resolver.core.table.load(page);
        self.resolver.core.table.begin_fill(page, was).unwrap();
        self.resolver.restore_within(window, page, was)
    }

    /// Whether a page is resident, with its own bytes.
    pub(super) fn has_its_bytes(&self, page: PageIndex) -> bool {
        let mut bytes = vec![0; PAGE_SIZE];
        self.resolver.core.backing.shared().unwrap().read(page.only(), &mut bytes).unwrap();
        self.state(page) == State::Resident && bytes == bytes_of(page)
    }

    /// Whether a page reads as zeros through the memfd: a stored page must, and a page lost by a refault.
    pub(super) fn reads_as_zeros(&self, page: PageIndex) -> bool {
        let mut bytes = vec![1; PAGE_SIZE];
        self.resolver.core.backing.shared().unwrap().read(page.only(), &mut bytes).unwrap();
        bytes == [0; PAGE_SIZE]
    }

    pub(super) fn check(&self) {
        let Core { table, store, .. } = &*self.resolver.core;
        table.check().unwrap();
        let words = (0..PAGES).map(|page| table.load(PageIndex(page)));
        let handles = words.filter(|word| word.state() == State::Stored).map(Word::handle);
        store.check(handles).unwrap();
    }
}

pub(super) fn each(test: &str, run: impl Fn(Fixture)) {
    common::trackers(test).into_iter().for_each(|kind| run(Fixture::new(kind)));
}
