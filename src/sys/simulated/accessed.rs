//! The simulated accessed bits.

use super::kernel::BASE;
use super::{Call, Injected, Kernel};
use crate::prim::geometry::REGION_BYTES;
use crate::prim::{PageRange, REGION_PAGES};
use crate::sys::error::SysError;
use crate::sys::outcome::Clears;
use std::ops::Range;
use std::sync::Arc;

pub(crate) use crate::sys::outcome::{Look, TouchCosts};

/// The accessed bits of the simulated kernel's only arena.
#[derive(Debug)]
pub(crate) struct AccessedBits {
    kernel: Arc<Kernel>,
    addresses: Range<usize>,
    has_looked: bool,
}

impl AccessedBits {
    pub(crate) fn open(addresses: Range<usize>, _clears: Clears) -> Result<Self, SysError> {
        Ok(Self { kernel: Kernel::current(), addresses, has_looked: false })
    }

    /// Huge pages are not simulated.
    pub(crate) fn is_huge(&self, _: usize) -> bool {
        false
    }

    pub(crate) fn costs(&self) -> TouchCosts {
        TouchCosts::default()
    }

    /// Counts region by region, then clears all bits if `clears` says so. Other threads may run in between,
    /// and their references are lost.
    pub(crate) fn look(
        &mut self,
        referenced: &mut [u16],
        clears: &dyn Fn(u64) -> bool,
    ) -> Result<Look, SysError> {
        let all = PageRange::within(self.addresses.start - BASE, self.addresses.len());
        let bytes = (referenced.len() * REGION_BYTES).min(self.addresses.len());
        let asked = PageRange::within(self.addresses.start - BASE, bytes);
        let injected = self.kernel.begin(Call::Look, asked);
        if let Some(Injected::Errno(errno)) = injected {
            return Err(SysError::new("read(/proc/self/smaps)", errno));
        }
        referenced.fill(0);
        for (count, region) in referenced.iter_mut().zip(asked.chunks(REGION_PAGES)) {
            *count = self.kernel.with(|state| {
                let counts = |page| {
                    let page = state.page(page);
                    u16::from(page.entry.is_present() && page.referenced)
                };
                region.iter().map(counts).sum()
            });
        }
        if clears(referenced.iter().map(|count| u64::from(*count)).sum()) {
            self.kernel.exclusively(|state| {
                for page in all.iter() {
                    state.page(page).referenced = false;
                }
            });
        }
        let first = !std::mem::replace(&mut self.has_looked, true);
        let interrupted = first || injected == Some(Injected::Interrupted);
        Ok(if interrupted { Look::Interrupted } else { Look::Whole })
    }
}
