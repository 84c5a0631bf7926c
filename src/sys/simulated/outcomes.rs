//! The outcomes that a simulated call can have instead of its ordinary one.

use super::kernel::Call;
use crate::prim::PageRange;
use std::fmt;

/// An outcome or an event that a test injects into a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Injected {
    /// The call fails and does nothing.
    Errno(i32),
    /// The call does this number of pages and stops.
    Partial(usize),
    /// The call does this number of pages and one more, which it does not count, and stops: as `UFFDIO_MOVE` of Linux
    /// 6.18 may do.
    Uncounted(usize),
    /// The kernel adds a page of zeros to the page cache at the range's page with this number, which
    /// the library did not ask for.
    Stray(usize),
    /// The kernel swaps out all pages that are not locked.
    SwapOut,
    /// The accessed bits of all pages are lost, and the library is not told: stale TLBs have kept the
    /// processors from setting them.
    ReferencesLost,
    /// The accessed bits of all mapped pages are set, as if the kernel had accessed the pages.
    ReferencesAdded,
    /// Another agent has cleared accessed bits since the last look.
    Interrupted,
    /// A spurious wake-up of all threads that wait for pages.
    WakeAll,
}

impl fmt::Display for Injected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Errno(errno) => {
                let names = [
                    (libc::EAGAIN, "EAGAIN"),
                    (libc::EBUSY, "EBUSY"),
                    (libc::EEXIST, "EEXIST"),
                    (libc::EFAULT, "EFAULT"),
                    (libc::EINTR, "EINTR"),
                    (libc::EINVAL, "EINVAL"),
                    (libc::EIO, "EIO"),
                    (libc::ENODATA, "ENODATA"),
                    (libc::ENOENT, "ENOENT"),
                    (libc::ENOMEM, "ENOMEM"),
                    (libc::EPERM, "EPERM"),
                    (libc::ESRCH, "ESRCH"),
                ];
                let name = names.iter().find(|(number, _)| number == errno);
                name.map_or_else(|| errno.to_string(), |(_, name)| (*name).to_owned())
            }
            Self::Partial(_) => "partial".to_owned(),
            Self::Uncounted(_) => "uncounted".to_owned(),
            Self::Stray(_) => "stray page".to_owned(),
            Self::SwapOut => "swapped out".to_owned(),
            Self::ReferencesLost => "references lost".to_owned(),
            Self::ReferencesAdded => "references added".to_owned(),
            Self::Interrupted => "interrupted".to_owned(),
            Self::WakeAll => "woken early".to_owned(),
        };
        f.write_str(&name)
    }
}

/// The loss that an outcome may cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Cost {
    /// None: the program notices only a delay, or an error without a loss.
    Nothing,
    /// A page that is being restored is lost: SIGBUS, and a line on standard error.
    Page,
    /// The process aborts with a reason.
    Process,
}

/// Every injection that fits a call on `range`, and its cost.
pub(crate) fn outcomes(call: Call, range: PageRange) -> Vec<(Injected, Cost)> {
    use libc::{
        EAGAIN, EBUSY, EEXIST, EFAULT, EINTR, EINVAL, EIO, ENODATA, ENOENT, ENOMEM, EPERM, ESRCH,
    };
    let pages = range.pages();
    let one = pages == 1;
    let errors = |errnos: &[i32], cost| {
        errnos.iter().map(|errno| (Injected::Errno(*errno), cost)).collect::<Vec<_>>()
    };
    let mut all = match call {
        Call::Copy | Call::Zeropage => {
            let gone = if one { Cost::Page } else { Cost::Nothing };
            let mut all = errors(&[EAGAIN, ENOMEM], Cost::Nothing);
            all.extend(errors(&[ENOENT, ESRCH], gone));
            all.extend(errors(&[EINTR, EBUSY, EFAULT], Cost::Page));
            all.extend((1..pages).map(|n| (Injected::Partial(n), Cost::Nothing)));
            match call {
                // An empty page may get a page of zeros in any way; other contents would be lost.
                Call::Zeropage => {
                    all.extend((0..pages).map(|n| (Injected::Stray(n), Cost::Nothing)))
                }
                _ => all.extend(errors(&[EEXIST], Cost::Nothing)),
            }
            all
        }
        Call::WriteProtect | Call::ReadWriteProtect => {
            errors(&[EAGAIN, ENOENT, ENOMEM, EINTR, EBUSY], Cost::Nothing)
        }
        Call::WriteUnprotect | Call::ReadWriteUnprotect => {
            let mut all = errors(&[EAGAIN], Cost::Nothing);
            all.extend(errors(&[ENOENT, ENOMEM, EINTR], Cost::Process));
            all
        }
        Call::Sync => errors(&[EINVAL, EINTR], Cost::Nothing),
        Call::Async | Call::Wake | Call::Unregister => errors(&[EINVAL, ENOMEM], Cost::Process),
        Call::Poison => {
            let mut all = errors(&[EAGAIN, EEXIST], Cost::Nothing);
            all.extend(errors(&[ENOENT, ENOMEM], Cost::Process));
            all
        }
        Call::Scan => errors(&[ENOMEM, EINTR, EFAULT], Cost::Nothing),
        Call::Look => {
            let mut all = errors(&[EBUSY, ENOMEM, ENODATA], Cost::Nothing);
            let lies = [Injected::ReferencesLost, Injected::ReferencesAdded, Injected::Interrupted];
            all.extend(lies.map(|lie| (lie, Cost::Nothing)));
            all
        }
        Call::SetApart => errors(&[ENOMEM, EINVAL], Cost::Nothing),
        Call::ReadBytes => errors(&[EIO, ENOMEM], Cost::Nothing),
        Call::TryRead => errors(&[EIO], Cost::Page),
        Call::Punch => errors(&[EINTR, ENOMEM, EPERM, EBUSY], Cost::Nothing),
        // A page that is pinned for a device, or shared with another process, is busy.
        Call::MoveOut => {
            let errnos = [EAGAIN, EBUSY, EEXIST, EFAULT, EINTR, EINVAL, ENOENT, ENOMEM];
            let mut all = errors(&errnos, Cost::Nothing);
            all.extend((1..pages).map(|n| (Injected::Partial(n), Cost::Nothing)));
            all.extend((0..pages).map(|n| (Injected::Uncounted(n), Cost::Nothing)));
            all
        }
        Call::MoveBack => {
            let errnos = [EAGAIN, EBUSY, EFAULT, EINTR, EINVAL, ENOENT, ENOMEM];
            let mut all = errors(&errnos, Cost::Nothing);
            all.push((Injected::Uncounted(0), Cost::Nothing));
            all
        }
        Call::Discard | Call::DiscardStaged => errors(&[ENOMEM, EAGAIN], Cost::Nothing),
        Call::Zap => errors(&[EINVAL, ENOMEM], Cost::Nothing),
        Call::MapIn => errors(&[EFAULT, ENOMEM, EAGAIN, EINTR], Cost::Nothing),
        Call::Lock => errors(&[ENOMEM, EAGAIN, EPERM], Cost::Nothing),
        Call::Unlock => errors(&[ENOMEM, EINTR], Cost::Nothing),
        Call::ReadMessages => {
            // poll(2) reported a message, but there is none.
            let mut all = errors(&[EAGAIN], Cost::Nothing);
            all.extend(errors(&[EIO], Cost::Process));
            all
        }
        Call::Replace => errors(&[ENOMEM], Cost::Process),
        Call::Register | Call::Restore => errors(&[ENOMEM], Cost::Nothing),
    };
    all.push((Injected::SwapOut, Cost::Nothing));
    all.push((Injected::WakeAll, Cost::Nothing));
    all
}

/// Whether the library repeats the call, perhaps on fewer pages, and does not count the failure.
pub(crate) fn is_retried(call: Call, injected: Injected) -> bool {
    match call {
        Call::Punch => injected == Injected::Errno(libc::EINTR),
        Call::MoveOut => {
            matches!(
                injected,
                Injected::Errno(libc::EAGAIN | libc::ENOENT | libc::EEXIST)
                    | Injected::Uncounted(_)
            )
        }
        // The page is copied if it cannot be moved.
        Call::MoveBack => true,
        Call::WriteProtect
        | Call::ReadWriteProtect
        | Call::WriteUnprotect
        | Call::ReadWriteUnprotect => {
            matches!(injected, Injected::Errno(libc::EAGAIN | libc::ENOENT))
        }
        _ => false,
    }
}
