//! Simulated descriptors have numbers of their own, which nothing closes.

/// Stands for a descriptor of the simulated kernel.
#[derive(Debug)]
pub(crate) struct Descriptor;
