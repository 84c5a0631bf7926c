//! The choice of an arena's kind of memory and of its tracker.

use super::error::BuildError;
use crate::sys::Probe;
use crate::sys::backing::MemoryKind;
use crate::track::Tracker;
use std::fmt;

/// The kind of an arena's memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Backing {
    /// [`Shared`](Self::Shared).
    #[default]
    Auto,
    /// A memfd. Works on all kernels that the library knows. Ordinary systems give it no huge pages.
    Shared,
    /// Anonymous memory, as the system's allocator has. The kernel may use huge pages for it, so that it is as fast
    /// as other memory while it is hot. The evictor moves pages away before it reads them (`UFFDIO_MOVE`, in
    /// the form of Linux 6.18 and later). It leaves a page in place while a device may write to it.
    Private,
}

impl fmt::Display for Backing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Shared => "shared",
            Self::Private => "private",
        })
    }
}

/// The kind of memory and the tracker of an arena whose program has asked for these.
pub(super) fn choose(
    backing: Backing,
    tracker: Option<Tracker>,
    probe: &Probe,
) -> Result<(MemoryKind, Tracker), BuildError> {
    let memory = match backing {
        Backing::Auto if tracker == Some(Tracker::Accessed) => MemoryKind::Private,
        Backing::Auto | Backing::Shared => MemoryKind::Shared,
        Backing::Private => MemoryKind::Private,
    };
    let mut refused = None;
    for candidate in candidates_of(tracker, memory) {
        if !candidate.works_on(memory) {
            return Err(BuildError::InvalidOption {
                option: "tracker",
                given: candidate.to_string(),
                allowed: "zap on shared memory, accessed on private memory, rwp on both",
            });
        }
        let lacking = match (memory, candidate) {
            (_, Tracker::Zap) => probe.lacking_for_zap(),
            (MemoryKind::Shared, _) => probe.lacking_for_rwp(),
            (MemoryKind::Private, Tracker::Rwp) => probe.lacking_for_private_rwp(),
            (MemoryKind::Private, Tracker::Accessed) => probe.lacking_for_private_accessed(),
        };
        match lacking {
            None => return Ok((memory, candidate)),
            Some(lacking) => refused = Some((candidate, lacking)),
        }
    }
    let Some((tracker, lacking)) = refused else { unreachable!("there are candidates") };
    Err(BuildError::no_tracker(tracker, lacking, probe))
}

/// The trackers to try, the best first.
fn candidates_of(asked: Option<Tracker>, memory: MemoryKind) -> Vec<Tracker> {
    match (asked, memory) {
        (Some(tracker), _) => vec![tracker],
        (None, MemoryKind::Shared) => vec![Tracker::Rwp, Tracker::Zap],
        (None, MemoryKind::Private) => vec![Tracker::Rwp, Tracker::Accessed],
    }
}
