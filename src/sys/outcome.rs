//! The result of a call on pages.

use super::error::SysError;

/// The result of a call that fills or changes pages, except for an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The whole range is done, and waiters have been woken if the call wakes.
    Done,
    /// This number of bytes, from the start, is done.
    Partial(usize),
    /// Nothing was done, because the address space was changing. The caller repeats the call.
    Again,
    /// A page exists already.
    Exists,
    /// The range is no longer registered, or not as one mapping.
    Gone,
    /// The kernel had no memory for the page.
    NoMemory,
    /// The page cannot be moved now: it is pinned for a device, or shared with another process.
    Busy,
}

/// The mappings of the process whose accessed bits a look clears.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Clears {
    /// Those of files, a memfd for one.
    Files,
    /// All, the anonymous ones of the program too.
    All,
}

/// What the counts of a look at accessed bits are worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// The counts are of the whole time since the arena's last look that cleared the bits, or since the last
    /// interrupted look if that is later.
    Whole,
    /// Another agent has cleared the bits in between, or this is the first look: a count may be too
    /// small. A region without references may have been referenced.
    Interrupted,
}

/// What tracking adds to the time of a touch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TouchCosts {
    /// Nanoseconds that the processor needs to set a cleared accessed bit. It may need the hypervisor for that.
    pub(crate) bit_nanos: u64,
    /// Nanoseconds of a minor fault on shared memory.
    pub(crate) fault_nanos: u64,
}

/// The largest costs seen: in a virtual machine whose page tables the hypervisor shadows.
impl Default for TouchCosts {
    fn default() -> Self {
        Self { bit_nanos: 500, fault_nanos: 1000 }
    }
}

/// Combines a call's result with the struct's count of bytes done.
///
/// A call that stops midway fails with EAGAIN and a positive count. A call that did nothing stores
/// its negative error number as the count.
pub(super) fn outcome(done: Result<(), SysError>, count: i64) -> Result<Outcome, SysError> {
    let Err(error) = done else {
        return Ok(Outcome::Done);
    };
    match (error.errno(), usize::try_from(count)) {
        (libc::EAGAIN, Ok(bytes)) if bytes > 0 => Ok(Outcome::Partial(bytes)),
        (libc::EAGAIN, _) => Ok(Outcome::Again),
        (libc::EEXIST, _) => Ok(Outcome::Exists),
        (libc::ENOENT | libc::ESRCH, _) => Ok(Outcome::Gone),
        (libc::ENOMEM, _) => Ok(Outcome::NoMemory),
        (libc::EBUSY, _) => Ok(Outcome::Busy),
        _ => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(errno: i32) -> Result<(), SysError> {
        Err(SysError::new("ioctl", errno))
    }

    #[test]
    fn an_outcome_depends_on_the_error_and_the_count() {
        assert_eq!(outcome(Ok(()), 4096), Ok(Outcome::Done));
        assert_eq!(outcome(failed(libc::EAGAIN), 4096), Ok(Outcome::Partial(4096)));
        assert_eq!(outcome(failed(libc::EAGAIN), -11), Ok(Outcome::Again));
        assert_eq!(outcome(failed(libc::EAGAIN), 0), Ok(Outcome::Again));
        assert_eq!(outcome(failed(libc::EEXIST), -17), Ok(Outcome::Exists));
        assert_eq!(outcome(failed(libc::ENOENT), -2), Ok(Outcome::Gone));
        assert_eq!(outcome(failed(libc::ESRCH), -3), Ok(Outcome::Gone));
        assert_eq!(outcome(failed(libc::ENOMEM), -12), Ok(Outcome::NoMemory));
        assert_eq!(outcome(failed(libc::EBUSY), -16), Ok(Outcome::Busy));
        assert_eq!(outcome(failed(libc::EINVAL), 0).unwrap_err().errno(), libc::EINVAL);
    }
}
