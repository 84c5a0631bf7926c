//! The word of a page.

use crate::prim::pack::Field;
use crate::prim::{Handle, Tick};
use core::fmt;

/// The state of a page.
///
/// | state      | where the bytes are         | what a fault does            | the thread that leaves it                   |
/// |------------|-----------------------------|------------------------------|---------------------------------------------|
/// | `Empty`    | nowhere; reads as zeros     | owns it, fills in zeros      | serves a fault, or populates                |
/// | `Resident` | in memory                   | owns it, unprotects it       | serves a fault, or releases; the evictor    |
/// | `Claimed`  | in memory                   | takes it back, unprotects it | serves a fault, or restores; the evictor    |
/// | `Dropping` | in the store; punch follows | waits                        | its owner, the evictor                      |
/// | `Stored`   | in the store                | owns it, restores it         | serves a fault, restores, peeks or releases |
/// | `Filling`  | as before, or on their way  | waits                        | its owner                                   |
/// | `Lost`     | nowhere; not restorable     | renews the poison; SIGBUS    | serves a fault, or releases                 |
///
/// A thread restores ahead of a touch for `ensure`, pins and prefetches. A thread takes a step by a
/// compare-and-swap of the word; of two threads that try, one succeeds. A thread that waits sets the waiting
/// bit, and the owner wakes it.
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
            // No code writes 7. Memory corruption can.
            _ => Self::Lost,
        }
    }

    /// Whether a page in this state has memory.
    pub(crate) const fn in_memory(self) -> bool {
        matches!(self, Self::Resident | Self::Claimed | Self::Dropping)
    }
}

/// A page's state, the tick of its last noticed touch, and the data of that state.
///
/// ```text
/// bits  0..3   state
/// bit   3      waiting: the owner of a Filling or Dropping page must wake threads when it leaves
/// bits  4..24  tick of the last noticed touch
/// bits 24..64  Resident, Claimed, and Filling that came from them:
///                20 bits: the tick at which the evictor may try again to compress the page
///                 4 bits: failures to compress it, in a row
///                 1 bit:  in batch: the page is in the evictor's batch, even if a fault took it
///                         back meanwhile
///              Dropping, Stored, and Filling that came from Stored:
///                40 bits: the store's handle
/// ```
///
/// Zero is the word of an `Empty` page, so a table of zeros is a table of empty pages.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Word(u64);

const STATE: Field = Field::lowest(3);
const WAITING: Field = STATE.then(1);
const TICK: Field = WAITING.then(Tick::BITS);
const HANDLE: Field = TICK.then(Handle::BITS);
const RETRY: Field = TICK.then(Tick::BITS);
const FAILURES: Field = RETRY.then(4);
const IN_BATCH: Field = FAILURES.then(1);

const _: () = assert!(HANDLE.end() == 64 && IN_BATCH.end() <= 64);

/// Ticks for which the evictor leaves a page alone after the first failure to compress it.
const FIRST_PAUSE: u32 = 8;
/// The pause doubles with each failure up to this one.
const MOST_FAILURES: u32 = 10;

impl Word {
    pub(crate) const EMPTY: Self = Self(0);

    pub(crate) const fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    pub(crate) const fn raw(self) -> u64 {
        self.0
    }

    /// A resident page that was touched at `now` and has no failures.
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

    /// Failures in a row to compress the page.
    pub(crate) const fn failures(self) -> u32 {
        FAILURES.get_u32(self.0)
    }

    /// Whether the pause after the page's last failure to compress lasts at `now`.
    pub(crate) const fn is_backing_off(self, now: Tick) -> bool {
        // No pause is longer. A retry tick that seems further ahead has passed: ticks wrap around.
        let ahead = now.age_at(Tick::new(RETRY.get(self.0)));
        self.failures() > 0 && ahead > 0 && ahead <= FIRST_PAUSE << MOST_FAILURES
    }

    /// Whether the resident or claimed page is in the evictor's batch.
    pub(crate) const fn is_in_batch(self) -> bool {
        debug_assert!(matches!(self.state(), State::Resident | State::Claimed));
        IN_BATCH.get(self.0) == 1
    }

    pub(crate) const fn with_in_batch(self, in_batch: bool) -> Self {
        Self(IN_BATCH.set(self.0, in_batch as u64))
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

    /// The word of a resident page after one more failure to compress it. The evictor leaves the page
    /// alone for a pause that doubles with each failure.
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
    fn a_word_of_zero_is_an_empty_page() {
        assert_eq!(Word::EMPTY.state(), State::Empty);
        assert!(!Word::EMPTY.waiting());
    }

    #[test]
    fn the_back_off_doubles_with_each_failure_up_to_a_limit() {
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
        assert!(
            !word.is_backing_off(now.after(Tick::MAX_AGE / 2 + 9000)),
            "a retry tick that has passed counts as one ahead"
        );
        assert_eq!(word.tick(), now);
        assert_eq!(word.state(), State::Resident);
    }

    #[test]
    fn a_handle_overwrites_the_failures_and_keeps_the_tick() {
        let now = Tick::new(9);
        let handle = Handle::from_raw((1 << Handle::BITS) - 1);
        let word = Word::resident(now).with_failure(now).with_handle(handle);
        let word = word.with_state(State::Stored);
        assert_eq!((word.handle(), word.tick()), (handle, now));
        assert!(!word.with_waiting().with_state(State::Filling).waiting());
    }
}
