//! The program's accesses to arena memory, and the kernel's fault handling.

use super::kernel::{BASE, Kernel, State};
use super::page::Entry;
use super::waiters::{Reason, Waiter, WakeSource};
use crate::prim::sync::thread;
use crate::prim::{PAGE_SIZE, PageIndex};
use crate::sys::serve::Served;
use crate::sys::uapi::UFFD_FEATURE_SIGBUS;
use std::sync::Arc;

/// The access got SIGBUS, which no handler served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sigbus;

/// The result of an access, by the page-table entry.
enum AccessOutcome {
    Done,
    /// The kernel has resolved the fault; the thread repeats the access.
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
            match self.with(|state| state.try_access(page, writes, access)) {
                AccessOutcome::Done => return Ok(()),
                AccessOutcome::Resolved => {}
                AccessOutcome::Poison => return Err(Sigbus),
                AccessOutcome::Signal => self.signal(page)?,
                AccessOutcome::Wait(descriptor, reason) => self.wait_for(page, descriptor, reason),
            }
        }
    }

    /// Calls the process's SIGBUS handler.
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

    /// Enqueues the thread, checks the entry again, and sleeps. Ends the caller's walk.
    fn wait_for(&self, page: PageIndex, descriptor: usize, reason: Reason) {
        let ticket = self.with(|state| {
            let ticket = state.ticket();
            let thread = thread::current();
            state.waiters.push(Waiter { ticket, descriptor, page, read: false, reason, thread });
            state.wake_sleepers(WakeSource::Messages(descriptor));
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
    /// Reads the page-table entry (`handle_mm_fault`), and makes the access if the entry allows it. If the
    /// thread has to wait, it is still walking when this returns.
    fn try_access(
        &mut self,
        at: PageIndex,
        writes: bool,
        access: &mut dyn FnMut(&mut [u8]),
    ) -> AccessOutcome {
        let descriptors = &self.descriptors;
        let page = &mut self.pages[at.0];
        let is_async = |owner: usize| descriptors[owner].is_async;
        if page.replaced {
            return AccessOutcome::Signal;
        }
        let (owner, reason) = match (page.entry, page.owner) {
            (Entry::Poison, _) => return AccessOutcome::Poison,
            (Entry::Present { read_write: true, write }, Some(owner)) if is_async(owner) => {
                page.entry = Entry::Present { read_write: false, write };
                return AccessOutcome::Resolved;
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
                page.referenced = true;
                return AccessOutcome::Done;
            }
            (Entry::None | Entry::WriteProtected, owner) => match (&page.bytes, owner) {
                (None, Some(owner)) => (owner, Reason::Missing),
                (bytes, _) => {
                    if bytes.is_none() {
                        page.bytes = Some(vec![0; PAGE_SIZE].into());
                    }
                    let write = page.entry == Entry::WriteProtected;
                    page.entry = Entry::Present { write, read_write: false };
                    page.referenced = true;
                    return AccessOutcome::Resolved;
                }
            },
        };
        if self.descriptors[owner].features & UFFD_FEATURE_SIGBUS != 0 {
            return AccessOutcome::Signal;
        }
        self.walking += 1;
        AccessOutcome::Wait(owner, reason)
    }

    /// The second check (`userfaultfd_must_wait`), which reads the page table but not the page cache.
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
