//! Which resting regions the program references: by the accessed bits of its page table.
//!
//! `/proc/self/smaps` counts accessed bits by mapping, so each resting region has to be a mapping of its own. Odd
//! regions get another advice than even ones, which keeps the kernel from merging them. Where neither a region
//! nor its neighbours rest, they are one mapping. So the number of mappings follows the number of resting regions.
//!
//! A kernel allows a process a number of mappings (`vm.max_map_count`). When they run out, two neighbouring
//! regions share a mapping and its count, then four, and so on.

use super::Core;
use crate::prim::{PageRange, REGION_PAGES};
use crate::sys::SysError;
use crate::sys::accessed::{AccessedBits, Look, TouchCosts};
use crate::sys::backing::MemoryKind;
use crate::sys::outcome::Clears;
use std::cell::Cell;
use std::sync::Arc;

/// The most units with an advice of their own: each makes two mappings, and the default limit is 65,530.
const MOST_APART: usize = 16_000;

/// The largest number of regions in a unit, as a power of two.
const MAX_UNIT_SHIFT: u32 = 12;

/// The accessed bits of an arena's resting regions.
#[derive(Debug)]
pub(crate) struct References {
    core: Arc<Core>,
    bits: AccessedBits,
    /// For each region how many of its pages the last look found referenced.
    referenced: Vec<u16>,
    /// The same, of the last look that cleared the bits.
    cleared: Vec<u16>,
    /// Whether each region rests.
    resting: Vec<bool>,
    /// log2 of the number of regions in a unit, which is a mapping or a part of one.
    unit_shift: u32,
    units: Vec<Unit>,
    apart: usize,
}

/// Neighbouring regions that share a mapping.
#[derive(Clone, Copy, Debug, Default)]
struct Unit {
    /// How many of its regions rest.
    resting: u32,
    /// Whether it has another advice than its neighbours.
    apart: bool,
}

impl References {
    /// Begins to read the accessed bits of an arena. Fails where the system does not let a process read its
    /// own.
    pub(crate) fn start(core: &Arc<Core>) -> Result<Self, SysError> {
        let addresses = core.backing.addresses();
        // The evictor shares the keeper's descriptors.
        let clears = match core.backing.kind() {
            MemoryKind::Shared => Clears::Files,
            MemoryKind::Private => Clears::All,
        };
        let bits = core.backing.keeper().call(|| AccessedBits::open(addresses, clears))?;
        Ok(Self {
            core: Arc::clone(core),
            bits,
            referenced: Vec::new(),
            cleared: Vec::new(),
            resting: Vec::new(),
            unit_shift: 0,
            units: Vec::new(),
            apart: 0,
        })
    }

    /// Reads the accessed bits of the first `regions` regions, and clears all if `clears` says so of the number
    /// of referenced pages.
    pub(crate) fn look(
        &mut self,
        regions: usize,
        clears: &dyn Fn(u64) -> bool,
    ) -> Result<Look, SysError> {
        self.referenced.clear();
        self.referenced.resize(regions, 0);
        let cleared = Cell::new(false);
        let clears = |pages| {
            cleared.set(clears(pages));
            cleared.get()
        };
        let look = self.bits.look(&mut self.referenced, &clears)?;
        if cleared.get() {
            self.cleared.clone_from(&self.referenced);
        }
        Ok(look)
    }

    /// What a touch costs the program.
    pub(crate) fn costs(&self) -> TouchCosts {
        self.bits.costs()
    }

    /// Whether a page of a region was referenced between the last look that cleared the bits, before the last
    /// look, and the last look.
    pub(crate) fn is_referenced(&self, region: usize) -> bool {
        self.referenced.get(region).is_some_and(|pages| *pages > 0)
    }

    /// How many pages of a resting region the program references between two looks that clear the bits.
    pub(crate) fn of(&self, region: usize) -> usize {
        self.cleared.get(region).map_or(0, |pages| usize::from(*pages))
    }

    /// Whether the last look found huge pages in a region.
    pub(crate) fn is_huge(&self, region: usize) -> bool {
        self.bits.is_huge(region)
    }

    /// The regions that rest.
    pub(crate) fn resting(&self) -> impl Iterator<Item = usize> {
        (0..self.resting.len()).filter(|region| self.resting[*region])
    }

    /// A region rests from now on, or no longer.
    pub(crate) fn set_resting(&mut self, region: usize, rests: bool) {
        if self.resting.len() <= region {
            self.resting.resize(region + 1, false);
        }
        if std::mem::replace(&mut self.resting[region], rests) == rests {
            return;
        }
        let unit = region >> self.unit_shift;
        if self.units.len() <= unit + 1 {
            self.units.resize(unit + 2, Unit::default());
        }
        let resting = &mut self.units[unit].resting;
        *resting = if rests { *resting + 1 } else { *resting - 1 };
        for near in unit.saturating_sub(1)..=unit + 1 {
            if self.separate(near).is_err() {
                self.merge_units();
                return;
            }
        }
    }

    /// Has the kernel map a region's huge page as small ones. The memory stays a huge page.
    pub(crate) fn split(&self, region: usize) -> Result<(), SysError> {
        // A mapping that ends within a huge page cannot be made of it (`vma_adjust_trans_huge`). The two calls make
        // such a mapping, and join it again.
        let page = PageRange::new(region * REGION_PAGES + 1, region * REGION_PAGES + 2);
        let apart = self.units.get(region >> self.unit_shift).is_some_and(|unit| unit.apart);
        let page = page.intersection(self.core.backing.all());
        self.set_apart(page, !apart)?;
        self.set_apart(page, apart)
    }

    /// Advises the kernel, and counts a refusal.
    fn set_apart(&self, range: PageRange, apart: bool) -> Result<(), SysError> {
        let set = self.core.backing.set_apart(range, apart);
        if set.is_err() {
            self.core.counters.accessed_errors.add(1);
        }
        set
    }

    /// Gives a unit the advice that it should have.
    fn separate(&mut self, unit: usize) -> Result<(), SysError> {
        let neighbours = unit.saturating_sub(1)..(unit + 2).min(self.units.len());
        let rests = self.units[neighbours].iter().any(|unit| unit.resting > 0);
        let apart = unit % 2 == 1 && rests;
        let pages = REGION_PAGES << self.unit_shift;
        let range = PageRange::new(unit * pages, (unit + 1) * pages);
        let range = range.intersection(self.core.backing.all());
        if self.units[unit].apart == apart || range.is_empty() {
            return Ok(());
        }
        if apart && self.apart >= MOST_APART {
            return Err(SysError::no_memory("madvise"));
        }
        match self.set_apart(range, apart) {
            // More mappings than needed are harmless.
            Err(_) if !apart => {}
            result => result?,
        }
        self.units[unit].apart = apart;
        self.apart = if apart { self.apart + 1 } else { self.apart - 1 };
        Ok(())
    }

    /// Makes units twice as large, until there are few enough.
    fn merge_units(&mut self) {
        while self.unit_shift < MAX_UNIT_SHIFT {
            self.unit_shift += 1;
            // An error leaves mappings that count for themselves.
            let _ = self.set_apart(self.core.backing.all(), false);
            self.apart = 0;
            self.units.clear();
            self.units.resize((self.resting.len() >> self.unit_shift) + 2, Unit::default());
            for region in (0..self.resting.len()).filter(|region| self.resting[*region]) {
                self.units[region >> self.unit_shift].resting += 1;
            }
            if (0..self.units.len()).all(|unit| self.separate(unit).is_ok()) {
                return;
            }
        }
    }
}

impl Drop for References {
    fn drop(&mut self) {
        // One mapping again. On an error there are more mappings than needed.
        let _ = self.set_apart(self.core.backing.all(), false);
    }
}

#[cfg(test)]
#[cfg(not(thermocline_sim))]
mod tests {
    use super::*;
    use crate::common;
    use crate::prim::PAGE_SIZE;
    use crate::sys::accessed::tests::alone;
    use crate::sys::backing::FaultDelivery;

    #[test]
    fn neighbours_share_a_mapping_when_there_are_more_than_the_kernel_allows() {
        const TEST: &str = "neighbours_share_a_mapping";
        const REGIONS: usize = 2 * MOST_APART + 700;
        let _alone = alone();
        for kind in common::trackers(TEST) {
            let bytes = REGIONS * REGION_PAGES * PAGE_SIZE;
            let core =
                Core::new(bytes, MemoryKind::Shared, kind, 0, FaultDelivery::Messages(1), 64 << 20)
                    .unwrap();
            let core = Arc::new(core);
            let mut it = match References::start(&core) {
                Ok(references) => references,
                Err(e) => return common::skip(TEST, "accessed_bits", &e.to_string()),
            };
            (0..100).for_each(|region| it.set_resting(region, true));
            assert_eq!((it.unit_shift, it.apart), (0, 50), "each region has a mapping of its own");
            (100..REGIONS).for_each(|region| it.set_resting(region, true));
            assert_eq!((it.unit_shift, it.apart), (1, REGIONS / 4));
            let keeper = core.backing.keeper();
            keeper.call(|| it.look(REGIONS, &|_| true)).unwrap();
            let address = core.backing.addresses().start + 7 * REGION_PAGES * PAGE_SIZE;
            let uffd = &core.backing.uffds()[0];
            keeper.call(|| uffd.zeropage(address as u64, PAGE_SIZE)).unwrap();
            assert_eq!(keeper.call(|| it.look(REGIONS, &|_| true)), Ok(Look::Whole));
            let found: Vec<_> = (0..REGIONS).filter(|region| it.is_referenced(*region)).collect();
            assert!(found.iter().all(|region| region / 2 == 3) && !found.is_empty(), "{found:?}");
            (0..REGIONS).for_each(|region| it.set_resting(region, false));
            assert_eq!(it.apart, 0);
            assert_eq!(core.counters.accessed_errors.get(), 0);
        }
    }
}
