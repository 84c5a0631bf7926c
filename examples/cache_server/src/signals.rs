//! Signals that end the server.

use crate::server::Stop;
use mio::net::UnixStream;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::{flag, low_level};
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// How the process ends at the second signal.
const AT_ONCE: i32 = 1;

/// Makes readable when the first SIGINT or SIGTERM comes; the second ends the process. SIGPIPE is
/// ignored already: Rust's runtime sees to it.
pub fn on_stop() -> io::Result<UnixStream> {
    let (receiver, sender) = std::os::unix::net::UnixStream::pair()?;
    let seen = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // In this order: the first signal only sets the flag that the second finds set.
        flag::register_conditional_shutdown(signal, AT_ONCE, Arc::clone(&seen))?;
        flag::register(signal, Arc::clone(&seen))?;
        low_level::pipe::register(signal, sender.try_clone()?)?;
    }
    receiver.set_nonblocking(true)?;
    Ok(UnixStream::from_std(receiver))
}

/// Passes on a signal that has come.
pub fn pass_on(mut receiver: &UnixStream, stop: &Stop) {
    let mut bytes = [0; 16];
    if matches!(receiver.read(&mut bytes), Ok(1..)) {
        stop.ask();
    }
}
