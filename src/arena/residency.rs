//! Having memory where it is needed before it is touched, and keeping it there.

use super::{Arena, ArenaError, Inner};
use crate::prim::{PAGE_SIZE, PageRange};
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

impl Arena {
    /// Brings the evicted pages of `range` back in this thread, many at a time, and says how many
    /// there were. When it returns, all of the range that was ever written is in memory and counts as
    /// touched now, but for pages that turned out damaged, which are SIGBUS to whoever touches them.
    ///
    /// Anything in the arena will do: `arena.prefetch(vec.as_slice())`.
    ///
    /// # Errors
    ///
    /// [`ArenaError::OutsideArena`] if any byte lies elsewhere, [`ArenaError::NotSwapping`] where
    /// nothing is ever evicted, [`ArenaError::NoMemory`] if the kernel has none for several seconds,
    /// [`ArenaError::Sys`] if it refuses, [`ArenaError::ForkedChild`] in a fork.
    pub fn prefetch<T>(&self, range: *const [T]) -> Result<usize, ArenaError> {
        let (offset, len) = self.inner.locate(range)?;
        self.inner.engine()?.prefetch(PageRange::touching(offset, len))
    }

    /// Makes sure that `range` can be touched without a fault: to be called by those who know what
    /// they are going to touch.
    ///
    /// It costs one load per page where the pages are in memory. Others are brought back in this
    /// thread, neighbours together, without a signal or a message; memory that was never written is
    /// given. Nothing keeps the pages from being evicted again, so it is no substitute for
    /// [`pin`](Self::pin) before a system call; and a page that is in memory already does not count
    /// as touched. Where nothing is evicted there is
    /// nothing to do.
    ///
    /// ```
    /// use allocator_api2::vec::Vec;
    /// use thermocline::Arena;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let arena = Arena::builder().plain_memory_fallback(true).build()?;
    /// let mut values = Vec::new_in(&arena);
    /// values.resize(100_000, 7u8);
    /// // ... much later, before the value is sent to somebody:
    /// let value = &values[5000..9000];
    /// arena.ensure(value)?;
    /// assert!(value.iter().all(|byte| *byte == 7));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ArenaError::OutsideArena`] if any byte lies elsewhere, [`ArenaError::Lost`] if the stored
    /// copy of a page turned out damaged, [`ArenaError::NoMemory`] if the kernel has none for several
    /// seconds, [`ArenaError::Sys`] if it refuses, [`ArenaError::ForkedChild`] in a fork.
    #[inline]
    pub fn ensure<T>(&self, range: *const [T]) -> Result<(), ArenaError> {
        let (offset, len) = self.inner.locate(range)?;
        match self.inner.engine() {
            Ok(engine) => engine.ensure(PageRange::touching(offset, len)),
            Err(ArenaError::NotSwapping) => Ok(()),
            Err(e) => Err(e),
        }
    }

    /// Whether all of `range` is in memory, at the moment. It costs a load per page. True where nothing
    /// is ever evicted; false for memory that was never written, or lies elsewhere, and for a moment,
    /// pinned or not, while a fault or the evictor is at work on a page of it.
    #[must_use]
    pub fn is_resident<T>(&self, range: *const [T]) -> bool {
        let Ok((offset, len)) = self.inner.locate(range) else {
            return false;
        };
        let pages = PageRange::touching(offset, len);
        match self.inner.engine() {
            Ok(engine) => engine.is_resident(pages),
            Err(e) => e == ArenaError::NotSwapping,
        }
    }

    /// Reads `bytes` without bringing back what is stored of them: those pages are decompressed on the
    /// way, stay where they are, and count as not touched. `buffer`, whatever it held, gets the copy;
    /// bytes that are all in memory are not copied.
    ///
    /// This is for what is read once in a long time. Bringing a page back takes a page of memory, for
    /// which another may have to go, and compressing this one again later; a peek takes neither. A
    /// program that keeps count of what it reads can peek at first, and move what turns out to be
    /// wanted to where other such things are ([`Lane::Hot`](crate::Lane::Hot)).
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
    /// [`ArenaError::OutsideArena`] if any byte lies elsewhere, [`ArenaError::Lost`] if the stored
    /// copy of a page is damaged, [`ArenaError::ForkedChild`] in a fork.
    pub fn peek<'a>(
        &self,
        bytes: &'a [u8],
        buffer: &'a mut Vec<u8>,
    ) -> Result<Peek<'a>, ArenaError> {
        let (offset, _) = self.inner.locate(bytes)?;
        match self.inner.engine() {
            Ok(engine) => engine.peek(offset, bytes, buffer),
            Err(ArenaError::NotSwapping) => Ok(Peek::InMemory(bytes)),
            Err(e) => Err(e),
        }
    }

    /// Has all of `range` in memory, as [`ensure`](Self::ensure) does, and keeps it there until the
    /// guard is dropped: no page of it is evicted, nor watched for touches.
    ///
    /// This is how memory of an arena is handed to system calls in every [fault mode](crate::FaultMode)
    /// and with any privileges, and to devices: while the guard lives, `read(2)` and `write(2)`,
    /// `O_DIRECT`, registered io_uring buffers and RDMA work as on any memory. Drop the guard when
    /// the last such operation has *ended*.
    ///
    /// A robust mutex in an arena has to be pinned from before it is locked until it is unlocked or
    /// its owner has ended; a stack in an arena from before a thread uses it until after. The kernel
    /// reads and writes both when it delivers a signal or ends a thread, and cannot wait for a page then.
    ///
    /// Ranges may overlap and be pinned several times. Pinned memory counts against the
    /// [resident limit](crate::Builder::resident_limit), and is no exception to a limit on what the
    /// process may hold. Where nothing is evicted the guard does nothing.
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
    /// As for [`ensure`](Self::ensure); nothing is pinned then.
    pub fn pin<T>(&self, range: *const [T]) -> Result<PinGuard, ArenaError> {
        let (offset, len) = self.inner.locate(range)?;
        let pages = PageRange::touching(offset, len);
        match self.inner.engine() {
            Ok(engine) => engine.pin(pages)?,
            Err(ArenaError::NotSwapping) => {}
            Err(e) => return Err(e),
        }
        Ok(PinGuard { inner: Arc::clone(&self.inner), pages })
    }
}

/// Bytes that were [peeked at](Arena::peek).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peek<'a> {
    /// All of them are in memory, or were a moment ago: the bytes themselves.
    InMemory(&'a [u8]),
    /// Some of them are stored: a copy.
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

/// Keeps memory of an arena from being evicted, until it is dropped. Made by [`Arena::pin`].
///
/// It keeps the arena's memory alive, not the allocations in it: memory that is freed while it is
/// pinned may be handed out to others, as with any allocator.
#[must_use = "the memory is pinned for as long as the guard lives"]
pub struct PinGuard {
    inner: Arc<Inner>,
    pages: PageRange,
}

impl PinGuard {
    /// Bytes that are pinned: whole pages.
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
