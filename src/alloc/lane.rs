//! Lanes, and the pools of free pages that they keep.

/// Which objects share pages. A page is as warm as the warmest object on it.
///
/// Each lane allocates from 2 MiB regions of its own. So a caller that knows which objects will be
/// touched often can keep them apart from the rest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "lowercase"))]
#[non_exhaustive]
pub enum Lane {
    /// Objects of unknown use.
    #[default]
    Default,
    /// Objects that will be touched again and again.
    Hot,
    /// Objects that will not be touched for long.
    Cold,
}

impl Lane {
    pub(crate) const ALL: [Self; 3] = [Self::Default, Self::Hot, Self::Cold];

    pub(super) const COUNT: usize = Self::ALL.len();

    /// All lanes, the default one first.
    pub fn all() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter()
    }

    #[inline]
    pub(super) const fn index(self) -> usize {
        self as usize
    }
}

/// The purpose that a lane keeps pages for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// Spans of small slots, in whole chunks.
    Spans,
    /// Large blocks, of any number of pages.
    Blocks,
}

/// A pool of free pages: shared, or those of a lane and a use, clean or dirty. Free runs merge only within
/// a pool.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Pool(u8);

impl Pool {
    /// Empty pages that no lane has taken.
    pub(super) const SHARED: Self = Self(0);

    pub(super) const COUNT: usize = 1 + 4 * Lane::COUNT;

    /// Empty pages of a lane and a use.
    pub(super) const fn clean(lane: Lane, usage: Use) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "less than COUNT")]
        let raw = 1 + 4 * lane.index() as u8 + 2 * usage as u8;
        Self(raw)
    }

    /// The pool of the same lane and use for pages that were in use and have not been released.
    pub(super) const fn dirty(self) -> Self {
        debug_assert!(self.0 != 0);
        Self(((self.0 - 1) | 1) + 1)
    }

    /// The lane of a pool that is not shared.
    #[inline]
    pub(super) const fn lane(self) -> Lane {
        debug_assert!(self.0 != 0);
        Lane::ALL[(self.0 as usize - 1) / 4]
    }

    pub(super) const fn is_dirty(self) -> bool {
        self.0 != 0 && (self.0 - 1) & 1 == 1
    }

    /// The pool of the same lane and use for empty pages.
    pub(super) const fn cleaned(self) -> Self {
        if self.is_dirty() { Self(self.0 - 1) } else { self }
    }

    pub(super) fn all() -> impl Iterator<Item = Self> {
        #[expect(clippy::cast_possible_truncation, reason = "a dozen")]
        (0..Self::COUNT as u8).map(Self)
    }

    pub(super) const fn index(self) -> usize {
        self.0 as usize
    }

    pub(super) const fn raw(self) -> u8 {
        self.0
    }

    pub(super) const fn from_raw(raw: u8) -> Self {
        debug_assert!((raw as usize) < Self::COUNT);
        Self(raw)
    }
}

impl core::fmt::Debug for Pool {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Some(rest) = self.0.checked_sub(1) else {
            return f.write_str("shared");
        };
        let usage = if rest & 2 == 0 { "spans" } else { "blocks" };
        let state = if self.is_dirty() { "dirty" } else { "clean" };
        write!(f, "{state} {usage} of {:?}", Lane::ALL[usize::from(rest / 4)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pool_has_its_own_number() {
        let mut seen = vec![Pool::SHARED];
        for lane in Lane::ALL {
            for usage in [Use::Spans, Use::Blocks] {
                let clean = Pool::clean(lane, usage);
                assert!(!clean.is_dirty() && clean.dirty().is_dirty());
                assert_eq!(
                    (clean.dirty().cleaned(), clean.dirty().dirty()),
                    (clean, clean.dirty())
                );
                seen.extend([clean, clean.dirty()]);
            }
        }
        assert_eq!(seen, Pool::all().collect::<Vec<_>>());
    }
}
