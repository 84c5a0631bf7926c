//! The kernel's interfaces: userfaultfd, pagemap, mappings, signals, fork, and the probe of their presence.
//!
//! Only this module names libc. Its types report results in the kernel's own terms; its callers decide
//! what a result means for a page.

pub(crate) mod backing;
#[cfg(test)]
#[cfg(not(loom))]
mod behaviour;
pub(crate) mod bell;
mod contract;
mod dumpable;
pub(crate) mod error;
pub(crate) mod fork;
pub(crate) mod outcome;
// The only choice between the running kernel and the simulated one.
#[cfg_attr(not(thermocline_sim), path = "linux/mod.rs")]
#[cfg_attr(thermocline_sim, path = "simulated/mod.rs")]
pub(crate) mod platform;
pub(crate) mod probe;
pub(crate) mod route;
pub(crate) mod serve;
pub(crate) mod stripes;
pub(crate) mod uapi;
pub(crate) mod unload;

pub use error::SysError;
pub(crate) use platform::{
    accessed, cpu, event, futex, keeper, memory, pagemap, private, sigbus, signals, thread, uffd,
};
pub use probe::{Capability, CapabilityStatus, DescriptorRoute, Probe, probe};
