//! The kernel: userfaultfd, pagemap, mappings, signals, fork, and what can be known beforehand.
//!
//! The only room that names libc. Its types say what happened in the kernel's own terms; what an
//! outcome means for a page is decided above.

pub(crate) mod backing;
#[cfg(test)]
#[cfg(not(loom))]
mod behaviour;
pub(crate) mod bell;
#[cfg_attr(thermocline_sim, path = "simulated/cpu.rs")]
pub(crate) mod cpu;
#[cfg_attr(thermocline_sim, path = "simulated/unclosable.rs")]
pub(crate) mod descriptor;
mod dumpable;
pub(crate) mod error;
#[cfg_attr(thermocline_sim, path = "simulated/event.rs")]
pub(crate) mod event;
pub(crate) mod fork;
#[cfg_attr(thermocline_sim, path = "simulated/futex.rs")]
pub(crate) mod futex;
#[cfg_attr(thermocline_sim, path = "simulated/keeper.rs")]
pub(crate) mod keeper;
#[cfg_attr(loom, path = "simulated/lazy.rs")]
pub(crate) mod lazy;
#[cfg_attr(thermocline_sim, path = "simulated/memory.rs")]
pub(crate) mod memory;
pub(crate) mod outcome;
#[cfg_attr(thermocline_sim, path = "simulated/pagemap.rs")]
pub(crate) mod pagemap;
pub(crate) mod probe;
pub(crate) mod residence;
pub(crate) mod route;
pub(crate) mod serve;
#[cfg(not(thermocline_sim))]
mod service_stack;
#[cfg_attr(thermocline_sim, path = "simulated/sigbus.rs")]
pub(crate) mod sigbus;
#[cfg_attr(thermocline_sim, path = "simulated/signals.rs")]
pub(crate) mod signals;
#[cfg(thermocline_sim)]
pub(crate) mod simulated;
#[cfg(not(thermocline_sim))]
mod stderr;
pub(crate) mod stripes;
#[cfg_attr(thermocline_sim, path = "simulated/thread.rs")]
pub(crate) mod thread;
pub(crate) mod uapi;
#[cfg_attr(thermocline_sim, path = "simulated/uffd.rs")]
pub(crate) mod uffd;

pub use error::SysError;
pub use probe::{Capability, CapabilityStatus, DescriptorRoute, Probe, probe};
