//! The sides by name, and their measurements.

use crate::Trouble;
use crate::blocks::Room;
use crate::held::{Held, Load};
use crate::patterns::Case;
use crate::sides::{Checked, Global, InArena, Side};
use mimalloc::MiMalloc;
use procfs::ProcError;
use std::alloc::System;
use std::fmt;
use std::time::Duration;
use tikv_jemallocator::Jemalloc;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Arena,
    /// An arena that never evicts.
    Plain,
    System,
    Mimalloc,
    Jemalloc,
}

impl Kind {
    pub(crate) const ALL: [Self; 5] =
        [Self::Arena, Self::Plain, Self::System, Self::Mimalloc, Self::Jemalloc];

    pub(crate) fn is_rival(self) -> bool {
        !matches!(self, Self::Arena | Self::Plain)
    }

    pub(crate) fn start(self, checked: bool) -> Result<Box<dyn Contestant>, Trouble> {
        Ok(match self {
            Self::Arena => boxed(InArena::new()?, checked),
            Self::Plain => boxed(InArena::plain()?, checked),
            Self::System => boxed(Global(System), checked),
            Self::Mimalloc => boxed(Global(MiMalloc), checked),
            Self::Jemalloc => boxed(Global(Jemalloc), checked),
        })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Arena => "arena",
            Self::Plain => "plain",
            Self::System => "system",
            Self::Mimalloc => "mimalloc",
            Self::Jemalloc => "jemalloc",
        })
    }
}

fn boxed<S: Side + 'static>(side: S, checked: bool) -> Box<dyn Contestant> {
    if checked { Box::new(Checked(side)) } else { Box::new(side) }
}

/// A side behind a vtable. A call costs little, because it does millions of operations.
pub(crate) trait Contestant {
    /// Nanoseconds per operation.
    fn time(&self, case: Case, seed: u64, budget: Duration) -> f64;

    /// Words about the side for the report.
    fn about(&self) -> Option<String>;

    /// See [`Load::put_on`].
    fn hold(&self, load: Load, rooms: Vec<Room>) -> Result<Held, ProcError>;
}

impl<S: Side> Contestant for S {
    fn time(&self, case: Case, seed: u64, budget: Duration) -> f64 {
        case.run(self, seed, budget)
    }

    fn about(&self) -> Option<String> {
        Side::about(self)
    }

    fn hold(&self, load: Load, rooms: Vec<Room>) -> Result<Held, ProcError> {
        load.put_on(self, rooms)
    }
}
