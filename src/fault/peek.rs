//! Reading what is stored where it is, for somebody who will not need it again soon.

use super::Resolver;
use crate::prim::{PAGE_SIZE, PageIndex};
use crate::sys::signals::SignalsBlocked;
use crate::table::{State, Word};
use std::ops::Range;

/// Where the bytes of a page are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peeked {
    /// They have been read, and are stored as before.
    Stored,
    /// In memory, where they may be read as any other.
    InMemory,
    /// Nowhere: they are lost.
    Lost,
}

impl Resolver {
    /// Reads a part of a page to the beginning of `bytes` if it is stored. It stays stored.
    ///
    /// `bytes` may not lie in an arena.
    pub(crate) fn peek(
        &self,
        page: PageIndex,
        part: Range<usize>,
        bytes: &mut [u8; PAGE_SIZE],
    ) -> Peeked {
        loop {
            let seen = self.core.table.load(page);
            match seen.state() {
                State::Stored => {
                    self.core.store.prefetch(seen.handle());
                    let _blocked = SignalsBlocked::new();
                    if self.core.table.begin_fill(page, seen).is_ok() {
                        return self.peek_at_taken(page, seen, part, bytes);
                    }
                }
                State::Dropping | State::Filling => self.core.table.wait(page),
                State::Lost => return Peeked::Lost,
                State::Empty | State::Resident | State::Claimed => return Peeked::InMemory,
            }
        }
    }

    fn peek_at_taken(
        &self,
        page: PageIndex,
        was: Word,
        part: Range<usize>,
        bytes: &mut [u8; PAGE_SIZE],
    ) -> Peeked {
        self.scratches.with(|scratch| {
            scratch.begin(page);
            scratch.push_above(was);
            if self.decode_around(page, scratch).is_empty() {
                return Peeked::Lost;
            }
            bytes[..part.len()].copy_from_slice(&scratch.bytes(page.only())[part]);
            self.abort_fill(page, scratch);
            self.core.counters.peeks.add(1);
            Peeked::Stored
        })
    }
}
