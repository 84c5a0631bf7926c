//! The threads that serve faults from the descriptors.
//!
//! Each descriptor has a thread of its own, so that no two wake up for one message. A thread that
//! has just served a fault looks for the next one for a while before it sleeps: waking up is nine
//! tenths of a fault. For how long depends on what came of it before.

use super::{Resolved, Resolver};
use crate::prim::sync::{AtomicUsize, Ordering};
use crate::sys::event::{self, Event, Woken};
use crate::sys::signals::SignalsBlocked;
use crate::sys::uapi::{UFFD_EVENT_PAGEFAULT, UffdMsg};
use crate::sys::uffd::Uffd;
use crate::sys::{SysError, cpu};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use std::{io, thread};

/// Messages that a handler takes at a time.
const MESSAGES: usize = 16;

/// Starts the handler of the descriptor with this number, which runs until `stop` is raised. A
/// handler that cannot go on aborts the process: threads may be parked on pages that nobody else
/// would bring back.
pub(crate) fn spawn(
    number: usize,
    resolver: Arc<Resolver>,
    stop: Arc<Event>,
    filled: impl Fn() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    // The thread inherits the mask: it never runs a handler of the application's, which could
    // touch the arena and wait for us.
    let _blocked = SignalsBlocked::new();
    thread::Builder::new().name(format!("thermocline-f{number}")).spawn(move || {
        let _die = event::DieOnPanic("a fault handler failed");
        if let Err(e) = serve(&resolver, number, &stop, &filled) {
            event::die("a fault handler failed", &e);
        }
    })
}

fn serve(
    resolver: &Resolver,
    number: usize,
    stop: &Event,
    filled: &dyn Fn(),
) -> Result<(), SysError> {
    let uffd = &resolver.backing.uffds()[number];
    let mut messages = [UffdMsg::default(); MESSAGES];
    let mut patience = Patience::new(cpu::count());
    loop {
        let mut got = uffd.read(&mut messages)?;
        if got == 0 {
            got = patience.look(uffd, &mut messages)?;
        }
        if got == 0 {
            let asleep = Instant::now();
            match event::wait_readable(uffd.as_fd(), stop)? {
                Woken::Raised => return Ok(()),
                Woken::Readable => patience.woken_after(asleep.elapsed()),
            }
            continue;
        }
        for message in &messages[..got] {
            serve_one(resolver, message)?;
        }
        filled();
    }
}

fn serve_one(resolver: &Resolver, message: &UffdMsg) -> Result<(), SysError> {
    let start = Instant::now();
    let page = match message.event {
        UFFD_EVENT_PAGEFAULT => resolver.backing.page_of(message.address),
        _ => None,
    };
    // No other event was asked for, and no other range registered.
    let page = page.ok_or(SysError::unknown_message())?;
    resolver.counters.faults.add(1);
    if resolver.resolve(page) == Resolved::Restored {
        resolver.count_refault(start);
    }
    Ok(())
}

/// How long a handler looks for the next message before it sleeps.
#[derive(Debug)]
struct Patience {
    time: Duration,
    /// Handlers of the process that may look at a time: the others leave the processors to those
    /// that touch pages.
    lookers: usize,
}

/// About what it costs to go to sleep and be woken.
const LONGEST_LOOK: Duration = Duration::from_micros(50);
/// What is less is not worth it.
const SHORTEST_LOOK: Duration = Duration::from_micros(4);

/// Handlers of the process that are looking.
static LOOKING: AtomicUsize = AtomicUsize::new(0);

impl Patience {
    fn new(processors: usize) -> Self {
        Self { time: Duration::ZERO, lookers: processors / 2 }
    }

    /// Looks for messages for a while, and says how many it found.
    fn look(&mut self, uffd: &Uffd, messages: &mut [UffdMsg]) -> Result<usize, SysError> {
        if self.time < SHORTEST_LOOK {
            return Ok(0);
        }
        if LOOKING.fetch_add(1, Ordering::Relaxed) >= self.lookers {
            LOOKING.fetch_sub(1, Ordering::Relaxed);
            return Ok(0);
        }
        let start = Instant::now();
        let mut got = Ok(0);
        while got == Ok(0) && start.elapsed() < self.time {
            thread::yield_now();
            got = uffd.read(messages);
        }
        LOOKING.fetch_sub(1, Ordering::Relaxed);
        self.looked(got == Ok(0));
        got
    }

    fn looked(&mut self, in_vain: bool) {
        self.time = if in_vain { self.time / 2 } else { (self.time * 2).min(LONGEST_LOOK) };
    }

    /// Takes into account that a message came after so long a sleep.
    fn woken_after(&mut self, slept: Duration) {
        // It would have been found by looking, or nearly so.
        if slept < 2 * LONGEST_LOOK {
            self.time = LONGEST_LOOK;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_ends_when_it_does_not_pay_and_begins_anew_when_messages_come_often() {
        let mut patience = Patience::new(8);
        assert!(patience.time < SHORTEST_LOOK);
        patience.woken_after(Duration::from_secs(1));
        assert!(patience.time < SHORTEST_LOOK);
        patience.woken_after(Duration::from_micros(60));
        assert_eq!(patience.time, LONGEST_LOOK);
        (0..4).for_each(|_| patience.looked(true));
        assert!(patience.time < SHORTEST_LOOK);
        patience.woken_after(Duration::from_micros(60));
        patience.looked(true);
        patience.looked(false);
        patience.looked(false);
        assert_eq!(patience.time, LONGEST_LOOK);
    }
}
