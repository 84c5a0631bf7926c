//! There are no signals that could be blocked.

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
