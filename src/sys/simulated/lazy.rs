//! Tables for the model checker, whose atomics are not plain integers in memory.

use crate::prim::sync::{Ordering, plain};
use crate::sys::error::SysError;
use std::ops::Deref;

/// Atomics that can be created as zero and reset to it.
pub(crate) trait ZeroedAtomic: Sync {
    fn zero() -> Self;
    fn reset(&self);
}

macro_rules! zeroed {
    ($($name:ty)*) => {$(
        impl ZeroedAtomic for $name {
            fn zero() -> Self {
                Self::new(0)
            }

            fn reset(&self) {
                self.store(0, Ordering::Relaxed);
            }
        }
    )*};
}

zeroed! {
    plain::AtomicU16 plain::AtomicU32 plain::AtomicU64
    crate::prim::sync::AtomicU32 crate::prim::sync::AtomicU64
}

impl<T: ZeroedAtomic, const N: usize> ZeroedAtomic for [T; N] {
    fn zero() -> Self {
        std::array::from_fn(|_| T::zero())
    }

    fn reset(&self) {
        self.iter().for_each(T::reset);
    }
}

/// A slice of zeros, allocated as a whole.
#[derive(Debug)]
pub(crate) struct LazySlice<T: ZeroedAtomic>(Box<[T]>);

impl<T: ZeroedAtomic> LazySlice<T> {
    pub(crate) fn new(len: usize) -> Result<Self, SysError> {
        Ok(Self((0..len).map(|_| T::zero()).collect()))
    }

    pub(crate) fn keep_private(&self) -> Result<(), SysError> {
        Ok(())
    }

    pub(crate) fn populate(&self, _: usize, _: usize) -> Result<(), SysError> {
        Ok(())
    }

    pub(crate) fn discard(&self, start: usize, len: usize) -> Result<(), SysError> {
        self.0[start..start + len].iter().for_each(T::reset);
        Ok(())
    }
}

impl<T: ZeroedAtomic> Deref for LazySlice<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}
