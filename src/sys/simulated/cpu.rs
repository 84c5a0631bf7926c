//! Two processors, of which all threads run on the first.

pub(crate) fn current() -> usize {
    0
}

pub(crate) fn count() -> usize {
    2
}

pub(crate) fn prefetch<T>(_: *const T) {}
