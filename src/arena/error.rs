//! The errors of building an arena, and of its methods.

use super::builder::COLD_AGES;
use crate::sys::sigbus::{self, RegisterError};
use crate::sys::uffd::OpenError;
use crate::sys::{Capability, CapabilityStatus, Probe, SysError};
use crate::track::Tracker;
use std::fmt;
use std::time::Duration;

/// Why [`Builder::build`](super::Builder::build) made no arena.
///
/// The message names the failed call and the remedy, so the error has no
/// [`source`](std::error::Error::source); the variants have the [`SysError`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BuildError {
    /// An option lies outside its range.
    InvalidOption {
        /// The builder's method.
        option: &'static str,
        /// The value that the program gave.
        given: String,
        /// The values that are allowed.
        allowed: &'static str,
    },
    /// The system's pages are not 4 KiB, the only size that the library supports.
    PageSize {
        /// Bytes in a page of this system.
        bytes: usize,
    },
    /// The process cannot open a userfaultfd. See
    /// [`Builder::plain_memory_fallback`](super::Builder::plain_memory_fallback).
    NoUserfaultfd {
        /// The error of opening `/dev/userfaultfd`.
        device: SysError,
        /// The error of `userfaultfd(2)`.
        system_call: SysError,
        /// What the user can do about it.
        remedy: String,
    },
    /// This kernel lacks a capability that the tracker needs, or denies it to the process.
    TrackerUnavailable {
        /// The tracker of the options, or the one with the lowest requirements.
        tracker: Tracker,
        /// The missing capability, with the reason and the remedy.
        lacking: Capability,
    },
    /// The process has as many arenas with [`FaultMode::Inline`](crate::FaultMode::Inline) as a process can
    /// have. [`FaultMode::Handler`](crate::FaultMode::Handler) has no such bound.
    TooManyInline {
        /// The most that a process can have.
        most: usize,
    },
    /// The process has reached its limit on descriptors (`RLIMIT_NOFILE`). An arena takes one for each of
    /// its handler threads, or one with [`FaultMode::Inline`](crate::FaultMode::Inline), and five more while
    /// it starts.
    TooManyDescriptors {
        /// The error of opening a descriptor.
        error: SysError,
        /// The handler threads of the options; zero with inline faults.
        handler_threads: usize,
    },
    /// The process may not have the address space that the arena takes. A smaller
    /// [`Builder::reserve`](super::Builder::reserve) or
    /// [`Builder::store_limit`](super::Builder::store_limit) helps, or a higher `RLIMIT_AS`
    /// (`ulimit -v`), or `vm.overcommit_memory` other than 2.
    AddressSpace {
        /// Bytes of the reserve that did not fit.
        reserve: usize,
        /// Bytes of address space that the arena takes in all, approximately: the reserve twice, and the
        /// store. Plain memory has no store.
        bytes: usize,
        /// The error of the call.
        error: SysError,
    },
    /// A system call failed.
    Sys(SysError),
}

impl BuildError {
    /// Whether the error means that the system lacks a capability. If not, an option is wrong, or a call
    /// failed.
    pub(super) fn is_about_system(&self) -> bool {
        matches!(self, Self::NoUserfaultfd { .. } | Self::TrackerUnavailable { .. })
    }

    /// Adds the number of handler threads to an error of too many descriptors.
    pub(super) fn with_handlers(self, handler_threads: usize) -> Self {
        match self {
            Self::Sys(error) if error.is_too_many_files() => {
                Self::TooManyDescriptors { error, handler_threads }
            }
            other => other,
        }
    }

    pub(super) fn no_tracker(tracker: Tracker, lacking: Capability, probe: &Probe) -> Self {
        match (probe.open_error(), lacking.status()) {
            (Some(OpenError { device, system_call }), CapabilityStatus::Missing { remedy, .. }) => {
                Self::NoUserfaultfd { device, system_call, remedy: remedy.clone() }
            }
            _ => Self::TrackerUnavailable { tracker, lacking },
        }
    }
}

impl From<RegisterError> for BuildError {
    fn from(error: RegisterError) -> Self {
        match error {
            RegisterError::Full => Self::TooManyInline { most: sigbus::MAX_SERVERS },
            RegisterError::Sys(error) => Self::Sys(error),
        }
    }
}

impl From<SysError> for BuildError {
    fn from(error: SysError) -> Self {
        Self::Sys(error)
    }
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidOption { option, given, allowed } => {
                write!(f, "{option} is {given}, but has to be {allowed}")
            }
            Self::PageSize { bytes } => {
                write!(f, "pages of this system have {bytes} bytes; only 4096 are supported")
            }
            Self::NoUserfaultfd { device, system_call, remedy } => {
                write!(f, "no userfaultfd: {device}; {system_call}. Remedy: {remedy}")
            }
            Self::TrackerUnavailable { tracker, lacking } => {
                write!(f, "the {tracker} tracker cannot work here: {lacking}")
            }
            Self::TooManyInline { most } => write!(
                f,
                "the process has {most} arenas that serve faults inline already, which is the most \
                 that there can be; others can have FaultMode::Handler"
            ),
            Self::TooManyDescriptors { error, handler_threads } => write!(
                f,
                "{error}, for an arena with {handler_threads} handler threads. Remedy: raise the limit \
                 on descriptors (RLIMIT_NOFILE, ulimit -n), close some, or ask for fewer \
                 Builder::handler_threads"
            ),
            Self::AddressSpace { reserve, bytes, error } => write!(
                f,
                "no address space for a reserve of {} MiB, with which the arena takes {} MiB in all: \
                 {error}. Remedy: a smaller Builder::reserve or Builder::store_limit, a higher \
                 RLIMIT_AS (ulimit -v), or vm.overcommit_memory other than 2",
                reserve >> 20,
                bytes >> 20,
            ),
            Self::Sys(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for BuildError {}

/// Why an arena could not do what the program asked for. No data is lost.
///
/// As with [`BuildError`], the message names the failed call, and there is no
/// [`source`](std::error::Error::source).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ArenaError {
    /// The arena works as plain memory, or the program has stopped it: it evicts nothing.
    NotSwapping,
    /// The range does not lie in the arena.
    OutsideArena,
    /// The kernel has had no memory for the pages for several seconds. The pages that came back before that
    /// stay in memory; the other pages are still stored.
    NoMemory,
    /// The stored copy of some of the pages is damaged: a touch of one is SIGBUS. All other pages of the
    /// range are in memory.
    Lost,
    /// A limit is below the minimum.
    LimitTooLow {
        /// Bytes of the limit that the program gave.
        given: usize,
        /// The minimum in bytes.
        least: usize,
    },
    /// The cold age is less than a scan interval, or too many of them.
    ColdAge(Duration),
    /// This process is a fork of the one that built the arena, and has no mapping of it.
    ForkedChild,
    /// A system call failed.
    Sys(SysError),
}

impl From<SysError> for ArenaError {
    fn from(error: SysError) -> Self {
        Self::Sys(error)
    }
}

impl fmt::Display for ArenaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotSwapping => "the arena is not swapping",
            Self::OutsideArena => "the range does not lie in the arena",
            Self::NoMemory => "the kernel has no memory for the pages",
            Self::Lost => "the stored copy of some of the pages is damaged",
            Self::LimitTooLow { given, least } => {
                return write!(f, "the limit is {given} bytes, but has to be at least {least}");
            }
            Self::ColdAge(age) => {
                return write!(f, "the cold age is {age:?}, but has to be {COLD_AGES}");
            }
            Self::ForkedChild => "the arena belongs to the process that this one was forked from",
            Self::Sys(error) => return error.fmt(f),
        })
    }
}

impl std::error::Error for ArenaError {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error;

    /// A program that prints an error and then its sources must not print a cause twice.
    #[test]
    fn no_message_contains_that_of_its_source() {
        let error = SysError::no_memory("mmap(memfd)");
        let remedy = || "a remedy".to_owned();
        let errors: [Box<dyn Error>; 6] = [
            Box::new(error),
            Box::new(BuildError::Sys(error)),
            Box::new(BuildError::NoUserfaultfd {
                device: error,
                system_call: error,
                remedy: remedy(),
            }),
            Box::new(BuildError::TooManyDescriptors { error, handler_threads: 2 }),
            Box::new(BuildError::AddressSpace { reserve: 1 << 30, bytes: 2 << 30, error }),
            Box::new(ArenaError::Sys(error)),
        ];
        for error in &errors {
            assert!(error.to_string().contains("mmap(memfd)"), "{error}");
            let mut error: &dyn Error = error.as_ref();
            while let Some(source) = error.source() {
                assert!(!error.to_string().contains(&source.to_string()), "{error}: {source}");
                error = source;
            }
        }
    }
}
