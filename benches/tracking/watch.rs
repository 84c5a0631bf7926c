//! The ways to watch memory.

use crate::common::{HOUR, quiet};
use crate::loads::Timing;
use thermocline::{Arena, Backing, Builder};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Watch {
    None,
    Zap,
    Accessed,
    Private,
    Huge,
    Damon,
}

impl Watch {
    pub(crate) const ALL: [Self; 6] =
        [Self::None, Self::Zap, Self::Accessed, Self::Private, Self::Huge, Self::Damon];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Zap => "zap",
            Self::Accessed => "accessed",
            Self::Private => "private",
            Self::Huge => "huge",
            Self::Damon => "damon",
        }
    }

    /// Whether the arena scans, and evicts what is cold.
    pub(crate) fn scans(self) -> bool {
        matches!(self, Self::Zap | Self::Accessed | Self::Private)
    }

    /// An arena that is watched in this way.
    pub(crate) fn builder(self, timing: &Timing) -> Builder {
        let builder = match self.scans() {
            true => Arena::builder().scan_interval(timing.scan_interval).cold_age(timing.cold_age),
            false => quiet(),
        };
        debug_assert!(timing.cold_age <= HOUR);
        let backing = if self == Self::Private { Backing::Private } else { Backing::Shared };
        builder.backing(backing).accessed_bits(self != Self::Zap)
    }
}
