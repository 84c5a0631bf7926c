//! Vectors of bytes that grow.

use super::{Done, repeat};
use crate::blocks::Growing;
use crate::sides::Side;
use std::fmt;
use std::time::Duration;

const FIRST: usize = 16;

/// By how much a full vector grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Factor {
    /// As in Rust's vectors.
    Double,
    /// By half, as in some other languages.
    Half,
}

impl Factor {
    pub(crate) const ALL: [Self; 2] = [Self::Double, Self::Half];

    fn after(self, size: usize) -> usize {
        match self {
            Self::Double => size * 2,
            Self::Half => size + size / 2,
        }
    }
}

impl fmt::Display for Factor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Double => "double",
            Self::Half => "half",
        })
    }
}

/// Grows vectors to `last` bytes in turn, a step at a time, and writes each byte once.
pub(super) fn growth<S: Side>(
    side: &S,
    factor: Factor,
    last: usize,
    vectors: usize,
    budget: Duration,
) -> Done {
    repeat(budget, || {
        let vector = |mark| Growing::new(side, FIRST, mark);
        let mut grown: Vec<_> = (1..).take(vectors).map(vector).collect();
        let mut size = FIRST;
        while size < last {
            size = factor.after(size).min(last);
            grown.iter_mut().for_each(|vector| vector.grow(size));
        }
        u32::try_from(vectors).expect("a few vectors")
    })
}
