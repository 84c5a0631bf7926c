//! Signals that stop the server.

use crate::server::Stop;
use mio::net::UnixStream;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::{flag, low_level};
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// The exit code after the second signal.
const AT_ONCE: i32 = 1;

/// Returns a stream that becomes readable at the first SIGINT or SIGTERM. The second one ends the
/// process. Rust's runtime ignores SIGPIPE.
pub fn on_stop() -> io::Result<UnixStream> {
    let (receiver, sender) = std::os::unix::net::UnixStream::pair()?;
    let seen = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // The order matters: the first signal sets the flag that makes the second one end the process.
        flag::register_conditional_shutdown(signal, AT_ONCE, Arc::clone(&seen))?;
        flag::register(signal, Arc::clone(&seen))?;
        low_level::pipe::register(signal, sender.try_clone()?)?;
    }
    receiver.set_nonblocking(true)?;
    Ok(UnixStream::from_std(receiver))
}

/// Stops the server if a signal has arrived.
pub fn forward_to(mut receiver: &UnixStream, stop: &Stop) {
    let mut bytes = [0; 16];
    if matches!(receiver.read(&mut bytes), Ok(1..)) {
        stop.request();
    }
}
