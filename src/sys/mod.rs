//! The kernel: userfaultfd, pagemap, mappings, signals, fork, and what can be known beforehand.
//!
//! The only room that names libc. Its types say what happened in the kernel's own terms; what an
//! outcome means for a page is decided above.

pub(crate) mod backing;
pub(crate) mod cpu;
pub(crate) mod error;
pub(crate) mod event;
pub(crate) mod fork;
pub(crate) mod futex;
pub(crate) mod memory;
pub(crate) mod pagemap;
pub(crate) mod probe;
pub(crate) mod sigbus;
pub(crate) mod signals;
pub(crate) mod stripes;
pub(crate) mod thread;
pub(crate) mod uapi;
pub(crate) mod uffd;

pub use error::SysError;
pub use probe::{Capability, CapabilityStatus, DescriptorRoute, Probe, probe};
