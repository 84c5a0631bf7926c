//! A whole program's large blocks in an arena: `#[global_allocator]`.
//!
//! # What must not come from the arena
//!
//! The library's own allocations must not come from the arena, see [`InLibraryGuard`]. A thread that
//! allocates inside the library gets memory from the system. A block's address tells which allocator frees
//! it, inside the library or not. That holds in a forked child too, which keeps the arena's addresses
//! empty.
//!
//! # What must not happen in an allocator
//!
//! An allocator must not unwind. [`within`] aborts instead. Two things can panic: an assertion about a
//! mistake of the program, and the program's function that builds an arena.

#![allow(unsafe_code)]

use super::{Arena, ArenaError, Inner};
use crate::alloc::Lane;
use crate::prim::in_library::InLibraryGuard;
use crate::sys::{self, CapabilityStatus, event, fork};
use core::alloc::{GlobalAlloc, Layout};
use core::fmt;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicPtr, AtomicU8, AtomicUsize, Ordering};
use std::alloc::System;
use std::sync::Arc;

/// The allocator of a whole program: large blocks come from an [`Arena`], small ones from the system.
///
/// ```
/// use thermocline::{Arena, ArenaAlloc};
///
/// // Blocks of 4 KiB and more are to come from the arena.
/// #[global_allocator]
/// static GLOBAL: ArenaAlloc = ArenaAlloc::new(4096);
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     // Before the start, all blocks come from the system.
///     let arena = Arena::builder().plain_memory_fallback(true).build()?;
///     if let Err(e) = GLOBAL.start(&arena) {
///         eprintln!("the arena does not evict: {e}");
///     }
///
///     let squares: Vec<u64> = (0..100_000).map(|n| n * n).collect();
///     let _ = arena.evict_now(); // or wait
///     assert_eq!(squares[70_000], 4_900_000_000);
///     Ok(())
/// }
/// ```
///
/// # The source of each block
///
/// * The arena, once it serves: blocks of at least `at_least` bytes. A block that grows to that size moves
///   into the arena, and one that shrinks below it moves out. Where the arena has no room, the allocation
///   fails: the [reserve](crate::Builder::reserve) limits the program's large blocks.
/// * The system ([`System`]): smaller blocks, all blocks from before the arena serves, and the library's
///   own allocations.
///
/// A large block has pages of its own, or shares them with blocks of its size, so the evictor can evict it
/// when the program does not use it. With a smaller `at_least`, used and unused blocks share a page more
/// often, and more buffers of system calls (see the limits) lie in the arena. 4096 is a good start.
///
/// # Safe uses
///
/// The program may allocate and free anywhere: before `main`, in destructors of thread-locals, in other
/// threads while it exits. The arena lives as long as the process.
///
/// # Limits
///
/// * **System calls.** Programs give buffers to `read(2)` and `write(2)` and paths to `open(2)` without a
///   [`pin`](Arena::pin). With an arena that does not [serve system calls](Arena::serves_system_calls)
///   such a call may fail with `EFAULT`; [`start`](Self::start) refuses that arena. With any arena the
///   program has to pin memory that a device reads or writes (`O_DIRECT`, registered io_uring buffers).
/// * **Forked children** do not have the parent's blocks in the arena: to read one is SIGSEGV, to free one
///   does nothing, to reallocate one fails. New blocks come from the system. `std::process::Command` works.
///   But where it has to fork (`pre_exec`, `uid`, ...), its arguments and its other strings must be
///   small blocks: a list of 512 arguments has 4 KiB.
/// * **Signal handlers** must not allocate, as with any allocator.
///
/// All other [limits of an arena](crate#limits) apply to the program's large blocks.
#[derive(Debug)]
pub struct ArenaAlloc {
    /// The least bytes of a block of the arena.
    at_least: usize,
    build: Option<fn() -> Option<Arena>>,
    phase: AtomicU8,
    /// The arena, which the allocator never drops; null until the arena serves.
    inner: AtomicPtr<Inner>,
    /// The arena's memory. `serve` writes the length last: memory of length zero contains no address.
    base: AtomicUsize,
    len: AtomicUsize,
}

/// There is no arena yet.
const NEW: u8 = 0;
/// A thread builds or starts the arena.
const STARTING: u8 = 1;
/// The arena serves. This phase is final.
const SERVES: u8 = 2;
/// The program's function returned no arena.
const NONE: u8 = 3;

impl ArenaAlloc {
    /// An allocator that takes blocks of at least `at_least` bytes from the arena that
    /// [`start`](Self::start) gets.
    #[must_use]
    pub const fn new(at_least: usize) -> Self {
        Self {
            // A layout of zero bytes has no block.
            at_least: if at_least == 0 { 1 } else { at_least },
            build: None,
            phase: AtomicU8::new(NEW),
            inner: AtomicPtr::new(ptr::null_mut()),
            base: AtomicUsize::new(0),
            len: AtomicUsize::new(0),
        }
    }

    /// An allocator that takes blocks of at least `at_least` bytes from an arena that it builds at the
    /// first such allocation: for programs whose `main` cannot start it, such as test programs. If `build`
    /// returns none, all blocks come from the system.
    ///
    /// `build` runs once, in the first thread that allocates a large block, perhaps before `main`. Its own
    /// allocations come from the system, and so do those of other threads meanwhile. It runs inside an
    /// allocation: it must take no lock that the program may hold while it allocates, and a panic in it
    /// aborts the process. The allocator does not check that the arena serves system calls. If it does
    /// not serve them, system calls on large blocks may fail.
    ///
    /// ```
    /// use thermocline::{Arena, ArenaAlloc};
    ///
    /// #[global_allocator]
    /// static GLOBAL: ArenaAlloc = ArenaAlloc::lazy(4096, || {
    ///     Arena::builder().build().ok().filter(Arena::serves_system_calls)
    /// });
    ///
    /// fn main() {
    ///     let numbers: Vec<u32> = (0..100_000).collect();
    ///     if let Some(arena) = GLOBAL.arena() {
    ///         assert!(arena.stats().allocated_bytes >= 400_000);
    ///     }
    ///     assert_eq!(numbers[4711], 4711);
    /// }
    /// ```
    #[must_use]
    pub const fn lazy(at_least: usize, build: fn() -> Option<Arena>) -> Self {
        Self { build: Some(build), ..Self::new(at_least) }
    }

    /// Takes large blocks from `arena` from now on. The arena then lives as long as the process.
    ///
    /// # Errors
    ///
    /// [`StartError::SystemCalls`] if the arena does not serve system calls, with the remedy;
    /// [`StartError::AlreadyStarted`] if the allocator has an arena, or a thread builds one;
    /// [`StartError::ForkedChild`] if the arena belongs to the parent of this process.
    pub fn start(&self, arena: &Arena) -> Result<(), StartError> {
        if !arena.serves_system_calls() {
            return Err(StartError::system_calls());
        }
        self.start_without_system_calls(arena)
    }

    /// Like [`start`](Self::start), but takes an arena that does not serve system calls too: for a program
    /// that gives large blocks to no system call, or [pins](Arena::pin) them before.
    ///
    /// That is harder than it seems: the standard library gives blocks to system calls, for example to read
    /// a file or to write a string.
    ///
    /// # Errors
    ///
    /// [`StartError::AlreadyStarted`] and [`StartError::ForkedChild`] as for `start`.
    pub fn start_without_system_calls(&self, arena: &Arena) -> Result<(), StartError> {
        if !arena.inner.generation.is_current() {
            return Err(StartError::ForkedChild);
        }
        if !self.leave(NEW) && !self.leave(NONE) {
            return Err(StartError::AlreadyStarted);
        }
        self.serve(Arc::clone(&arena.inner));
        Ok(())
    }

    /// The arena of the large blocks, if one serves already.
    #[must_use]
    pub fn arena(&self) -> Option<Arena> {
        let inner = self.inner.load(Ordering::Acquire);
        if inner.is_null() {
            return None;
        }
        // SAFETY: `serve` made the pointer of an `Arc` that it has leaked, so it is counted.
        unsafe { Arc::increment_strong_count(inner) };
        // SAFETY: as above, and the count that this takes over was added just now.
        Some(Arena { inner: unsafe { Arc::from_raw(inner) } })
    }

    /// Changes the phase from `phase` to starting, if it is `phase`.
    fn leave(&self, phase: u8) -> bool {
        let (done, seen) = (Ordering::Acquire, Ordering::Relaxed);
        self.phase.compare_exchange(phase, STARTING, done, seen).is_ok()
    }

    fn serve(&self, inner: Arc<Inner>) -> &Inner {
        let _in_library = InLibraryGuard::enter();
        let (base, len) = (inner.base.0.addr(), inner.config.reserve);
        // The hook is there, or the arena would not be.
        let _ = fork::keep_empty_in_children(base..base + len);
        let inner = Arc::into_raw(inner);
        self.inner.store(inner.cast_mut(), Ordering::Release);
        self.base.store(base, Ordering::Relaxed);
        self.len.store(len, Ordering::Release);
        self.phase.store(SERVES, Ordering::Release);
        // SAFETY: the `Arc` is leaked.
        unsafe { &*inner }
    }

    /// The arena, if large blocks come from it in this thread now.
    #[inline]
    fn serving(&self) -> Option<&Inner> {
        if InLibraryGuard::is_held() {
            return None;
        }
        let inner = self.inner.load(Ordering::Acquire);
        if inner.is_null() {
            return self.build();
        }
        // SAFETY: `serve` leaks the `Arc` that the pointer is of.
        let inner = unsafe { &*inner };
        inner.generation.is_current().then_some(inner)
    }

    #[cold]
    fn build(&self) -> Option<&Inner> {
        let build = self.build.filter(|_| self.leave(NEW))?;
        match within(build) {
            Some(arena) => Some(self.serve(arena.inner)),
            None => {
                self.phase.store(NONE, Ordering::Release);
                None
            }
        }
    }

    /// The arena, if the block is in it.
    #[inline]
    fn owner(&self, block: *mut u8) -> Option<&Inner> {
        // A thread that has a block of the arena synchronizes with the one that allocated it, and so sees
        // the length.
        let len = self.len.load(Ordering::Acquire);
        let offset = block.addr().wrapping_sub(self.base.load(Ordering::Relaxed));
        // SAFETY: where there is a length there is a pointer, of an `Arc` that was leaked.
        (offset < len).then(|| unsafe { &*self.inner.load(Ordering::Relaxed) })
    }

    /// Moves a block to the allocator that serves `new`.
    ///
    /// # Safety
    ///
    /// The block must have been allocated here for `old`, not been freed, and be readable.
    unsafe fn relocate(&self, block: *mut u8, old: Layout, new: Layout) -> *mut u8 {
        // SAFETY: the new layout has bytes, because the caller's size has.
        let moved = unsafe { self.alloc(new) };
        if !moved.is_null() {
            // SAFETY: both blocks have at least this many bytes, and do not overlap. This thread holds no
            // lock, so the copy may fault.
            unsafe { ptr::copy_nonoverlapping(block, moved, old.size().min(new.size())) };
            // SAFETY: the caller's promise.
            unsafe { self.dealloc(block, old) };
        }
        moved
    }
}

// SAFETY: a block is one of `System`, or of an arena that is never dropped, and stays where it is until
// the program frees it. Its address tells which of the two frees it. No method unwinds.
unsafe impl GlobalAlloc for ArenaAlloc {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() >= self.at_least
            && let Some(inner) = self.serving()
        {
            return pointer(within(|| inner.allocate(Lane::Default, layout)).ok());
        }
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if layout.size() >= self.at_least
            && let Some(inner) = self.serving()
        {
            return pointer(within(|| inner.allocate_zeroed(Lane::Default, layout)).ok());
        }
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match self.owner(block).zip(NonNull::new(block)) {
            Some((inner, block)) => within(|| {
                // SAFETY: the caller's promise, and the block is this arena's.
                unsafe { inner.deallocate(Lane::Default, block, layout) }
            }),
            // SAFETY: the caller's promise, and the block is not the arena's.
            None => unsafe { System.dealloc(block, layout) },
        }
    }

    unsafe fn realloc(&self, block: *mut u8, old: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller promises a size that makes a layout.
        let new = unsafe { Layout::from_size_align_unchecked(new_size, old.align()) };
        let is_large = new_size >= self.at_least;
        let Some((inner, held)) = self.owner(block).zip(NonNull::new(block)) else {
            return if is_large && self.serving().is_some() {
                // SAFETY: the caller's promise.
                unsafe { self.relocate(block, old, new) }
            } else {
                // SAFETY: the caller's promise, and the block is the system's.
                unsafe { System.realloc(block, old, new_size) }
            };
        };
        if !inner.generation.is_current() {
            // A forked child cannot read the block.
            return ptr::null_mut();
        }
        let stays = is_large.then(|| {
            // SAFETY: the caller's promise, and the block is this arena's.
            within(|| unsafe {
                if new_size > old.size() {
                    inner.grow_in_place(held, old, new, false)
                } else {
                    inner.shrink_in_place(held, old, new)
                }
            })
        });
        match stays.flatten() {
            Some(_) => block,
            // SAFETY: the caller's promise.
            None => unsafe { self.relocate(block, old, new) },
        }
    }
}

fn pointer(block: Option<NonNull<[u8]>>) -> *mut u8 {
    block.map_or(ptr::null_mut(), |block| block.cast().as_ptr())
}

/// Does `work` inside the library: its allocations come from the system, and a panic aborts.
#[inline]
fn within<T>(work: impl FnOnce() -> T) -> T {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            event::report(format_args!("a panic in the allocator, see the message above: abort"));
            std::process::abort();
        }
    }
    let bomb = Bomb;
    let _in_library = InLibraryGuard::enter();
    let done = work();
    core::mem::forget(bomb);
    done
}

/// Why [`ArenaAlloc::start`] did not start.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StartError {
    /// The allocator has an arena already, or builds one.
    AlreadyStarted,
    /// System calls on evicted memory of the arena fail. See [`ArenaAlloc::start_without_system_calls`].
    SystemCalls {
        /// What the user can do about it.
        remedy: String,
    },
    /// The arena belongs to the parent of this process.
    ForkedChild,
}

impl StartError {
    fn system_calls() -> Self {
        let handler = "FaultMode::Handler or FaultMode::Auto for the arena";
        let remedy = match sys::probe().system_calls().status() {
            CapabilityStatus::Present { .. } => handler.to_owned(),
            CapabilityStatus::Missing { remedy, .. } => format!("{remedy}; and {handler}"),
        };
        Self::SystemCalls { remedy }
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AlreadyStarted => f.write_str("the allocator has an arena already"),
            Self::SystemCalls { remedy } => write!(
                f,
                "system calls that are given evicted memory of this arena would fail with EFAULT. \
                 Remedy: {remedy}"
            ),
            Self::ForkedChild => ArenaError::ForkedChild.fmt(f),
        }
    }
}

impl std::error::Error for StartError {}
