//! A page, and the kernel's state of it.

/// An entry of the program's page table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// Empty.
    None,
    /// A marker: no page is mapped, and the next one is write-protected.
    WriteProtected,
    /// A marker: every access is SIGBUS.
    Poison,
    /// The page of the page cache, and its protections.
    Present { write: bool, read_write: bool },
}

impl Entry {
    pub(crate) const OPEN: Self = Self::Present { write: false, read_write: false };

    /// The entry after the page is unmapped but stays in the page cache. The kernel keeps write
    /// protection in a marker; it does not keep read-write protection.
    pub(crate) fn unmapped(self) -> Self {
        match self {
            Self::Present { write: true, .. } | Self::WriteProtected => Self::WriteProtected,
            Self::Present { .. } | Self::None => Self::None,
            Self::Poison => Self::Poison,
        }
    }

    pub(crate) fn is_present(self) -> bool {
        matches!(self, Self::Present { .. })
    }

    /// Whether the kernel treats the entry as missing in its second check, before a faulting thread
    /// sleeps: markers of all kinds are missing (`pte_none_mostly`).
    pub(crate) fn is_none_mostly(self) -> bool {
        !self.is_present()
    }
}

/// A page of the memfd, and its entry in the program's view.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    /// The page cache's page; a hole if `None`.
    pub(crate) bytes: Option<Box<[u8]>>,
    pub(crate) entry: Entry,
    /// The descriptor that the page is registered with.
    pub(crate) owner: Option<usize>,
    /// An empty file is mapped in its place.
    pub(crate) replaced: bool,
    /// The page is locked in the second view, so the kernel does not swap it out.
    pub(crate) locked: bool,
    /// The accessed bit of the entry, if the entry is present.
    pub(crate) referenced: bool,
}

impl Page {
    pub(crate) const HOLE: Self = Self {
        bytes: None,
        entry: Entry::None,
        owner: None,
        replaced: false,
        locked: false,
        referenced: false,
    };
}
