//! The library's own threads, which take turns with all others.

use super::simulated::Kernel;
use crate::prim::own::AtWork;
use crate::prim::sync::thread;
use std::io;

pub(crate) type JoinHandle<T> = thread::JoinHandle<T>;

pub(crate) fn spawn(
    name: String,
    _: &'static str,
    body: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    let kernel = Kernel::current();
    let phase = if name.starts_with("thermocline-f") { "fault" } else { "evict" };
    Ok(thread::start(name, move || {
        kernel.enter();
        Kernel::phase(phase);
        let _at_work = AtWork::enter();
        body();
    }))
}

/// They have no numbers.
pub(crate) fn id() -> u32 {
    0
}
