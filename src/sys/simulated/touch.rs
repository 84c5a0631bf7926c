//! What a program does to the arena's memory, and what the kernel does about it.

use super::kernel::{BASE, Kernel, State};
use super::page::Entry;
use super::waiters::{On, Reason, Waiter};
use crate::prim::sync::thread;
use crate::prim::{PAGE_SIZE, PageIndex};
use crate::sys::serve::Served;
use crate::sys::uapi::UFFD_FEATURE_SIGBUS;
use std::sync::Arc;

/// The toucher was killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sigbus;

/// What a look at the page-table entry came to.
enum Met {
    Done,
    /// The kernel has resolved it; the access is tried again.
    Resolved,
    /// SIGBUS, which the process's handler may serve.
    Signal,
    Poison,
    Wait(usize, Reason),
}

impl Kernel {
    /// Reads a page.
    pub(crate) fn read(
        self: &Arc<Self>,
        page: PageIndex,
        mut read: impl FnMut(&[u8]),
    ) -> Result<(), Sigbus> {
        self.touch(page, false, &mut |bytes| read(bytes))
    }

    /// Writes to a page.
    pub(crate) fn write(
        self: &Arc<Self>,
        page: PageIndex,
        mut write: impl FnMut(&mut [u8]),
    ) -> Result<(), Sigbus> {
        self.touch(page, true, &mut write)
    }

    fn touch(
        self: &Arc<Self>,
        page: PageIndex,
        writes: bool,
        access: &mut dyn FnMut(&mut [u8]),
    ) -> Result<(), Sigbus> {
        loop {
            match self.with(|state| state.meet(page, writes, access)) {
                Met::Done => return Ok(()),
                Met::Resolved => {}
                Met::Poison => return Err(Sigbus),
                Met::Signal => self.signal(page)?,
                Met::Wait(descriptor, reason) => self.wait_for(page, descriptor, reason),
            }
        }
    }

    /// Has the process's handler serve the touch.
    fn signal(&self, page: PageIndex) -> Result<(), Sigbus> {
        let server = self.with(|state| {
            state.serving += usize::from(state.server.is_some());
            state.server.clone()
        });
        let server = server.ok_or(Sigbus)?;
        let served = server.serve(BASE + page.offset());
        drop(server);
        self.with(|state| state.serving -= 1);
        if served == Served::Retry { Ok(()) } else { Err(Sigbus) }
    }

    /// Queues up, looks again, and sleeps. The caller is walking until then.
    fn wait_for(&self, page: PageIndex, descriptor: usize, reason: Reason) {
        let ticket = self.with(|state| {
            let ticket = state.ticket();
            let thread = thread::current();
            state.waiters.push(Waiter { ticket, descriptor, page, read: false, reason, thread });
            state.wake_sleepers(On::Messages(descriptor));
            ticket
        });
        self.with(|state| {
            let sleeps = state.must_wait(page, reason);
            state.end_walk();
            if !sleeps {
                state.waiters.retain(|waiter| waiter.ticket != ticket);
            }
        });
        self.sleep_until(|state| {
            state.waiters.iter().all(|waiter| waiter.ticket != ticket).then_some(())
        });
    }
}

impl State {
    /// One look at the page table (`handle_mm_fault`), and the access if it lets it through. Who has to
    /// wait is walking when it returns.
    fn meet(&mut self, at: PageIndex, writes: bool, access: &mut dyn FnMut(&mut [u8])) -> Met {
        let descriptors = &self.descriptors;
        let page = &mut self.pages[at.0];
        let is_async = |owner: usize| descriptors[owner].is_async;
        if page.replaced {
            return Met::Signal;
        }
        let (owner, reason) = match (page.entry, page.owner) {
            (Entry::Poison, _) => return Met::Poison,
            (Entry::Present { read_write: true, write }, Some(owner)) if is_async(owner) => {
                page.entry = Entry::Present { read_write: false, write };
                return Met::Resolved;
            }
            (Entry::Present { read_write: true, .. }, Some(owner)) => {
                (owner, Reason::ReadWriteProtected)
            }
            (Entry::Present { write: true, .. }, Some(owner)) if writes => {
                (owner, Reason::WriteProtected)
            }
            (Entry::Present { .. }, _) => {
                let Some(bytes) = &mut page.bytes else {
                    unreachable!("{at:?} is mapped and a hole");
                };
                access(bytes);
                return Met::Done;
            }
            (Entry::None | Entry::WriteProtected, owner) => match (&page.bytes, owner) {
                (None, Some(owner)) => (owner, Reason::Missing),
                (bytes, _) => {
                    if bytes.is_none() {
                        page.bytes = Some(vec![0; PAGE_SIZE].into());
                    }
                    let write = page.entry == Entry::WriteProtected;
                    page.entry = Entry::Present { write, read_write: false };
                    return Met::Resolved;
                }
            },
        };
        if self.descriptors[owner].features & UFFD_FEATURE_SIGBUS != 0 {
            return Met::Signal;
        }
        self.walking += 1;
        Met::Wait(owner, reason)
    }

    /// The second look (`userfaultfd_must_wait`), which sees the page table and not the page cache.
    fn must_wait(&self, at: PageIndex, reason: Reason) -> bool {
        let page = &self.pages[at.0];
        match page.entry {
            entry if entry.is_none_mostly() => true,
            Entry::Present { write, read_write } => match reason {
                Reason::Missing => false,
                Reason::WriteProtected => write,
                Reason::ReadWriteProtected => read_write,
            },
            _ => false,
        }
    }
}
