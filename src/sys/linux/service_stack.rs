//! Stacks on which the handler for SIGBUS does its work.
//!
//! The kernel starts the handler on the stack of the thread that touched a page, or on that thread's
//! alternate signal stack. Either may be small: Rust's standard library gives a thread an alternate
//! stack of 8 to 12 KiB, and a signal frame takes 3 to 12 KiB of it. Bringing a page back takes more
//! than the rest, most of all in a build without optimisation. So the handler leaves only small frames
//! on the stack that it was given, and does everything else on a stack from the pool in this file.
//!
//! # Rules
//!
//! * **All signals are blocked while a thread is on a service stack.** The kernel takes a thread for
//!   one that does not use its alternate stack if the stack pointer lies elsewhere. It would start
//!   another handler at the top of the alternate stack, over the frames that the thread left there.
//!   This includes the signals that the C library keeps for itself, which `sigfillset(3)` leaves out:
//!   musl's handlers for them run on the alternate stack too.
//! * **Taking a stack neither allocates nor locks**, and does not touch an arena.
//! * **Nothing unwinds out of a service stack.** What runs there is `extern "C"`, so that a panic
//!   aborts the process.
//!
//! # Why waiting for a stack ends
//!
//! A thread that finds no free stack waits until one is given back. It owns no page at that time: it
//! takes pages only once it is on a stack. A thread that holds a stack may wait for a page, and so for
//! the owner of that page. The owner is either a thread that has its stack already, or one that never
//! needs any, because it does not touch an arena while it owns a page (the evictor, a handler thread,
//! a caller of `ensure`). So each owner goes on, the threads that wait for its pages go on after it,
//! and give their stacks back.
//!
//! # After a fork
//!
//! A child has a copy of the pool, and of the parent's threads only one. A stack that another thread
//! of the parent held at the moment of the fork is free in the child: the word of a stack names the
//! [`Generation`] of the process whose thread has it, as the slots of `sigbus` do.

#![allow(unsafe_code)]

use super::cpu;
use super::signals;
use crate::prim::PAGE_SIZE;
use crate::sys::error::SysError;
use crate::sys::fork::Generation;
use core::ffi::c_void;
use core::ptr;
use core::sync::atomic::{AtomicU32, Ordering};
use core::time::Duration;
use crossbeam::utils::CachePadded;
use std::sync::OnceLock;
use std::thread;

/// Bytes of a stack. An optimised build uses about 4 KiB of it, one without optimisation 12 KiB; the test
/// `service_stacks_have_room_to_spare` measures it.
const SIZE: usize = 64 << 10;

/// Bytes below each stack that may not be accessed.
const GUARD: usize = PAGE_SIZE;

/// A thread keeps its stack while it waits for a page. With fewer stacks than this, a few threads that
/// wait could keep others from pages that are free. An unused stack costs addresses only.
const FEWEST: usize = 64;

/// 512 stacks are 34 MiB of addresses and 1024 mappings.
const MOST: usize = 512;

/// How often a thread gives way to others before it begins to sleep between two looks.
const YIELDS: u32 = 64;

const NAP: Duration = Duration::from_micros(100);

/// What runs on a service stack.
type Work = extern "C" fn(*mut c_void);

/// The pool of the process.
static POOL: OnceLock<Pool> = OnceLock::new();

/// Makes the stacks, which stay for ever, if there are none. Forks must be counted already. One thread
/// at a time may call this.
pub(super) fn prepare() -> Result<(), SysError> {
    if POOL.get().is_none() {
        let pool = Pool::map((4 * cpu::count()).clamp(FEWEST, MOST))?;
        let _ = POOL.set(pool);
    }
    Ok(())
}

/// Calls `work` on a service stack, with all signals blocked. Does nothing before [`prepare`].
///
/// It uses little of the calling thread's stack, whatever `work` does.
// An own frame, which is gone when the caller passes a signal on.
#[inline(never)]
pub(super) fn run<T>(work: extern "C" fn(&mut T), data: &mut T) {
    let Some(pool) = POOL.get() else { return };
    // SAFETY: a function that takes a thin reference may be called with a pointer to the same: they
    // are passed alike. `run` passes on `data`, which is of the type that the function takes.
    let work = unsafe { core::mem::transmute::<extern "C" fn(&mut T), Work>(work) };
    // SAFETY: see above; `data` is borrowed until the call returns.
    unsafe { pool.run(work, ptr::from_mut(data).cast()) };
}

/// Stacks that threads take in turns.
struct Pool {
    /// The lowest guard. Each stack lies above its own.
    start: *mut u8,
    /// For each stack the number of the generation whose thread has it, or zero.
    takers: Box<[CachePadded<AtomicU32>]>,
}

// SAFETY: the pointer is an address; what it points to belongs to the thread that has taken the stack.
unsafe impl Send for Pool {}
// SAFETY: as above.
unsafe impl Sync for Pool {}

impl Pool {
    fn map(stacks: usize) -> Result<Self, SysError> {
        let len = stacks * (GUARD + SIZE);
        // STACK: no huge pages, of which each would be memory for thirty stacks.
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_STACK;
        // SAFETY: a new mapping wherever there is room.
        let start = unsafe { libc::mmap(ptr::null_mut(), len, libc::PROT_NONE, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(SysError::last("mmap(service stacks)"));
        }
        let takers = (0..stacks).map(|_| CachePadded::new(AtomicU32::new(0))).collect();
        let pool = Self { start: start.cast(), takers };
        for stack in 0..stacks {
            let access = libc::PROT_READ | libc::PROT_WRITE;
            let bottom = pool.top(stack).wrapping_sub(SIZE);
            // SAFETY: a part of the mapping, which no thread uses yet.
            if unsafe { libc::mprotect(bottom.cast(), SIZE, access) } != 0 {
                let error = SysError::last("mprotect(service stacks)");
                // SAFETY: the mapping from above, which nothing points to.
                unsafe { libc::munmap(start, len) };
                return Err(error);
            }
        }
        Ok(pool)
    }

    /// The address above the last byte of a stack.
    fn top(&self, stack: usize) -> *mut u8 {
        self.start.wrapping_add((stack + 1) * (GUARD + SIZE))
    }

    /// # Safety
    ///
    /// `work` may be called with `data`.
    unsafe fn run(&self, work: Work, data: *mut c_void) {
        let before = signals::set_mask(signals::ALL);
        let stack = self.take();
        // SAFETY: the stack is this thread's until it is given back, and no handler interrupts the
        // thread meanwhile. The caller vouches for the rest.
        unsafe { call_on(self.top(stack), work, data) };
        // Release: the next taker's frames come after ours.
        self.takers[stack].store(0, Ordering::Release);
        if before != signals::ALL {
            signals::set_mask(before);
        }
    }

    /// Takes a stack, the one that is warm in this processor's cache if it is free.
    // Loops that compile to small frames without optimisation too.
    fn take(&self) -> usize {
        let ours = Generation::counted().number();
        let first = cpu::current();
        let mut looks = 0;
        loop {
            let mut i = 0;
            while i < self.takers.len() {
                let stack = (first + i) % self.takers.len();
                if self.try_take(stack, ours) {
                    return stack;
                }
                i += 1;
            }
            if looks < YIELDS {
                looks += 1;
                thread::yield_now();
            } else {
                // A thread of a higher priority would not let the one with the stack run.
                thread::sleep(NAP);
            }
        }
    }

    fn try_take(&self, stack: usize, ours: u32) -> bool {
        let taker = &self.takers[stack];
        let seen = taker.load(Ordering::Relaxed);
        // Acquire: see `run`.
        seen != ours
            && taker.compare_exchange(seen, ours, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }
}

/// Calls `work` with `data` on the stack whose end is `top`.
///
/// It keeps a frame pointer, so that debuggers and profilers find the frames of the caller.
///
/// # Safety
///
/// `top` is the end of a stack that no thread uses, aligned to 16 bytes. `work` may be called with
/// `data`, and does not unwind.
#[cfg(target_arch = "x86_64")]
#[unsafe(naked)]
unsafe extern "C" fn call_on(top: *mut u8, work: Work, data: *mut c_void) {
    core::arch::naked_asm!(
        ".cfi_startproc",
        "push rbp",
        ".cfi_def_cfa_offset 16",
        ".cfi_offset rbp, -16",
        "mov rbp, rsp",
        ".cfi_def_cfa_register rbp",
        "mov rsp, rdi",
        "mov rdi, rdx",
        "call rsi",
        "mov rsp, rbp",
        "pop rbp",
        ".cfi_def_cfa rsp, 8",
        ".cfi_restore rbp",
        "ret",
        ".cfi_endproc",
    )
}

/// As on `x86_64`.
///
/// # Safety
///
/// As on `x86_64`.
#[cfg(target_arch = "aarch64")]
#[unsafe(naked)]
unsafe extern "C" fn call_on(top: *mut u8, work: Work, data: *mut c_void) {
    core::arch::naked_asm!(
        ".cfi_startproc",
        "stp x29, x30, [sp, #-16]!",
        ".cfi_def_cfa_offset 16",
        ".cfi_offset x29, -16",
        ".cfi_offset x30, -8",
        "mov x29, sp",
        ".cfi_def_cfa x29, 16",
        "mov sp, x0",
        "mov x0, x2",
        "blr x1",
        "mov sp, x29",
        ".cfi_def_cfa sp, 16",
        "ldp x29, x30, [sp], #16",
        ".cfi_def_cfa_offset 0",
        ".cfi_restore x29",
        ".cfi_restore x30",
        "ret",
        ".cfi_endproc",
    )
}

/// As on `x86_64`.
///
/// # Safety
///
/// As on `x86_64`.
#[cfg(target_arch = "riscv64")]
#[unsafe(naked)]
unsafe extern "C" fn call_on(top: *mut u8, work: Work, data: *mut c_void) {
    core::arch::naked_asm!(
        ".cfi_startproc",
        "addi sp, sp, -16",
        ".cfi_def_cfa_offset 16",
        "sd ra, 8(sp)",
        ".cfi_offset ra, -8",
        "sd s0, 0(sp)",
        ".cfi_offset s0, -16",
        "addi s0, sp, 16",
        ".cfi_def_cfa s0, 0",
        "mv sp, a0",
        "mv a0, a2",
        "jalr a1",
        "addi sp, s0, -16",
        ".cfi_def_cfa sp, 16",
        "ld ra, 8(sp)",
        "ld s0, 0(sp)",
        ".cfi_restore ra",
        ".cfi_restore s0",
        "addi sp, sp, 16",
        ".cfi_def_cfa_offset 0",
        "ret",
        ".cfi_endproc",
    )
}

/// On other machines `work` runs on the stack of its caller.
///
/// # Safety
///
/// As on `x86_64`.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")))]
unsafe extern "C" fn call_on(_: *mut u8, work: Work, data: *mut c_void) {
    work(data);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::child::fork;
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicBool, AtomicUsize};

    /// A pool, which is never freed: as that of a process.
    fn pool(stacks: usize) -> &'static Pool {
        Generation::current().unwrap();
        Box::leak(Box::new(Pool::map(stacks).unwrap()))
    }

    /// Whether an address lies on one of the pool's stacks.
    fn holds(pool: &Pool, address: usize) -> bool {
        (pool.start.addr()..pool.top(pool.takers.len() - 1).addr()).contains(&address)
    }

    fn run<T>(pool: &Pool, work: extern "C" fn(&mut T), data: &mut T) {
        // SAFETY: as in `super::run`.
        unsafe {
            let work = core::mem::transmute::<extern "C" fn(&mut T), Work>(work);
            pool.run(work, ptr::from_mut(data).cast());
        }
    }

    #[test]
    fn work_runs_on_a_service_stack_with_all_signals_blocked() {
        extern "C" fn look(seen: &mut (usize, u64)) {
            let mask = signals::set_mask(signals::ALL);
            *seen = (ptr::from_ref(&mask).addr(), mask);
        }
        let pool = pool(3);
        let before = signals::set_mask(0);
        for _ in 0..10 {
            let mut seen = (0, 0);
            run(pool, look, &mut seen);
            assert!(holds(pool, seen.0), "{:#x}", seen.0);
            assert_eq!(seen.1, signals::ALL);
            assert!(pool.takers.iter().all(|taker| taker.load(Ordering::Relaxed) == 0));
        }
        assert_eq!(signals::set_mask(before), 0);
    }

    #[test]
    fn more_threads_than_stacks_take_turns() {
        struct Turn<'a>(&'a AtomicUsize, &'a AtomicUsize);
        extern "C" fn take_turn(turn: &mut Turn<'_>) {
            let on_stacks = turn.0.fetch_add(1, Ordering::Relaxed) + 1;
            turn.1.fetch_max(on_stacks, Ordering::Relaxed);
            thread::sleep(Duration::from_micros(200));
            turn.0.fetch_sub(1, Ordering::Relaxed);
        }
        let pool = pool(2);
        let (on_stacks, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(|| {
                    (0..50).for_each(|_| run(pool, take_turn, &mut Turn(&on_stacks, &most)));
                });
            }
        });
        assert!((1..=2).contains(&most.load(Ordering::Relaxed)));
    }

    struct Wait<'a> {
        taken: &'a Barrier,
        over: &'a AtomicBool,
    }

    extern "C" fn wait(wait: &mut Wait<'_>) {
        wait.taken.wait();
        while !wait.over.load(Ordering::Relaxed) {
            thread::sleep(NAP);
        }
    }

    extern "C" fn count(times: &mut i32) {
        *times += 1;
    }

    #[test]
    fn stacks_that_the_parents_threads_have_are_free_in_a_child() {
        let pool = pool(2);
        let (taken, over) = (Barrier::new(3), AtomicBool::new(false));
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| run(pool, wait, &mut Wait { taken: &taken, over: &over }));
            }
            taken.wait();
            let ours = Generation::counted().number();
            assert!((0..2).all(|stack| !pool.try_take(stack, ours)));
            // Not by `run`, which would wait for ever, with all signals blocked.
            let status = fork(|| {
                let ours = Generation::counted().number();
                (0..2).map(|stack| i32::from(pool.try_take(stack, ours))).sum()
            });
            over.store(true, Ordering::Relaxed);
            assert_eq!(status.code(), Some(2), "{status:?}");
        });
        let mut times = 0;
        run(pool, count, &mut times);
        assert_eq!(times, 1);
    }
}
