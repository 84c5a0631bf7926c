//! A mapping at a chosen address.

#![allow(unsafe_code)]

use crate::prim::geometry::REGION_BYTES;
use crate::sys::error::SysError;
use crate::sys::uapi::MADV_COLLAPSE;
use memmap2::{Advice, UncheckedAdvice};
use std::io;
use std::os::fd::RawFd;
use std::ptr::NonNull;

/// The lowest address of [`View::low`]: above the shadow memory of address sanitizer, below the
/// position-independent programs of 47-bit address spaces.
const LOWEST: usize = 0x2000_0000_0000;
/// Steps of 2 MiB above [`LOWEST`] among which [`View::low`] chooses: 16 TiB.
const STEPS: usize = 1 << 23;
/// How many addresses [`View::low`] tries. An address is taken where an earlier arena lies.
const TRIES: usize = 4;

const PRIVATE: &str = "mmap(private, anonymous)";

/// A mapping, readable and writable. Dropping this unmaps it.
///
/// `memmap2` maps files the same way, but cannot ask for an address.
#[derive(Debug)]
pub(super) struct View {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the struct holds addresses; a thread accesses the memory by raw pointers alone.
unsafe impl Send for View {}
// SAFETY: as above.
unsafe impl Sync for View {}

impl View {
    /// Maps `len` bytes of a file, at the kernel's choice of address.
    pub(super) fn new(file: RawFd, len: usize) -> Result<Self, SysError> {
        Self::map(file, len, 0, libc::MAP_SHARED, "mmap(memfd)")
    }

    /// Maps `len` bytes of a file at a low address, a multiple of 2 MiB that depends on `seed`.
    ///
    /// `/proc/self/smaps` lists mappings by address. The kernel places most mappings of a program at the
    /// upper end of the address space, so a reader of the list finds this one early.
    /// The kernel chooses another address if memory is mapped there, or if the address space is smaller.
    pub(super) fn low(file: RawFd, len: usize, seed: usize) -> Result<Self, SysError> {
        Self::map_low(file, len, seed, libc::MAP_SHARED, "mmap(memfd)")
    }

    /// Maps `len` bytes of private memory at `hint`, or elsewhere if memory is mapped there.
    pub(super) fn private(len: usize, hint: usize) -> Result<Self, SysError> {
        Self::map(-1, len, hint, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, PRIVATE)
    }

    /// Maps `len` bytes of private memory at a low address; see [`low`](Self::low).
    pub(super) fn low_private(len: usize, seed: usize) -> Result<Self, SysError> {
        Self::map_low(-1, len, seed, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, PRIVATE)
    }

    fn map_low(
        file: RawFd,
        len: usize,
        seed: usize,
        flags: i32,
        call: &'static str,
    ) -> Result<Self, SysError> {
        // Thread sanitizer refuses addresses that it does not expect.
        if cfg!(thermocline_tsan) {
            return Self::map(file, len, 0, flags, call);
        }
        let mut tries = 0;
        loop {
            let hint = low_address(seed.wrapping_add(tries));
            let view = Self::map(file, len, hint, flags, call)?;
            tries += 1;
            if view.base().addr() == hint || tries == TRIES {
                return Ok(view);
            }
        }
    }

    /// Maps `len` bytes of new memory at `hint`, or elsewhere if memory is mapped there. The kernel
    /// treats the memory as a file that has no name and no descriptor (`shmem_zero_setup`).
    pub(super) fn of_new_memory(len: usize, hint: usize) -> Result<Self, SysError> {
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        Self::map(-1, len, hint, flags, "mmap(shared, anonymous)")
    }

    fn map(
        file: RawFd,
        len: usize,
        hint: usize,
        flags: i32,
        call: &'static str,
    ) -> Result<Self, SysError> {
        // SAFETY: without MAP_FIXED the kernel maps only addresses that are free.
        let start = unsafe {
            libc::mmap(
                std::ptr::without_provenance_mut(hint),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_NORESERVE | flags,
                file,
                0,
            )
        };
        match NonNull::new(start) {
            Some(mapped) if start != libc::MAP_FAILED => Ok(Self { start: mapped.cast(), len }),
            _ => Err(SysError::last(call)),
        }
    }

    /// The first byte.
    pub(super) fn base(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// Bytes in the view.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Gives advice about the whole view.
    pub(super) fn advise(&self, advice: Advice) -> io::Result<()> {
        self.advise_range(advice, 0, self.len)
    }

    /// Gives advice about the `len` bytes from `start` on.
    pub(super) fn advise_range(&self, advice: Advice, start: usize, len: usize) -> io::Result<()> {
        // SAFETY: `Advice` has the kinds of advice that change no contents.
        unsafe { self.madvise(advice as i32, start, len) }
    }

    /// Whether children find zeros in the `len` bytes from `start` on, which are private memory.
    pub(super) fn wipe_on_fork(&self, on: bool, start: usize, len: usize) -> io::Result<()> {
        let advice = if on { libc::MADV_WIPEONFORK } else { libc::MADV_KEEPONFORK };
        // SAFETY: the advice changes no contents.
        unsafe { self.madvise(advice, start, len) }
    }

    /// Asks the kernel for huge pages in place of the `len` bytes from `start` on, now (Linux 6.1).
    pub(super) fn collapse(&self, start: usize, len: usize) -> io::Result<()> {
        // SAFETY: the advice changes no contents.
        unsafe { self.madvise(MADV_COLLAPSE, start, len) }
    }

    /// Gives advice about the `len` bytes from `start` on that may drop their contents.
    ///
    /// # Safety
    ///
    /// No other code may rely on bytes that the advice drops.
    pub(super) unsafe fn unchecked_advise_range(
        &self,
        advice: UncheckedAdvice,
        start: usize,
        len: usize,
    ) -> io::Result<()> {
        // SAFETY: the caller's promise.
        unsafe { self.madvise(advice as i32, start, len) }
    }

    /// # Safety
    ///
    /// As for [`unchecked_advise_range`](Self::unchecked_advise_range).
    unsafe fn madvise(&self, advice: i32, start: usize, len: usize) -> io::Result<()> {
        assert!(start <= self.len && len <= self.len - start, "advice outside of the view");
        // SAFETY: the range lies in the view, and the caller promises the rest.
        match unsafe { libc::madvise(self.base().wrapping_add(start).cast(), len, advice) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl Drop for View {
    fn drop(&mut self) {
        // SAFETY: this view owns the mapping, and no reference to its bytes exists.
        unsafe { libc::munmap(self.base().cast(), self.len) };
    }
}

/// A multiple of 2 MiB in the 16 TiB above [`LOWEST`]. Mixes the seed's bits (the finaliser of splitmix64).
fn low_address(seed: usize) -> usize {
    let mut mixed = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^= mixed >> 31;
    LOWEST + mixed % STEPS * REGION_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prim::PAGE_SIZE;

    #[test]
    fn low_addresses_are_multiples_of_a_region_and_differ() {
        let mut seen = std::collections::HashSet::new();
        for seed in 0..1000 {
            let address = low_address(0x7F00_0000_0000 + seed * PAGE_SIZE);
            assert!((LOWEST..LOWEST + STEPS * REGION_BYTES).contains(&address));
            assert_eq!(address % REGION_BYTES, 0);
            seen.insert(address);
        }
        assert!(seen.len() > 990);
    }

    #[test]
    fn a_view_lies_elsewhere_if_its_address_is_taken() {
        let first = View::of_new_memory(PAGE_SIZE, LOWEST - REGION_BYTES).unwrap();
        let second = View::of_new_memory(PAGE_SIZE, first.base().addr()).unwrap();
        assert_ne!(first.base(), second.base());
        for view in [&first, &second] {
            // SAFETY: within the mapping, which only this test uses.
            unsafe { view.base().write_volatile(1) };
        }
    }
}
