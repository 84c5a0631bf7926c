//! Stacks on which the SIGBUS handler does its work.
//!
//! The kernel starts the handler on the faulting thread's stack or on that thread's alternate signal
//! stack. Either may be small: Rust's standard library gives a thread an alternate
//! stack of 8 to 12 KiB, and a signal frame takes 3 to 12 KiB of it. Bringing a page back needs more
//! than the rest, above all in a build without optimisation. So the handler leaves only small frames
//! on the stack that the kernel chose, and does everything else on a stack from this pool.
//!
//! # Rules
//!
//! * **All signals are blocked while a thread is on a service stack.** If the stack pointer lies outside
//!   the alternate stack, the kernel assumes that the thread does not use the alternate stack. It would
//!   start another handler at the top of the alternate stack, over the frames that the thread left there.
//!   The signals that the C library reserves for itself, which `sigfillset(3)` omits, are blocked too:
//!   musl's handlers for them run on the alternate stack.
//! * **Taking a stack neither allocates nor locks**, and does not touch an arena.
//! * **Nothing unwinds out of a service stack.** Each function that runs there is `extern "C"`, so that
//!   a panic aborts the process.
//!
//! # Why waiting for a stack ends
//!
//! A thread that finds no free stack waits until another thread gives one back. The waiting thread owns no
//! page: it takes pages only while it is on a stack. A thread that holds a stack may wait for a page, and so
//! for the owner of that page. The owner is either a thread that has a stack already, or one that never
//! needs one, because it does not touch an arena while it owns a page (the evictor, a handler thread,
//! a caller of `ensure`). So each owner finishes; then the threads that wait for its pages finish, and
//! give their stacks back.
//!
//! # After a fork
//!
//! A child has a copy of the pool, but only one of the parent's threads. A stack that another thread of
//! the parent held at the time of the fork is free in the child: each stack's word holds the
//! [`Generation`] of the process whose thread has the stack, as the slots of `sigbus` do.

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

/// Bytes of a stack. An optimised build uses about 4 KiB, one without optimisation 12 KiB, as the test
/// `service_stacks_have_room_to_spare` measures.
const SIZE: usize = 64 << 10;

/// Inaccessible bytes below each stack.
const GUARD: usize = PAGE_SIZE;

/// A thread keeps its stack while it waits for a page. With fewer stacks than this, a few waiting threads
/// could delay faults on free pages. An unused stack costs only address space.
const MIN_STACKS: usize = 64;

/// 512 stacks are 34 MiB of addresses and 1024 mappings.
const MAX_STACKS: usize = 512;

/// A thread that finds no free stack yields this number of times before it sleeps between two searches.
const YIELDS: u32 = 64;

const SLEEP: Duration = Duration::from_micros(100);

/// A function that runs on a service stack.
type Work = extern "C" fn(*mut c_void);

/// The process's pool.
static POOL: OnceLock<Pool> = OnceLock::new();

/// Maps the stacks, which are never freed, unless they exist. Forks must be counted already. One thread
/// at a time may call this.
pub(super) fn prepare() -> Result<(), SysError> {
    if POOL.get().is_none() {
        let pool = Pool::map((4 * cpu::count()).clamp(MIN_STACKS, MAX_STACKS))?;
        let _ = POOL.set(pool);
    }
    Ok(())
}

/// Calls `work` on a service stack, with all signals blocked. Does nothing before [`prepare`].
///
/// Uses little of the calling thread's stack, independently of `work`.
// Not inlined: its frame is gone when the caller passes a signal on.
#[inline(never)]
pub(super) fn run<T>(work: extern "C" fn(&mut T), data: &mut T) {
    let Some(pool) = POOL.get() else { return };
    // SAFETY: a function that takes a thin reference may be called with a pointer: both are passed in
    // the same way. `run` passes `data`, which has the type that the function takes.
    let work = unsafe { core::mem::transmute::<extern "C" fn(&mut T), Work>(work) };
    // SAFETY: as above; `data` is borrowed until the call returns.
    unsafe { pool.run(work, ptr::from_mut(data).cast()) };
}

/// A set of stacks, each of which one thread at a time takes.
struct Pool {
    /// The lowest guard. Each stack lies above its guard.
    start: *mut u8,
    /// For each stack the number of the generation whose thread has it, or zero if it is free.
    takers: Box<[CachePadded<AtomicU32>]>,
}

// SAFETY: the pointer is an address; a stack's memory belongs to the thread that has taken the stack.
unsafe impl Send for Pool {}
// SAFETY: as above.
unsafe impl Sync for Pool {}

impl Pool {
    fn map(stacks: usize) -> Result<Self, SysError> {
        let len = stacks * (GUARD + SIZE);
        // MAP_STACK prevents huge pages, each of which would span thirty stacks.
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_STACK;
        // SAFETY: a new mapping, at an address that the kernel chooses.
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
                // SAFETY: the mapping from above, to which no pointer exists.
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
        // SAFETY: the stack belongs to this thread until the thread gives it back, and no signal
        // handler interrupts the thread meanwhile. The caller guarantees the rest.
        unsafe { call_on(self.top(stack), work, data) };
        // Release: the next thread writes to the stack after this one.
        self.takers[stack].store(0, Ordering::Release);
        if before != signals::ALL {
            signals::set_mask(before);
        }
    }

    /// Takes a stack, preferably the one that this processor's cache holds.
    // A loop by index has a small frame also without optimisation.
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
                // Yielding to a thread of lower priority has no effect; sleeping lets it run.
                thread::sleep(SLEEP);
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
/// Keeps a frame pointer, so that debuggers and profilers find the caller's frames.
///
/// # Safety
///
/// `top` is the end of an unused stack, aligned to 16 bytes. `work` may be called with `data` and
/// does not unwind.
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

/// On other architectures `work` runs on its caller's stack.
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

    /// A pool that is never freed, as that of a process.
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
    fn a_thread_waits_until_a_stack_is_free() {
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
            thread::sleep(SLEEP);
        }
    }

    extern "C" fn count(times: &mut i32) {
        *times += 1;
    }

    #[test]
    fn stacks_of_the_parents_threads_are_free_in_a_child() {
        let pool = pool(2);
        let (taken, over) = (Barrier::new(3), AtomicBool::new(false));
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| run(pool, wait, &mut Wait { taken: &taken, over: &over }));
            }
            taken.wait();
            let ours = Generation::counted().number();
            assert!((0..2).all(|stack| !pool.try_take(stack, ours)));
            // Not with `run`, which would wait for ever with all signals blocked if the test fails.
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
