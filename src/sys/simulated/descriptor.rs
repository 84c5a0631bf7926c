//! Simulated descriptors have numbers of their own, which no program closes.

/// A descriptor of the simulated kernel.
#[derive(Debug)]
pub(crate) struct Descriptor;
