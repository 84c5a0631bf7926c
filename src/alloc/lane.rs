//! What free pages are kept for.

/// Which objects lie together: pages get as cold as the warmest object on them.
///
/// Each lane hands out memory of its own 2 MiB regions, so that a caller who knows what is going to
/// be touched often keeps that apart from what is not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Lane {
    /// Where the caller does not know.
    #[default]
    Default,
    /// What is going to be touched again and again.
    Hot,
    /// What is going to sleep.
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

/// What a run of pages is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// Spans of small slots, in whole chunks.
    Spans,
    /// Blocks of pages, of any length.
    Blocks,
}

/// Which free runs a run belongs to, and may grow together with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Kind(u8);

impl Kind {
    /// Empty pages that no lane has taken.
    pub(super) const SHARED: Self = Self(0);

    pub(super) const COUNT: usize = 1 + 4 * Lane::COUNT;

    /// Empty pages that a lane keeps for a use.
    pub(super) const fn clean(lane: Lane, usage: Use) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "less than COUNT")]
        let raw = 1 + 4 * lane.index() as u8 + 2 * usage as u8;
        Self(raw)
    }

    /// The same with pages that were in use and have not been given back.
    pub(super) const fn dirty(self) -> Self {
        debug_assert!(self.0 != 0);
        Self(((self.0 - 1) | 1) + 1)
    }

    /// The lane of pages that are not shared.
    #[inline]
    pub(super) const fn lane(self) -> Lane {
        debug_assert!(self.0 != 0);
        Lane::ALL[(self.0 as usize - 1) / 4]
    }

    pub(super) const fn is_dirty(self) -> bool {
        self.0 != 0 && (self.0 - 1) & 1 == 1
    }

    /// The same with empty pages.
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

impl core::fmt::Debug for Kind {
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
    fn kinds_are_told_apart() {
        let mut seen = vec![Kind::SHARED];
        for lane in Lane::ALL {
            for usage in [Use::Spans, Use::Blocks] {
                let clean = Kind::clean(lane, usage);
                assert!(!clean.is_dirty() && clean.dirty().is_dirty());
                assert_eq!(
                    (clean.dirty().cleaned(), clean.dirty().dirty()),
                    (clean, clean.dirty())
                );
                seen.extend([clean, clean.dirty()]);
            }
        }
        assert_eq!(seen, Kind::all().collect::<Vec<_>>());
    }
}
