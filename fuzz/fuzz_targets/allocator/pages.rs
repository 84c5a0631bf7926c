//! A model of the arena's pages: their presence, whether they hold bytes, and their blocks.

use crate::alloc::{Pager, Presence};
use crate::prim::{PageIndex, PageRange};
use crate::sys::SysError;
use std::sync::{Mutex, MutexGuard};

#[derive(Clone, Copy, Debug)]
struct Page {
    presence: Presence,
    /// Whether it holds bytes other than zero.
    written: bool,
    /// The number of blocks with a byte of it.
    blocks: u16,
}

#[derive(Debug)]
pub(crate) struct Pages(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    pages: Vec<Page>,
    out_of_memory: bool,
    refuses: bool,
}

impl Inner {
    fn of(&mut self, range: PageRange) -> &mut [Page] {
        &mut self.pages[range.start.0..range.end.0]
    }
}

impl Pages {
    pub(crate) fn new(count: usize) -> Self {
        let page = Page { presence: Presence::Empty, written: false, blocks: 0 };
        Self(Mutex::new(Inner { pages: vec![page; count], out_of_memory: false, refuses: false }))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }

    /// Records that a block has these pages, or no longer has them.
    pub(crate) fn claim(&self, range: PageRange, has: bool) {
        for page in self.inner().of(range) {
            page.blocks = page.blocks.checked_add_signed(if has { 1 } else { -1 }).unwrap();
        }
    }

    /// Writes to all of them for the program.
    pub(crate) fn write(&self, range: PageRange) {
        for page in self.inner().of(range) {
            (page.presence, page.written) = (Presence::Resident, true);
        }
    }

    /// Whether all of them hold only zeros.
    pub(crate) fn are_zero(&self, range: PageRange) -> bool {
        self.inner().of(range).iter().all(|page| !page.written)
    }

    /// Evicts those that are in memory.
    pub(crate) fn evict(&self, range: PageRange) {
        for page in self.inner().of(range) {
            if page.presence == Presence::Resident {
                page.presence = Presence::Away;
            }
        }
    }

    /// Sets whether `populate` and `release` fail from now on.
    pub(crate) fn fail(&self, out_of_memory: bool, refuses: bool) {
        let mut inner = self.inner();
        (inner.out_of_memory, inner.refuses) = (out_of_memory, refuses);
    }

    /// Whether `populate` or `release` fails.
    pub(crate) fn fails(&self) -> bool {
        let inner = self.inner();
        inner.out_of_memory || inner.refuses
    }

    /// Whether all pages without a block are empty.
    pub(crate) fn free_are_empty(&self) -> bool {
        let is_empty = |page: &Page| page.presence == Presence::Empty || page.blocks > 0;
        self.inner().pages.iter().all(is_empty)
    }

    /// Whether all pages are as they were at the start.
    pub(crate) fn are_empty(&self) -> bool {
        let is_empty = |page: &Page| page.presence == Presence::Empty && page.blocks == 0;
        self.inner().pages.iter().all(is_empty)
    }
}

impl Pager for Pages {
    fn populate(&self, range: PageRange) -> bool {
        let mut inner = self.inner();
        if inner.out_of_memory {
            return false;
        }
        for page in inner.of(range) {
            if page.presence == Presence::Empty {
                page.presence = Presence::Resident;
            }
        }
        true
    }

    fn forget(&self, range: PageRange) {
        for page in self.inner().of(range) {
            assert_eq!(page.blocks, 0, "{range:?} are forgotten: {page:?}");
            if page.presence == Presence::Away {
                (page.presence, page.written) = (Presence::Empty, false);
            }
        }
    }

    fn is_likely_resident(&self, range: PageRange) -> bool {
        self.resident(range) == range.pages()
    }

    fn resident(&self, range: PageRange) -> usize {
        let mut inner = self.inner();
        inner.of(range).iter().filter(|page| page.presence == Presence::Resident).count()
    }

    fn release(&self, range: PageRange) -> Result<(), SysError> {
        let mut inner = self.inner();
        if inner.refuses {
            return Err(SysError::range_gone("a fuzzer"));
        }
        for page in inner.of(range) {
            assert_eq!(page.blocks, 0, "{range:?} are released: {page:?}");
            (page.presence, page.written) = (Presence::Empty, false);
        }
        Ok(())
    }

    fn presence(&self, page: PageIndex) -> Presence {
        self.inner().pages[page.0].presence
    }
}
