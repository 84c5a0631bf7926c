//! What may become of a call, besides what was to be.

use super::kernel::Call;
use crate::prim::PageRange;
use std::fmt;

/// Something that befalls a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Injected {
    /// It fails and does nothing.
    Errno(i32),
    /// It does so many pages and stops.
    Partial(usize),
    /// A page of zeros gets into the page cache, by another way than ours, where the call's page is
    /// with this number.
    Stray(usize),
    /// The kernel swaps out whatever is not locked.
    SwapOut,
    /// All who wait for pages are woken, for no reason.
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
                    (libc::ENOENT, "ENOENT"),
                    (libc::ENOMEM, "ENOMEM"),
                    (libc::EPERM, "EPERM"),
                    (libc::ESRCH, "ESRCH"),
                ];
                let name = names.iter().find(|(number, _)| number == errno);
                name.map_or_else(|| errno.to_string(), |(_, name)| (*name).to_owned())
            }
            Self::Partial(_) => "partial".to_owned(),
            Self::Stray(_) => "stray page".to_owned(),
            Self::SwapOut => "swapped out".to_owned(),
            Self::WakeAll => "woken early".to_owned(),
        };
        f.write_str(&name)
    }
}

/// What an outcome may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Cost {
    /// Nothing that a program would notice but time, or an error that is no loss.
    Nothing,
    /// A page that is to come in is lost: SIGBUS, and a line that says so.
    Page,
    /// The process ends, and says why.
    Process,
}

/// Everything that may befall a call on `range`, and what it may cost.
pub(crate) fn outcomes(call: Call, range: PageRange) -> Vec<(Injected, Cost)> {
    use libc::{EAGAIN, EBUSY, EEXIST, EFAULT, EINTR, EINVAL, EIO, ENOENT, ENOMEM, EPERM, ESRCH};
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
                // Empty pages may have got one of zeros by any way; what else they held would be lost.
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
        Call::ReadBytes => errors(&[EIO, ENOMEM], Cost::Nothing),
        Call::TryRead => errors(&[EIO], Cost::Page),
        Call::Punch => errors(&[EINTR, ENOMEM, EPERM, EBUSY], Cost::Nothing),
        Call::Zap => errors(&[EINVAL, ENOMEM], Cost::Nothing),
        Call::MapIn => errors(&[EFAULT, ENOMEM, EAGAIN, EINTR], Cost::Nothing),
        Call::Lock => errors(&[ENOMEM, EAGAIN, EPERM], Cost::Nothing),
        Call::Unlock => errors(&[ENOMEM, EINTR], Cost::Nothing),
        Call::ReadMessages => {
            // Nothing to read, though poll(2) said so.
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

/// Whether nobody is told of it, since the call is simply made again, on fewer pages perhaps.
pub(crate) fn is_asked_again(call: Call, injected: Injected) -> bool {
    match call {
        Call::Punch => injected == Injected::Errno(libc::EINTR),
        Call::WriteProtect
        | Call::ReadWriteProtect
        | Call::WriteUnprotect
        | Call::ReadWriteUnprotect => {
            matches!(injected, Injected::Errno(libc::EAGAIN | libc::ENOENT))
        }
        _ => false,
    }
}
