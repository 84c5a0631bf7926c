//! What a call on pages came to.

use super::error::SysError;

/// What a call that fills or changes pages came to, where that is no error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// All of it is done, and waiters have been woken where the call wakes.
    Done,
    /// The first so many bytes are done.
    Partial(usize),
    /// Nothing was done; the address space is changing under the call. Ask again.
    Again,
    /// There is a page already.
    Exists,
    /// The range is not registered any more, or not as one mapping.
    Gone,
    /// The kernel had no memory for the page.
    NoMemory,
}

/// Reads a call's result together with the struct's count of bytes done.
///
/// A call that stops midway fails with EAGAIN and a positive count; one that did nothing leaves
/// the negative error there.
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
    fn outcomes_are_read_from_both_the_call_and_the_count() {
        assert_eq!(outcome(Ok(()), 4096), Ok(Outcome::Done));
        assert_eq!(outcome(failed(libc::EAGAIN), 4096), Ok(Outcome::Partial(4096)));
        assert_eq!(outcome(failed(libc::EAGAIN), -11), Ok(Outcome::Again));
        assert_eq!(outcome(failed(libc::EAGAIN), 0), Ok(Outcome::Again));
        assert_eq!(outcome(failed(libc::EEXIST), -17), Ok(Outcome::Exists));
        assert_eq!(outcome(failed(libc::ENOENT), -2), Ok(Outcome::Gone));
        assert_eq!(outcome(failed(libc::ESRCH), -3), Ok(Outcome::Gone));
        assert_eq!(outcome(failed(libc::ENOMEM), -12), Ok(Outcome::NoMemory));
        assert_eq!(outcome(failed(libc::EINVAL), 0).unwrap_err().errno(), libc::EINVAL);
    }
}
