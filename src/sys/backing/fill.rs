//! Putting pages in place.

use super::Backing;
use super::memory::Memory;
use crate::prim::sync::thread;
use crate::prim::{PAGE_SIZE, PageRange, REGION_PAGES};
use crate::sys::uffd::{CallTarget, Outcome, Uffd};
use crate::sys::{SysError, event};
use std::fmt;
use std::time::Duration;

/// Why pages could not be put in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FillError {
    /// The kernel had no memory for them for about five seconds.
    NoMemory,
    /// The kernel refused.
    Sys(SysError),
}

impl From<SysError> for FillError {
    fn from(error: SysError) -> Self {
        Self::Sys(error)
    }
}

impl fmt::Display for FillError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoMemory => f.write_str("the kernel has no memory for the page"),
            Self::Sys(e) => e.fmt(f),
        }
    }
}

static ZEROS: [u8; 16 * PAGE_SIZE] = [0; 16 * PAGE_SIZE];

pub(super) fn copy_zeros(uffd: &Uffd, start: u64, len: usize) -> Result<Outcome, SysError> {
    uffd.copy(start, &ZEROS[..len], true)
}

/// What to put in place.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Content<'a> {
    /// Zeros. Wakes the waiters in the kernel.
    Zeros,
    /// These bytes. Wakes the waiters in the kernel.
    Bytes(&'a [u8]),
    /// These bytes. The caller wakes the waiters.
    BytesWithoutWake(&'a [u8]),
}

impl Backing {
    /// Puts zeros into the first pages of `range`.
    fn put_zeros(&self, range: PageRange) -> Result<Outcome, SysError> {
        let Memory::Private(memory) = &self.memory else {
            return self.for_first_part(range, CallTarget::Pages, Uffd::zeropage);
        };
        let of_range = |part: PageRange, outcome| match outcome {
            Outcome::Done if part != range => Outcome::Partial(part.bytes()),
            outcome => outcome,
        };
        let region = range.first_pages(REGION_PAGES);
        let is_whole =
            region.start.0.is_multiple_of(REGION_PAGES) && region.pages() == REGION_PAGES;
        if is_whole && let Some(new) = memory.new_region() {
            let move_in = |uffd: &Uffd, to, len| uffd.move_pages(to, new.address(), len, true);
            let moved = self.for_first_part(region, CallTarget::Pages, move_in);
            // Otherwise a page is there already, or the kernel refuses to move.
            if let Ok(Outcome::Done | Outcome::Partial(_)) = moved {
                return moved.map(|outcome| of_range(region, outcome));
            }
        }
        // UFFDIO_ZEROPAGE would map the kernel's page of zeros, and the first write would be a fault.
        let some = range.first_pages(ZEROS.len() / PAGE_SIZE);
        let copied = self.for_first_part(some, CallTarget::Pages, copy_zeros);
        copied.map(|outcome| of_range(some, outcome))
    }

    /// Puts pages into `range`. The caller must own all of them. Gives the pages that are in place and the
    /// error that stopped it.
    pub(crate) fn fill(
        &self,
        range: PageRange,
        content: Content<'_>,
    ) -> (usize, Option<FillError>) {
        /// With these pauses the kernel has about five seconds to find memory.
        const PAUSE: Duration = Duration::from_millis(2);
        const PAUSES: u32 = 2500;
        let (mut pauses, mut strays) = (0, 0);
        let call = |piece: PageRange| match content {
            Content::Zeros => self.put_zeros(piece),
            Content::Bytes(bytes) | Content::BytesWithoutWake(bytes) => {
                debug_assert_eq!(range.bytes(), bytes.len());
                let bytes = &bytes[piece.start.offset() - range.start.offset()..];
                let wake = matches!(content, Content::Bytes(_));
                let copy = |uffd: &Uffd, start, len| uffd.copy(start, &bytes[..len], wake);
                self.for_first_part(piece, CallTarget::Pages, copy)
            }
        };
        Self::in_pieces(range, call, |page, outcome| match outcome {
            Outcome::Exists if matches!(content, Content::Zeros) => {
                // The kernel put this page in place by itself. It began as zeros, and the program wrote
                // everything else that it holds. No call has woken its waiters.
                if let Err(e) = self.wake(page.only()) {
                    event::abort_process("cannot wake the waiters of a page", &e);
                }
                Ok(1)
            }
            Outcome::Exists if strays < 3 => {
                // The evictor discarded the old page before the word said Stored, so this page holds nothing
                // but zeros. The store has the truth.
                strays += 1;
                self.counters.fill_retries.add(1);
                self.discard(page.only())?;
                Ok(0)
            }
            Outcome::NoMemory if pauses < PAUSES => {
                pauses += 1;
                self.counters.fill_retries.add(1);
                thread::sleep(PAUSE);
                Ok(0)
            }
            Outcome::NoMemory => Err(FillError::NoMemory),
            Outcome::Exists => Err(SysError::page_exists("ioctl(UFFDIO_COPY)").into()),
            _ => Err(SysError::range_gone("ioctl(UFFDIO_COPY)").into()),
        })
    }
}
