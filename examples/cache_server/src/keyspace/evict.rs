//! Evicts keys in rounds.
//!
//! An evicted value gives back memory only when no other value is left on its page. Values that clients wrote
//! at the same time lie on the same pages. So the server does not choose the worst of five random keys, as
//! Redis does. It evicts all keys beyond a *cutoff*, which is the same for all shards. If compression does not
//! keep to the memory limit, the rank of a key is that of its page, so that whole pages become empty.
//!
//! A round begins with a sample of the keys. Its cutoff is the rank that a small part of the sample reaches.
//! An eviction then goes through the shards until there is enough room. The next eviction continues there.
//!
//! No rank needs a block that is stored. A stored item was last used when its page was, nearly. For
//! the keys that expire soonest there are no rounds: the [wheel](super::expiries) has them in that order.

use super::item::Item;
use super::shard::Spot;
use super::{Keyspace, OutOfMemory, Policy, SHARDS};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// The most keys of a sample.
const SAMPLES: usize = 512;

/// One key in this number is evicted in a round.
const PART: usize = 32;

/// The size of a neighbourhood: keys of the same rank are evicted one neighbourhood after the other.
const NEIGHBOURHOOD: usize = 64 << 10;

/// The order of eviction: the keys of the highest rank go first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    by_policy: u64,
    /// A number that is random, but the same for all values of a neighbourhood.
    neighbourhood: u64,
}

/// What a round evicts.
#[derive(Debug, Clone, Copy)]
struct Round {
    policy: Policy,
    /// Whether all values of a page count as used when one is.
    by_page: bool,
    /// The tick in which the round began: a key does not change its rank because time passes.
    began: u32,
    seed: u64,
    cutoff: Rank,
}

#[derive(Debug)]
struct Progress {
    round: Round,
    /// The next shard, and the number of shards left.
    next: usize,
    left: usize,
}

/// The current round.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    current: Mutex<Option<Progress>>,
    /// Whether a round by page is under way. Until its end most of its pages keep some values, and the
    /// allocator would place new values between them. So commands finish it, even if there is room already.
    is_unfinished: AtomicBool,
}

impl Round {
    /// The rank of an item; `None` if the policy does not evict it.
    fn rank(&self, space: &Keyspace, item: &Item) -> Option<Rank> {
        let by_policy = match self.policy {
            Policy::NoEviction | Policy::VolatileTtl => return None,
            policy if policy.only_volatile() && !item.is_volatile() => return None,
            Policy::AllKeysRandom | Policy::VolatileRandom => 0,
            Policy::AllKeysLru | Policy::VolatileLru => self.idle(self.last_use(space, item)),
        };
        let place = space.items.address(item) / NEIGHBOURHOOD;
        // Fibonacci hashing (Knuth): the upper bits of the product depend on all bits of the place.
        let neighbourhood = (place as u64 ^ self.seed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Some(Rank { by_policy, neighbourhood })
    }

    fn last_use(&self, space: &Keyspace, item: &Item) -> u32 {
        let in_memory = if self.by_page { None } else { space.items.resident_head(item) };
        let of_page = || space.pages.last_use(space.items.address(item));
        in_memory.map_or_else(of_page, |head| space.last_use(item, &head))
    }

    /// The ticks from a use to the beginning of the round; 0 for a later use.
    fn idle(&self, used: u32) -> u64 {
        let idle = self.began.wrapping_sub(used);
        if idle > u32::MAX / 2 { 0 } else { idle.into() }
    }
}

impl Keyspace {
    /// Evicts keys until they take at most `most` bytes, and finishes a round by page. False if the time is
    /// over before.
    pub(super) fn evict_down_to(&self, most: usize, time: Duration) -> Result<bool, OutOfMemory> {
        let is_done = || self.used_bytes() <= most && !self.rounds.is_unfinished.load(Relaxed);
        if is_done() {
            return Ok(true);
        }
        let begun = Instant::now();
        while begun.elapsed() <= time {
            let next = if self.used_bytes() <= most {
                self.next_of_unfinished_round()
            } else if self.policy() == Policy::VolatileTtl {
                if !self.evict_soonest() {
                    return Err(OutOfMemory);
                }
                None
            } else {
                // `maxmemory` counts items, not the pages that they take.
                Some(self.next_of_round(most < self.maxmemory()).ok_or(OutOfMemory)?)
            };
            if let Some((round, number)) = next {
                self.evict_in_shard(round, number);
            }
            if is_done() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn evict_in_shard(&self, round: Round, number: usize) {
        let mut shard = self.shards[number].lock();
        let is_beyond = |item: &Item| round.rank(self, item) >= Some(round.cutoff);
        let evicted = shard.take_where(is_beyond, |tag| self.changed(Spot::new(number, tag)));
        shard.events.evicted += evicted.len() as u64;
        drop(shard);
        evicted.into_iter().for_each(|item| self.discard(item));
    }

    /// The current round and its next shard. Begins a round if there is none of this kind; `None` if the policy
    /// evicts none of the keys.
    fn next_of_round(&self, by_page: bool) -> Option<(Round, usize)> {
        let mut current = self.rounds.current.lock();
        let policy = self.policy();
        let is_kind = |p: &Progress| p.round.policy == policy && p.round.by_page == by_page;
        if !current.as_ref().is_some_and(is_kind) {
            let round = self.begin_round(policy, by_page);
            let next = self.random_below(SHARDS);
            *current = round.map(|round| Progress { round, next, left: SHARDS });
        }
        self.step(&mut current)
    }

    fn next_of_unfinished_round(&self) -> Option<(Round, usize)> {
        let mut current = self.rounds.current.lock();
        // The policy may have changed, or another thread may have finished the round.
        current.take_if(|p| !p.round.by_page || p.round.policy != self.policy());
        self.step(&mut current)
    }

    fn step(&self, current: &mut Option<Progress>) -> Option<(Round, usize)> {
        let step = current.as_mut().map(|progress| {
            let number = progress.next;
            (progress.next, progress.left) = ((number + 1) % SHARDS, progress.left - 1);
            (progress.round, number)
        });
        current.take_if(|progress| progress.left == 0);
        let is_unfinished = current.as_ref().is_some_and(|p| p.round.by_page);
        self.rounds.is_unfinished.store(is_unfinished, Relaxed);
        step
    }

    /// A round with a cutoff from a sample; `None` if the policy evicts none of the keys.
    fn begin_round(&self, policy: Policy, by_page: bool) -> Option<Round> {
        let (began, seed) = (self.heat.now(), self.random_below(usize::MAX) as u64);
        let cutoff = Rank { by_policy: 0, neighbourhood: 0 };
        let round = Round { policy, by_page, began, seed, cutoff };
        let mut sample = Vec::with_capacity(SAMPLES);
        let start = self.random_below(SHARDS);
        for n in 0..SHARDS {
            let shard = self.shards[(start + n) % SHARDS].lock();
            if shard.len() == 0 || policy.only_volatile() && shard.volatile() == 0 {
                continue;
            }
            let ranks =
                shard.from(self.random_below(1 << 32)).filter_map(|item| round.rank(self, item));
            // Keys of many shards, even if the first shards have enough.
            sample.extend(ranks.take(4));
            if sample.len() >= SAMPLES {
                break;
            }
        }
        let rank = sample.len().checked_sub(1)? / PART;
        let (_, cutoff, _) = sample.select_nth_unstable_by(rank, |a, b| b.cmp(a));
        Some(Round { cutoff: *cutoff, ..round })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{NewExpiry, Options};
    use super::*;
    use thermocline::Arena;

    fn name(n: usize) -> Vec<u8> {
        format!("key:{n}").into_bytes()
    }

    /// A keyspace with a value of 500 bytes for each number, written at the tick of its number.
    fn space(policy: Policy, keys: usize) -> Keyspace {
        let arena = Arena::builder().plain_memory_fallback(true).build().unwrap();
        let space = Keyspace::new(arena, Options { policy, ..Options::default() });
        for n in 0..keys {
            space.heat.tick(n as u32);
            set(&space, n);
        }
        space
    }

    fn set(space: &Keyspace, n: usize) {
        space.keys(&[name(n)], 0).set(&name(n), &[7; 500], NewExpiry::Keep).unwrap();
    }

    fn page(space: &Keyspace, n: usize) -> usize {
        let key = name(n);
        let spot = space.spot(&key);
        let mut shard = space.shards[spot.shard()].lock();
        let found = space.find(&mut shard, spot, &key, 0, &mut Vec::new()).unwrap();
        space.items.address(shard.item(found.place)) / 4096
    }

    fn exists(space: &Keyspace, n: usize) -> bool {
        space.keys(&[name(n)], 0).about(&name(n)).is_some()
    }

    const FOREVER: Duration = Duration::from_secs(600);

    #[test]
    fn a_round_by_page_evicts_whole_pages_and_the_longest_idle_first() {
        let space = space(Policy::AllKeysLru, 4000);
        let pages: Vec<usize> = (0..4000).map(|n| page(&space, n)).collect();
        // One value on the page of each hundredth is used.
        for n in (0..4000).step_by(100) {
            space.heat.tick(5000 + n as u32);
            assert!(space.keys(&[name(n)], 0).touch(&name(n)));
        }
        let used: Vec<usize> = pages.iter().copied().step_by(100).collect();
        space.evict_down_to(space.used_bytes() / 10 * 9, FOREVER).unwrap();
        let there: Vec<bool> = (0..4000).map(|n| exists(&space, n)).collect();
        let left = there.iter().filter(|there| **there).count();
        assert!((3000..=3600).contains(&left), "{left}");
        for n in 0..4000 {
            let mates = (0..4000).filter(|&m| pages[m] == pages[n]);
            assert!(mates.clone().all(|m| there[m] == there[n]), "a page has both");
            assert!(!used.contains(&pages[n]) || there[n], "{n} lies on a page that was used");
        }
        assert!(there[2000..].iter().all(|there| *there), "the newest stay");
    }

    #[test]
    fn eviction_for_maxmemory_goes_by_the_values_last_use() {
        let space = space(Policy::AllKeysLru, 4000);
        for n in (0..4000).step_by(2) {
            space.heat.tick(5000 + n as u32);
            assert!(space.keys(&[name(n)], 0).touch(&name(n)));
        }
        let most = space.used_bytes() / 10 * 9;
        space.set_maxmemory(Some(most));
        space.evict_down_to(most, FOREVER).unwrap();
        let evicted: Vec<usize> = (0..4000).filter(|&n| !exists(&space, n)).collect();
        assert!((400..600).contains(&evicted.len()), "{}", evicted.len());
        assert!(evicted.iter().all(|n| n % 2 == 1 && *n < 2000), "{evicted:?}");
    }

    #[test]
    fn an_unfinished_round_is_finished_and_a_stale_one_is_given_up() {
        let space = space(Policy::AllKeysRandom, 2000);
        let most = space.used_bytes() - 1;
        // A step of one shard, as if the time were over.
        while space.events().evicted == 0 {
            let (round, number) = space.next_of_round(true).unwrap();
            space.evict_in_shard(round, number);
        }
        assert!(space.used_bytes() <= most && space.rounds.is_unfinished.load(Relaxed));
        assert_eq!(space.evict_down_to(most, FOREVER), Ok(true));
        let evicted = space.events().evicted;
        assert!((10..200).contains(&evicted), "{evicted}");
        space.next_of_round(true).unwrap();
        space.set_policy(Policy::NoEviction);
        assert_eq!(space.evict_down_to(most, FOREVER), Ok(true), "there is room");
        assert_eq!(space.events().evicted, evicted);
        assert_eq!(space.evict_down_to(0, FOREVER), Err(OutOfMemory));
        space.set_policy(Policy::VolatileTtl);
        assert_eq!(space.evict_down_to(0, FOREVER), Err(OutOfMemory), "no key has an expiry");
        space.set_policy(Policy::AllKeysLru);
        assert_eq!(space.evict_down_to(0, FOREVER), Ok(true));
        assert_eq!((space.len(), space.used_bytes()), (0, 0));
    }
}
