//! The functions that the rest of the library uses of a [`platform`](super::platform), with their types.
//!
//! The compiler checks this list against `linux` and against `simulated`, so that both have the same API.

use super::accessed::{AccessedBits, Look, TouchCosts};
use super::error::SysError;
use super::event::{self, Event, Woken};
use super::keeper::Keeper;
use super::memory::{self, LazySlice, SharedMemory};
use super::outcome::{Clears, Outcome};
use super::pagemap::{PageFilter, Pagemap};
use super::platform::descriptor::Descriptor;
use super::private::{NewRegion, PrivateMemory};
use super::route::{DescriptorRoute, OpenError};
use super::serve::{RegisterError, Serve};
use super::sigbus::{self, Registration};
use super::signals::SignalsBlocked;
use super::thread::{self, JoinHandle};
use super::uapi::UffdMsg;
use super::uffd::{CallTarget, Uffd};
use super::{cpu, futex};
use crate::prim::sync::AtomicU64;
use crate::prim::{PageIndex, PageRange};
use core::fmt::{Arguments, Display};
use core::ops::Range;
use core::time::Duration;
use std::io;
use std::sync::Arc;

/// A call that succeeds as a whole or fails.
type Done = Result<(), SysError>;
type LookAt = fn(&mut AccessedBits, &mut [u16], &dyn Fn(u64) -> bool) -> Result<Look, SysError>;
type Scan = fn(&Pagemap, u64, u64, PageFilter, &mut dyn FnMut(u64, u64)) -> Done;
type Register = fn(Range<usize>, Arc<dyn Serve>) -> Result<Registration, RegisterError>;
type OnRange = fn(&SharedMemory, PageRange) -> Done;
type OnPrivate = fn(&PrivateMemory, PageRange) -> Done;
type Move = fn(&Uffd, u64, u64, usize, bool) -> Result<Outcome, SysError>;
type OnPages = fn(&Uffd, u64, usize) -> Result<Outcome, SysError>;
type Protect = fn(&Uffd, u64, usize, bool) -> Result<Outcome, SysError>;

const _: () = {
    let _: fn(Range<usize>, Clears) -> Result<AccessedBits, SysError> = AccessedBits::open;
    let _: LookAt = AccessedBits::look;
    let _: fn(&AccessedBits) -> TouchCosts = AccessedBits::costs;

    let _: fn() -> usize = cpu::current;
    let _: fn() -> usize = cpu::count;
    let _: fn(*const u8) = cpu::prefetch;

    let _: fn() -> Result<Event, SysError> = Event::new;
    let _: fn(&Event) = Event::raise;
    let _: fn(&Uffd, &Event) -> Result<Woken, SysError> = event::wait_readable;
    let _: fn(Arguments<'_>) = event::report;
    let _: fn(&str, &dyn Display) -> ! = event::abort_process;

    let _: fn(&AtomicU64, u32, Duration) = futex::wait;
    let _: fn(&AtomicU64) = futex::wake_all;

    let _: fn(&[&Descriptor]) -> Result<Keeper, SysError> = Keeper::start;
    let _: fn(&Keeper) -> bool = Keeper::has_own_table;
    let _: fn(&Keeper) -> Arc<Event> = Keeper::interrupt;
    let _: fn(&Keeper) = Keeper::raise_interrupt;
    let _: fn(&Keeper, fn() -> u8) -> u8 = Keeper::call;

    let _: fn(usize) -> Result<SharedMemory, SysError> = SharedMemory::new;
    let _: fn(&SharedMemory) -> &Descriptor = SharedMemory::descriptor;
    let _: fn(&SharedMemory) -> *mut u8 = SharedMemory::base;
    let _: fn(&SharedMemory) -> usize = SharedMemory::len;
    let _: fn(&SharedMemory, PageRange) -> u64 = SharedMemory::address;
    let _: fn(&SharedMemory, usize) -> Option<usize> = SharedMemory::offset_of;
    let _: fn(&SharedMemory, PageRange, &mut [u8]) -> Done = SharedMemory::read;
    let _: fn(&SharedMemory, PageIndex) -> Option<Done> = SharedMemory::try_read;
    let _: OnRange = SharedMemory::punch;
    let _: OnRange = SharedMemory::punch_locked;
    let _: OnRange = SharedMemory::zap;
    let _: OnRange = SharedMemory::map_in;
    let _: OnRange = SharedMemory::lock;
    let _: OnRange = SharedMemory::unlock;
    let _: fn(&SharedMemory, PageRange, bool) -> Done = SharedMemory::set_apart;
    let _: OnRange = SharedMemory::map_inaccessible;
    let _: OnRange = SharedMemory::restore_view;
    let _: fn(&SharedMemory) -> Result<u64, SysError> = SharedMemory::allocated_bytes;
    let _: fn(usize) -> Result<PrivateMemory, SysError> = PrivateMemory::new;
    let _: fn(&PrivateMemory) -> *mut u8 = PrivateMemory::base;
    let _: fn(&PrivateMemory) -> usize = PrivateMemory::len;
    let _: fn(&PrivateMemory) -> (u64, usize) = PrivateMemory::staging;
    let _: fn(&PrivateMemory) -> Option<NewRegion<'_>> = PrivateMemory::new_region;
    let _: fn(&NewRegion<'static>) -> u64 = NewRegion::address;
    let _: fn(&PrivateMemory, PageRange) -> u64 = PrivateMemory::staged_address;
    let _: fn(&PrivateMemory, PageRange, &mut [u8]) = PrivateMemory::copy_staged;
    let _: OnPrivate = PrivateMemory::discard_staged;
    let _: OnPrivate = PrivateMemory::discard;
    let _: OnPrivate = PrivateMemory::map_inaccessible;
    let _: OnPrivate = PrivateMemory::restore_view;
    let _: fn(&PrivateMemory, PageRange, bool) -> Done = PrivateMemory::set_apart;
    let _: fn() -> usize = memory::system_page_size;
    let _: fn(usize) -> Result<LazySlice<AtomicU64>, SysError> = LazySlice::new;
    let _: fn(&LazySlice<AtomicU64>) -> Done = LazySlice::keep_private;
    let _: fn(&LazySlice<AtomicU64>, usize, usize) -> Done = LazySlice::populate;
    let _: fn(&LazySlice<AtomicU64>, usize, usize) -> Done = LazySlice::discard;

    let _: fn() -> Result<Pagemap, SysError> = Pagemap::open;
    let _: fn(&Pagemap) -> &Descriptor = Pagemap::descriptor;
    let _: fn(&Pagemap) -> bool = Pagemap::has_scan;
    let _: fn(&Pagemap) -> bool = Pagemap::has_accessed;
    let _: Scan = Pagemap::scan;

    let _: Register = sigbus::register;
    let _: fn() -> bool = sigbus::is_installed;
    let _: fn() -> SignalsBlocked = SignalsBlocked::new;

    let _: fn(&str, &'static str, fn()) -> io::Result<JoinHandle> = thread::spawn;
    let _: fn(JoinHandle) -> io::Result<()> = JoinHandle::join;
    let _: fn() -> u32 = thread::id;
    let _: fn() -> Duration = thread::cpu_time;

    let _: fn() -> Result<(DescriptorRoute, u64), OpenError> = Uffd::supported;
    let _: fn(u64) -> Result<Uffd, SysError> = Uffd::open;
    let _: fn(u64) -> Result<Uffd, SysError> = Uffd::open_for_user_mode;
    let _: fn(&Uffd) -> &Descriptor = Uffd::descriptor;
    let _: fn(&Uffd, CallTarget) -> bool = Uffd::is_usable;
    let _: fn(&Uffd) -> bool = Uffd::is_original;
    let _: fn(&Uffd) -> DescriptorRoute = Uffd::route;
    let _: fn(&Uffd, u64) -> bool = Uffd::has;
    let _: fn(&Uffd, u64, usize, u64) -> Done = Uffd::register;
    let _: fn(&Uffd, u64, usize) -> Done = Uffd::unregister;
    let _: fn(&Uffd, u64, usize) -> Done = Uffd::wake;
    let _: fn(&Uffd, u64, &[u8], bool) -> Result<Outcome, SysError> = Uffd::copy;
    let _: Move = Uffd::move_pages;
    let _: OnPages = Uffd::zeropage;
    let _: OnPages = Uffd::poison;
    let _: Protect = Uffd::write_protect;
    let _: Protect = Uffd::rw_protect;
    let _: fn(&Uffd, bool) -> Done = Uffd::set_rwp_async;
    let _: fn(&Uffd) -> bool = Uffd::has_messages;
    let _: fn(&Uffd, &mut [UffdMsg]) -> Result<usize, SysError> = Uffd::read;
};
