//! The library's own threads, which the schedule runs one at a time.

use super::Kernel;
use crate::prim::in_library::InLibraryGuard;
use crate::prim::sync::thread;
use std::io;
use std::time::Duration;

#[derive(Debug)]
pub(crate) struct JoinHandle(thread::JoinHandle<()>);

impl JoinHandle {
    pub(crate) fn join(self) -> io::Result<()> {
        self.0.join().map_err(|_| io::Error::other("a simulated thread panicked"))
    }
}

pub(crate) fn spawn(
    name: &str,
    _: &'static str,
    body: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle> {
    let kernel = Kernel::current();
    let phase = if name.starts_with("thermo-fault") { "fault" } else { "evict" };
    Ok(JoinHandle(thread::start(name.to_owned(), move || {
        kernel.enter();
        Kernel::phase(phase);
        let _in_library = InLibraryGuard::enter();
        body();
    })))
}

/// Simulated threads have no clock.
pub(crate) fn cpu_time() -> Duration {
    Duration::ZERO
}

/// Simulated threads have no ids.
pub(crate) fn id() -> u32 {
    0
}
