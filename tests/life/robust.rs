//! Robust mutexes in an arena, whose owner ends. The kernel walks the list of a thread's robust mutexes
//! when the thread ends (`exit_robust_list`), and at that time no page comes back for it.

use super::common::pages::{PAGE, Pages, eventually};
use super::common::{Setup, quiet, setups};
use core::ffi::c_int;
use core::mem::MaybeUninit;
use std::sync::mpsc;
use std::thread;
use thermocline::Arena;

const PAGES: usize = 300;

unsafe extern "C" {
    fn pthread_mutexattr_setrobust(
        attributes: *mut libc::pthread_mutexattr_t,
        robust: c_int,
    ) -> c_int;
    fn pthread_mutex_consistent(mutex: *mut libc::pthread_mutex_t) -> c_int;
}

/// `PTHREAD_MUTEX_ROBUST`, of glibc and musl alike.
const ROBUST: c_int = 1;

/// A robust mutex somewhere in memory.
#[derive(Clone, Copy)]
struct Robust(*mut libc::pthread_mutex_t);

// SAFETY: a mutex is for several threads.
unsafe impl Send for Robust {}

impl Robust {
    /// Makes one, in memory that stays and has no other use.
    fn at(mutex: *mut libc::pthread_mutex_t) -> Self {
        let mut attributes = MaybeUninit::uninit();
        // SAFETY: attributes are made before they are used, and the memory is the mutex's.
        unsafe {
            assert_eq!(libc::pthread_mutexattr_init(attributes.as_mut_ptr()), 0);
            assert_eq!(pthread_mutexattr_setrobust(attributes.as_mut_ptr(), ROBUST), 0);
            assert_eq!(libc::pthread_mutex_init(mutex, attributes.as_ptr()), 0);
        }
        Self(mutex)
    }

    fn lock(self) {
        // SAFETY: a mutex.
        assert_eq!(unsafe { libc::pthread_mutex_lock(self.0) }, 0);
    }

    /// Waits for the mutex, for so long at most, and gives what came of it.
    fn wait(self, millis: i64) -> c_int {
        let mut until = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: writes the time; then a mutex, and a time.
        unsafe {
            libc::clock_gettime(libc::CLOCK_REALTIME, &raw mut until);
            until.tv_nsec += millis % 1000 * 1_000_000;
            until.tv_sec += millis / 1000 + until.tv_nsec / 1_000_000_000;
            until.tv_nsec %= 1_000_000_000;
            libc::pthread_mutex_timedlock(self.0, &raw const until)
        }
    }

    /// The caller has it, and learns that its owner has ended.
    fn is_inherited(self) -> bool {
        // The wait is over at once, on a machine that is not stuck.
        if self.wait(60_000) != libc::EOWNERDEAD {
            return false;
        }
        // SAFETY: a mutex that this thread has.
        unsafe { pthread_mutex_consistent(self.0) == 0 && libc::pthread_mutex_unlock(self.0) == 0 }
    }

    /// The mutex stays locked for ever. Its owner has ended before, so that no time changes it.
    fn is_orphaned(self) -> bool {
        self.wait(200) == libc::ETIMEDOUT
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Locked {
    ArenaLast,
    ArenaFirst,
}

/// Evicts until so many pages are left in memory.
fn evict_all_but(arena: &Arena, pages: usize) {
    eventually(arena, "an eviction of the rest", |stats| {
        arena.evict_now().unwrap();
        stats.resident_bytes == pages * PAGE
    });
}

/// A thread locks a mutex in ordinary memory and one in an arena, all that is not pinned is evicted, and
/// the thread ends. Calls `look` with both.
fn owner_ends(setup: Setup, pinned: bool, locked: Locked, look: impl FnOnce(Robust, Robust)) {
    let arena = quiet(setup).build().unwrap();
    let pages = Pages::filled(&arena, PAGES);
    let page = Pages::new(&arena, 1);
    // SAFETY: zeros are what a mutex is made in.
    let mut place: Box<libc::pthread_mutex_t> = Box::new(unsafe { core::mem::zeroed() });
    let ordinary = Robust::at(&raw mut *place);
    let in_arena = Robust::at(page.word(0, 0).cast());
    let pin = pinned.then(|| arena.pin(page.range()).unwrap());
    let (has_locked, locked_both) = mpsc::channel();
    let (end, told_to_end) = mpsc::channel();
    let owner = thread::spawn(move || {
        // The list begins with the one that was locked last.
        let in_order = match locked {
            Locked::ArenaLast => [ordinary, in_arena],
            Locked::ArenaFirst => [in_arena, ordinary],
        };
        in_order.into_iter().for_each(Robust::lock);
        has_locked.send(()).unwrap();
        told_to_end.recv().unwrap();
    });
    locked_both.recv().unwrap();
    evict_all_but(&arena, usize::from(pinned));
    end.send(()).unwrap();
    owner.join().unwrap();
    look(ordinary, in_arena);
    drop(pin);
    pages.verify();
}

#[test]
fn robust_mutexes_in_pinned_memory_outlive_their_owner() {
    for setup in setups("robust::robust_mutexes_in_pinned_memory_outlive_their_owner") {
        for locked in [Locked::ArenaLast, Locked::ArenaFirst] {
            owner_ends(setup, true, locked, |ordinary, in_arena| {
                assert!(in_arena.is_inherited(), "{setup}");
                assert!(ordinary.is_inherited(), "{setup}");
            });
        }
    }
}

/// The kernel gives up at the first mutex that it cannot reach: this one, and those that were locked
/// before it, stay locked.
#[test]
fn a_robust_mutex_in_an_evicted_page_is_lost_with_those_locked_before_it() {
    const TEST: &str =
        "robust::a_robust_mutex_in_an_evicted_page_is_lost_with_those_locked_before_it";
    for setup in setups(TEST) {
        owner_ends(setup, false, Locked::ArenaLast, |ordinary, in_arena| {
            assert!(ordinary.is_orphaned(), "{setup}");
            assert!(in_arena.is_orphaned(), "{setup}");
        });
        owner_ends(setup, false, Locked::ArenaFirst, |ordinary, in_arena| {
            assert!(ordinary.is_inherited(), "{setup}");
            assert!(in_arena.is_orphaned(), "{setup}");
        });
    }
}
