//! A whole program's large blocks in an arena: `#[global_allocator]`.
//!
//! # What must not come from the arena
//!
//! What the library allocates itself, see [`InLibraryGuard`]. Who asks for memory while he is at work gets it
//! from the system, and whoever frees a block, at work or not, is told by its address whose it is.
//! That holds in a forked child too, where the arena's addresses are kept empty.
//!
//! # What must not happen in an allocator
//!
//! It must not unwind. [`within`] aborts instead; what panics behind it are assertions on the
//! program's mistakes, and a function of the program that builds an arena.

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

/// The allocator of a whole program: large blocks come from an [`Arena`], all others from the system.
///
/// ```
/// use thermocline::{Arena, ArenaAlloc};
///
/// // Blocks of 4 KiB and more are to come from the arena.
/// #[global_allocator]
/// static GLOBAL: ArenaAlloc = ArenaAlloc::new(4096);
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     // Until it is started, everything comes from the system.
///     let arena = Arena::builder().plain_memory_fallback(true).build()?;
///     if let Err(e) = GLOBAL.start(&arena) {
///         eprintln!("nothing will be evicted: {e}");
///     }
///
///     let squares: Vec<u64> = (0..100_000).map(|n| n * n).collect();
///     let _ = arena.evict_now(); // or wait
///     assert_eq!(squares[70_000], 4_900_000_000);
///     Ok(())
/// }
/// ```
///
/// # What comes from where
///
/// * From the arena: blocks of at least as many bytes as were named, once the arena serves. A block that
///   grows beyond that moves into the arena, one that shrinks below it moves out. Where the arena has no
///   room, allocating fails: its [reserve](crate::Builder::reserve) is a limit to what the program's
///   large blocks take.
/// * From the system ([`System`]): smaller blocks, all blocks from before the arena serves, and whatever
///   the library itself allocates.
///
/// A large block has pages of its own or shares them with blocks of its size, so that it is evicted when
/// it is not used. The smaller the blocks that come from the arena, the more of them, used and unused,
/// share a page, and the more of what the next section is about is among them. 4096 is a good start.
///
/// # What is safe
///
/// Allocating and freeing anywhere: before `main`, in destructors of thread-locals, in other threads
/// while the program exits. The arena lives as long as the process.
///
/// # Limits
///
/// * **System calls.** Programs give their buffers to `read(2)` and `write(2)`, paths to `open(2)`, and
///   know nothing of [`pin`](Arena::pin). With an arena that does not [serve system
///   calls](Arena::serves_system_calls) they fail now and then, with `EFAULT`; [`start`](Self::start)
///   refuses it. What a device reads or writes by itself (`O_DIRECT`, registered io_uring buffers) has to
///   be pinned with any arena.
/// * **Forked children** have none of the blocks that their parent had in its arena: to read one is
///   SIGSEGV, to free one does nothing, to reallocate one fails. What they allocate comes from the
///   system. `std::process::Command` works; but where the process has to be forked for it
///   (`pre_exec`, `uid`, ...), its arguments and the like must be small blocks: a list of 512
///   arguments has 4 KiB.
/// * **Signal handlers** must not allocate, as with any allocator.
///
/// All other [limits of an arena](crate#limits) are those of the program's large blocks.
#[derive(Debug)]
pub struct ArenaAlloc {
    /// Bytes that a block of the arena has at least.
    at_least: usize,
    build: Option<fn() -> Option<Arena>>,
    phase: AtomicU8,
    /// The arena, which is never let go of; null until it serves.
    inner: AtomicPtr<Inner>,
    /// Where its memory lies. The length is written last: an address lies in no memory of length zero.
    base: AtomicUsize,
    len: AtomicUsize,
}

/// Nobody has asked for an arena yet.
const NEW: u8 = 0;
/// Somebody is about to provide one.
const STARTING: u8 = 1;
/// It serves. Nobody leaves this.
const SERVES: u8 = 2;
/// The function gave none.
const NONE: u8 = 3;

impl ArenaAlloc {
    /// An allocator that takes blocks of `at_least` so many bytes from the arena that it is
    /// [started](Self::start) with.
    #[must_use]
    pub const fn new(at_least: usize) -> Self {
        Self {
            // A layout without bytes is nobody's.
            at_least: if at_least == 0 { 1 } else { at_least },
            build: None,
            phase: AtomicU8::new(NEW),
            inner: AtomicPtr::new(ptr::null_mut()),
            base: AtomicUsize::new(0),
            len: AtomicUsize::new(0),
        }
    }

    /// An allocator that takes blocks of `at_least` so many bytes from an arena that it makes by itself
    /// when the first of them is asked for: for programs whose `main` is not to be changed, such as
    /// test programs. Where `build` gives none, everything comes from the system.
    ///
    /// `build` runs once, in whichever thread asks first, perhaps before `main`, and what it allocates
    /// comes from the system, as does what other threads allocate meanwhile. It is called in an
    /// allocation, so it must take no lock that the program could hold while it allocates, and a panic
    /// in it aborts the process. The arena that it gives is taken as it is: should it not serve
    /// system calls, they may fail.
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

    /// Takes large blocks from `arena` from now on, which then lives as long as the process.
    ///
    /// # Errors
    ///
    /// [`StartError::SystemCalls`] if the arena does not serve system calls, with what would help;
    /// [`StartError::AlreadyStarted`] if there is one already, or one is being made;
    /// [`StartError::ForkedChild`] if it belongs to the process that this one was forked from.
    pub fn start(&self, arena: &Arena) -> Result<(), StartError> {
        if !arena.serves_system_calls() {
            return Err(StartError::system_calls());
        }
        self.start_without_system_calls(arena)
    }

    /// Like [`start`](Self::start), with an arena that does not serve system calls too: for a program
    /// that gives large blocks to none, or has them [pinned](Arena::pin) when it does.
    ///
    /// That is less easy than it seems: the standard library reads files into blocks that it has
    /// allocated, and writes out strings.
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

    /// The arena that large blocks come from, if one serves already.
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

    /// Steps from `phase` to starting, if that is the phase.
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

    /// The arena, if a large block is to come from there.
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

    /// The arena, if the block is one of its own.
    #[inline]
    fn owner(&self, block: *mut u8) -> Option<&Inner> {
        // Whoever has a block of the arena has been told so by a thread that saw it serve.
        let len = self.len.load(Ordering::Acquire);
        let offset = block.addr().wrapping_sub(self.base.load(Ordering::Relaxed));
        // SAFETY: where there is a length there is a pointer, of an `Arc` that was leaked.
        (offset < len).then(|| unsafe { &*self.inner.load(Ordering::Relaxed) })
    }

    /// Moves a block to where one for `new` is to be.
    ///
    /// # Safety
    ///
    /// The block must have been allocated here for `old`, not been freed, and be readable.
    unsafe fn relocate(&self, block: *mut u8, old: Layout, new: Layout) -> *mut u8 {
        // SAFETY: not without bytes, since the caller's is not.
        let moved = unsafe { self.alloc(new) };
        if !moved.is_null() {
            // SAFETY: both have so many bytes and are different blocks. No lock of anybody's is held,
            // so the copy may fault as it likes.
            unsafe { ptr::copy_nonoverlapping(block, moved, old.size().min(new.size())) };
            // SAFETY: the caller's promise.
            unsafe { self.dealloc(block, old) };
        }
        moved
    }
}

// SAFETY: blocks are those of `System`, or of an arena that is never dropped, and stay where they are
// until they are freed; a block is freed where it was allocated, which its address tells; and nothing
// unwinds.
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
            // There is nothing to read here.
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

/// Does something inside the library that is to allocate from the system, and must not unwind.
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
    /// The allocator has an arena already, or is making one.
    AlreadyStarted,
    /// System calls that are given evicted memory of the arena fail. See
    /// [`ArenaAlloc::start_without_system_calls`].
    SystemCalls {
        /// What would help.
        remedy: String,
    },
    /// The arena belongs to the process that this one was forked from.
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
