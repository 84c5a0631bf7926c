//! Stacks of threads and of signal handlers, and how much of a stack was used.

#![allow(dead_code, unsafe_code, reason = "each test program uses a part of it")]

use super::pages::{PAGE, Pages};
use core::ffi::c_void;
use core::ptr;
use thermocline::Arena;

/// Memory for a stack, with a guard page below it.
pub struct Stack {
    start: *mut u8,
    len: usize,
    /// Whether `drop` unmaps it.
    owned: bool,
}

// SAFETY: the tests let one thread at a time paint and read it.
unsafe impl Sync for Stack {}

impl Stack {
    const PAINT: u8 = 0xA5;

    pub fn new(len: usize) -> Self {
        let (none, kind) = (libc::PROT_NONE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        let whole = len.next_multiple_of(PAGE) + PAGE;
        // SAFETY: a new mapping at an address that the kernel chooses.
        let guard = unsafe { libc::mmap(ptr::null_mut(), whole, none, kind, -1, 0) };
        assert_ne!(guard, libc::MAP_FAILED);
        // SAFETY: the mapping without its first page, which stays the guard.
        let start = unsafe {
            let above = guard.cast::<u8>().add(PAGE);
            let access = libc::PROT_READ | libc::PROT_WRITE;
            assert_eq!(libc::mprotect(above.cast(), whole - PAGE, access), 0);
            above
        };
        let this = Self { start, len, owned: true };
        this.paint();
        this
    }

    /// A stack in memory that outlives it and has no other use meanwhile.
    pub fn at(start: *mut u8, len: usize) -> Self {
        Self { start, len, owned: false }
    }

    pub fn paint(&self) {
        // SAFETY: the mapping is ours, and no thread is on it.
        unsafe { self.start.write_bytes(Self::PAINT, self.len) };
    }

    /// Bytes from the top down to an address on the stack.
    pub fn depth(&self, address: &u8) -> usize {
        self.start.addr() + self.len - ptr::from_ref(address).addr()
    }

    /// Paints all bytes below the first `depth` bytes from the top.
    pub fn paint_below(&self, depth: usize) {
        // SAFETY: the caller has no frames there.
        unsafe { self.start.write_bytes(Self::PAINT, self.len - depth) };
    }

    /// Bytes from the top down to the lowest one that was written.
    pub fn used(&self) -> usize {
        // SAFETY: as above.
        let bytes = unsafe { core::slice::from_raw_parts(self.start, self.len) };
        self.len - bytes.iter().position(|byte| *byte != Self::PAINT).unwrap_or(self.len)
    }

    /// Runs `what`, which must not panic, in a thread on this stack, with `signals` as its alternate stack,
    /// if any.
    pub fn run(&self, signals: Option<&Self>, what: &mut (dyn FnMut() + Send)) {
        struct Task<'a> {
            signals: libc::stack_t,
            what: &'a mut (dyn FnMut() + Send),
        }
        extern "C" fn start(task: *mut c_void) -> *mut c_void {
            // SAFETY: `run` passes a task, and waits for this thread.
            let task = unsafe { &mut *task.cast::<Task<'_>>() };
            // SAFETY: a stack that outlives the thread, or none.
            assert_eq!(unsafe { libc::sigaltstack(&raw const task.signals, ptr::null_mut()) }, 0);
            (task.what)();
            ptr::null_mut()
        }
        let (ss_sp, ss_size, ss_flags) = match signals {
            Some(stack) => (stack.start.cast(), stack.len, 0),
            None => (ptr::null_mut(), 0, libc::SS_DISABLE),
        };
        let mut task = Task { signals: libc::stack_t { ss_sp, ss_flags, ss_size }, what };
        // SAFETY: attributes are initialised before their use; the thread gets memory that has no other
        // use, and a task that lives until the join.
        unsafe {
            let mut attributes: libc::pthread_attr_t = core::mem::zeroed();
            assert_eq!(libc::pthread_attr_init(&raw mut attributes), 0);
            let set = libc::pthread_attr_setstack(&raw mut attributes, self.start.cast(), self.len);
            assert_eq!(set, 0, "a stack of {} bytes", self.len);
            let mut thread = 0;
            let task = (&raw mut task).cast();
            assert_eq!(
                libc::pthread_create(&raw mut thread, &raw const attributes, start, task),
                0
            );
            assert_eq!(libc::pthread_join(thread, ptr::null_mut()), 0);
            libc::pthread_attr_destroy(&raw mut attributes);
        }
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        if !self.owned {
            return;
        }
        let whole = self.len.next_multiple_of(PAGE) + PAGE;
        // SAFETY: mapped in `new`; no thread uses it any more.
        unsafe { libc::munmap(self.start.sub(PAGE).cast(), whole) };
    }
}

/// The size of the largest signal frame on this processor, from the kernel.
pub fn largest_frame() -> usize {
    // SAFETY: takes a number. The result is zero if the kernel does not know.
    let frame = unsafe { libc::getauxval(libc::AT_MINSIGSTKSZ) };
    usize::try_from(frame).unwrap().max(libc::MINSIGSTKSZ)
}

/// Pages of three kinds: compressible, same-filled, never written.
pub struct Mixed<'a> {
    pub pages: Pages<'a>,
}

impl<'a> Mixed<'a> {
    pub fn new(arena: &'a Arena) -> Self {
        let pages = Pages::new(arena, 1200);
        for page in (0..1200).filter(|page| page % 3 != 2) {
            let words = if page % 3 == 0 { 1 } else { PAGE / 8 };
            (0..words).for_each(|word| pages.write(page, word, (page as u64) << 32 | page as u64));
        }
        arena.check().unwrap();
        Self { pages }
    }

    /// How many pages are wrong. Reads all of them in order, and again out of order.
    pub fn wrong(&self) -> usize {
        let wrong = |page: usize| {
            let wanted = if page % 3 == 2 { 0 } else { (page as u64) << 32 | page as u64 };
            usize::from(self.pages.read(page, 0) != wanted)
        };
        let in_order: usize = (0..1200).map(wrong).sum();
        in_order + (0..1200).map(|i| wrong(i * 7 % 1200)).sum::<usize>()
    }
}
