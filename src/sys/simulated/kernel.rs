//! The kernel's state, the record of calls, and the injections into them.

use super::outcomes::{Cost, Injected, outcomes};
use super::page::{Entry, Page};
use super::waiters::{Sleeper, Waiter};
use crate::prim::sync::thread::{self, Thread};
use crate::prim::sync::{Mutex, MutexGuard};
use crate::prim::{PAGE_SIZE, PageIndex, PageRange};
use crate::sys::serve::Serve;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::sync::{Arc, PoisonError};

/// A call into the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Call {
    Register,
    Unregister,
    Copy,
    Zeropage,
    Wake,
    Poison,
    WriteProtect,
    WriteUnprotect,
    ReadWriteProtect,
    ReadWriteUnprotect,
    Sync,
    Async,
    ReadMessages,
    Scan,
    Look,
    SetApart,
    ReadBytes,
    TryRead,
    MoveOut,
    MoveBack,
    Punch,
    Discard,
    DiscardStaged,
    Zap,
    MapIn,
    Lock,
    Unlock,
    Replace,
    Restore,
}

/// A call, identified by its kind and the number of earlier calls of that kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CallIndex {
    pub(crate) call: Call,
    pub(crate) nth: usize,
}

/// A call that was made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CallRecord {
    pub(crate) index: CallIndex,
    pub(crate) range: PageRange,
    /// The calling thread's operation.
    pub(crate) phase: &'static str,
    /// The schedule's step at which the call began.
    pub(crate) step: usize,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Descriptor {
    pub(crate) features: u64,
    pub(crate) is_async: bool,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) pages: Vec<Page>,
    pub(crate) descriptors: Vec<Descriptor>,
    pub(crate) waiters: Vec<Waiter>,
    pub(crate) tickets: u64,
    /// The number of threads that walk the page table, with the address space's lock held for reading.
    pub(crate) walking: usize,
    pub(crate) writers: Vec<Thread>,
    pub(crate) sleepers: Vec<Sleeper>,
    pub(crate) raised: Vec<bool>,
    pub(crate) server: Option<Arc<dyn Serve>>,
    pub(crate) serving: usize,
    /// The calls so far, and the injections still to come.
    calls: Vec<CallRecord>,
    injections: Vec<(CallIndex, Injected)>,
    injected: Vec<(Call, Injected)>,
    /// The highest cost of the injections so far.
    cost: Option<Cost>,
    /// The lines written to standard error.
    said: Vec<String>,
    /// Whether calls are recorded and injected into.
    injecting: bool,
}

/// A simulated kernel with one process, which has one arena.
pub(crate) struct Kernel(Mutex<State>);

impl fmt::Debug for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Kernel")
    }
}

thread_local! {
    static KERNEL: RefCell<Option<Arc<Kernel>>> = const { RefCell::new(None) };
    static PHASE: Cell<&'static str> = const { Cell::new("") };
}

/// The arena's first address, which no real mapping has.
pub(crate) const BASE: usize = 1 << 40;

impl Kernel {
    /// Creates a kernel for this thread and for the threads that it starts.
    pub(crate) fn boot() -> Arc<Self> {
        let kernel = Arc::new(Self(Mutex::new(State::default())));
        KERNEL.set(Some(Arc::clone(&kernel)));
        kernel
    }

    /// The kernel that this thread runs on.
    pub(crate) fn current() -> Arc<Self> {
        let current = KERNEL.try_with(|kernel| kernel.borrow().clone()).ok().flatten();
        current.unwrap_or_else(Self::boot)
    }

    /// Makes this the calling thread's kernel.
    pub(crate) fn enter(self: &Arc<Self>) {
        KERNEL.set(Some(Arc::clone(self)));
    }

    /// Sets the name of this thread's current operation.
    pub(crate) fn phase(phase: &'static str) {
        PHASE.set(phase);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `action` atomically. The schedule may run another thread before it.
    pub(crate) fn with<T>(&self, action: impl FnOnce(&mut State) -> T) -> T {
        action(&mut self.state())
    }

    /// Sleeps until `ready` returns a value. Calls it again each time the thread is unparked; `ready` must
    /// arrange for that itself.
    pub(crate) fn sleep_until<T>(&self, mut ready: impl FnMut(&mut State) -> Option<T>) -> T {
        loop {
            if let Some(value) = self.with(&mut ready) {
                return value;
            }
            thread::park();
        }
    }

    /// Records a call and returns its injection, if it has one that the call itself must apply.
    pub(crate) fn begin(&self, call: Call, range: PageRange) -> Option<Injected> {
        self.with(|state| {
            if !state.injecting {
                return None;
            }
            let nth = state.calls.iter().filter(|record| record.index.call == call).count();
            let index = CallIndex { call, nth };
            let step = thread::steps();
            state.calls.push(CallRecord { index, range, phase: PHASE.get(), step });
            let at = state.injections.iter().position(|(at, _)| *at == index)?;
            let injected = state.injections.remove(at).1;
            let costs = outcomes(call, range);
            let Some((_, cost)) = costs.into_iter().find(|(other, _)| *other == injected) else {
                // The injection does not fit this call, for example `Partial` of one page.
                return None;
            };
            state.cost = state.cost.max(Some(cost));
            // A copy failed because a page existed, and that page cannot be punched.
            let errno = |call, errno| (call, Injected::Errno(errno));
            let in_the_way = state.injected.contains(&errno(Call::Copy, libc::EEXIST))
                || state
                    .injected
                    .iter()
                    .any(|(_, injected)| matches!(injected, Injected::Stray(_)));
            if in_the_way
                && matches!(call, Call::Punch | Call::Discard)
                && matches!(injected, Injected::Errno(_))
            {
                state.cost = state.cost.max(Some(Cost::Page));
            }
            state.injected.push((call, injected));
            state.apply(injected, range)
        })
    }

    /// Walks the page table. Threads that change a mode wait meanwhile.
    pub(crate) fn walk<T>(&self, walk: impl FnOnce() -> T) -> T {
        self.with(|state| state.walking += 1);
        let result = walk();
        self.with(State::end_walk);
        result
    }

    /// Changes mappings or registrations while no thread walks the page table: with the address space's
    /// lock held for writing.
    pub(crate) fn exclusively(&self, mut change: impl FnMut(&mut State)) {
        self.sleep_until(|state| {
            if state.walking > 0 {
                state.writers.push(thread::current());
                return None;
            }
            change(state);
            Some(())
        });
    }

    /// Starts to record calls, and applies these injections to them.
    pub(crate) fn inject(&self, injections: &[(CallIndex, Injected)]) {
        self.with(|state| {
            state.injecting = true;
            state.injections = injections.to_vec();
        });
    }

    /// Stops recording and injecting.
    pub(crate) fn stop_injecting(&self) {
        self.with(|state| state.injecting = false);
    }

    /// The recorded calls.
    pub(crate) fn calls(&self) -> Vec<CallRecord> {
        self.with(|state| state.calls.clone())
    }

    /// Whether all injections took place.
    pub(crate) fn injected_all(&self) -> bool {
        self.with(|state| state.injections.is_empty())
    }

    /// The highest cost of the injections so far.
    pub(crate) fn cost(&self) -> Cost {
        self.with(|state| state.cost.unwrap_or(Cost::Nothing))
    }

    /// Whether an injection has taken place.
    pub(crate) fn has_injected(&self) -> bool {
        self.with(|state| state.cost.is_some())
    }

    pub(crate) fn report(&self, what: String) {
        self.with(|state| state.said.push(what));
    }

    pub(crate) fn said(&self) -> Vec<String> {
        self.with(|state| state.said.clone())
    }

    /// Whether the page cache has the page.
    pub(crate) fn holds(&self, page: PageIndex) -> bool {
        self.with(|state| state.pages[page.0].bytes.is_some())
    }

    /// The number of threads that wait for a page.
    pub(crate) fn waiting(&self) -> usize {
        self.with(|state| state.waiters.len())
    }
}

impl State {
    pub(crate) fn page(&mut self, page: PageIndex) -> &mut Page {
        &mut self.pages[page.0]
    }

    pub(crate) fn end_walk(&mut self) {
        self.walking -= 1;
        if self.walking == 0 {
            self.writers.drain(..).for_each(|thread| thread.unpark());
        }
    }

    /// Applies an injected event. Returns an injected result, which the call itself must apply.
    fn apply(&mut self, injected: Injected, range: PageRange) -> Option<Injected> {
        match injected {
            Injected::Stray(at) => {
                let page = &mut self.pages[range.start.0 + at];
                if page.bytes.is_none() {
                    page.bytes = Some(vec![0; PAGE_SIZE].into());
                }
                None
            }
            Injected::SwapOut => {
                for page in self.pages.iter_mut().filter(|page| !page.locked) {
                    if page.entry != Entry::Poison {
                        page.entry = page.entry.unmapped();
                    }
                }
                None
            }
            Injected::WakeAll => {
                self.wake_where(|_| true);
                None
            }
            Injected::ReferencesLost => {
                self.pages.iter_mut().for_each(|page| page.referenced = false);
                None
            }
            Injected::ReferencesAdded => {
                self.pages.iter_mut().for_each(|page| page.referenced = page.entry.is_present());
                None
            }
            Injected::Errno(_)
            | Injected::Partial(_)
            | Injected::Uncounted(_)
            | Injected::Interrupted => Some(injected),
        }
    }
}
