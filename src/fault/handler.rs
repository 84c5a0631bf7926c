//! The handler threads, which read fault messages from the descriptors.
//!
//! Each descriptor has a thread of its own, so that no two wake up for one message. To wake up a
//! sleeping thread takes nine tenths of the time of a fault. So a thread whose messages follow each other
//! closely polls for the next message before it sleeps, if that is faster ([`PollTuner`]).

use super::{Resolved, Resolver};
use crate::policy::{POLL_LIMIT, PollTuner, WaitMode};
use crate::prim::sync::{AtomicUsize, Ordering, thread};
use crate::stats::Progress;
use crate::sys::event::{self, Event, Woken};
use crate::sys::thread::JoinHandle;
use crate::sys::uapi::{UFFD_EVENT_PAGEFAULT, UffdMsg};
use crate::sys::uffd::Uffd;
use crate::sys::{self, SysError, cpu};
use std::io;
use std::sync::Arc;
use std::time::Instant;

/// Messages that a handler thread reads at a time.
const MESSAGES: usize = 16;

/// Starts the handler thread of descriptor `number`, which runs until `stop` is raised. A handler thread that
/// fails aborts the process, because no other thread would wake the threads whose faults it serves.
pub(crate) fn spawn(
    number: usize,
    resolver: Arc<Resolver>,
    stop: Arc<Event>,
    filled: impl Fn() + Send + 'static,
) -> io::Result<JoinHandle> {
    let failed = "a fault handler failed";
    sys::thread::spawn(&format!("thermo-fault{number}"), failed, move || {
        if let Err(e) = serve(&resolver, number, &stop, &filled) {
            event::abort_process(failed, &e);
        }
    })
}

fn serve(
    resolver: &Resolver,
    number: usize,
    stop: &Event,
    filled: &dyn Fn(),
) -> Result<(), SysError> {
    let uffd = &resolver.core.backing.uffds()[number];
    let progress = resolver.progress(number);
    progress.set_thread(sys::thread::id());
    let mut messages = [UffdMsg::default(); MESSAGES];
    let mut tuner = PollTuner::new();
    let processors = cpu::count();
    loop {
        let mut got = uffd.read(&mut messages)?;
        if got == 0 && tuner.mode() == WaitMode::Poll {
            got = poll(uffd, &resolver.polling, processors, &mut messages)?;
        }
        if got == 0 {
            let asleep = Instant::now();
            match event::wait_readable(uffd, stop)? {
                Woken::Raised => return Ok(()),
                Woken::Readable => {
                    let now = Instant::now();
                    tuner.woken(now.duration_since(asleep), now);
                    continue;
                }
            }
        }
        serve_batch(resolver, progress, &messages[..got], filled)?;
        tuner.served(got, Instant::now());
        progress.end();
    }
}

/// Serves messages that were read together. Of those for one page it serves the first only: that wakes all
/// threads that wait for the page. A later one would lift a protection in vain, and would restore the page
/// again if the evictor has stored it meanwhile.
pub(super) fn serve_batch(
    resolver: &Resolver,
    progress: &Progress,
    messages: &[UffdMsg],
    filled: &dyn Fn(),
) -> Result<(), SysError> {
    for (number, message) in messages.iter().enumerate() {
        if messages[..number].iter().any(|earlier| earlier.address == message.address) {
            resolver.core.counters.faults.add(1);
            continue;
        }
        serve_one(resolver, progress, message)?;
        // This may ring the evictor and wait for it. `progress` still names the page meanwhile.
        filled();
    }
    Ok(())
}

fn serve_one(resolver: &Resolver, progress: &Progress, message: &UffdMsg) -> Result<(), SysError> {
    let start = Instant::now();
    let page = match message.event {
        UFFD_EVENT_PAGEFAULT => resolver.core.backing.page_of(message.address),
        _ => None,
    };
    // The library enables no other event, and registers no range outside the arena.
    let page = page.ok_or(SysError::unknown_message())?;
    progress.begin(page);
    resolver.core.counters.faults.add(1);
    if resolver.resolve(page) == Resolved::Restored {
        resolver.count_refault(start);
    }
    Ok(())
}

/// Polls for messages for up to [`POLL_LIMIT`], and returns how many came.
///
/// At most as many threads of the arena poll at a time as there are processors. A polling thread yields its
/// processor to every other thread that can run. If there is none, it keeps the processor awake for the
/// faulting thread.
fn poll(
    uffd: &Uffd,
    polling: &AtomicUsize,
    processors: usize,
    messages: &mut [UffdMsg],
) -> Result<usize, SysError> {
    let mut got = Ok(0);
    if polling.fetch_add(1, Ordering::Relaxed) < processors {
        let start = Instant::now();
        while got == Ok(0) && start.elapsed() < POLL_LIMIT {
            thread::yield_now();
            got = uffd.read(messages);
        }
    }
    polling.fetch_sub(1, Ordering::Relaxed);
    got
}
