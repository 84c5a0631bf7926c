//! The kernel's binary interface: `linux/userfaultfd.h`, and `PAGEMAP_SCAN` of `linux/fs.h`.
//!
//! The names are those of the headers, as of Linux 7.3. The structs and numbers are the same on every
//! 64-bit architecture that has the generic ioctl encoding.

use core::mem::{offset_of, size_of};

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")))]
compile_error!("thermocline knows the ioctl encoding of x86-64, arm64 and riscv64 only");

const fn ioc(direction: u32, group: u8, number: u8, size: usize) -> u32 {
    assert!(size < 1 << 14);
    // `size` is below 2^14.
    #[expect(clippy::cast_possible_truncation, reason = "checked above")]
    let size = size as u32;
    (direction << 30) | (size << 16) | ((group as u32) << 8) | number as u32
}

const fn io(group: u8, number: u8) -> u32 {
    ioc(0, group, number, 0)
}

const fn iow<T>(group: u8, number: u8) -> u32 {
    ioc(1, group, number, size_of::<T>())
}

const fn ior<T>(group: u8, number: u8) -> u32 {
    ioc(2, group, number, size_of::<T>())
}

const fn iowr<T>(group: u8, number: u8) -> u32 {
    ioc(3, group, number, size_of::<T>())
}

/// The `ioctl` group of userfaultfd.
const UFFDIO: u8 = 0xAA;

pub(crate) const UFFD_API: u64 = 0xAA;
pub(crate) const UFFD_USER_MODE_ONLY: i32 = 1;
pub(crate) const USERFAULTFD_IOC_NEW: u32 = io(UFFDIO, 0x00);

pub(crate) const UFFDIO_REGISTER: u32 = iowr::<UffdioRegister>(UFFDIO, 0x00);
pub(crate) const UFFDIO_UNREGISTER: u32 = ior::<UffdioRange>(UFFDIO, 0x01);
pub(crate) const UFFDIO_WAKE: u32 = ior::<UffdioRange>(UFFDIO, 0x02);
pub(crate) const UFFDIO_COPY: u32 = iowr::<UffdioCopy>(UFFDIO, 0x03);
pub(crate) const UFFDIO_ZEROPAGE: u32 = iowr::<UffdioZeropage>(UFFDIO, 0x04);
pub(crate) const UFFDIO_MOVE: u32 = iowr::<UffdioMove>(UFFDIO, 0x05);
pub(crate) const UFFDIO_WRITEPROTECT: u32 = iowr::<UffdioProtect>(UFFDIO, 0x06);
pub(crate) const UFFDIO_POISON: u32 = iowr::<UffdioPoison>(UFFDIO, 0x08);
pub(crate) const UFFDIO_RWPROTECT: u32 = iowr::<UffdioProtect>(UFFDIO, 0x09);
pub(crate) const UFFDIO_SET_MODE: u32 = iow::<UffdioSetMode>(UFFDIO, 0x0A);
pub(crate) const UFFDIO_API: u32 = iowr::<UffdioApi>(UFFDIO, 0x3F);

pub(crate) const UFFDIO_REGISTER_MODE_MISSING: u64 = 1 << 0;
pub(crate) const UFFDIO_REGISTER_MODE_WP: u64 = 1 << 1;
pub(crate) const UFFDIO_REGISTER_MODE_RWP: u64 = 1 << 3;

/// `UFFDIO_WRITEPROTECT_MODE_WP` and `UFFDIO_RWPROTECT_MODE_RWP`: set protects, clear unprotects.
pub(crate) const UFFDIO_PROTECT_MODE_SET: u64 = 1 << 0;

pub(crate) const UFFDIO_COPY_MODE_DONTWAKE: u64 = 1 << 0;

pub(crate) const UFFDIO_MOVE_MODE_DONTWAKE: u64 = 1 << 0;

/// `include/uapi/asm-generic/mman-common.h`, Linux 6.1. The bindings for musl do not have it.
pub(crate) const MADV_COLLAPSE: i32 = 25;

pub(crate) const UFFD_FEATURE_PAGEFAULT_FLAG_WP: u64 = 1 << 0;
pub(crate) const UFFD_FEATURE_MISSING_SHMEM: u64 = 1 << 5;
pub(crate) const UFFD_FEATURE_SIGBUS: u64 = 1 << 7;
pub(crate) const UFFD_FEATURE_WP_HUGETLBFS_SHMEM: u64 = 1 << 12;
pub(crate) const UFFD_FEATURE_POISON: u64 = 1 << 14;
pub(crate) const UFFD_FEATURE_MOVE: u64 = 1 << 16;
pub(crate) const UFFD_FEATURE_RWP: u64 = 1 << 17;
pub(crate) const UFFD_FEATURE_RWP_ASYNC: u64 = 1 << 18;

pub(crate) const UFFD_EVENT_PAGEFAULT: u8 = 0x12;

#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(crate) struct UffdioApi {
    pub(crate) api: u64,
    pub(crate) features: u64,
    pub(crate) ioctls: u64,
}

#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(crate) struct UffdioRange {
    pub(crate) start: u64,
    pub(crate) len: u64,
}

#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(crate) struct UffdioRegister {
    pub(crate) range: UffdioRange,
    pub(crate) mode: u64,
    pub(crate) ioctls: u64,
}

#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(crate) struct UffdioCopy {
    pub(crate) dst: u64,
    pub(crate) src: u64,
    pub(crate) len: u64,
    pub(crate) mode: u64,
    /// Bytes copied, or a negative error number.
    pub(crate) copy: i64,
}

#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(crate) struct UffdioZeropage {
    pub(crate) range: UffdioRange,
    pub(crate) mode: u64,
    /// Bytes filled, or a negative error number.
    pub(crate) zeropage: i64,
}

#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(crate) struct UffdioMove {
    pub(crate) dst: u64,
    pub(crate) src: u64,
    pub(crate) len: u64,
    pub(crate) mode: u64,
    /// Bytes moved, or a negative error number.
    pub(crate) moved: i64,
}

/// `uffdio_writeprotect` and `uffdio_rwprotect`, which have the same layout.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(crate) struct UffdioProtect {
    pub(crate) range: UffdioRange,
    pub(crate) mode: u64,
}

#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(crate) struct UffdioPoison {
    pub(crate) range: UffdioRange,
    pub(crate) mode: u64,
    /// Bytes poisoned, or a negative error number.
    pub(crate) updated: i64,
}

#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(crate) struct UffdioSetMode {
    pub(crate) enable: u64,
    pub(crate) disable: u64,
}

/// `struct uffd_msg`, with the page-fault arm of its union, the only one that the library enables.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(crate) struct UffdMsg {
    pub(crate) event: u8,
    pub(crate) reserved1: u8,
    pub(crate) reserved2: u16,
    pub(crate) reserved3: u32,
    pub(crate) flags: u64,
    pub(crate) address: u64,
    pub(crate) ptid: u32,
    pub(crate) padding: u32,
}

pub(crate) const PAGEMAP_SCAN: u32 = iowr::<PmScanArg>(b'f', 16);

pub(crate) const PAGE_IS_PRESENT: u64 = 1 << 3;
pub(crate) const PAGE_IS_SWAPPED: u64 = 1 << 4;
pub(crate) const PAGE_IS_ACCESSED: u64 = 1 << 9;

#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(crate) struct PmScanArg {
    pub(crate) size: u64,
    pub(crate) flags: u64,
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) walk_end: u64,
    pub(crate) vec: u64,
    pub(crate) vec_len: u64,
    pub(crate) max_pages: u64,
    pub(crate) category_inverted: u64,
    pub(crate) category_mask: u64,
    pub(crate) category_anyof_mask: u64,
    pub(crate) return_mask: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct PageRegion {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) categories: u64,
}

/// Bit of a `/proc/pid/pagemap` entry: the page is mapped (`proc_pid_pagemap(5)`).
pub(crate) const PAGEMAP_PRESENT: u64 = 1 << 63;

const _: () = {
    assert!(size_of::<UffdioApi>() == 24);
    assert!(size_of::<UffdioRange>() == 16);
    assert!(size_of::<UffdioRegister>() == 32);
    assert!(offset_of!(UffdioRegister, mode) == 16);
    assert!(size_of::<UffdioCopy>() == 40);
    assert!(offset_of!(UffdioCopy, copy) == 32);
    assert!(size_of::<UffdioZeropage>() == 32);
    assert!(offset_of!(UffdioZeropage, zeropage) == 24);
    assert!(size_of::<UffdioMove>() == 40);
    assert!(offset_of!(UffdioMove, moved) == 32);
    assert!(size_of::<UffdioProtect>() == 24);
    assert!(offset_of!(UffdioProtect, mode) == 16);
    assert!(size_of::<UffdioPoison>() == 32);
    assert!(offset_of!(UffdioPoison, updated) == 24);
    assert!(size_of::<UffdioSetMode>() == 16);
    assert!(size_of::<UffdMsg>() == 32);
    assert!(offset_of!(UffdMsg, flags) == 8);
    assert!(offset_of!(UffdMsg, address) == 16);
    assert!(offset_of!(UffdMsg, ptid) == 24);
    assert!(size_of::<PmScanArg>() == 96);
    assert!(offset_of!(PmScanArg, walk_end) == 32);
    assert!(offset_of!(PmScanArg, category_inverted) == 64);
    assert!(offset_of!(PmScanArg, return_mask) == 88);
    assert!(size_of::<PageRegion>() == 24);
};

#[cfg(test)]
mod tests {
    use super::*;
    use linux_raw_sys::general as raw;
    use linux_raw_sys::ioctl as raw_ioctl;

    /// Numbers of older kernels, compared with the published bindings.
    #[test]
    fn numbers_match_the_headers() {
        assert_eq!(UFFDIO_API, raw_ioctl::UFFDIO_API);
        assert_eq!(UFFDIO_REGISTER, raw_ioctl::UFFDIO_REGISTER);
        assert_eq!(UFFDIO_UNREGISTER, raw_ioctl::UFFDIO_UNREGISTER);
        assert_eq!(UFFDIO_WAKE, raw_ioctl::UFFDIO_WAKE);
        assert_eq!(UFFDIO_COPY, raw_ioctl::UFFDIO_COPY);
        assert_eq!(UFFDIO_ZEROPAGE, raw_ioctl::UFFDIO_ZEROPAGE);
        assert_eq!(UFFDIO_WRITEPROTECT, raw_ioctl::UFFDIO_WRITEPROTECT);
        assert_eq!(UFFDIO_POISON, 0xC020_AA08);
        assert_eq!(UFFDIO_MOVE, 0xC028_AA05);
        assert_eq!(PAGEMAP_SCAN, 0xC060_6610);
        assert_eq!(size_of::<PmScanArg>(), size_of::<raw::pm_scan_arg>());
        assert_eq!(size_of::<PageRegion>(), size_of::<raw::page_region>());
        assert_eq!(PAGE_IS_PRESENT, u64::from(raw::PAGE_IS_PRESENT));
        assert_eq!(PAGE_IS_SWAPPED, u64::from(raw::PAGE_IS_SWAPPED));
    }

    /// Numbers that no published binding has yet, compared with the header of Linux 7.3.
    #[test]
    fn numbers_of_linux_7_3() {
        assert_eq!(USERFAULTFD_IOC_NEW, 0xAA00);
        assert_eq!(UFFDIO_RWPROTECT, 0xC018_AA09);
        assert_eq!(UFFDIO_SET_MODE, 0x4010_AA0A);
        assert_eq!(UFFD_FEATURE_RWP, 0x2_0000);
        assert_eq!(UFFD_FEATURE_RWP_ASYNC, 0x4_0000);
        assert_eq!(UFFDIO_REGISTER_MODE_RWP, 8);
        assert_eq!(PAGE_IS_ACCESSED, 0x200);
    }
}
