//! The threads that serve faults from the descriptor.

use super::{Resolved, Resolver, Scratch};
use crate::sys::event::{self, Event, Woken};
use crate::sys::signals::SignalsBlocked;
use crate::sys::uapi::{UFFD_EVENT_PAGEFAULT, UffdMsg};
use crate::sys::{SysError, uffd};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;
use std::{io, thread};

/// Messages that a handler takes at a time. More would make the last wait for the first while
/// other handlers sleep.
const MESSAGES: usize = 4;

/// Starts a handler, which runs until `stop` is raised. A handler that cannot go on aborts the
/// process: threads may be parked on pages that nobody else would bring back.
pub(crate) fn spawn(
    number: usize,
    resolver: Arc<Resolver>,
    stop: Arc<Event>,
    filled: impl Fn() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    // The thread inherits the mask: it never runs a handler of the application's, which could
    // touch the arena and wait for us.
    let _blocked = SignalsBlocked::new();
    let mut scratch = Scratch::new();
    thread::Builder::new().name(format!("thermocline-f{number}")).spawn(move || {
        let _die = event::DieOnPanic("a fault handler failed");
        if let Err(e) = serve(&resolver, &stop, &mut scratch, &filled) {
            event::die("a fault handler failed", &e);
        }
    })
}

fn serve(
    resolver: &Resolver,
    stop: &Event,
    scratch: &mut Scratch,
    filled: &dyn Fn(),
) -> Result<(), SysError> {
    let uffd: &uffd::Uffd = resolver.backing.uffd();
    let mut messages = [UffdMsg::default(); MESSAGES];
    loop {
        let got = uffd.read(&mut messages)?;
        if got == 0 {
            match event::wait_readable(uffd.as_fd(), stop)? {
                Woken::Raised => return Ok(()),
                Woken::Readable => continue,
            }
        }
        for message in &messages[..got] {
            serve_one(resolver, message, scratch)?;
        }
        filled();
    }
}

fn serve_one(
    resolver: &Resolver,
    message: &UffdMsg,
    scratch: &mut Scratch,
) -> Result<(), SysError> {
    let start = Instant::now();
    let page = match message.event {
        UFFD_EVENT_PAGEFAULT => resolver.backing.page_of(message.address),
        _ => None,
    };
    // No other event was asked for, and no other range registered.
    let page = page.ok_or(SysError::unknown_message())?;
    resolver.counters.faults.add(1);
    if resolver.resolve(page, scratch) == Resolved::Restored {
        resolver.counters.refaults.add(1);
        let nanos = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        resolver.counters.refault_time.record(nanos);
    }
    Ok(())
}
