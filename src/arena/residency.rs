//! Brings memory back before the program touches it, and keeps it in memory.

use super::{Arena, ArenaError, Inner, MemoryRange};
use crate::prim::{PAGE_SIZE, PageRange};
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

impl Arena {
    /// Brings the evicted pages of `range` back in the calling thread, in runs, and returns their number. Then
    /// all pages of the range that were ever written are in memory, and count as touched now. A page whose
    /// stored copy is damaged does not come back: a touch of it is SIGBUS.
    ///
    /// # Errors
    ///
    /// [`ArenaError::OutsideArena`] if any byte lies elsewhere, [`ArenaError::NotSwapping`] in plain memory
    /// and in a stopped arena, [`ArenaError::NoMemory`] if the kernel has none for several seconds,
    /// [`ArenaError::Sys`] if a system call fails, [`ArenaError::ForkedChild`] in a forked child.
    pub fn prefetch(&self, range: impl MemoryRange) -> Result<usize, ArenaError> {
        let (offset, len) = self.inner.locate(&range)?;
        self.inner.engine()?.prefetch(PageRange::touching(offset, len))
    }

    /// Brings all pages of `range` into memory, so that the program can touch them without a fault.
    ///
    /// If all pages are in memory already, the call costs one load per page, and the pages do not count as
    /// touched. Otherwise the calling thread brings stored pages back in runs, without a signal or a message,
    /// populates pages that were never written, and counts all pages as touched. The evictor may evict the
    /// pages again: before a system call, [`pin`](Self::pin) them. In plain memory the call does nothing.
    ///
    /// ```
    /// use allocator_api2::vec::Vec;
    /// use thermocline::Arena;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let arena = Arena::builder().plain_memory_fallback(true).build()?;
    /// let mut values = Vec::new_in(&arena);
    /// values.resize(100_000, 7u8);
    /// // ... much later, before the program sends the value:
    /// let value = &values[5000..9000];
    /// arena.ensure(value)?;
    /// assert!(value.iter().all(|byte| *byte == 7));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ArenaError::OutsideArena`] if any byte lies elsewhere, [`ArenaError::Lost`] if the stored copy of
    /// a page is damaged, [`ArenaError::NoMemory`] if the kernel has none for several seconds,
    /// [`ArenaError::Sys`] if a system call fails, [`ArenaError::ForkedChild`] in a forked child.
    #[inline]
    pub fn ensure(&self, range: impl MemoryRange) -> Result<(), ArenaError> {
        let (offset, len) = self.inner.locate(&range)?;
        match self.inner.engine() {
            Ok(engine) => engine.ensure(PageRange::touching(offset, len)),
            Err(ArenaError::NotSwapping) => Ok(()),
            Err(e) => Err(e),
        }
    }

    /// Whether all pages of `range` are in memory at this moment. The call costs a load per page. True in
    /// plain memory; false for memory outside the arena and for pages that were never written. The result may
    /// be false for a moment, also for pinned pages, while the evictor or a thread that serves a fault works
    /// on a page.
    #[must_use]
    pub fn is_resident(&self, range: impl MemoryRange) -> bool {
        let Ok((offset, len)) = self.inner.locate(&range) else {
            return false;
        };
        let pages = PageRange::touching(offset, len);
        match self.inner.engine() {
            Ok(engine) => engine.is_resident(pages),
            Err(e) => e == ArenaError::NotSwapping,
        }
    }

    /// Reads `bytes`, and leaves stored pages stored: decompresses them into `buffer`, whose contents it
    /// replaces. The pages do not count as touched. If all bytes are in memory, it copies none.
    ///
    /// This is for data that the program reads once in a long time. To bring a page back takes a page of
    /// memory, so the evictor may have to evict another page, and later it compresses this page again. A peek
    /// needs neither. A program that counts its reads can peek first, and move data that it reads often to
    /// [`Lane::Hot`](crate::Lane::Hot).
    ///
    /// ```
    /// use allocator_api2::vec::Vec as ArenaVec;
    /// use thermocline::Arena;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let arena = Arena::builder().plain_memory_fallback(true).build()?;
    /// let mut value = ArenaVec::new_in(&arena);
    /// value.resize(100_000, b'x');
    /// let _ = arena.evict_now();
    ///
    /// let mut buffer = Vec::new();
    /// let part = arena.peek(&value[700..800], &mut buffer)?;
    /// assert_eq!(*part, [b'x'; 100]);
    /// assert_eq!(arena.stats().refaults, 0);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ArenaError::OutsideArena`] if any byte lies elsewhere, [`ArenaError::Lost`] if the stored copy of
    /// a page is damaged, [`ArenaError::ForkedChild`] in a forked child.
    pub fn peek<'a>(
        &self,
        bytes: &'a (impl AsRef<[u8]> + ?Sized),
        buffer: &'a mut Vec<u8>,
    ) -> Result<Peek<'a>, ArenaError> {
        let bytes = bytes.as_ref();
        let (offset, _) = self.inner.locate(&bytes)?;
        match self.inner.engine() {
            Ok(engine) => engine.peek(offset, bytes, buffer),
            Err(ArenaError::NotSwapping) => Ok(Peek::InMemory(bytes)),
            Err(e) => Err(e),
        }
    }

    /// Brings all pages of `range` into memory, as [`ensure`](Self::ensure) does, and keeps them there until
    /// the guard is dropped: the evictor neither evicts nor arms them.
    ///
    /// A program pins memory before it gives it to a system call or a device. While the guard lives,
    /// `read(2)` and `write(2)`, `O_DIRECT`, registered io_uring buffers and RDMA work as on any memory, in
    /// every [fault mode](crate::FaultMode) and with any privileges. Drop the guard when the last such
    /// operation has *ended*.
    ///
    /// Pin a robust mutex in an arena from before its lock until its unlock, or until its owner has ended.
    /// Pin a stack in an arena from before its first use until after its last. The kernel reads and writes
    /// both when it delivers a signal or ends a thread, and cannot wait for a page then.
    ///
    /// Pinned ranges may overlap. Pinned memory counts against the
    /// [resident limit](crate::Builder::resident_limit), and against limits of the process. In plain
    /// memory the guard does nothing.
    ///
    /// ```
    /// use allocator_api2::vec::Vec;
    /// use std::io::Read;
    /// use thermocline::Arena;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let arena = Arena::builder().plain_memory_fallback(true).build()?;
    /// let mut buffer = Vec::new_in(&arena);
    /// buffer.resize(1 << 16, 0u8);
    ///
    /// let mut file = std::fs::File::open("/proc/self/maps")?;
    /// let pinned = arena.pin(buffer.as_slice())?;
    /// let read = file.read(&mut buffer)?; // the kernel writes to the arena
    /// drop(pinned);
    /// assert!(read > 0);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`ensure`](Self::ensure). After an error no page is pinned.
    pub fn pin(&self, range: impl MemoryRange) -> Result<PinGuard, ArenaError> {
        let (offset, len) = self.inner.locate(&range)?;
        let pages = PageRange::touching(offset, len);
        match self.inner.engine() {
            Ok(engine) => engine.pin(pages)?,
            Err(ArenaError::NotSwapping) => {}
            Err(e) => return Err(e),
        }
        Ok(PinGuard { inner: Arc::clone(&self.inner), pages })
    }
}

/// The result of [`Arena::peek`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peek<'a> {
    /// The bytes in the arena: all of them are in memory, or were a moment ago.
    InMemory(&'a [u8]),
    /// A copy: some of the bytes are stored.
    Copied(&'a [u8]),
}

impl Deref for Peek<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::InMemory(bytes) | Self::Copied(bytes) => bytes,
        }
    }
}

/// Keeps pages in memory until it is dropped. Made by [`Arena::pin`].
///
/// The guard keeps the arena's memory alive, not the blocks in it: if the program frees a pinned block, the
/// arena may allocate its memory again.
#[must_use = "the memory is pinned for as long as the guard lives"]
pub struct PinGuard {
    inner: Arc<Inner>,
    pages: PageRange,
}

impl PinGuard {
    /// Bytes of the pinned pages.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        (self.pages.pages() * PAGE_SIZE) as u64
    }
}

impl fmt::Debug for PinGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PinGuard({:?})", self.pages)
    }
}

impl Drop for PinGuard {
    fn drop(&mut self) {
        if let Ok(engine) = self.inner.engine() {
            engine.core.table.pins().remove(self.pages);
        }
    }
}
