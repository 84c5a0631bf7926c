//! Two processors, on the first of which everybody runs.

pub(crate) fn current() -> usize {
    0
}

pub(crate) fn count() -> usize {
    2
}

pub(crate) fn prefetch<T>(_: *const T) {}
