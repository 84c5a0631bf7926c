//! The fixed times of requests, and a timer that wakes a poll at the next one.

use crate::BoxError;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// A timer with nanoseconds, where a poll's own timeout counts milliseconds.
#[derive(Debug)]
pub(crate) struct Alarm(OwnedFd);

impl Alarm {
    pub(crate) fn new(registry: &Registry, token: Token) -> Result<Self, BoxError> {
        let fd = timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC,
        )?;
        registry.register(&mut SourceFd(&fd.as_raw_fd()), token, Interest::READABLE)?;
        Ok(Self(fd))
    }

    /// Sets the timer, and replaces an earlier setting.
    pub(crate) fn set(&self, after: Duration) -> Result<(), BoxError> {
        // Zero would disable the timer.
        let after = after.max(Duration::from_nanos(1));
        let value = Timespec::try_from(after).map_err(|_| "so long there is no waiting")?;
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        let once = Itimerspec { it_interval: zero, it_value: value };
        timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &once)?;
        Ok(())
    }
}

/// The equidistant times of one thread, interleaved with those of the other threads.
#[derive(Debug)]
pub(crate) struct Pace {
    /// The interval between two times of this thread.
    interval: Duration,
    first: Duration,
    pub(crate) due: Instant,
}

impl Pace {
    pub(crate) fn new(rate: f64, thread: usize, threads: usize) -> Self {
        let interval = Duration::from_secs_f64(threads as f64 / rate);
        let first = interval.mul_f64(thread as f64 / threads as f64);
        Self { interval, first, due: Instant::now() }
    }

    pub(crate) fn begin(&mut self, start: Instant) {
        self.due = start + self.first;
    }

    pub(crate) fn step(&mut self) {
        self.due += self.interval;
    }

    /// The number of times up to `now`.
    pub(crate) fn behind(&self, now: Instant) -> u64 {
        match now.checked_duration_since(self.due) {
            None => 0,
            Some(late) => (late.as_nanos() / self.interval.as_nanos().max(1)) as u64 + 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_times_of_threads_are_interleaved() {
        let start = Instant::now();
        let mut paces: Vec<Pace> = (0..4).map(|thread| Pace::new(1000.0, thread, 4)).collect();
        paces.iter_mut().for_each(|pace| pace.begin(start));
        let mut due: Vec<Duration> = Vec::new();
        for _ in 0..3 {
            for pace in &mut paces {
                due.push(pace.due - start);
                pace.step();
            }
        }
        assert!(due.iter().zip(0..).all(|(&due, n)| due == Duration::from_millis(n)), "{due:?}");
    }

    #[test]
    fn due_times_are_counted() {
        let start = Instant::now();
        let mut pace = Pace::new(1000.0, 0, 1);
        pace.begin(start);
        assert_eq!(pace.behind(start), 1);
        assert_eq!(pace.behind(start + Duration::from_micros(4500)), 5);
        pace.step();
        assert_eq!(pace.behind(start), 0);
    }
}
