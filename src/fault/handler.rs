//! The threads that serve faults from the descriptors.
//!
//! Each descriptor has a thread of its own, so that no two wake up for one message. Waking up is
//! nine tenths of a fault, so one that serves faults that follow each other closely looks for the
//! next one for a while before it sleeps, where that helps ([`PollTuner`]).

use super::{Resolved, Resolver};
use crate::prim::sync::{AtomicUsize, Ordering, thread};
use crate::stats::Progress;
use crate::sys::event::{self, Event, Woken};
use crate::sys::thread::JoinHandle;
use crate::sys::uapi::{UFFD_EVENT_PAGEFAULT, UffdMsg};
use crate::sys::uffd::Uffd;
use crate::sys::{self, SysError, cpu};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

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
) -> io::Result<JoinHandle> {
    let failed = "a fault handler failed";
    sys::thread::spawn(&format!("thermocline-f{number}"), failed, move || {
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
    let uffd = &resolver.backing.uffds()[number];
    let progress = resolver.progress(number);
    progress.set_thread(sys::thread::id());
    let mut messages = [UffdMsg::default(); MESSAGES];
    let mut poll_tuner = PollTuner::new(cpu::count());
    loop {
        let mut got = uffd.read(&mut messages)?;
        if got == 0 {
            got = poll_tuner.look(uffd, &resolver.looking, &mut messages)?;
        }
        if got == 0 {
            let asleep = Instant::now();
            match event::wait_readable(uffd, stop)? {
                Woken::Raised => return Ok(()),
                Woken::Readable => {
                    let now = Instant::now();
                    poll_tuner.woken(now.duration_since(asleep), now);
                    continue;
                }
            }
        }
        for message in &messages[..got] {
            serve_one(resolver, progress, message)?;
            // A part of the page: it may ring, and wait for the evictor.
            filled();
        }
        poll_tuner.served(got, Instant::now());
        progress.end();
    }
}

fn serve_one(resolver: &Resolver, progress: &Progress, message: &UffdMsg) -> Result<(), SysError> {
    let start = Instant::now();
    let page = match message.event {
        UFFD_EVENT_PAGEFAULT => resolver.backing.page_of(message.address),
        _ => None,
    };
    // No other event was asked for, and no other range registered.
    let page = page.ok_or(SysError::unknown_message())?;
    progress.begin(page);
    resolver.counters.faults.add(1);
    if resolver.resolve(page) == Resolved::Restored {
        resolver.count_refault(start);
    }
    Ok(())
}

/// What a handler does when it has no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WaitMode {
    /// It sleeps, and has to be woken.
    Sleep,
    /// It looks for the next message for a while before it sleeps.
    Look,
}

impl WaitMode {
    const fn other(self) -> Self {
        match self {
            Self::Sleep => Self::Look,
            Self::Look => Self::Sleep,
        }
    }
}

/// Which way is the better one is found out by trying: it depends on the machine (a processor that
/// looks is not idle, and takes no time to wake; but it keeps another from being on the toucher's own
/// processor, which would be idle else and take long to wake itself), and on how many threads touch
/// pages.
#[derive(Debug)]
struct PollTuner {
    way: WaitMode,
    /// Messages since the way was chosen, and when that was.
    messages: u32,
    since: Instant,
    /// Nanoseconds from a message to the next, by way; none where that is not known.
    pace: [Option<u64>; 2],
    /// Choices until the way that seems to be the worse one is tried, and how many there are between
    /// two such tries: twice as many each time that it was the worse one indeed.
    until_try: u32,
    try_every: u32,
    /// Handlers of the arena that may look at a time. One that looks leaves its processor to
    /// whoever wants it, and keeps it awake for the toucher, who will.
    lookers: usize,
}

/// How long to look at most: about what it costs to go to sleep and be woken.
const LOOK: Duration = Duration::from_micros(50);
/// Messages after which the way is chosen anew.
const TURN: u32 = 128;
/// One in so many choices is for the way that seems to be the worse one, at first and at last.
const TRY_OFTEN: u32 = 8;
const TRY_SELDOM: u32 = 1 << 12;
/// Nobody is to look for what comes more seldom: nanoseconds.
const RARE: u64 = 200_000;

impl PollTuner {
    fn new(processors: usize) -> Self {
        Self {
            way: WaitMode::Sleep,
            messages: 0,
            since: Instant::now(),
            pace: [None; 2],
            until_try: TRY_OFTEN,
            try_every: TRY_OFTEN,
            lookers: processors,
        }
    }

    /// Looks for messages, if that is the way, and says how many it found.
    fn look(
        &self,
        uffd: &Uffd,
        looking: &AtomicUsize,
        messages: &mut [UffdMsg],
    ) -> Result<usize, SysError> {
        if self.way == WaitMode::Sleep {
            return Ok(0);
        }
        let mut got = Ok(0);
        if looking.fetch_add(1, Ordering::Relaxed) < self.lookers {
            let start = Instant::now();
            while got == Ok(0) && start.elapsed() < LOOK {
                thread::yield_now();
                got = uffd.read(messages);
            }
        }
        looking.fetch_sub(1, Ordering::Relaxed);
        got
    }

    /// Takes into account that so many messages came by `now`.
    fn served(&mut self, messages: usize, now: Instant) {
        self.messages += u32::try_from(messages).unwrap_or(TURN);
        if self.messages >= TURN {
            let nanos = now.duration_since(self.since).as_nanos();
            let pace = u64::try_from(nanos).unwrap_or(u64::MAX) / u64::from(self.messages);
            (self.messages, self.since) = (0, now);
            self.choose(pace);
        }
    }

    /// Takes into account that the handler was woken by `now`, having slept so long.
    fn woken(&mut self, slept: Duration, now: Instant) {
        if slept <= Duration::from_nanos(RARE) {
            return;
        }
        // Nobody touched anything for a while, which tells nothing of a pace; but it may be that
        // looking keeps the toucher off the processor, so that is taken for slow.
        (self.messages, self.since) = (0, now);
        if self.way == WaitMode::Look {
            self.choose(2 * RARE);
        }
    }

    /// Chooses a way, the one before having come to `pace`.
    fn choose(&mut self, pace: u64) {
        let known = &mut self.pace[self.way as usize];
        *known = Some(known.map_or(pace, |before| (before * 3).saturating_add(pace) / 4));
        let better = match self.pace {
            // Nobody looks for what comes seldom.
            [Some(sleep), _] if sleep > RARE => WaitMode::Sleep,
            [Some(sleep), Some(look)] if look >= sleep => WaitMode::Sleep,
            [Some(_), _] => WaitMode::Look,
            [None, _] => WaitMode::Sleep,
        };
        if self.way == better {
            self.until_try = self.until_try.saturating_sub(1);
        } else {
            // It was tried, and is the worse one.
            self.try_every = (self.try_every * 2).min(TRY_SELDOM);
            self.until_try = self.try_every;
        }
        let tries = self.until_try == 0 && self.pace[WaitMode::Sleep as usize] <= Some(RARE);
        if tries {
            self.until_try = self.try_every;
        }
        self.way = if tries { better.other() } else { better };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of ten thousand choices are for looking.
    fn looks(sleep: u64, look: u64) -> usize {
        let mut poll_tuner = PollTuner::new(8);
        let mut looks = 0;
        for _ in 0..10_000 {
            poll_tuner.choose(if poll_tuner.way == WaitMode::Look { look } else { sleep });
            looks += usize::from(poll_tuner.way == WaitMode::Look);
        }
        looks
    }

    #[test]
    fn the_way_that_is_better_is_found_and_kept() {
        assert!(looks(10_000, 5_000) > 9_900);
        let tries = looks(5_000, 10_000);
        assert!((3..50).contains(&tries), "{tries}: tried again, and ever more seldom");
        assert!(looks(5_000, RARE * 10) < 50, "a way that is far worse is not forgotten to be so");
        assert_eq!(looks(RARE + 1, 1), 0, "nobody looks for what comes seldom");
    }

    #[test]
    fn what_has_become_better_is_found_out() {
        let mut poll_tuner = PollTuner::new(8);
        (0..1000).for_each(|_| {
            poll_tuner.choose(if poll_tuner.way == WaitMode::Look { 9_000 } else { 5_000 })
        });
        for _ in 0..20_000 {
            poll_tuner.choose(if poll_tuner.way == WaitMode::Look { 1_000 } else { 5_000 });
        }
        assert_eq!(poll_tuner.way, WaitMode::Look);
    }

    #[test]
    fn a_long_sleep_is_no_pace_and_ends_a_look() {
        let mut poll_tuner = PollTuner::new(8);
        poll_tuner.choose(1_000);
        assert_eq!(poll_tuner.way, WaitMode::Look);
        let start = poll_tuner.since;
        poll_tuner.woken(Duration::from_nanos(RARE), start);
        assert_eq!(poll_tuner.way, WaitMode::Look);
        poll_tuner.woken(Duration::from_secs(1), start);
        assert_eq!(
            (poll_tuner.way, poll_tuner.pace),
            (WaitMode::Sleep, [Some(1_000), Some(2 * RARE)])
        );
        poll_tuner.served(TURN as usize - 1, start);
        poll_tuner.woken(Duration::from_secs(1), start + Duration::from_secs(1));
        poll_tuner.served(TURN as usize, start + Duration::from_secs(1));
        assert_eq!(poll_tuner.pace[0], Some(750), "only what came after the sleep");
    }

    #[test]
    fn the_pace_is_time_by_messages() {
        let mut poll_tuner = PollTuner::new(8);
        let start = poll_tuner.since;
        poll_tuner.served(TURN as usize - 1, start + Duration::from_millis(1));
        assert_eq!(poll_tuner.pace, [None; 2]);
        poll_tuner.served(1, start + Duration::from_micros(u64::from(TURN) * 7));
        assert_eq!(poll_tuner.pace[WaitMode::Sleep as usize], Some(7000));
    }
}
