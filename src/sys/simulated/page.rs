//! A page, and what the kernel knows of it.

/// What the application's page table says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// Nothing.
    None,
    /// Nothing is mapped, and what will be is write-protected.
    WriteProtected,
    /// Every access is SIGBUS.
    Poison,
    /// The page of the page cache, and what it is protected from.
    Present { write: bool, read_write: bool },
}

impl Entry {
    pub(crate) const OPEN: Self = Self::Present { write: false, read_write: false };

    /// What is left when the page is unmapped but not forgotten: the kernel keeps write protection
    /// in a marker, and no other.
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

    /// Whether the kernel takes it for missing when it looks again, before a toucher sleeps: markers
    /// of all kinds are (`pte_none_mostly`).
    pub(crate) fn is_none_mostly(self) -> bool {
        !self.is_present()
    }
}

/// A page of the memfd and of the application's view of it.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    /// What the page cache has; a hole if nothing.
    pub(crate) bytes: Option<Box<[u8]>>,
    pub(crate) entry: Entry,
    /// The descriptor that it is registered with.
    pub(crate) owner: Option<usize>,
    /// An empty file is mapped in its place.
    pub(crate) replaced: bool,
    /// The second view has it locked, so that it is not swapped out.
    pub(crate) locked: bool,
}

impl Page {
    pub(crate) const HOLE: Self =
        Self { bytes: None, entry: Entry::None, owner: None, replaced: false, locked: false };
}
