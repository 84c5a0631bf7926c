//! The kinds of memory.

use crate::prim::{PageIndex, PageRange};
use crate::sys::SysError;
use crate::sys::memory::SharedMemory;
use crate::sys::platform::descriptor::Descriptor;
use crate::sys::private::PrivateMemory;
use std::fmt;

/// The kind of an arena's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MemoryKind {
    /// A memfd. The page cache holds its pages.
    Shared,
    /// Anonymous memory. The page table holds its pages.
    Private,
}

impl fmt::Display for MemoryKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Shared => "shared",
            Self::Private => "private",
        })
    }
}

/// The memory of a backing.
#[derive(Debug)]
pub(super) enum Memory {
    Shared(SharedMemory),
    Private(PrivateMemory),
}

impl Memory {
    pub(super) fn new(kind: MemoryKind, bytes: usize) -> Result<Self, SysError> {
        Ok(match kind {
            MemoryKind::Shared => Self::Shared(SharedMemory::new(bytes)?),
            MemoryKind::Private => Self::Private(PrivateMemory::new(bytes)?),
        })
    }

    /// The memory's own descriptor, if it has one.
    pub(super) fn descriptor(&self) -> Option<&Descriptor> {
        match self {
            Self::Shared(memory) => Some(memory.descriptor()),
            Self::Private(_) => None,
        }
    }

    /// The first byte that the program sees.
    pub(super) fn base(&self) -> *mut u8 {
        match self {
            Self::Shared(memory) => memory.base(),
            Self::Private(memory) => memory.base(),
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Shared(memory) => memory.len(),
            Self::Private(memory) => memory.len(),
        }
    }

    /// The address of the first byte of `range`.
    pub(super) fn address(&self, range: PageRange) -> u64 {
        debug_assert!(range.end.offset() <= self.len());
        (self.base().addr() + range.start.offset()) as u64
    }

    /// The offset in the arena of an address.
    pub(super) fn offset_of(&self, address: usize) -> Option<usize> {
        address.checked_sub(self.base().addr()).filter(|&offset| offset < self.len())
    }

    pub(super) fn discard(&self, range: PageRange) -> Result<(), SysError> {
        match self {
            Self::Shared(memory) => memory.punch(range),
            Self::Private(memory) => memory.discard(range),
        }
    }

    /// Whether the kernel can read the bytes of a page that is in memory. None if the calling thread cannot
    /// find out.
    pub(super) fn try_read(&self, page: PageIndex) -> Option<Result<(), SysError>> {
        match self {
            Self::Shared(memory) => memory.try_read(page),
            // The kernel sends a signal of its own for a page that it has lost.
            Self::Private(_) => Some(Ok(())),
        }
    }

    pub(super) fn map_inaccessible(&self, range: PageRange) -> Result<(), SysError> {
        match self {
            Self::Shared(memory) => memory.map_inaccessible(range),
            Self::Private(memory) => memory.map_inaccessible(range),
        }
    }

    pub(super) fn restore_view(&self, range: PageRange) -> Result<(), SysError> {
        match self {
            Self::Shared(memory) => memory.restore_view(range),
            Self::Private(memory) => memory.restore_view(range),
        }
    }

    pub(super) fn set_apart(&self, range: PageRange, apart: bool) -> Result<(), SysError> {
        match self {
            Self::Shared(memory) => memory.set_apart(range, apart),
            Self::Private(memory) => memory.set_apart(range, apart),
        }
    }
}
