//! Signals are not simulated, so blocking them does nothing.

/// Does nothing.
#[derive(Debug)]
pub(crate) struct SignalsBlocked(());

impl SignalsBlocked {
    pub(crate) fn new() -> Self {
        Self(())
    }
}

impl Drop for SignalsBlocked {
    fn drop(&mut self) {}
}
