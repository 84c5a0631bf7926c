//! Whether this thread is at work for the library.
//!
//! An arena may be what the process allocates from. Nothing of the library may come from there: a fault
//! would need, to be served, what lies behind a fault; and the heap's lock would be taken by who has
//! it. So threads of the library are at work for all of their life, and a thread of the program while
//! it is inside the library; and what a thread allocates while it is at work comes from the system.

use std::cell::Cell;
use std::marker::PhantomData;

thread_local! {
    // Neither initialised nor destroyed at run time, so that it can be asked at any moment of a
    // thread's life: before the thread's first line, and in destructors of its other locals.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

/// This thread is at work for the library while this lives.
#[derive(Debug)]
#[must_use]
pub(crate) struct InLibraryGuard {
    // The depth is the thread's own.
    _not_send: PhantomData<*const ()>,
}

impl InLibraryGuard {
    #[inline]
    pub(crate) fn enter() -> Self {
        DEPTH.set(DEPTH.get() + 1);
        Self { _not_send: PhantomData }
    }

    /// What the library's own threads do first. It holds in the destructors of the thread's locals,
    /// which run after its last line.
    pub(crate) fn enter_for_thread() {
        std::mem::forget(Self::enter());
    }

    /// Whether this thread is.
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
    fn a_thread_is_at_work_until_it_has_left_as_often_as_it_has_entered() {
        assert!(!InLibraryGuard::is_held());
        let outer = InLibraryGuard::enter();
        let unwound = std::panic::catch_unwind(|| {
            let _inner = InLibraryGuard::enter();
            panic!("an inner part fails");
        });
        assert!(unwound.is_err() && InLibraryGuard::is_held());
        assert!(!thread::spawn(InLibraryGuard::is_held).join().unwrap(), "others are not");
        drop(outer);
        assert!(!InLibraryGuard::is_held());
    }

    #[test]
    fn who_is_at_work_for_ever_is_so_in_the_destructors_of_its_locals() {
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
