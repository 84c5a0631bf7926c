//! Whether the process may read its own files in `/proc`.

#![allow(unsafe_code)]

/// Whether the process is dumpable (`PR_SET_DUMPABLE(2const)`). The kernel clears this flag when the
/// process changes its user or group; the files of `/proc/self` belong to root from then on.
pub(super) fn is_dumpable() -> bool {
    // SAFETY: takes and returns integers.
    unsafe { libc::prctl(libc::PR_GET_DUMPABLE, 0, 0, 0, 0) == 1 }
}
