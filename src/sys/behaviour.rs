//! Tests of the kernel's behaviour that the engine relies on, on the running and on the simulated kernel.

#![allow(unsafe_code)]

use super::accessed::{AccessedBits, Look};
use super::memory::SharedMemory;
use super::outcome::Clears;
use super::pagemap::{PageFilter, Pagemap};
use super::uapi::*;
use super::uffd::{Outcome, Uffd};
use crate::prim::geometry::REGION_BYTES;
use crate::prim::sync::thread::{JoinHandle, yield_now};
use crate::prim::{PAGE_SIZE, PageIndex, PageRange};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const PAGES: usize = 4;
const MISSING: u64 = 0;
const PROTECTED: u64 = 1 << 1;
const OUT_OF_REACH: u64 = 1 << 3;

struct Fixture {
    memory: Arc<SharedMemory>,
    uffd: Uffd,
    pagemap: Pagemap,
    mode: u64,
    #[cfg(thermocline_sim)]
    kernel: Arc<super::platform::Kernel>,
}

/// A thread that touches a page, and whether it has finished.
struct Touch {
    thread: JoinHandle<u8>,
    done: Arc<AtomicBool>,
}

impl Fixture {
    fn new(features: u64, mode: u64) -> Self {
        Self::of(PAGES, features, mode)
    }

    fn of(pages: usize, features: u64, mode: u64) -> Self {
        #[cfg(thermocline_sim)]
        let kernel = super::platform::Kernel::boot();
        let memory = Arc::new(SharedMemory::new(pages * PAGE_SIZE).unwrap());
        let uffd = Uffd::open(UFFD_FEATURE_MISSING_SHMEM | features).unwrap();
        let mode = UFFDIO_REGISTER_MODE_MISSING | mode;
        let pagemap = Pagemap::open().unwrap();
        let this = Self {
            memory,
            uffd,
            pagemap,
            mode,
            #[cfg(thermocline_sim)]
            kernel,
        };
        this.register();
        this
    }

    fn register(&self) {
        self.uffd.register(self.address(0), self.memory.len(), self.mode).unwrap();
    }

    fn address(&self, page: usize) -> u64 {
        self.memory.address(PageIndex(page).only())
    }

    /// Copies pages full of `value` into place.
    fn copy(&self, page: usize, pages: usize, value: u8) -> Outcome {
        self.uffd.copy(self.address(page), &vec![value; pages * PAGE_SIZE], true).unwrap()
    }

    fn protect(&self, page: usize, on: bool) {
        let done = self.uffd.write_protect(self.address(page), PAGE_SIZE, on);
        assert_eq!(done, Ok(Outcome::Done));
    }

    fn poison(&self, page: usize) -> Outcome {
        self.uffd.poison(self.address(page), PAGE_SIZE).unwrap()
    }

    #[cfg(not(thermocline_sim))]
    fn start(&self, page: usize, value: Option<u8>) -> Touch {
        let done = Arc::new(AtomicBool::new(false));
        let (memory, flag) = (Arc::clone(&self.memory), Arc::clone(&done));
        let thread = std::thread::spawn(move || {
            let at = memory.base().wrapping_add(page * PAGE_SIZE);
            if let Some(value) = value {
                // SAFETY: within the mapping, which lives as long as `memory`; no reference to it exists.
                unsafe { at.write_volatile(value) };
            }
            // SAFETY: as above.
            let value = unsafe { at.read_volatile() };
            flag.store(true, Ordering::SeqCst);
            value
        });
        Touch { thread, done }
    }

    #[cfg(thermocline_sim)]
    fn start(&self, page: usize, value: Option<u8>) -> Touch {
        let done = Arc::new(AtomicBool::new(false));
        let (kernel, flag) = (Arc::clone(&self.kernel), Arc::clone(&done));
        let thread = crate::prim::sync::thread::start("touch".to_owned(), move || {
            if let Some(value) = value {
                kernel.write(PageIndex(page), |bytes| bytes[0] = value).unwrap();
            }
            let mut read = 0;
            kernel.read(PageIndex(page), |bytes| read = bytes[0]).unwrap();
            flag.store(true, Ordering::SeqCst);
            read
        });
        Touch { thread, done }
    }

    /// The page and the kind of fault in the next message, if the touch has to wait.
    fn message(&self, touch: &Touch) -> Option<(usize, u64)> {
        let mut messages = [UffdMsg::default()];
        loop {
            let done = touch.done.load(Ordering::SeqCst);
            if self.uffd.read(&mut messages).unwrap() == 1 {
                let message = messages[0];
                let page = self.memory.offset_of(message.address as usize).unwrap() / PAGE_SIZE;
                return Some((page, message.flags & (PROTECTED | OUT_OF_REACH)));
            }
            if done {
                return None;
            }
            yield_now();
        }
    }

    /// Touches a page, which must not fault to userspace.
    fn touch(&self, page: usize, value: Option<u8>) -> u8 {
        let touch = self.start(page, value);
        assert_eq!(self.message(&touch), None, "page {page} is out of reach");
        touch.thread.join().unwrap()
    }

    /// Touches a page, which must cause a message of this kind. Returns the faulting thread.
    fn waits(&self, page: usize, value: Option<u8>, kind: u64) -> Touch {
        let touch = self.start(page, value);
        assert_eq!(self.message(&touch), Some((page, kind)));
        touch
    }

    fn found(&self, looking: PageFilter) -> Vec<usize> {
        let mut pages = Vec::new();
        let end = self.address(0) + (PAGES * PAGE_SIZE) as u64;
        let mut visit = |start, end| {
            let page = |address| (address - self.address(0)) as usize / PAGE_SIZE;
            pages.extend(page(start)..page(end));
        };
        self.pagemap.scan(self.address(0), end, looking, &mut visit).unwrap();
        pages
    }
}

/// Runs the test, on the simulated kernel if that is compiled in.
fn on_the_kernel(test: impl Fn()) {
    #[cfg(thermocline_sim)]
    {
        use crate::prim::schedule::{Plan, run};
        assert_eq!(run(Plan::PLAIN, test).failure, None);
    }
    #[cfg(not(thermocline_sim))]
    test();
}

fn with_write_protection() -> Fixture {
    let features = UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_WP_HUGETLBFS_SHMEM;
    let supported = Uffd::supported().unwrap().1;
    Fixture::new(features | supported & UFFD_FEATURE_POISON, UFFDIO_REGISTER_MODE_WP)
}

fn one(page: usize) -> PageRange {
    PageIndex(page).only()
}

#[test]
fn copy_places_pages_only_where_none_exist() {
    on_the_kernel(|| {
        let it = with_write_protection();
        assert_eq!(it.copy(1, 1, 7), Outcome::Done);
        assert_eq!(it.copy(1, 1, 8), Outcome::Exists);
        assert_eq!(it.copy(0, 3, 9), Outcome::Partial(PAGE_SIZE));
        it.memory.zap(one(1)).unwrap();
        assert_eq!(it.copy(1, 1, 8), Outcome::Exists, "only in the page cache");
        assert_eq!(it.found(PageFilter::Present), [0]);
        assert_eq!((it.touch(0, None), it.touch(1, None)), (9, 7));
        assert_eq!(it.found(PageFilter::Present), [0, 1]);
        it.memory.lock(one(2)).unwrap();
        it.memory.unlock(one(2)).unwrap();
        assert_eq!(it.touch(2, None), 0, "a lock of the second view fills holes");
    });
}

#[test]
fn a_punched_page_is_missing_and_a_woken_thread_faults_again() {
    on_the_kernel(|| {
        let it = with_write_protection();
        assert_eq!(it.copy(0, 1, 7), Outcome::Done);
        it.memory.punch(one(0)).unwrap();
        let touch = it.waits(0, None, MISSING);
        it.uffd.wake(it.address(0), PAGE_SIZE).unwrap();
        assert_eq!(it.message(&touch), Some((0, MISSING)));
        assert_eq!(it.copy(0, 1, 8), Outcome::Done);
        assert_eq!(touch.thread.join().unwrap(), 8);
    });
}

#[test]
fn write_protection_stops_writers_also_after_the_page_was_zapped() {
    on_the_kernel(|| {
        let it = with_write_protection();
        assert_eq!(it.copy(0, 2, 7), Outcome::Done);
        it.memory.zap(one(0)).unwrap();
        for page in [0, 1] {
            it.protect(page, true);
        }
        it.memory.zap(one(1)).unwrap();
        for page in [0, 1] {
            assert_eq!(it.touch(page, None), 7);
            let touch = it.waits(page, Some(9), PROTECTED);
            it.protect(page, false);
            assert_eq!(touch.thread.join().unwrap(), 9);
        }
    });
}

#[test]
fn a_page_copied_in_place_of_a_protected_one_is_not_protected() {
    on_the_kernel(|| {
        let it = with_write_protection();
        assert_eq!(it.copy(0, 2, 7), Outcome::Done);
        for page in [0, 1] {
            it.protect(page, true);
            it.memory.punch(one(page)).unwrap();
        }
        let touch = it.waits(0, Some(9), MISSING);
        assert_eq!(it.copy(0, 1, 8), Outcome::Done);
        assert_eq!(touch.thread.join().unwrap(), 9);
        // The marker of write protection remains for a page that arrives without UFFDIO_COPY.
        it.memory.lock(one(1)).unwrap();
        it.memory.unlock(one(1)).unwrap();
        let touch = it.waits(1, Some(9), PROTECTED);
        it.protect(1, false);
        assert_eq!(touch.thread.join().unwrap(), 9);
    });
}

#[test]
fn poison_needs_an_empty_page_table_entry_and_zapping_removes_it() {
    on_the_kernel(|| {
        let it = with_write_protection();
        if !it.uffd.has(UFFD_FEATURE_POISON) {
            let test = "poison_needs_an_empty_page_table_entry";
            crate::common::skip(test, "poison", "Linux 6.6 or later has it");
            return;
        }
        assert_eq!(it.copy(1, 1, 7), Outcome::Done);
        assert_eq!(
            (it.poison(0), it.poison(0), it.poison(1)),
            (Outcome::Done, Outcome::Exists, Outcome::Exists)
        );
        it.memory.zap(one(1)).unwrap();
        assert_eq!(it.poison(1), Outcome::Done, "although the page cache has a page");
        for page in [0, 1] {
            it.memory.zap(one(page)).unwrap();
        }
        assert_eq!(it.touch(1, None), 7);
        let touch = it.waits(0, None, MISSING);
        assert_eq!(it.copy(0, 1, 8), Outcome::Done);
        assert_eq!(touch.thread.join().unwrap(), 8);
        it.memory.map_inaccessible(one(2)).unwrap();
        assert_eq!((it.poison(2), it.copy(2, 1, 7)), (Outcome::Gone, Outcome::Gone));
        it.memory.restore_view(one(2)).unwrap();
        assert_eq!(it.touch(2, Some(5)), 5, "the restored view is not registered");
    });
}

#[test]
fn unregistered_memory_is_ordinary_memory() {
    on_the_kernel(|| {
        let it = with_write_protection();
        assert_eq!(it.copy(0, 1, 7), Outcome::Done);
        it.protect(0, true);
        let touch = it.waits(1, None, MISSING);
        it.uffd.unregister(it.address(0), PAGES * PAGE_SIZE).unwrap();
        assert_eq!(touch.thread.join().unwrap(), 0);
        assert_eq!((it.touch(0, Some(3)), it.touch(2, None)), (3, 0));
    });
}

#[test]
fn read_write_protection_covers_mapped_pages_and_blocks_in_sync_mode_only() {
    let features = UFFD_FEATURE_RWP | UFFD_FEATURE_RWP_ASYNC;
    on_the_kernel(|| {
        if Uffd::supported().unwrap().1 & features != features {
            let test = "read_write_protection_covers_mapped_pages";
            crate::common::skip(test, "read-write protection", "Linux 7.3 or later has it");
            return;
        }
        let it = Fixture::new(features, UFFDIO_REGISTER_MODE_RWP);
        assert_eq!(it.copy(0, 3, 7), Outcome::Done);
        it.memory.zap(one(2)).unwrap();
        let arm = || it.uffd.rw_protect(it.address(0), PAGES * PAGE_SIZE, true).unwrap();
        assert_eq!(arm(), Outcome::Done);
        assert_eq!(
            (it.found(PageFilter::Untouched), it.found(PageFilter::Accessed)),
            (vec![0, 1], vec![])
        );
        assert_eq!((it.touch(0, None), it.touch(2, None)), (7, 7), "no message");
        assert_eq!(
            (it.found(PageFilter::Untouched), it.found(PageFilter::Accessed)),
            (vec![1], vec![0, 2])
        );
        assert_eq!(arm(), Outcome::Done);
        it.uffd.set_rwp_async(false).unwrap();
        let touches = [0, 1].map(|page| it.waits(page, None, OUT_OF_REACH));
        it.memory.punch(one(1)).unwrap();
        it.uffd.set_rwp_async(true).unwrap();
        let [first, second] = touches;
        assert_eq!(first.thread.join().unwrap(), 7);
        // The switch wakes the second thread, which finds the page missing.
        assert_eq!(it.message(&second), Some((1, MISSING)));
        assert_eq!(it.copy(1, 1, 8), Outcome::Done);
        assert_eq!(second.thread.join().unwrap(), 8);
        assert_eq!(arm(), Outcome::Done);
        it.memory.zap(one(0)).unwrap();
        assert_eq!(it.touch(0, Some(9)), 9, "zapping a page ends its read-write protection");
    });
}

#[test]
fn a_look_counts_copied_and_touched_pages_until_they_are_dropped() {
    #[cfg(not(thermocline_sim))]
    let _alone = super::accessed::tests::alone();
    on_the_kernel(|| {
        let it = Fixture::of(REGION_BYTES / PAGE_SIZE + PAGES, 0, 0);
        it.memory.set_apart(PageRange::within(0, REGION_BYTES), true).unwrap();
        let start = it.address(0) as usize;
        let mut count = [0];
        let opened = AccessedBits::open(start..start + REGION_BYTES, Clears::Files);
        let looked =
            opened.and_then(|mut bits| bits.look(&mut count, &|_| true).map(|look| (bits, look)));
        let (mut bits, first) = match looked {
            Ok(looked) => looked,
            Err(e) => {
                let reason = format!("this system does not show them: {e}");
                return crate::common::skip("a_look_counts_copied", "accessed_bits", &reason);
            }
        };
        assert_eq!(first, Look::Interrupted);
        let mut look = || (bits.look(&mut count, &|_| true).unwrap(), count[0]);
        assert_eq!(look(), (Look::Whole, 0));
        assert_eq!(it.copy(0, 3, 7), Outcome::Done);
        // A look that leaves the bits as they are, then one that clears them.
        assert_eq!(bits.look(&mut count, &|pages| pages != 3), Ok(Look::Whole));
        assert_eq!(count, [3]);
        let mut look = || (bits.look(&mut count, &|_| true).unwrap(), count[0]);
        assert_eq!(look(), (Look::Whole, 3));
        // From an empty page table, because a TLB may hold the entries.
        it.memory.zap(PageRange::new(0, 3)).unwrap();
        it.touch(0, Some(9));
        assert_eq!(look(), (Look::Whole, 1));
        it.memory.zap(PageRange::new(0, 3)).unwrap();
        it.touch(0, Some(9));
        it.touch(1, Some(9));
        it.memory.punch(one(1)).unwrap();
        assert_eq!(look(), (Look::Whole, 1), "a page that is gone has no bit");
        assert_eq!(look(), (Look::Whole, 0));
    });
}
