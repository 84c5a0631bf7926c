//! The simulated keeper. No program closes simulated descriptors, so every thread can use them.

use super::descriptor::Descriptor;
use super::event::Event;
use crate::sys::error::SysError;
use std::sync::Arc;

#[derive(Debug)]
pub(crate) struct Keeper {
    interrupt: Arc<Event>,
}

impl Keeper {
    pub(crate) fn start(_: &[&Descriptor]) -> Result<Self, SysError> {
        Ok(Self { interrupt: Arc::new(Event::new()?) })
    }

    pub(crate) fn has_own_table(&self) -> bool {
        true
    }

    pub(crate) fn interrupt(&self) -> Arc<Event> {
        Arc::clone(&self.interrupt)
    }

    pub(crate) fn raise_interrupt(&self) {
        self.interrupt.raise();
    }

    pub(crate) fn call<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        work()
    }
}
