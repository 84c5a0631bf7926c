//! Whether a handler thread polls for its next message, or sleeps until the kernel wakes it.

use std::time::{Duration, Instant};

/// How a handler thread waits for a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WaitMode {
    /// It sleeps, and the kernel wakes it.
    Sleep,
    /// It polls for up to [`POLL_LIMIT`], then it sleeps.
    Poll,
}

impl WaitMode {
    const fn other(self) -> Self {
        match self {
            Self::Sleep => Self::Poll,
            Self::Poll => Self::Sleep,
        }
    }
}

/// The longest poll: about the time that it takes to go to sleep and to be woken.
pub(crate) const POLL_LIMIT: Duration = Duration::from_micros(50);
/// Messages after which the tuner chooses anew.
const TURN: u32 = 128;
/// The tuner tries the slower mode once in this many choices, at first and at last.
const TRY_OFTEN: u32 = 8;
const TRY_SELDOM: u32 = 1 << 12;
/// Nanoseconds between messages above which polling does not pay.
const RARE: u64 = 200_000;

/// Finds the faster wait mode by trying both.
///
/// The faster mode depends on the machine and on how many threads fault. A processor on which a thread polls is
/// not idle, so it needs no time to wake up. But the polling thread keeps other threads off that processor, and
/// the faulting thread may have to wake up an idle processor.
#[derive(Debug)]
pub(crate) struct PollTuner {
    mode: WaitMode,
    /// Messages since the last choice, and the time of that choice.
    messages: u32,
    since: Instant,
    /// Nanoseconds from a message to the next, by mode. None if the mode was never tried.
    pace: [Option<u64>; 2],
    /// Choices until the tuner tries the slower mode, and the choices between two such tries. They double
    /// each time that the mode proves to be the slower one.
    until_try: u32,
    try_every: u32,
}

impl PollTuner {
    pub(crate) fn new() -> Self {
        Self {
            mode: WaitMode::Sleep,
            messages: 0,
            since: Instant::now(),
            pace: [None; 2],
            until_try: TRY_OFTEN,
            try_every: TRY_OFTEN,
        }
    }

    /// How to wait for the next message.
    pub(crate) fn mode(&self) -> WaitMode {
        self.mode
    }

    /// Notes that the handler thread had served `messages` more by `now`.
    pub(crate) fn served(&mut self, messages: usize, now: Instant) {
        self.messages += u32::try_from(messages).unwrap_or(TURN);
        if self.messages >= TURN {
            let nanos = now.duration_since(self.since).as_nanos();
            let pace = u64::try_from(nanos).unwrap_or(u64::MAX) / u64::from(self.messages);
            (self.messages, self.since) = (0, now);
            self.choose(pace);
        }
    }

    /// Notes that the kernel woke the handler thread at `now`, after `slept`.
    pub(crate) fn woken(&mut self, slept: Duration, now: Instant) {
        if slept <= Duration::from_nanos(RARE) {
            return;
        }
        // A pause of the program says nothing about the pace. But polling may have kept the faulting threads
        // off the processor, so a long sleep counts as a slow pace of polling.
        (self.messages, self.since) = (0, now);
        if self.mode == WaitMode::Poll {
            self.choose(2 * RARE);
        }
    }

    /// Chooses a mode. `pace` is that of the mode until now.
    fn choose(&mut self, pace: u64) {
        let known = &mut self.pace[self.mode as usize];
        *known = Some(known.map_or(pace, |before| (before * 3).saturating_add(pace) / 4));
        let better = match self.pace {
            [Some(sleep), _] if sleep > RARE => WaitMode::Sleep,
            [Some(sleep), Some(poll)] if poll >= sleep => WaitMode::Sleep,
            [Some(_), _] => WaitMode::Poll,
            [None, _] => WaitMode::Sleep,
        };
        if self.mode == better {
            self.until_try = self.until_try.saturating_sub(1);
        } else {
            // This was a try, and the mode is the slower one.
            self.try_every = (self.try_every * 2).min(TRY_SELDOM);
            self.until_try = self.try_every;
        }
        let tries = self.until_try == 0 && self.pace[WaitMode::Sleep as usize] <= Some(RARE);
        if tries {
            self.until_try = self.try_every;
        }
        self.mode = if tries { better.other() } else { better };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of ten thousand choices are polling, with these paces.
    fn polls(sleep: u64, poll: u64) -> usize {
        let mut tuner = PollTuner::new();
        let mut polls = 0;
        for _ in 0..10_000 {
            tuner.choose(if tuner.mode == WaitMode::Poll { poll } else { sleep });
            polls += usize::from(tuner.mode == WaitMode::Poll);
        }
        polls
    }

    #[test]
    fn the_tuner_finds_the_faster_mode_and_keeps_it() {
        assert!(polls(10_000, 5_000) > 9_900);
        let tries = polls(5_000, 10_000);
        assert!((3..50).contains(&tries), "{tries} tries of the slower mode, ever more seldom");
        assert!(polls(5_000, RARE * 10) < 50, "the tuner remembers a mode that is far slower");
        assert_eq!(polls(RARE + 1, 1), 0, "polling does not pay for rare messages");
    }

    #[test]
    fn the_tuner_finds_out_when_polling_has_become_faster() {
        let mut tuner = PollTuner::new();
        let pace =
            |tuner: &PollTuner, poll| if tuner.mode == WaitMode::Poll { poll } else { 5_000 };
        (0..1000).for_each(|_| tuner.choose(pace(&tuner, 9_000)));
        (0..20_000).for_each(|_| tuner.choose(pace(&tuner, 1_000)));
        assert_eq!(tuner.mode, WaitMode::Poll);
    }

    #[test]
    fn a_long_sleep_says_nothing_about_the_pace_and_ends_polling() {
        let mut tuner = PollTuner::new();
        tuner.choose(1_000);
        assert_eq!(tuner.mode, WaitMode::Poll);
        let start = tuner.since;
        tuner.woken(Duration::from_nanos(RARE), start);
        assert_eq!(tuner.mode, WaitMode::Poll);
        tuner.woken(Duration::from_secs(1), start);
        assert_eq!((tuner.mode, tuner.pace), (WaitMode::Sleep, [Some(1_000), Some(2 * RARE)]));
        tuner.served(TURN as usize - 1, start);
        tuner.woken(Duration::from_secs(1), start + Duration::from_secs(1));
        tuner.served(TURN as usize, start + Duration::from_secs(1));
        assert_eq!(tuner.pace[0], Some(750), "the pace is that of the messages after the sleep");
    }

    #[test]
    fn the_pace_is_time_by_messages() {
        let mut tuner = PollTuner::new();
        let start = tuner.since;
        tuner.served(TURN as usize - 1, start + Duration::from_millis(1));
        assert_eq!(tuner.pace, [None; 2]);
        tuner.served(1, start + Duration::from_micros(u64::from(TURN) * 7));
        assert_eq!(tuner.pace[WaitMode::Sleep as usize], Some(7000));
    }
}
