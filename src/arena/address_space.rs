//! The address space that an arena takes, and a smaller reserve where the process may not have so much.

use super::Swapping;
use super::builder::Config;
use super::error::BuildError;
use crate::prim::sync::AtomicU64;
use crate::sys::SysError;
use crate::sys::backing::{MemoryKind, PlainMemory};
use crate::sys::memory::LazySlice;
use std::iter;

/// The reserve of an arena whose program gives none.
pub(super) const DEFAULT_RESERVE: usize = 64 << 30;

/// The least reserve of such an arena.
const LEAST_DEFAULT: usize = 64 << 20;

/// The tables take less than this part of the reserve and of the store: some 50 bytes for each page.
const TABLES: usize = 64;

/// Bytes of the memory's views: two of shared and of plain memory, one of private memory.
fn views(config: &Config, swapping: &Swapping) -> usize {
    match (config.memory, swapping) {
        (MemoryKind::Private, Swapping::On(_)) => config.reserve,
        _ => 2 * config.reserve,
    }
}

/// Bytes of the store. Plain memory has none.
fn store(config: &Config, swapping: &Swapping) -> usize {
    match swapping {
        Swapping::On(_) => config.store_limit,
        Swapping::Off(_) | Swapping::Stopped => 0,
    }
}

/// The error of building an arena, with the sizes if address space is what it lacks.
pub(super) fn explain(error: BuildError, config: &Config, swapping: &Swapping) -> BuildError {
    match error {
        BuildError::Sys(error) if error.is_lack_of_address_space() => BuildError::AddressSpace {
            reserve: config.reserve,
            bytes: views(config, swapping).saturating_add(store(config, swapping)),
            error,
        },
        error => error,
    }
}

/// The options with the default reserve, halved until it fits, and then once more: that leaves address
/// space for the program's own allocations and the stacks of threads.
pub(super) fn config_that_fits(
    sized: impl Fn(usize) -> Config,
    swapping: &Swapping,
) -> Result<Config, BuildError> {
    let halves = iter::successors(Some(DEFAULT_RESERVE / 2), |reserve| Some(reserve / 2));
    let mut refused = None;
    for reserve in halves.take_while(|&reserve| reserve >= 2 * LEAST_DEFAULT) {
        let config = sized(reserve);
        match try_reserve(&config, swapping) {
            Ok(()) => return Ok(sized(reserve / 2)),
            Err(error) => refused = Some(explain(error.into(), &config, swapping)),
        }
    }
    Err(refused.expect("the default is more than the least"))
}

/// Takes the address space that an arena takes, and gives it back. It makes no allocation meanwhile that
/// could fail for lack of address space.
fn try_reserve(config: &Config, swapping: &Swapping) -> Result<(), SysError> {
    let _views = PlainMemory::new(config.reserve)?;
    let private = store(config, swapping);
    let tables = (config.reserve + private) / TABLES;
    LazySlice::<AtomicU64>::new((private + tables) / size_of::<AtomicU64>()).map(drop)
}
