//! Simulated events, and the end of a simulated process.

use super::Kernel;
use super::uffd::Uffd;
use super::waiters::{On, Sleeper};
use crate::prim::sync::thread;
use crate::sys::error::SysError;
use core::fmt;
use std::sync::Arc;

/// Raised, it stays so until it is lowered.
#[derive(Debug)]
pub(crate) struct Event {
    kernel: Arc<Kernel>,
    number: usize,
}

impl Event {
    pub(crate) fn new() -> Result<Self, SysError> {
        let kernel = Kernel::current();
        let number = kernel.with(|state| {
            state.raised.push(false);
            state.raised.len() - 1
        });
        Ok(Self { kernel, number })
    }

    pub(crate) fn raise(&self) {
        self.kernel.with(|state| {
            state.raised[self.number] = true;
            state.wake_sleepers(On::Event(self.number));
        });
    }
}

/// What a wait for a descriptor ended with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Woken {
    Readable,
    Raised,
}

/// Sleeps until there is a message or `event` is raised, the event first.
pub(crate) fn wait_readable(uffd: &Uffd, event: &Event) -> Result<Woken, SysError> {
    Ok(uffd.kernel.sleep_until(|state| {
        if state.raised[event.number] {
            return Some(Woken::Raised);
        }
        if state.has_message(uffd.number) {
            return Some(Woken::Readable);
        }
        for on in [On::Event(event.number), On::Messages(uffd.number)] {
            let ticket = state.ticket();
            state.sleepers.push(Sleeper { on, ticket, thread: thread::current() });
        }
        None
    }))
}

/// Notes what would be written to standard error.
pub(crate) fn report(what: fmt::Arguments<'_>) {
    Kernel::current().report(what.to_string());
}

/// Ends the run.
pub(crate) fn abort_process(what: &str, why: &dyn fmt::Display) -> ! {
    thread::abort(format!("{what}: {why:#}"))
}
