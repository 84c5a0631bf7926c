//! The simulated userfaultfd descriptor.

use super::kernel::{BASE, Descriptor, State};
use super::waiters::Reason;
use super::{Call, Entry, Injected, Kernel};
use crate::prim::units::index;
use crate::prim::{PAGE_SIZE, PageIndex, PageRange};
use crate::sys::error::SysError;
use crate::sys::outcome::outcome;
use crate::sys::uapi::*;
use std::sync::Arc;

pub use crate::sys::route::DescriptorRoute;
pub(crate) use crate::sys::{outcome::Outcome, route::OpenError};

/// What a call changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallTarget {
    Pages,
    Descriptor,
}

/// The features that the simulated kernel offers.
const FEATURES: u64 = UFFD_FEATURE_MISSING_SHMEM
    | UFFD_FEATURE_PAGEFAULT_FLAG_WP
    | UFFD_FEATURE_WP_HUGETLBFS_SHMEM
    | UFFD_FEATURE_POISON
    | UFFD_FEATURE_RWP
    | UFFD_FEATURE_RWP_ASYNC
    | UFFD_FEATURE_MOVE
    | UFFD_FEATURE_SIGBUS;

/// A descriptor of the simulated kernel.
#[derive(Debug)]
pub(crate) struct Uffd {
    pub(super) kernel: Arc<Kernel>,
    pub(super) number: usize,
    features: u64,
}

fn pages(start: u64, len: usize) -> PageRange {
    PageRange::within(index(start) - BASE, len)
}

impl Uffd {
    pub(crate) fn supported() -> Result<(DescriptorRoute, u64), OpenError> {
        Ok((DescriptorRoute::Device, FEATURES))
    }

    pub(crate) fn open(features: u64) -> Result<Self, SysError> {
        let kernel = Kernel::current();
        let number = kernel.with(|state| {
            state.descriptors.push(Descriptor { features, is_async: true });
            state.descriptors.len() - 1
        });
        Ok(Self { kernel, number, features })
    }

    pub(crate) fn open_for_user_mode(features: u64) -> Result<Self, SysError> {
        Self::open(features)
    }

    pub(crate) fn descriptor(&self) -> &super::descriptor::Descriptor {
        &super::descriptor::Descriptor
    }

    pub(crate) fn is_usable(&self, _: CallTarget) -> bool {
        true
    }

    pub(crate) fn is_original(&self) -> bool {
        true
    }

    pub(crate) fn route(&self) -> DescriptorRoute {
        DescriptorRoute::Device
    }

    pub(crate) fn has(&self, feature: u64) -> bool {
        self.features & feature == feature
    }

    /// Begins a call. Gives the injected outcome, an errno as an error.
    fn begin(&self, call: Call, range: PageRange) -> Result<Option<Injected>, i32> {
        match self.kernel.begin(call, range) {
            Some(Injected::Errno(errno)) => Err(errno),
            other => Ok(other),
        }
    }

    fn simple(
        &self,
        call: Call,
        name: &'static str,
        range: PageRange,
        effect: impl FnOnce(),
    ) -> Result<(), SysError> {
        self.begin(call, range).map_err(|errno| SysError::new(name, errno))?;
        effect();
        Ok(())
    }

    pub(crate) fn register(&self, start: u64, len: usize, _mode: u64) -> Result<(), SysError> {
        let range = pages(start, len);
        self.simple(Call::Register, "ioctl(UFFDIO_REGISTER)", range, || {
            self.kernel.exclusively(|state| {
                range.iter().for_each(|page| state.page(page).owner = Some(self.number));
            });
        })
    }

    /// Wakes the waiters before the registration ends, as the kernel does (`userfaultfd_unregister`).
    pub(crate) fn unregister(&self, start: u64, len: usize) -> Result<(), SysError> {
        let range = pages(start, len);
        self.simple(Call::Unregister, "ioctl(UFFDIO_UNREGISTER)", range, || {
            self.kernel.with(|state| self.wake_in(state, range));
            self.kernel.exclusively(|state| {
                for page in range.iter().map(|page| page.0) {
                    let page = &mut state.pages[page];
                    page.owner = None;
                    page.entry = match page.entry {
                        Entry::Present { .. } => Entry::OPEN,
                        Entry::WriteProtected => Entry::None,
                        other => other,
                    };
                }
            });
        })
    }

    fn wake_in(&self, state: &mut State, range: PageRange) {
        state.wake_where(|w| {
            w.descriptor == self.number && range.start <= w.page && w.page < range.end
        });
    }

    pub(crate) fn wake(&self, start: u64, len: usize) -> Result<(), SysError> {
        let range = pages(start, len);
        self.simple(Call::Wake, "ioctl(UFFDIO_WAKE)", range, || {
            self.kernel.with(|state| self.wake_in(state, range));
        })
    }

    /// Calls `one` for each page in turn until one fails. Gives the outcome that the kernel would report.
    fn each(
        &self,
        (call, name): (Call, &'static str),
        range: PageRange,
        wake: bool,
        mut one: impl FnMut(&mut State, PageIndex) -> Result<(), i32>,
    ) -> Result<Outcome, SysError> {
        let mut done = 0;
        let injected = self.begin(call, range);
        let stopped = match injected {
            Err(errno) => Some(errno),
            Ok(injected) => self.kernel.walk(|| {
                range.iter().find_map(|page| {
                    if injected == Some(Injected::Partial(done)) {
                        return Some(libc::EAGAIN);
                    }
                    let result = self.kernel.with(|state| one(state, page));
                    if result.is_ok() && injected == Some(Injected::Uncounted(done)) {
                        return Some(libc::EEXIST);
                    }
                    done += usize::from(result.is_ok());
                    result.err()
                })
            }),
        };
        if wake && done > 0 {
            let range = PageRange::new(range.start.0, range.start.0 + done);
            self.kernel.with(|state| self.wake_in(state, range));
        }
        match stopped {
            None => Ok(Outcome::Done),
            // The kernel reports the pages that are done, and not the error that stopped the call.
            Some(_) if done > 0 => {
                let bytes = i64::try_from(done * PAGE_SIZE).unwrap_or(i64::MAX);
                outcome(Err(SysError::new(name, libc::EAGAIN)), bytes)
            }
            Some(errno) => outcome(Err(SysError::new(name, errno)), -i64::from(errno)),
        }
    }

    fn owns(&self, state: &State, page: PageIndex) -> Result<(), i32> {
        if state.pages[page.0].owner == Some(self.number) { Ok(()) } else { Err(libc::ENOENT) }
    }

    pub(crate) fn copy(&self, dst: u64, src: &[u8], wake: bool) -> Result<Outcome, SysError> {
        let range = pages(dst, src.len());
        let wake = wake && !self.has(UFFD_FEATURE_SIGBUS);
        // A page of zeros that the kernel adds meanwhile is as good as one that the library copies.
        let is_zeros = src.iter().all(|byte| *byte == 0);
        let call = if is_zeros { Call::Zeropage } else { Call::Copy };
        self.each((call, "ioctl(UFFDIO_COPY)"), range, wake, |state, page| {
            let at = page.offset() - range.start.offset();
            self.put(state, page, &src[at..at + PAGE_SIZE])
        })
    }

    /// A page that is moved to memory with read-write protection arrives protected.
    pub(crate) fn move_pages(
        &self,
        dst: u64,
        src: u64,
        len: usize,
        wake: bool,
    ) -> Result<Outcome, SysError> {
        let (to, from) = (pages(dst, len), pages(src, len));
        let (call, range) = if wake { (Call::MoveBack, to) } else { (Call::MoveOut, from) };
        let wake = wake && !self.has(UFFD_FEATURE_SIGBUS);
        self.each((call, "ioctl(UFFDIO_MOVE)"), range, wake, |state, page| {
            let at = page.0 - range.start.0;
            let (to, from) = (PageIndex(to.start.0 + at), PageIndex(from.start.0 + at));
            self.owns(state, to)?;
            let target = state.page(to);
            if target.bytes.is_some() || target.entry != Entry::None {
                return Err(libc::EEXIST);
            }
            let source = state.page(from);
            let bytes = source.bytes.take().ok_or(libc::ENOENT)?;
            let entry = std::mem::replace(&mut source.entry, Entry::None);
            let referenced = std::mem::take(&mut source.referenced);
            let read_write = self.has(UFFD_FEATURE_RWP);
            let target = state.page(to);
            // A page that is swapped out stays so.
            target.entry = match entry {
                Entry::Present { write, .. } => Entry::Present { write, read_write },
                other => other,
            };
            (target.bytes, target.referenced) = (Some(bytes), referenced);
            Ok(())
        })
    }

    pub(crate) fn zeropage(&self, start: u64, len: usize) -> Result<Outcome, SysError> {
        let name = (Call::Zeropage, "ioctl(UFFDIO_ZEROPAGE)");
        self.each(name, pages(start, len), true, |state, page| {
            self.put(state, page, &[0; PAGE_SIZE])
        })
    }

    /// Puts a page in place unless the page table or the page cache has one. Replaces a marker of write
    /// protection.
    fn put(&self, state: &mut State, at: PageIndex, bytes: &[u8]) -> Result<(), i32> {
        self.owns(state, at)?;
        let page = state.page(at);
        if page.bytes.is_some() || !matches!(page.entry, Entry::None | Entry::WriteProtected) {
            return Err(libc::EEXIST);
        }
        page.bytes = Some(bytes.into());
        page.entry = Entry::OPEN;
        page.referenced = true;
        Ok(())
    }

    pub(crate) fn poison(&self, start: u64, len: usize) -> Result<Outcome, SysError> {
        let name = (Call::Poison, "ioctl(UFFDIO_POISON)");
        self.each(name, pages(start, len), true, |state, at| {
            self.owns(state, at)?;
            let page = state.page(at);
            if page.entry != Entry::None {
                return Err(libc::EEXIST);
            }
            page.entry = Entry::Poison;
            Ok(())
        })
    }

    /// Marks unmapped pages too.
    pub(crate) fn write_protect(
        &self,
        start: u64,
        len: usize,
        on: bool,
    ) -> Result<Outcome, SysError> {
        let call = if on { Call::WriteProtect } else { Call::WriteUnprotect };
        self.protect((call, "ioctl(UFFDIO_WRITEPROTECT)"), pages(start, len), !on, |entry| {
            match entry {
                Entry::Present { read_write, .. } => Entry::Present { write: on, read_write },
                Entry::None | Entry::WriteProtected if on => Entry::WriteProtected,
                Entry::None | Entry::WriteProtected => Entry::None,
                Entry::Poison => Entry::Poison,
            }
        })
    }

    /// Protects mapped pages only.
    pub(crate) fn rw_protect(&self, start: u64, len: usize, on: bool) -> Result<Outcome, SysError> {
        let call = if on { Call::ReadWriteProtect } else { Call::ReadWriteUnprotect };
        self.protect((call, "ioctl(UFFDIO_RWPROTECT)"), pages(start, len), !on, |entry| match entry
        {
            Entry::Present { write, .. } => Entry::Present { write, read_write: on },
            other => other,
        })
    }

    /// Protects all pages or none. Other threads may run between two pages.
    fn protect(
        &self,
        name: (Call, &'static str),
        range: PageRange,
        wake: bool,
        change: impl Fn(Entry) -> Entry,
    ) -> Result<Outcome, SysError> {
        let owned =
            self.kernel.with(|state| range.iter().try_for_each(|page| self.owns(state, page)));
        if let Err(errno) = owned {
            return outcome(Err(SysError::new(name.1, errno)), 0);
        }
        self.each(name, range, wake, |state, page| {
            let page = state.page(page);
            page.entry = change(page.entry);
            Ok(())
        })
    }

    /// Waits until no thread walks the page table.
    pub(crate) fn set_rwp_async(&self, on: bool) -> Result<(), SysError> {
        let call = if on { Call::Async } else { Call::Sync };
        let all = PageRange::new(0, 0);
        self.simple(call, "ioctl(UFFDIO_SET_MODE)", all, || {
            self.kernel.exclusively(|state| {
                state.descriptors[self.number].is_async = on;
                if on {
                    state.wake_where(|waiter| waiter.descriptor == self.number);
                }
            });
        })
    }

    pub(crate) fn has_messages(&self) -> bool {
        self.kernel.with(|state| state.has_message(self.number))
    }

    pub(crate) fn read(&self, messages: &mut [UffdMsg]) -> Result<usize, SysError> {
        let none = PageRange::new(0, 0);
        if self.kernel.with(|state| !state.has_message(self.number)) {
            return Ok(0);
        }
        match self.begin(Call::ReadMessages, none) {
            Err(libc::EAGAIN) => return Ok(0),
            Err(errno) => return Err(SysError::new("read(userfaultfd)", errno)),
            Ok(_) => {}
        }
        self.kernel.with(|state| {
            let unread =
                state.waiters.iter_mut().filter(|w| w.descriptor == self.number && !w.read);
            let mut got = 0;
            for (message, waiter) in messages.iter_mut().zip(unread) {
                waiter.read = true;
                *message = UffdMsg {
                    event: UFFD_EVENT_PAGEFAULT,
                    address: (BASE + waiter.page.offset()) as u64,
                    flags: match waiter.reason {
                        Reason::Missing => 0,
                        Reason::WriteProtected => 1 << 1,
                        Reason::ReadWriteProtected => 1 << 3,
                    },
                    ..UffdMsg::default()
                };
                got += 1;
            }
            Ok(got)
        })
    }
}
