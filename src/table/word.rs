//! The word of a page.

use crate::prim::pack::Field;
use crate::prim::{Handle, Tick};
use core::fmt;

/// Where a page's bytes are, and who may change that.
///
/// | state      | where the bytes are       | a fault on it means                    | who leaves it                          |
/// |------------|---------------------------|----------------------------------------|----------------------------------------|
/// | `Empty`    | nowhere: never written, or freed | fill it with zeros              | a fault, or the allocator populating   |
/// | `Resident` | in memory                 | own it, lift the protection            | a fault, release; the evictor by claiming |
/// | `Claimed`  | in memory, being compressed | the same: the evictor finds its claim gone | evictor or fault, whoever's compare-and-swap wins |
/// | `Dropping` | in the store, the old page not yet punched | set the waiting bit; the evictor wakes | the evictor alone     |
/// | `Stored`   | in the store              | own it, fill it                        | a fault, prefetch, peek, release       |
/// | `Filling`  | owned: being filled, given access to, or released | set the waiting bit; the owner wakes | its owner alone   |
/// | `Lost`     | nowhere any more: the store's copy is bad | SIGBUS                 | release                                |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum State {
    Empty = 0,
    Resident = 1,
    Claimed = 2,
    Dropping = 3,
    Stored = 4,
    Filling = 5,
    Lost = 6,
}

impl State {
    const fn from_bits(bits: u64) -> Self {
        match bits {
            0 => Self::Empty,
            1 => Self::Resident,
            2 => Self::Claimed,
            3 => Self::Dropping,
            4 => Self::Stored,
            5 => Self::Filling,
            // Seven is never written; a word that has it has been overwritten by a stranger.
            _ => Self::Lost,
        }
    }

    /// Whether the page's memory is held in this state.
    pub(crate) const fn in_memory(self) -> bool {
        matches!(self, Self::Resident | Self::Claimed | Self::Dropping)
    }
}

/// A page's state, when it was last seen touched, and what else that state needs.
///
/// ```text
/// bits  0..3   state
/// bit   3      waiting: somebody met Filling or Dropping and must be woken by who leaves it
/// bits  4..24  tick: when the page was last seen touched
/// bits 24..64  Claimed, Resident, and Filling that came from them: when to try again to compress
///              it (20), how often it failed (4), engaged: the evictor has claimed it and is not
///              done with it yet, whoever may have taken it back (1)
///              Dropping, Stored, and Filling that came from Stored: the store's handle (40)
/// ```
///
/// All zero is an `Empty` page, so that a table of zeros is a table of empty pages.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Word(u64);

const STATE: Field = Field::lowest(3);
const WAITING: Field = STATE.then(1);
const TICK: Field = WAITING.then(Tick::BITS);
const HANDLE: Field = TICK.then(Handle::BITS);
const RETRY: Field = TICK.then(Tick::BITS);
const FAILURES: Field = RETRY.then(4);

const ENGAGED: Field = FAILURES.then(1);

const _: () = assert!(HANDLE.end() == 64 && ENGAGED.end() <= 64);

/// Ticks that a page is left alone for after it did not compress once.
const FIRST_PAUSE: u32 = 8;
/// Failures after which the pause grows no more.
const MOST_FAILURES: u32 = 10;

impl Word {
    pub(crate) const EMPTY: Self = Self(0);

    pub(crate) const fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    pub(crate) const fn raw(self) -> u64 {
        self.0
    }

    /// A page that was touched at `now` and has not been compressed in vain.
    pub(crate) const fn resident(now: Tick) -> Self {
        Self(TICK.set(State::Resident as u64, now.raw() as u64))
    }

    pub(crate) const fn lost() -> Self {
        Self(State::Lost as u64)
    }

    pub(crate) const fn state(self) -> State {
        State::from_bits(STATE.get(self.0))
    }

    pub(crate) const fn waiting(self) -> bool {
        WAITING.get(self.0) == 1
    }

    pub(crate) const fn tick(self) -> Tick {
        Tick::new(TICK.get(self.0))
    }

    pub(crate) const fn handle(self) -> Handle {
        debug_assert!(matches!(self.state(), State::Dropping | State::Stored | State::Filling));
        Handle::from_raw(HANDLE.get(self.0))
    }

    /// How often in a row the page did not compress.
    pub(crate) const fn failures(self) -> u32 {
        FAILURES.get_u32(self.0)
    }

    /// Whether the page, which did not compress the last time, is to be left alone at `now`.
    pub(crate) const fn is_backing_off(self, now: Tick) -> bool {
        // No pause is longer; what seems to be further ahead is a time long gone.
        let ahead = now.age_at(Tick::new(RETRY.get(self.0)));
        self.failures() > 0 && ahead > 0 && ahead <= FIRST_PAUSE << MOST_FAILURES
    }

    /// Whether the evictor is not done with the resident or claimed page.
    pub(crate) const fn is_engaged(self) -> bool {
        debug_assert!(matches!(self.state(), State::Resident | State::Claimed));
        ENGAGED.get(self.0) == 1
    }

    pub(crate) const fn with_engaged(self, engaged: bool) -> Self {
        Self(ENGAGED.set(self.0, engaged as u64))
    }

    pub(crate) const fn with_state(self, state: State) -> Self {
        Self(WAITING.set(STATE.set(self.0, state as u64), 0))
    }

    pub(crate) const fn with_waiting(self) -> Self {
        Self(WAITING.set(self.0, 1))
    }

    pub(crate) const fn with_tick(self, tick: Tick) -> Self {
        Self(TICK.set(self.0, tick.raw() as u64))
    }

    pub(crate) const fn with_handle(self, handle: Handle) -> Self {
        Self(HANDLE.set(self.0, handle.raw()))
    }

    /// The word of a resident page that did not compress once more: it is left alone for a time
    /// that doubles with each failure.
    pub(crate) const fn with_failure(self, now: Tick) -> Self {
        let failures = self.failures();
        let pause = FIRST_PAUSE << failures;
        let counted = if failures < MOST_FAILURES { failures + 1 } else { failures };
        Self(FAILURES.set(RETRY.set(self.0, now.after(pause).raw() as u64), counted as u64))
    }
}

impl fmt::Debug for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.state())?;
        if self.waiting() {
            f.write_str("+waiting")?;
        }
        match self.state() {
            State::Dropping | State::Stored => write!(f, "({:?})", self.handle()),
            _ => write!(f, "(tick {})", self.tick().raw()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_are_an_empty_page() {
        assert_eq!(Word::EMPTY.state(), State::Empty);
        assert!(!Word::EMPTY.waiting());
    }

    #[test]
    fn a_failure_backs_off_for_longer_each_time_and_not_for_ever() {
        let now = Tick::new(u64::from(Tick::MAX_AGE) - 3);
        let mut word = Word::resident(now);
        assert!(!word.is_backing_off(now));
        word = word.with_failure(now);
        assert!(word.is_backing_off(now.after(7)));
        assert!(!word.is_backing_off(now.after(8)));
        word = word.with_failure(now);
        assert!(word.is_backing_off(now.after(15)));
        assert!(!word.is_backing_off(now.after(16)));
        for _ in 0..50 {
            word = word.with_failure(now);
        }
        assert!(word.is_backing_off(now.after((8 << 10) - 1)));
        assert!(!word.is_backing_off(now.after(8 << 10)));
        assert!(!word.is_backing_off(now.after(Tick::MAX_AGE / 2 + 9000)), "long ago, not ahead");
        assert_eq!(word.tick(), now);
        assert_eq!(word.state(), State::Resident);
    }

    #[test]
    fn the_handle_takes_the_place_of_the_failures() {
        let now = Tick::new(9);
        let handle = Handle::from_raw((1 << Handle::BITS) - 1);
        let word = Word::resident(now).with_failure(now).with_handle(handle);
        let word = word.with_state(State::Stored);
        assert_eq!((word.handle(), word.tick()), (handle, now));
        assert!(!word.with_waiting().with_state(State::Filling).waiting());
    }
}
