//! Reads a stored page and leaves it stored.

use super::Resolver;
use crate::prim::{PAGE_SIZE, PageIndex};
use crate::sys::signals::SignalsBlocked;
use crate::table::{State, Word};
use std::ops::Range;

/// The outcome of a peek.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peeked {
    /// The bytes were copied, and the page is stored as before.
    Stored,
    /// The page is not stored. The caller may read it in the arena.
    InMemory,
    /// The page is lost.
    Lost,
}

impl Resolver {
    /// Copies a part of a page to the start of `bytes`, if the page is stored.
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
                        return self.peek_owned(page, seen, part, bytes);
                    }
                }
                State::Dropping | State::Filling => self.core.table.wait(page),
                State::Lost => return Peeked::Lost,
                State::Empty | State::Resident | State::Claimed => return Peeked::InMemory,
            }
        }
    }

    fn peek_owned(
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
