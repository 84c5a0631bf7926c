//! The simulated process's SIGBUS handler.

use super::Kernel;
use crate::prim::sync::thread;
use std::ops::Range;
use std::sync::Arc;

pub(crate) use crate::sys::serve::{MAX_SERVERS, RegisterError, Serve, Served};

/// The registration of a server, which lasts as long as this lives.
#[derive(Debug)]
pub(crate) struct Registration(Arc<Kernel>);

pub(crate) fn register(
    _: Range<usize>,
    serve: Arc<dyn Serve>,
) -> Result<Registration, RegisterError> {
    let kernel = Kernel::current();
    kernel.with(|state| state.server = Some(serve));
    Ok(Registration(kernel))
}

impl Drop for Registration {
    fn drop(&mut self) {
        let server = self.0.with(|state| state.server.take());
        while self.0.with(|state| state.serving) > 0 && !std::thread::panicking() {
            thread::yield_now();
        }
        drop(server);
    }
}

/// No simulated program installs a handler.
pub(crate) fn is_installed() -> bool {
    true
}
