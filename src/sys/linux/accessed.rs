//! The processor's accessed bits, by `/proc/self/smaps` and `/proc/self/clear_refs`.
//!
//! The processor sets a bit in a page's page-table entry when it uses the entry. The line `Referenced:` of
//! smaps counts the set bits of each mapping; writing `3` to clear_refs clears them in all mappings of files, and
//! writing `1` in all mappings (`Documentation/filesystems/proc.rst`). Shared arenas are memfds, for which `3` is
//! enough. It skips the program's anonymous memory. A private arena needs `1`.
//! A look reads the counts, and may then clear the bits. The counts are per region if each region is a mapping
//! of its own ([`SharedMemory::set_apart`](super::memory::SharedMemory::set_apart)).
//!
//! To read costs the program nothing. After a clear the processor has to set the bit of each page again that
//! the program touches, which a [`TouchMeter`] times.
//!
//! # Accessed bits are advice
//!
//! A look can miss a reference:
//!
//! * between reading a mapping's count and clearing its bits;
//! * while a processor uses an entry of its TLB, because it then reads no page-table entry. The kernel does
//!   not flush TLBs when it clears the bits (`clear_refs_write`), so a look flushes them; see [`Canary`];
//! * if the kernel's reclaim clears the bit, which it does to find pages to swap out.
//!
//! A look can also count a page that the program did not touch: `UFFDIO_COPY` sets the bit, and the kernel
//! marks a page as referenced when it reads the memfd, or unmaps the page from another view.
//!
//! # Several arenas in a process
//!
//! Clearing the bits clears those of all arenas. So a look counts for all arenas, up to the highest
//! address that any of them has asked for, and keeps the counts of the other arenas in the [`REGISTRY`].

#![allow(unsafe_code)]

use super::descriptor::Descriptor;
use super::smaps::{Figure, SmapsParser, add_shares};
use super::touch_meter::TouchMeter;
use super::view::View;
use crate::prim::PAGE_SIZE;
use crate::prim::geometry::REGION_BYTES;
use crate::prim::units::index;
use crate::sys::error::SysError;
use crate::sys::fork::Generation;
use crate::sys::outcome::Clears;
use memmap2::{Advice, UncheckedAdvice};
use std::fs::OpenOptions;
use std::ops::Range;
use std::os::fd::RawFd;
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread;
use std::time::Duration;

pub(crate) use crate::sys::outcome::{Look, TouchCosts};

/// The text that one read asks for. The kernel gives about a page at a time.
const BUFFER: usize = 64 << 10;

/// How long, in steps, a look waits for another arena's look.
const LOCK_STEP: Duration = Duration::from_millis(1);
const LOCK_STEPS: usize = 1000;

const READ: &str = "read(/proc/self/smaps)";
const CLEAR: &str = "write(/proc/self/clear_refs)";

/// The arenas of this process that look at accessed bits.
static REGISTRY: Mutex<Registry> =
    Mutex::new(Registry { arenas: Vec::new(), canary: None, next_id: 0 });

/// The processor's accessed bits of an arena's pages, region by region.
#[derive(Debug)]
pub(crate) struct AccessedBits {
    smaps: Descriptor,
    clear_refs: Descriptor,
    /// Identifies the arena in the registry.
    id: u64,
    /// For each region how many of its pages the last look found in huge pages.
    huge: Vec<u16>,
    buffer: Box<[u8]>,
    /// None if the kernel had no memory for it.
    meter: Option<TouchMeter>,
    costs: TouchCosts,
}

impl AccessedBits {
    /// Opens the files for the arena at `addresses`, a multiple of 2 MiB long, in mappings whose bits `clears`
    /// clears. Regions count from the arena's start.
    ///
    /// The calling thread must share the descriptor table of the thread that looks.
    pub(crate) fn open(addresses: Range<usize>, clears: Clears) -> Result<Self, SysError> {
        debug_assert!(addresses.len().is_multiple_of(REGION_BYTES));
        let open = |options: &OpenOptions, path, call| {
            let file = options.open(path).map_err(|e| SysError::from_io(call, &e))?;
            Descriptor::new(file.into())
        };
        let smaps =
            open(OpenOptions::new().read(true), "/proc/self/smaps", "open(/proc/self/smaps)")?;
        let clear_refs = open(
            OpenOptions::new().write(true),
            "/proc/self/clear_refs",
            "open(/proc/self/clear_refs)",
        )?;
        let generation = Generation::current()?;
        let id = lock(&REGISTRY, "open(/proc/self/smaps)")?.add(addresses, clears, generation);
        let buffer = vec![0; BUFFER].into();
        let (meter, costs) = (TouchMeter::new().ok(), TouchCosts::default());
        Ok(Self { smaps, clear_refs, id, huge: Vec::new(), buffer, meter, costs })
    }

    /// Whether the last look found huge pages in a region.
    pub(crate) fn is_huge(&self, region: usize) -> bool {
        self.huge.get(region).is_some_and(|pages| *pages > 0)
    }

    /// What a touch costs the program, as of the last look that cleared the bits.
    pub(crate) fn costs(&self) -> TouchCosts {
        self.costs
    }

    /// Reads how many pages of each region were referenced since the arena's last look that cleared the bits.
    /// `referenced` gets a count (0 to 512) for each region from the arena's first on. The look does not read
    /// the regions beyond. Clears the accessed bits of all regions if `clears` says so of the number of set bits.
    ///
    /// Waits up to a second for another arena's look, then fails with EBUSY. Fails with ENODATA if smaps
    /// does not have the arena's mappings with their counts. A look that fails clears nothing.
    pub(crate) fn look(
        &mut self,
        referenced: &mut [u16],
        clears: &dyn Fn(u64) -> bool,
    ) -> Result<Look, SysError> {
        let mut registry = lock(&REGISTRY, READ)?;
        let registry = &mut *registry;
        // A forked child has inherited the entry of its parent's arena, or removed it.
        let gone = SysError::new(READ, libc::ESTALE);
        let arena = registry.begin(self.id, referenced.len()).ok_or(gone)?;
        self.read(registry)?;
        if !registry.arenas[arena].is_covered() {
            return Err(SysError::new(READ, libc::ENODATA));
        }
        registry.arenas[arena].give(referenced);
        self.huge.clone_from(&registry.arenas[arena].huge);
        let cleared = clears(registry.arenas[arena].bits());
        if cleared {
            clear_references(self.clear_refs.checked(CLEAR)?, registry.clears())?;
        }
        let look = registry.finish(arena, cleared);
        if cleared && let Some(costs) = self.meter.as_ref().and_then(TouchMeter::measure) {
            self.costs = costs;
        }
        Ok(look)
    }

    fn read(&mut self, registry: &mut Registry) -> Result<(), SysError> {
        let mut parser = SmapsParser::new(registry.end());
        let mut offset = 0;
        loop {
            let got = read_at(self.smaps.checked(READ)?, &mut self.buffer, offset)?;
            let mut visit = |mapping: &_, figure, bytes| {
                registry.count(mapping, figure, bytes);
                true
            };
            if got == 0 || !parser.feed(&self.buffer[..got], &mut visit) {
                return Ok(());
            }
            offset += got as u64;
        }
    }
}

impl Drop for AccessedBits {
    fn drop(&mut self) {
        // In a forked child the lock may stay locked, and then the child cannot look at all.
        if let Ok(mut registry) = lock(&REGISTRY, READ) {
            registry.remove(self.id);
        }
    }
}

/// Locks the registry. A forked child inherits the lock as it was, perhaps locked by a thread of the parent,
/// so a thread gives up after about a second.
fn lock<'a, T>(mutex: &'a Mutex<T>, call: &'static str) -> Result<MutexGuard<'a, T>, SysError> {
    for _ in 0..LOCK_STEPS {
        match mutex.try_lock() {
            Ok(guard) => return Ok(guard),
            Err(TryLockError::Poisoned(guard)) => return Ok(PoisonError::into_inner(guard)),
            Err(TryLockError::WouldBlock) => thread::sleep(LOCK_STEP),
        }
    }
    Err(SysError::new(call, libc::EBUSY))
}

fn read_at(number: RawFd, buffer: &mut [u8], offset: u64) -> Result<usize, SysError> {
    loop {
        let into = buffer.as_mut_ptr().cast();
        // SAFETY: writes at most as many bytes as the slice has.
        let got = unsafe { libc::pread(number, into, buffer.len(), offset.cast_signed()) };
        match usize::try_from(got).map_err(|_| SysError::last(READ)) {
            Err(e) if e.errno() == libc::EINTR => {}
            result => return result,
        }
    }
}

/// Clears the accessed bits of these mappings of the process.
fn clear_references(number: RawFd, clears: Clears) -> Result<(), SysError> {
    let text = match clears {
        Clears::Files => b"3",
        Clears::All => b"1",
    };
    loop {
        // SAFETY: reads one byte of a static.
        if unsafe { libc::write(number, text.as_ptr().cast(), 1) } == 1 {
            return Ok(());
        }
        match SysError::last(CLEAR) {
            e if e.errno() == libc::EINTR => {}
            e => return Err(e),
        }
    }
}

/// The state that the arenas of a process share.
#[derive(Debug)]
struct Registry {
    arenas: Vec<Entry>,
    /// None if no arena is registered, or if no address below the first one was free.
    canary: Option<Canary>,
    next_id: u64,
}

/// An arena in the registry.
#[derive(Debug)]
struct Entry {
    id: u64,
    generation: Generation,
    clears: Clears,
    start: u64,
    /// For each region that the arena's last look asked for: the largest count that a look of another
    /// arena has read and cleared since this arena's last clear.
    pending: Vec<u16>,
    /// The counts of the current look.
    current: Vec<u16>,
    /// For each region how many of its pages the current look has found in huge pages.
    huge: Vec<u16>,
    /// The mappings up to this address have been counted in the current look.
    counted_to: u64,
    /// Another arena's look has cleared the bits since this arena's last clear.
    cleared_by_another_arena: bool,
    /// The next look is [`Look::Interrupted`].
    interrupted: bool,
}

impl Entry {
    /// The end of the regions that a look counts.
    fn end(&self) -> u64 {
        self.start + (self.current.len() * REGION_BYTES) as u64
    }

    /// Whether the current look has counted every region.
    fn is_covered(&self) -> bool {
        self.counted_to >= self.end()
    }

    fn begin(&mut self) {
        self.current.fill(0);
        self.huge.fill(0);
        self.counted_to = self.start;
    }

    fn count(&mut self, mapping: &Range<u64>, figure: Figure, bytes: u64) {
        let counts = match figure {
            Figure::Referenced => &mut self.current,
            Figure::Huge => &mut self.huge,
        };
        add_shares(counts, self.start, mapping, bytes);
        // A gap remains, and the arena is not covered.
        if mapping.start <= self.counted_to {
            self.counted_to = self.counted_to.max(mapping.end);
        }
    }

    /// Changes the number of regions that a look counts.
    fn resize(&mut self, regions: usize) {
        // The looks of other arenas have not counted the new regions.
        self.interrupted |= regions > self.pending.len() && self.cleared_by_another_arena;
        self.pending.resize(regions, 0);
        self.current.resize(regions, 0);
        self.huge.resize(regions, 0);
    }

    /// Keeps the counts of another arena's look, which has cleared the bits.
    fn keep(&mut self) {
        self.interrupted |= !self.is_covered();
        self.cleared_by_another_arena = true;
        for (pending, current) in self.pending.iter_mut().zip(&self.current) {
            *pending = (*pending).max(*current);
        }
    }

    /// Gives the counts of this arena's look, or the larger ones that looks of other arenas have read.
    fn give(&self, referenced: &mut [u16]) {
        let counts = self.pending.iter().zip(&self.current);
        for (count, (pending, current)) in referenced.iter_mut().zip(counts) {
            *count = *pending.max(current);
        }
    }

    /// How many bits are set. A huge page has one.
    fn bits(&self) -> u64 {
        let counts = self.pending.iter().zip(&self.current).zip(&self.huge);
        let of = |((pending, current), huge): ((&u16, &u16), &u16)| {
            let pages = *pending.max(current);
            u64::from(pages.saturating_sub(*huge)) + u64::from(pages > 0 && *huge > 0)
        };
        counts.map(of).sum()
    }

    /// Ends this arena's look.
    fn finish(&mut self, cleared: bool) -> Look {
        if cleared {
            self.pending.fill(0);
            self.cleared_by_another_arena = false;
        }
        if std::mem::take(&mut self.interrupted) { Look::Interrupted } else { Look::Whole }
    }
}

impl Registry {
    /// Adds an arena and returns its id.
    fn add(&mut self, addresses: Range<usize>, clears: Clears, generation: Generation) -> u64 {
        // A forked child has none of its parent's arenas.
        self.arenas.retain(|arena| arena.generation.is_current());
        let is_low = |canary: &Canary| canary.address() < addresses.start;
        if !self.canary.as_ref().is_some_and(is_low)
            && let Some(canary) = Canary::below(&addresses)
        {
            self.canary = Some(canary);
            // The new canary cannot say what happened before.
            self.arenas.iter_mut().for_each(|arena| arena.interrupted = true);
        }
        let id = self.next_id;
        self.next_id += 1;
        self.arenas.push(Entry {
            id,
            generation,
            clears,
            start: addresses.start as u64,
            pending: Vec::new(),
            current: Vec::new(),
            huge: Vec::new(),
            counted_to: 0,
            cleared_by_another_arena: false,
            interrupted: true,
        });
        id
    }

    fn remove(&mut self, id: u64) {
        self.arenas.retain(|arena| arena.id != id);
        if self.arenas.is_empty() {
            self.canary = None;
        }
    }

    /// Begins a look of this number of regions. Returns the arena's position.
    fn begin(&mut self, id: u64, regions: usize) -> Option<usize> {
        let is_own = |arena: &Entry| arena.id == id && arena.generation.is_current();
        let arena = self.arenas.iter().position(is_own)?;
        self.arenas[arena].resize(regions);
        self.arenas.iter_mut().for_each(Entry::begin);
        self.canary.iter_mut().for_each(|canary| canary.referenced = 0);
        Some(arena)
    }

    /// The mappings whose bits a look clears: those of all arenas, and the canary.
    fn clears(&self) -> Clears {
        self.arenas.iter().map(|arena| arena.clears).max().unwrap_or(Clears::Files)
    }

    /// The end of the mappings that a look reads.
    fn end(&self) -> u64 {
        self.arenas.iter().map(Entry::end).max().unwrap_or(0)
    }

    fn count(&mut self, mapping: &Range<u64>, figure: Figure, bytes: u64) {
        self.arenas.iter_mut().for_each(|arena| arena.count(mapping, figure, bytes));
        let canaries = self.canary.iter_mut().filter(|_| figure == Figure::Referenced);
        canaries.for_each(|canary| canary.count(mapping, bytes));
    }

    /// Ends a look, after the bits have perhaps been cleared.
    fn finish(&mut self, arena: usize, cleared: bool) -> Look {
        let end = self.end();
        if let Some(canary) = &mut self.canary {
            // Above the end the look has not read the canary.
            let dead = (canary.address() as u64) < end && !canary.is_alive();
            self.arenas.iter_mut().for_each(|arena| arena.interrupted |= dead);
            if dead || cleared {
                canary.revive();
            }
        }
        if cleared {
            let others = self.arenas.iter_mut().enumerate().filter(|(other, _)| *other != arena);
            others.for_each(|(_, other)| other.keep());
        }
        self.arenas[arena].finish(cleared)
    }
}

/// Two pages of shared memory that a look touches after the bits were cleared, by it or by another agent.
///
/// If their bits are not set at the next look, another agent of the process has cleared the bits in between:
/// a debugger, `damo`, or another copy of this library. The agent is not noticed if it clears them during a
/// look.
///
/// Unmapping the pages makes the kernel flush the TLBs of the process. The pages lie so far apart that x86
/// flushes all entries: above `tlb_single_page_flush_ceiling`, 33 pages, it does not flush page by page
/// (`get_flush_tlb_info`). So do processors of ARM that have no instruction to flush a range
/// (`__flush_tlb_range_limit_excess`).
#[derive(Debug)]
struct Canary {
    view: View,
    /// The bytes of it that the current look has found referenced.
    referenced: u64,
}

impl Canary {
    const BYTES: usize = 2 * REGION_BYTES;
    const PAGES: [usize; 2] = [0, Self::BYTES - PAGE_SIZE];

    /// A canary below the end of these addresses, where each look reads it before the arena. None if no
    /// address there is free.
    fn below(addresses: &Range<usize>) -> Option<Self> {
        let hint = (addresses.start / REGION_BYTES * REGION_BYTES).checked_sub(2 * Self::BYTES)?;
        let view = View::of_new_memory(Self::BYTES, hint).ok()?;
        if view.base().addr() > addresses.start {
            return None;
        }
        // A huge page would join the two pages.
        let _ = view.advise(Advice::NoHugePage);
        let _ = view.advise(Advice::DontDump);
        // A forked child inherits the mapping, because the child's registry inherits the canary.
        let this = Self { view, referenced: 0 };
        this.revive();
        Some(this)
    }

    fn address(&self) -> usize {
        self.view.base().addr()
    }

    fn count(&mut self, mapping: &Range<u64>, bytes: u64) {
        if mapping.contains(&(self.address() as u64)) {
            self.referenced = bytes;
        }
    }

    /// Whether the current look has found both pages referenced.
    fn is_alive(&self) -> bool {
        index(self.referenced) >= Self::PAGES.len() * PAGE_SIZE
    }

    /// Unmaps the pages, which flushes the TLBs, and touches them.
    fn revive(&self) {
        let unmap = || {
            // SAFETY: on a shared mapping MADV_DONTNEED drops page-table entries, never contents.
            unsafe {
                self.view.unchecked_advise_range(UncheckedAdvice::DontNeed, 0, self.view.len())
            }
        };
        if unmap().is_err() {
            // The program has locked all of its memory (`mlockall(2)`).
            // SAFETY: unlocks this view alone.
            unsafe { libc::munlock(self.view.base().cast(), self.view.len()) };
            let _ = unmap();
        }
        // Reads: the next unmap of a page that was written flushes the TLB of that page alone, at once
        // (`zap_pte_range`, `force_flush`; seen on Linux 6.12).
        for page in Self::PAGES {
            // SAFETY: within the mapping. Only the thread that holds the registry's lock accesses it.
            unsafe { self.view.base().wrapping_add(page).read_volatile() };
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::common::skip;
    use crate::prim::{PageRange, REGION_PAGES};
    use crate::sys::memory::SharedMemory;
    use crate::sys::private::PrivateMemory;
    use std::fs;

    /// For looks that clear the bits.
    fn always(_: u64) -> bool {
        true
    }

    static ALONE: Mutex<()> = Mutex::new(());

    /// Each test of accessed bits holds this, because one of them clears the bits of all.
    pub(crate) fn alone() -> MutexGuard<'static, ()> {
        ALONE.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Memory whose regions are kept apart, and its bits after the first look. None if the system does
    /// not show the bits; then it says so.
    fn watched(test: &str, regions: usize) -> Option<(SharedMemory, AccessedBits)> {
        let memory = SharedMemory::new(regions * REGION_BYTES).unwrap();
        for region in 0..regions {
            let pages = PageRange::new(region * REGION_PAGES, (region + 1) * REGION_PAGES);
            memory.set_apart(pages, !region.is_multiple_of(2)).unwrap();
        }
        let start = memory.base().addr();
        let opened = AccessedBits::open(start..start + memory.len(), Clears::Files);
        let looked = opened.and_then(|mut bits| {
            let first = bits.look(&mut vec![0; regions], &always)?;
            assert_eq!(first, Look::Interrupted, "the first look");
            Ok(bits)
        });
        match looked {
            Ok(bits) => Some((memory, bits)),
            Err(e) => {
                skip(test, "accessed_bits", &format!("this system does not show them: {e}"));
                None
            }
        }
    }

    fn write(memory: &SharedMemory, page: usize) {
        assert!(page * PAGE_SIZE < memory.len());
        // SAFETY: within the mapping, which only this test uses. Unlike a read, a write to unregistered
        // memory maps one page alone (the kernel does no fault-around).
        unsafe { memory.base().wrapping_add(page * PAGE_SIZE).write_volatile(1) };
    }

    /// On x86 a look flushes the TLBs, so no reference after it is lost. On other processors emptying the
    /// page table does that.
    fn flush(memory: &SharedMemory) {
        if !cfg!(target_arch = "x86_64") {
            memory.zap(PageRange::within(0, memory.len())).unwrap();
        }
    }

    /// Whether a fault maps one small page. If not, tests compare only whether there are references.
    fn has_small_pages() -> bool {
        let mode = fs::read_to_string("/sys/kernel/mm/transparent_hugepage/shmem_enabled");
        mode.is_ok_and(|mode| mode.contains("[never]") || mode.contains("[deny]"))
    }

    /// Touches and looks until a look has the expected counts. The kernel's reclaim may clear bits, and a
    /// processor may set one ahead of an access, but not each time.
    fn expect(bits: &mut AccessedBits, expected: &[u16], mut touch: impl FnMut()) {
        let exact = has_small_pages();
        let mut last = None;
        for _ in 0..5 {
            touch();
            let mut counts = vec![9; expected.len()];
            let look = bits.look(&mut counts, &always).unwrap();
            let as_bools = |counts: &[u16]| counts.iter().map(|&n| n > 0).collect::<Vec<_>>();
            let same =
                if exact { counts == expected } else { as_bools(&counts) == as_bools(expected) };
            if same && look == Look::Whole {
                return;
            }
            last = Some((look, counts));
        }
        panic!("expected {expected:?}, the last look gave {last:?}");
    }

    #[test]
    fn a_look_counts_the_touched_pages_of_each_region() {
        let _alone = alone();
        const REGIONS: usize = 64;
        let Some((memory, mut bits)) = watched("a_look_counts_the_touched_pages", REGIONS) else {
            return;
        };
        // A mapping that lies before the arena, and is touched too.
        let hint = memory.base().addr() - REGION_BYTES;
        let before = View::of_new_memory(REGION_BYTES, hint).unwrap();
        // Each region is touched in turn, and each is mapped when the first is touched again.
        for round in 0..6 {
            let count = |region: usize| match region % 9 {
                n if n == round => REGION_PAGES as u16,
                n if n % 3 == round % 3 => 1 + (region % 2) as u16,
                _ => 0,
            };
            let expected: Vec<u16> = (0..REGIONS).map(count).collect();
            expect(&mut bits, &expected, || {
                flush(&memory);
                // SAFETY: within the mapping, which only this test uses.
                unsafe { before.base().write_volatile(1) };
                for (region, &count) in expected.iter().enumerate() {
                    for page in 0..usize::from(count) {
                        let spread = if count == 2 { page * 511 } else { page };
                        write(&memory, region * REGION_PAGES + spread);
                    }
                }
            });
        }
        expect(&mut bits, &[0; REGIONS], || flush(&memory));
        // Fewer regions than the arena has.
        expect(&mut bits, &[0, 1], || {
            flush(&memory);
            write(&memory, REGION_PAGES);
            write(&memory, 5 * REGION_PAGES);
        });
        // The longer look still counts from the last look on.
        expect(&mut bits, &[0, 0, 0, 0, 0, 1], || {
            flush(&memory);
            write(&memory, 5 * REGION_PAGES);
        });
    }

    /// A processor keeps the entry of such a page in its TLB, and sets no bit unless the TLB is flushed.
    #[test]
    fn looks_see_a_page_that_a_thread_touches_without_pause() {
        use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
        let _alone = alone();
        let Some((memory, mut bits)) = watched("looks_see_a_page_touched_without_pause", 2) else {
            return;
        };
        let (stop, touches) = (AtomicBool::new(false), AtomicU64::new(0));
        let mut seen = 0;
        thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Relaxed) {
                    write(&memory, REGION_PAGES);
                    touches.fetch_add(1, Relaxed);
                }
            });
            let _stop = crate::common::SetOnDrop(&stop);
            for _ in 0..100 {
                let before = touches.load(Relaxed);
                while touches.load(Relaxed) < before + 100 {
                    thread::yield_now();
                }
                let mut counts = [0; 2];
                bits.look(&mut counts, &always).unwrap();
                assert_eq!(counts[0], 0);
                seen += usize::from(counts[1] > 0);
            }
        });
        // Other processors may have no way to flush that a look uses.
        assert!(seen >= 95 || !cfg!(target_arch = "x86_64"), "{seen} of 100 looks saw the page");
    }

    /// The bits of anonymous memory are cleared too, beside an arena of shared memory.
    #[test]
    fn looks_count_the_references_of_private_memory() {
        const TEST: &str = "looks_count_the_references_of_private_memory";
        let _alone = alone();
        let memory = PrivateMemory::new(4 * REGION_BYTES).unwrap();
        let region = |n: usize| PageRange::new(n * REGION_PAGES, (n + 1) * REGION_PAGES);
        memory.set_apart(region(1), true).unwrap();
        memory.set_apart(region(3), true).unwrap();
        let start = memory.base().addr();
        let opened = AccessedBits::open(start..start + memory.len(), Clears::All);
        let Some((_shared, mut others)) = watched(TEST, 1) else { return };
        let mut bits = opened.unwrap();
        let touch = |page: usize| {
            assert!(page * PAGE_SIZE < memory.len());
            // SAFETY: within the mapping, which only this test uses.
            unsafe { memory.base().wrapping_add(page * PAGE_SIZE).write_volatile(1) };
        };
        (0..4 * REGION_PAGES).for_each(touch);
        bits.look(&mut [0; 4], &always).unwrap();
        let is_used = |counts: &[u16]| counts.iter().map(|&n| n > 0).collect::<Vec<_>>();
        for used in [1, 2, 0] {
            let mut last = Vec::new();
            // A processor may set a bit ahead of an access, but not each time.
            let found = (0..5).any(|_| {
                touch(used * REGION_PAGES + 7);
                let mut counts = [9; 4];
                others.look(&mut [0], &always).unwrap();
                bits.look(&mut counts, &always).unwrap();
                last = is_used(&counts);
                last == (0..4).map(|region| region == used).collect::<Vec<_>>()
            });
            assert!(found, "{used}: {last:?}");
        }
        if memory.may_be_huge() && memory.make_huge(region(2)).is_ok() {
            bits.look(&mut [0; 4], &always).unwrap();
            assert!(bits.is_huge(2));
        }
    }

    #[test]
    fn the_look_of_one_arena_keeps_the_references_of_another() {
        let _alone = alone();
        let test = "the_look_of_one_arena_keeps_the_references";
        let (Some((one, mut ones)), Some((other, mut others))) =
            (watched(test, 4), watched(test, 3))
        else {
            return;
        };
        // The second arena's canary may have replaced that of the first.
        ones.look(&mut [0; 4], &always).unwrap();
        others.look(&mut [0; 3], &always).unwrap();
        expect(&mut others, &[1, 0, 2], || {
            flush(&one);
            flush(&other);
            write(&other, 0);
            write(&other, 2 * REGION_PAGES);
            expect(&mut ones, &[0, 3, 0, 0], || {
                flush(&one);
                (0..3).for_each(|page| write(&one, REGION_PAGES + page));
            });
            flush(&other);
            write(&other, 2 * REGION_PAGES);
            write(&other, 2 * REGION_PAGES + 1);
        });
        // A look of more regions than before, of which the other arena's look has counted some.
        let mut counts = [0; 3];
        others.look(&mut counts[..1], &always).unwrap();
        ones.look(&mut [0; 4], &always).unwrap();
        assert_eq!(others.look(&mut counts, &always), Ok(Look::Interrupted));
        drop(others);
        drop(other);
        expect(&mut ones, &[0; 4], || flush(&one));
    }

    #[test]
    fn a_clear_from_outside_interrupts_the_next_look_of_each_arena() {
        let _alone = alone();
        let test = "a_clear_from_outside_interrupts_the_next_look";
        let (Some((one, mut ones)), Some((_other, mut others))) =
            (watched(test, 2), watched(test, 2))
        else {
            return;
        };
        let below = |registry: &Registry, memory: &SharedMemory| {
            registry.canary.as_ref().is_some_and(|canary| canary.address() < memory.base().addr())
        };
        assert!(below(&lock(&REGISTRY, READ).unwrap(), &one), "the arena has no canary");
        ones.look(&mut [0; 2], &always).unwrap();
        others.look(&mut [0; 2], &always).unwrap();
        expect(&mut ones, &[0, 1], || {
            flush(&one);
            write(&one, REGION_PAGES);
        });
        clear_references(ones.clear_refs.number(), Clears::Files).unwrap();
        assert_eq!(ones.look(&mut [0; 2], &always), Ok(Look::Interrupted));
        assert_eq!(others.look(&mut [0; 2], &always), Ok(Look::Interrupted));
        expect(&mut ones, &[0, 0], || flush(&one));
        expect(&mut others, &[0, 0], || ());
    }

    #[test]
    fn a_region_in_pieces_counts_all_its_pieces() {
        let _alone = alone();
        let Some((memory, mut bits)) = watched("a_region_in_pieces_counts_all", 2) else {
            return;
        };
        let middle = PageRange::new(REGION_PAGES + 5, REGION_PAGES + 6);
        memory.map_inaccessible(middle).unwrap();
        let touch = |pages: Range<usize>| {
            flush(&memory);
            pages.for_each(|page| write(&memory, REGION_PAGES + page));
        };
        expect(&mut bits, &[0, 1], || touch(4..5));
        memory.restore_view(middle).unwrap();
        expect(&mut bits, &[0, 3], || touch(4..7));
        memory.set_apart(PageRange::new(REGION_PAGES, 2 * REGION_PAGES), true).unwrap();
        expect(&mut bits, &[0, 3], || touch(4..7));
    }

    #[test]
    fn a_forked_child_looks_at_its_own_arena_and_not_at_its_parents() {
        let _alone = alone();
        let test = "a_forked_child_looks_at_its_own_arena";
        let Some((parents, mut bits)) = watched(test, 2) else {
            return;
        };
        let is_stale = |bits: &mut AccessedBits| {
            bits.look(&mut [0; 2], &always).is_err_and(|e| e.errno() == libc::ESTALE)
        };
        let status = crate::common::child::fork(|| {
            let is_gone = is_stale(&mut bits);
            let Some((memory, mut own)) = watched(test, 2) else { return 2 };
            flush(&memory);
            write(&memory, REGION_PAGES);
            let mut counts = [0; 2];
            let whole = own.look(&mut counts, &always) == Ok(Look::Whole)
                && counts[0] == 0
                && counts[1] > 0;
            i32::from(whole && is_gone && is_stale(&mut bits))
        });
        assert_eq!(status.code(), Some(1), "{status:?}");
        expect(&mut bits, &[0, 1], || {
            flush(&parents);
            write(&parents, REGION_PAGES);
        });
    }

    #[test]
    fn a_look_at_memory_that_smaps_does_not_name_is_an_error() {
        let _alone = alone();
        let Some((memory, mut bits)) = watched("a_look_at_memory_that_smaps_does_not_name", 3)
        else {
            return;
        };
        drop(memory);
        let error = bits.look(&mut [0; 3], &always).unwrap_err();
        assert_eq!((error.call(), error.errno()), (READ, libc::ENODATA));
        assert_eq!(bits.look(&mut [], &always), Ok(Look::Whole));
    }

    #[test]
    fn a_descriptor_that_means_another_file_is_an_error() {
        let _alone = alone();
        let Some((_memory, mut bits)) = watched("a_descriptor_that_means_another_file", 1) else {
            return;
        };
        let other = fs::File::open("/dev/null").unwrap();
        for descriptor in [&bits.clear_refs, &bits.smaps] {
            let number = descriptor.number();
            // SAFETY: both are open descriptors; the file at the second is closed.
            assert!(unsafe { libc::dup2(std::os::fd::AsRawFd::as_raw_fd(&other), number) } >= 0);
        }
        assert_eq!(bits.look(&mut [0], &always).unwrap_err().errno(), libc::EBADF);
        for number in [bits.clear_refs.number(), bits.smaps.number()] {
            // SAFETY: opened by `dup2` above, and closed once: `bits` closes only its own files.
            unsafe { libc::close(number) };
        }
    }

    #[test]
    fn a_lock_that_stays_locked_is_an_error_after_a_second() {
        let mutex = Mutex::new(());
        let _held = mutex.lock().unwrap();
        assert_eq!(lock(&mutex, READ).unwrap_err(), SysError::new(READ, libc::EBUSY));
    }
}
