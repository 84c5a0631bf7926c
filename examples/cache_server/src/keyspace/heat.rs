//! Sorts items by use, so that those on a page are used about equally often.
//!
//! A page is as hot as the hottest item on it, so one popular item keeps seven idle neighbours in
//! memory. Hence items move, as between the generations of a log-structured store:
//!
//! * A new item goes to the default lane, next to other items written at the time.
//! * An item that is used repeatedly, each time within the *window* after the last use, moves to the hot
//!   lane. Until then the server [peeks at](thermocline::Arena::peek) a stored item, so that its page
//!   does not become resident and no other page has to be evicted for it.
//! * An item of the hot lane that was not used for a window moves to the cold lane, next to other
//!   items that cooled down at the time.
//!
//! The heat of an item in memory, its last use and the number of uses, stands in its block. The server does not
//! write to a stored block. It keeps the time of a use in the index as a *stamp* of two bits: one of three
//! numbers in turn, each for the time of a window. A stamp is old after two windows, and the maintenance
//! removes it then. If the [last use of the page](super::pages) is older than a window, the stamp is old too.
//!
//! Without a memory limit the window is the cold age of pages. With a limit the window adapts: it
//! shrinks while the hot lane holds more than its share of the resident memory, and grows while it
//! holds less.

use super::block::{Head, MOST_HEAT};
use super::item::Item;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

/// The keyspace's clock ticks ten times a second.
pub(super) const TICK: Duration = Duration::from_millis(100);
pub(super) const TICKS_PER_SECOND: u64 = 10;

/// Consecutive uses that make a value hot. Each is in a later tick than the one before, and within the window
/// after it.
const USES_TO_PROMOTE: u8 = 2;
const _: () = assert!(USES_TO_PROMOTE <= MOST_HEAT);

/// The number of stamps, without the stamp of an item that was not used.
const STAMPS: u32 = 3;

/// Blocks of at least two pages have nearly no neighbours on their pages.
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

    /// Records that a block of this number of bytes has moved to the hot lane.
    pub(super) fn add_hot_bytes(&self, bytes: usize) {
        self.hot_bytes.fetch_add(bytes, Relaxed);
    }

    /// Records that a block of this number of bytes has left the hot lane.
    pub(super) fn remove_hot_bytes(&self, bytes: usize) {
        self.hot_bytes.fetch_sub(bytes, Relaxed);
    }

    /// Records a use in the head of an item in memory. True if the item is hot enough for the hot lane and
    /// there is room in it.
    pub(super) fn use_in_memory(&self, head: &mut Head) -> bool {
        let idle = self.since(head.used);
        if idle == 0 {
            return false;
        }
        let goes_on = idle <= self.window.load(Relaxed);
        head.heat = if goes_on { (head.heat + 1).min(MOST_HEAT) } else { 1 };
        head.used = self.now();
        self.is_hot(head.heat)
    }

    /// Records a use of an item whose block is stored, with this head. `page_use` is the last use of its page
    /// before. The result is that of [`use_in_memory`](Self::use_in_memory).
    pub(super) fn use_of_stored(&self, item: &mut Item, head: &Head, page_use: u32) -> bool {
        let (before, now) = (item.stamp(), self.stamp(self.now()));
        if before == now && page_use == self.now() {
            // Probably a burst.
            return false;
        }
        item.set_stamp(now);
        let window = self.window.load(Relaxed);
        let heat = if before == 0 {
            if self.since(head.used) <= window { head.heat } else { 0 }
        } else {
            u8::from(self.is_recent(before) && self.since(page_use) <= window)
        };
        self.is_hot(heat + 1)
    }

    fn is_hot(&self, heat: u8) -> bool {
        heat >= USES_TO_PROMOTE && self.moves && self.hot_bytes() < self.budget.load(Relaxed)
    }

    fn stamp(&self, tick: u32) -> u32 {
        1 + tick / self.window.load(Relaxed) % STAMPS
    }

    /// Whether a stored item was used less than two windows ago, and more than none, if its stamp is not older
    /// than three.
    pub(super) fn is_recent(&self, stamp: u32) -> bool {
        let (now, window) = (self.now(), self.window.load(Relaxed));
        stamp == self.stamp(now) || now >= window && stamp == self.stamp(now - window)
    }

    /// Whether an item of the hot lane, last used at this tick, must leave it.
    pub(super) fn has_cooled(&self, used: u32) -> bool {
        self.since(used) > self.window.load(Relaxed)
    }

    /// Ticks since this one.
    pub(super) fn since(&self, tick: u32) -> u32 {
        self.now().wrapping_sub(tick)
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
    use super::super::item::Class;
    use super::*;

    const WINDOW: u32 = 100;

    fn heat() -> Heat {
        Heat::new(TICK * WINDOW, true)
    }

    /// The results of uses at these ticks.
    fn uses(ticks: &[u32]) -> Vec<bool> {
        let (mut head, heat) = (Head::new(3, 5, None).unwrap(), heat());
        let used = |&tick: &u32| {
            heat.tick(tick);
            heat.use_in_memory(&mut head)
        };
        ticks.iter().map(used).collect()
    }

    /// The results of uses of a stored item that is alone on its page, and was last used in memory at tick 0.
    fn stored_uses(ticks: &[u32]) -> Vec<bool> {
        let (head, heat) = (Head::new(3, 5, None).unwrap(), heat());
        let mut item = Item::new(0, Class::of(16));
        let mut page_use = 0;
        let used = |&tick: &u32| {
            heat.tick(tick);
            let is_hot = heat.use_of_stored(&mut item, &head, page_use);
            page_use = tick;
            is_hot
        };
        ticks.iter().map(used).collect()
    }

    #[test]
    fn an_item_used_repeatedly_within_the_window_is_hot() {
        for uses in [uses, stored_uses] {
            assert_eq!(uses(&[1, 2, 2, 3]), [false, true, false, true]);
            assert_eq!(uses(&[1, 1, 1, 1]), [false; 4], "a burst is one use");
            assert_eq!(uses(&[500, 600, 700]), [false, true, true]);
            assert_eq!(uses(&[500, 601, 701]), [false, false, true]);
            assert_eq!(uses(&[500, 700, 900, 1100]), [false; 4], "too seldom");
        }
    }

    #[test]
    fn a_stamp_is_recent_for_one_to_two_windows() {
        let heat = heat();
        for used in [0, 1, 50, 99, 100, 250, 12_345] {
            heat.tick(used);
            let stamp = heat.stamp(used);
            for later in 0..2 * WINDOW + 1 {
                heat.tick(used + later);
                let recent = heat.is_recent(stamp);
                assert!(recent || later >= WINDOW, "{used} {later}");
                assert!(!recent || later < 2 * WINDOW, "{used} {later}");
            }
        }
    }

    #[test]
    fn a_hot_item_unused_for_a_window_has_cooled() {
        let heat = heat();
        heat.tick(WINDOW + 7);
        assert!(!heat.has_cooled(7) && heat.has_cooled(6));
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
