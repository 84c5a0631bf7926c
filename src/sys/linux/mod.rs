//! Calls to the running Linux kernel.

pub(crate) mod accessed;
pub(crate) mod cpu;
pub(crate) mod descriptor;
pub(crate) mod event;
pub(crate) mod futex;
pub(crate) mod keeper;
pub(crate) mod lazy;
pub(crate) mod memory;
pub(crate) mod pagemap;
pub(crate) mod private;
mod service_stack;
pub(crate) mod sigbus;
pub(crate) mod signals;
mod smaps;
mod stderr;
pub(crate) mod thread;
mod touch_meter;
pub(crate) mod uffd;
mod view;
