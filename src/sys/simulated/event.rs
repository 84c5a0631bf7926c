//! Simulated events, reports, and the end of a simulated process.

use super::Kernel;
use super::uffd::Uffd;
use super::waiters::{Sleeper, WakeSource};
use crate::prim::sync::thread;
use crate::sys::error::SysError;
use core::fmt;
use std::sync::Arc;

/// An event. Once raised, it stays raised.
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
            state.wake_sleepers(WakeSource::Event(self.number));
        });
    }
}

/// Why a wait for a descriptor ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Woken {
    Readable,
    Raised,
}

/// Sleeps until a message arrives or `event` is raised. Reports the event if both are true.
pub(crate) fn wait_readable(uffd: &Uffd, event: &Event) -> Result<Woken, SysError> {
    Ok(uffd.kernel.sleep_until(|state| {
        if state.raised[event.number] {
            return Some(Woken::Raised);
        }
        if state.has_message(uffd.number) {
            return Some(Woken::Readable);
        }
        for on in [WakeSource::Event(event.number), WakeSource::Messages(uffd.number)] {
            let ticket = state.ticket();
            state.sleepers.push(Sleeper { on, ticket, thread: thread::current() });
        }
        None
    }))
}

/// Records a line for standard error.
pub(crate) fn report(text: fmt::Arguments<'_>) {
    Kernel::current().report(text.to_string());
}

/// Ends the run.
pub(crate) fn abort_process(failed: &str, reason: &dyn fmt::Display) -> ! {
    thread::abort(format!("{failed}: {reason:#}"))
}
