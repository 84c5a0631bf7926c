//! Whether this thread runs code of the library.
//!
//! The program's global allocator may be an arena. The library's own allocations must not come from it: to
//! serve a fault would need memory that faults too, and a thread that holds the heap's lock would take the
//! lock again. So allocations of a thread inside the library come from the system. A thread of the library is
//! inside for all of its life, a thread of the program during a call of the library.

use std::cell::Cell;
use std::marker::PhantomData;

thread_local! {
    // Needs neither initialisation nor destruction at run time. So it can be read before the thread's
    // first line, and in the destructors of its other locals.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

/// This thread is inside the library while the guard lives.
#[derive(Debug)]
#[must_use]
pub(crate) struct InLibraryGuard {
    // The depth belongs to the thread.
    _not_send: PhantomData<*const ()>,
}

impl InLibraryGuard {
    #[inline]
    pub(crate) fn enter() -> Self {
        DEPTH.set(DEPTH.get() + 1);
        Self { _not_send: PhantomData }
    }

    /// Enters for the rest of the thread's life, including the destructors of its locals, which run after
    /// its last line. Threads of the library call this first.
    pub(crate) fn enter_for_thread() {
        std::mem::forget(Self::enter());
    }

    /// Whether this thread is inside the library.
    #[inline]
    pub(crate) fn is_held() -> bool {
        DEPTH.get() > 0
    }
}

impl Drop for InLibraryGuard {
    #[inline]
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get() - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn a_thread_is_inside_until_it_has_dropped_every_guard() {
        assert!(!InLibraryGuard::is_held());
        let outer = InLibraryGuard::enter();
        let unwound = std::panic::catch_unwind(|| {
            let _inner = InLibraryGuard::enter();
            panic!("an inner part fails");
        });
        assert!(unwound.is_err() && InLibraryGuard::is_held());
        assert!(
            !thread::spawn(InLibraryGuard::is_held).join().unwrap(),
            "another thread is outside"
        );
        drop(outer);
        assert!(!InLibraryGuard::is_held());
    }

    #[test]
    fn enter_for_thread_holds_in_the_destructors_of_thread_locals() {
        struct AtTheEnd(std::sync::mpsc::Sender<bool>);
        impl Drop for AtTheEnd {
            fn drop(&mut self) {
                let _ = self.0.send(InLibraryGuard::is_held());
            }
        }
        thread_local!(static LOCAL: Cell<Option<AtTheEnd>> = const { Cell::new(None) });
        let (sender, holds) = std::sync::mpsc::channel();
        let own = thread::spawn(move || {
            LOCAL.set(Some(AtTheEnd(sender)));
            InLibraryGuard::enter_for_thread();
        });
        own.join().unwrap();
        assert_eq!(holds.recv(), Ok(true));
    }
}
