//! The kernel's state, and how calls and injections get to it.

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
    ReadBytes,
    TryRead,
    Punch,
    Zap,
    MapIn,
    Lock,
    Unlock,
    Replace,
    Restore,
}

/// A call among all of its kind: so many were made before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chance {
    pub(crate) call: Call,
    pub(crate) before: usize,
}

/// A call that was made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Made {
    pub(crate) chance: Chance,
    pub(crate) range: PageRange,
    /// What the thread was doing.
    pub(crate) phase: &'static str,
    /// At which step.
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
    /// Threads on their way through the page table: they hold the address space's lock for reading.
    pub(crate) walking: usize,
    pub(crate) writers: Vec<Thread>,
    pub(crate) sleepers: Vec<Sleeper>,
    pub(crate) raised: Vec<bool>,
    pub(crate) server: Option<Arc<dyn Serve>>,
    pub(crate) serving: usize,
    /// Calls made so far, by number, and what is to become of some.
    made: Vec<Made>,
    injections: Vec<(Chance, Injected)>,
    befallen: Vec<(Call, Injected)>,
    /// What the injections so far may have cost.
    cost: Option<Cost>,
    /// What was said on standard error.
    said: Vec<String>,
    /// Not before this call is anything injected or noted.
    armed: bool,
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

/// Where the arena begins: an address that nothing has.
pub(crate) const BASE: usize = 1 << 40;

impl Kernel {
    /// A new kernel for this thread, and for those that it starts.
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

    /// Runs this thread on it too.
    pub(crate) fn enter(self: &Arc<Self>) {
        KERNEL.set(Some(Arc::clone(self)));
    }

    /// Notes what this thread is doing from here on.
    pub(crate) fn phase(phase: &'static str) {
        PHASE.set(phase);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something all at once. Another thread may go on before it.
    pub(crate) fn with<T>(&self, what: impl FnOnce(&mut State) -> T) -> T {
        what(&mut self.state())
    }

    /// Sleeps until `what` has an answer. It is asked again whenever the thread is unparked, and has to
    /// see to that itself.
    pub(crate) fn sleep_until<T>(&self, mut what: impl FnMut(&mut State) -> Option<T>) -> T {
        loop {
            if let Some(answer) = self.with(&mut what) {
                return answer;
            }
            thread::park();
        }
    }

    /// Begins a call, and says what is to become of it if that was decided before.
    pub(crate) fn begin(&self, call: Call, range: PageRange) -> Option<Injected> {
        self.with(|state| {
            if !state.armed {
                return None;
            }
            let before = state.made.iter().filter(|made| made.chance.call == call).count();
            let chance = Chance { call, before };
            let step = thread::steps();
            state.made.push(Made { chance, range, phase: PHASE.get(), step });
            let at = state.injections.iter().position(|(at, _)| *at == chance)?;
            let injected = state.injections.remove(at).1;
            let costs = outcomes(call, range);
            let Some((_, cost)) = costs.into_iter().find(|(other, _)| *other == injected) else {
                // There is no such thing here, as a part of one page.
                return None;
            };
            state.cost = state.cost.max(Some(cost));
            // A page in the way of another that cannot be taken out of it.
            let errno = |call, errno| (call, Injected::Errno(errno));
            let in_the_way = state.befallen.contains(&errno(Call::Copy, libc::EEXIST));
            if in_the_way && call == Call::Punch && matches!(injected, Injected::Errno(_)) {
                state.cost = state.cost.max(Some(Cost::Page));
            }
            state.befallen.push((call, injected));
            state.befall(injected, range)
        })
    }

    /// Walks through the page table, which holds off who wants to change a mode.
    pub(crate) fn walk<T>(&self, walk: impl FnOnce() -> T) -> T {
        self.with(|state| state.walking += 1);
        let result = walk();
        self.with(State::end_walk);
        result
    }

    /// Changes what is mapped or registered, with nobody on the way through the page table: under the
    /// address space's lock for writing.
    pub(crate) fn exclusively(&self, mut what: impl FnMut(&mut State)) {
        self.sleep_until(|state| {
            if state.walking > 0 {
                state.writers.push(thread::current());
                return None;
            }
            what(state);
            Some(())
        });
    }

    /// From here on calls are noted, and these befall them.
    pub(crate) fn inject(&self, injections: &[(Chance, Injected)]) {
        self.with(|state| {
            state.armed = true;
            state.injections = injections.to_vec();
        });
    }

    /// From here on nothing happens that was not asked for.
    pub(crate) fn be_quiet(&self) {
        self.with(|state| state.armed = false);
    }

    /// The calls that were noted.
    pub(crate) fn made(&self) -> Vec<Made> {
        self.with(|state| state.made.clone())
    }

    /// Whether all injections took place.
    pub(crate) fn injected_all(&self) -> bool {
        self.with(|state| state.injections.is_empty())
    }

    /// What the injections so far may have cost at most.
    pub(crate) fn cost(&self) -> Cost {
        self.with(|state| state.cost.unwrap_or(Cost::Nothing))
    }

    /// Whether anything was injected yet.
    pub(crate) fn has_injected(&self) -> bool {
        self.with(|state| state.cost.is_some())
    }

    pub(crate) fn report(&self, what: String) {
        self.with(|state| state.said.push(what));
    }

    pub(crate) fn said(&self) -> Vec<String> {
        self.with(|state| state.said.clone())
    }

    /// Whether the page holds memory.
    pub(crate) fn holds(&self, page: PageIndex) -> bool {
        self.with(|state| state.pages[page.0].bytes.is_some())
    }

    /// Threads that wait for a page.
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

    /// Does what is to happen at this moment, and gives back what the call itself has to see to.
    fn befall(&mut self, injected: Injected, range: PageRange) -> Option<Injected> {
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
            Injected::Errno(_) | Injected::Partial(_) => Some(injected),
        }
    }
}
