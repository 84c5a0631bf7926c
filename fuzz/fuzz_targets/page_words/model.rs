//! A model of a page word, in plain numbers.

use crate::prim::Tick;
use crate::table::{State, Word};

/// Ticks are counted modulo this.
const TURN: u32 = 1 << Tick::BITS;
const FIRST_PAUSE: u32 = 8;
const MOST_FAILURES: u32 = 10;

/// The expected contents of a page word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) state: State,
    pub(crate) waiting: bool,
    pub(crate) in_batch: bool,
    tick: u32,
    failures: u32,
    retry: u32,
    /// Zero if the word has no handle.
    handle: u64,
}

/// The counter of the table that includes a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counted {
    Nowhere,
    InMemory,
    Stored,
    Lost,
}

impl Page {
    pub(crate) const EMPTY: Self = Self {
        state: State::Empty,
        waiting: false,
        in_batch: false,
        tick: 0,
        failures: 0,
        retry: 0,
        handle: 0,
    };

    pub(crate) const LOST: Self = Self { state: State::Lost, ..Self::EMPTY };

    pub(crate) fn resident(now: u32) -> Self {
        Self { state: State::Resident, tick: now, ..Self::EMPTY }
    }

    /// The page in another state, without waiters.
    pub(crate) fn to(self, state: State) -> Self {
        Self { state, waiting: false, ..self }
    }

    pub(crate) fn waited_for(self) -> Self {
        Self { waiting: true, ..self }
    }

    pub(crate) fn in_batch(self, in_batch: bool) -> Self {
        Self { in_batch, ..self }
    }

    pub(crate) fn dropping(self, handle: u64) -> Self {
        Self { state: State::Dropping, tick: self.tick, handle, ..Self::EMPTY }
    }

    pub(crate) fn touched(self, now: u32) -> Self {
        Self { tick: now, ..self }
    }

    pub(crate) fn failed(self, now: u32) -> Self {
        Self {
            retry: (now + (FIRST_PAUSE << self.failures)) % TURN,
            failures: MOST_FAILURES.min(self.failures + 1),
            ..self
        }
    }

    fn is_backing_off(self, now: u32) -> bool {
        let ahead = (self.retry + TURN - now) % TURN;
        self.failures > 0 && (1..=FIRST_PAUSE << MOST_FAILURES).contains(&ahead)
    }

    /// Asserts that `word` says the same at `now`.
    pub(crate) fn assert_is(self, word: Word, now: u32) {
        let found = (word.state(), word.waiting(), word.tick().raw());
        assert_eq!(found, (self.state, self.waiting, self.tick), "{word:?}, {self:?}");
        match self.state {
            State::Resident | State::Claimed => {
                let found = (word.is_in_batch(), word.failures());
                assert_eq!(found, (self.in_batch, self.failures), "{word:?}, {self:?}");
                let backing_off = word.is_backing_off(Tick::new(now.into()));
                assert_eq!(backing_off, self.is_backing_off(now), "{word:?}, {self:?}");
            }
            State::Dropping | State::Stored => assert_eq!(word.handle().raw(), self.handle),
            State::Filling if self.handle != 0 => assert_eq!(word.handle().raw(), self.handle),
            State::Filling => assert_eq!(word.failures(), self.failures),
            State::Empty => assert_eq!(word, Word::EMPTY),
            State::Lost => assert_eq!(word, Word::lost()),
        }
    }
}

/// The time `ticks` later.
pub(crate) fn later(now: u32, ticks: u32) -> u32 {
    (now + ticks) % TURN
}
