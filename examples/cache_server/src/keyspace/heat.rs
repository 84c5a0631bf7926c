//! Sorts values by use, so that those on a page are used about equally often.
//!
//! A page is as hot as the hottest value on it, so one popular value keeps seven idle neighbours in
//! memory. Hence values move, as between the generations of a log-structured store:
//!
//! * A new value goes to the default lane, next to other values written at the time.
//! * A value that is used repeatedly, each time within the *window* after the last use, moves to the hot
//!   lane. Until then the server [peeks at](thermocline::Arena::peek) a stored value, so that its page
//!   does not become resident and no other page has to be evicted for it.
//! * A value of the hot lane that was not used for a window moves to the cold lane, next to other
//!   values that cooled down at the time.
//!
//! Without a memory limit the window is the cold age of pages. With a limit the window adapts: it
//! shrinks while the hot lane holds more than its share of the resident memory, and grows while it
//! holds less.

use super::entry::Record;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;
use thermocline::Lane;

/// The keyspace's clock ticks ten times a second.
pub(super) const TICK: Duration = Duration::from_millis(100);
pub(super) const TICKS_PER_SECOND: u64 = 10;

/// Consecutive uses that make a value hot. Each is in a later tick than the one before, and within the window
/// after it.
const USES_TO_PROMOTE: u8 = 2;

/// Values of at least two pages have nearly no neighbours on their pages.
pub(super) const OWN_PAGES: usize = 8192;

/// The shortest window: two seconds.
const SHORTEST: u32 = 20;

/// The longest window.
fn longest(cold_after: Duration) -> u32 {
    let ticks = cold_after.as_millis() / TICK.as_millis();
    u32::try_from(ticks).unwrap_or(u32::MAX).max(SHORTEST)
}

/// The window, and the number of hot bytes.
#[derive(Debug)]
pub(super) struct Heat {
    moves: bool,
    now: AtomicU32,
    window: AtomicU32,
    longest: AtomicU32,
    hot_bytes: AtomicUsize,
    /// The most bytes that may be hot.
    budget: AtomicUsize,
}

impl Heat {
    pub(super) fn new(cold_after: Duration, moves: bool) -> Self {
        let longest = longest(cold_after);
        Self {
            moves,
            now: AtomicU32::new(0),
            window: AtomicU32::new(longest),
            longest: AtomicU32::new(longest),
            hot_bytes: AtomicUsize::new(0),
            budget: AtomicUsize::new(usize::MAX),
        }
    }

    /// Ticks since the start.
    pub(super) fn now(&self) -> u32 {
        self.now.load(Relaxed)
    }

    pub(super) fn tick(&self, ticks: u32) {
        self.now.store(ticks, Relaxed);
    }

    pub(super) fn window(&self) -> Duration {
        TICK * self.window.load(Relaxed)
    }

    pub(super) fn hot_bytes(&self) -> usize {
        self.hot_bytes.load(Relaxed)
    }

    /// Records that a value of this number of bytes has moved to the hot lane.
    pub(super) fn add_hot_bytes(&self, bytes: usize) {
        self.hot_bytes.fetch_add(bytes, Relaxed);
    }

    /// Records that a value of this number of bytes has left the hot lane.
    pub(super) fn remove_hot_bytes(&self, bytes: usize) {
        self.hot_bytes.fetch_sub(bytes, Relaxed);
    }

    /// Records a use. True if the value is hot enough for the hot lane and there is room in it.
    pub(super) fn record_use(&self, record: &mut Record) -> bool {
        let now = self.now();
        let idle = now.wrapping_sub(record.used);
        if idle == 0 {
            return false;
        }
        record.used = now;
        let goes_on = idle <= self.window.load(Relaxed);
        record.value.heat = if goes_on { record.value.heat.saturating_add(1) } else { 1 };
        record.value.heat >= USES_TO_PROMOTE
            && self.moves
            && self.hot_bytes() < self.budget.load(Relaxed)
    }

    /// Whether the value must leave the hot lane.
    pub(super) fn has_cooled(&self, record: &Record) -> bool {
        record.value.lane() == Lane::Hot && self.idle(record) > self.window.load(Relaxed)
    }

    /// Ticks since the last use.
    pub(super) fn idle(&self, record: &Record) -> u32 {
        self.now().wrapping_sub(record.used)
    }

    pub(super) fn set_cold_after(&self, cold_after: Duration) {
        self.longest.store(longest(cold_after), Relaxed);
    }

    /// Adjusts the window, once a tick. `budget` is the most bytes that may be hot, if there is a limit.
    pub(super) fn adjust(&self, budget: Option<usize>) {
        self.budget.store(budget.unwrap_or(usize::MAX), Relaxed);
        let (window, longest) = (self.window.load(Relaxed), self.longest.load(Relaxed));
        let next = match budget {
            None => longest,
            Some(budget) if self.hot_bytes() > budget => (window - window / 16).max(SHORTEST),
            // With spare room a longer window keeps more values hot.
            Some(_) => (window + window / 64 + 1).min(longest),
        };
        self.window.store(next, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyspace::entry::Entry;
    use crate::keyspace::values::Values;
    use thermocline::Arena;

    const WINDOW: u32 = 100;

    fn heat() -> Heat {
        Heat::new(TICK * WINDOW, true)
    }

    fn entry(lane: Lane) -> (Values, Entry) {
        let values = Values::new(&Arena::builder().plain_memory_fallback(true).build().unwrap());
        let value = values.put(lane, b"value").unwrap();
        (values, Entry::new(b"key", value, 0, None))
    }

    /// The results of uses at these ticks.
    fn uses(ticks: &[u32]) -> Vec<bool> {
        let (_values, mut entry) = entry(Lane::Default);
        let heat = heat();
        let used = |&tick: &u32| {
            heat.tick(tick);
            heat.record_use(entry.record_mut())
        };
        ticks.iter().map(used).collect()
    }

    #[test]
    fn a_value_used_repeatedly_within_the_window_is_hot() {
        assert_eq!(uses(&[1, 2, 2, 3]), [false, true, false, true]);
        assert_eq!(uses(&[1, 1, 1, 1]), [false; 4], "a burst is one use");
        assert_eq!(uses(&[500, 600, 700]), [false, true, true]);
        assert_eq!(uses(&[500, 601, 701]), [false, false, true]);
        assert_eq!(uses(&[500, 700, 900, 1100]), [false; 4], "too seldom");
    }

    #[test]
    fn a_hot_value_unused_for_a_window_has_cooled() {
        let heat = heat();
        for (lane, tick, cooled) in [
            (Lane::Hot, WINDOW, false),
            (Lane::Hot, WINDOW + 1, true),
            (Lane::Default, 10 * WINDOW, false),
        ] {
            let (_values, entry) = entry(lane);
            heat.tick(tick);
            assert_eq!(heat.has_cooled(entry.record()), cooled, "{lane:?} {tick}");
        }
    }

    #[test]
    fn the_window_follows_the_budget() {
        let heat = heat();
        heat.add_hot_bytes(1000);
        (0..1000).for_each(|_| heat.adjust(Some(999)));
        assert_eq!(heat.window(), TICK * SHORTEST);
        heat.remove_hot_bytes(10);
        (0..1000).for_each(|_| heat.adjust(Some(999)));
        assert_eq!(heat.window(), TICK * WINDOW);
        heat.adjust(Some(0));
        assert!(heat.window() < TICK * WINDOW);
        heat.adjust(None);
        assert_eq!(heat.window(), TICK * WINDOW);
    }
}
