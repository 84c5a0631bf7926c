//! An index entry: a key and its record, in one allocation. The entries of a million keys take tens of
//! megabytes that cannot be evicted, so every word counts.

#![allow(unsafe_code)]

use super::values::Value;
use super::{Expiry, UnixMs};
use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::fmt;
use std::marker::PhantomData;
use std::ptr::NonNull;

/// The data of a key.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) value: Value,
    /// When the value was last used, in [ticks](super::heat) since the start.
    pub(super) used: u32,
    /// The key's length, and the flag [`VOLATILE`].
    key: u32,
}

/// A deadline lies between the record and its key. Keys are much shorter than this bit's value.
const VOLATILE: u32 = 1 << 31;

/// When a key expires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Deadline {
    pub(super) at: UnixMs,
    /// The lower bits of its [slot](super::expiries).
    pub(super) slot: u32,
}

/// The bytes of a deadline, which is not aligned.
const DEADLINE: usize = size_of::<UnixMs>() + size_of::<u32>();

/// The bytes of a hash in the wheel of expiries.
const HASH: usize = 8;

const _: () = assert!(size_of::<Record>() == 24 && align_of::<Record>() == align_of::<UnixMs>());

impl Record {
    fn key_len(&self) -> usize {
        (self.key & !VOLATILE) as usize
    }

    pub(super) fn is_volatile(&self) -> bool {
        self.key & VOLATILE != 0
    }

    fn layout(&self) -> Layout {
        layout(self.key_len(), self.is_volatile())
    }
}

/// The layout of a record, its deadline if it has one, and its key.
fn layout(key_len: usize, volatile: bool) -> Layout {
    let bytes = size_of::<Record>() + DEADLINE * usize::from(volatile) + key_len;
    Layout::from_size_align(bytes, align_of::<Record>()).expect("a key's length")
}

/// An owned record, followed in memory by its key.
pub(super) struct Entry {
    record: NonNull<Record>,
    owns: PhantomData<Record>,
}

// SAFETY: an entry owns its data, which are `Send`.
unsafe impl Send for Entry {}

impl Entry {
    /// An entry last used at `used`. Keys, like all arguments, are shorter than 2 GiB.
    pub(super) fn new(key: &[u8], value: Value, used: u32, deadline: Option<Deadline>) -> Self {
        let len = u32::try_from(key.len()).ok().filter(|len| len & VOLATILE == 0);
        let len = len.expect("a key of less than 2 GiB");
        let volatile = if deadline.is_some() { VOLATILE } else { 0 };
        let content = Record { value, used, key: len | volatile };
        let layout = content.layout();
        // SAFETY: the layout's size is not zero.
        let Some(record) = NonNull::new(unsafe { alloc(layout) }.cast::<Record>()) else {
            handle_alloc_error(layout)
        };
        // SAFETY: new memory with room for a record.
        unsafe { record.write(content) };
        let mut this = Self { record, owns: PhantomData };
        if let Some(deadline) = deadline {
            this.set_deadline(deadline);
        }
        // SAFETY: the layout has room for the key at its end.
        unsafe {
            let place = this.key_place();
            place.copy_from_nonoverlapping(NonNull::from(key).cast(), key.len());
        }
        this
    }

    /// The address of the deadline, if there is one.
    fn deadline_place(&self) -> NonNull<u8> {
        // SAFETY: right after the record, within the allocation or at its end.
        unsafe { self.record.add(1).cast() }
    }

    fn key_place(&self) -> NonNull<u8> {
        let before = if self.record().is_volatile() { DEADLINE } else { 0 };
        // SAFETY: after the deadline, if there is one, within the allocation or at its end.
        unsafe { self.deadline_place().add(before) }
    }

    pub(super) fn key(&self) -> &[u8] {
        // SAFETY: `new` has written this number of bytes there.
        unsafe { std::slice::from_raw_parts(self.key_place().as_ptr(), self.record().key_len()) }
    }

    pub(super) fn record(&self) -> &Record {
        // SAFETY: owned, and borrowed as the entry is.
        unsafe { self.record.as_ref() }
    }

    pub(super) fn record_mut(&mut self) -> &mut Record {
        // SAFETY: owned, and borrowed as the entry is.
        unsafe { self.record.as_mut() }
    }

    pub(super) fn deadline(&self) -> Option<Deadline> {
        if !self.record().is_volatile() {
            return None;
        }
        let place = self.deadline_place();
        // SAFETY: `new` has written both.
        let (at, slot) = unsafe {
            let slot = place.add(size_of::<UnixMs>()).cast::<u32>();
            (place.cast::<UnixMs>().read_unaligned(), slot.read_unaligned())
        };
        Some(Deadline { at, slot })
    }

    /// Overwrites the deadline of a volatile entry.
    pub(super) fn set_deadline(&mut self, deadline: Deadline) {
        assert!(self.record().is_volatile(), "the entry has no room for a deadline");
        let place = self.deadline_place();
        // SAFETY: the entry has room for both.
        unsafe {
            place.cast::<UnixMs>().write_unaligned(deadline.at);
            place.add(size_of::<UnixMs>()).cast::<u32>().write_unaligned(deadline.slot);
        }
    }

    pub(super) fn expiry(&self) -> Expiry {
        self.deadline().map_or(Expiry::Never, |deadline| Expiry::At(deadline.at))
    }

    pub(super) fn has_expired(&self, now: UnixMs) -> bool {
        self.deadline().is_some_and(|deadline| deadline.at <= now)
    }

    /// The entry with another deadline.
    pub(super) fn with_deadline(mut self, deadline: Option<Deadline>) -> Self {
        if let Some(deadline) = deadline
            && self.record().is_volatile()
        {
            self.set_deadline(deadline);
            return self;
        }
        let used = self.record().used;
        let key = self.key().to_vec();
        Self::new(&key, self.into_value(), used, deadline)
    }

    /// Frees the entry and returns its value.
    pub(super) fn into_value(self) -> Value {
        // SAFETY: owned; the record's value is not used again, and the record needs no drop.
        let value = unsafe { (&raw const (*self.record.as_ptr()).value).read() };
        drop(self);
        value
    }

    /// The bytes that the entry takes apart from its value, with the allocator's rounding, a slot in the
    /// index, and its hash in the wheel of expiries.
    pub(super) fn overhead(&self) -> usize {
        const SLOT: usize = 16;
        let hash = if self.record().is_volatile() { HASH } else { 0 };
        (self.record().layout().size() + 8).next_multiple_of(16) + SLOT + hash
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let layout = self.record().layout();
        // SAFETY: owned, allocated with this layout; the record needs no drop.
        unsafe { dealloc(self.record.cast().as_ptr(), layout) }
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("key", &self.key().escape_ascii().to_string())
            .field("record", self.record())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyspace::values::Values;
    use thermocline::{Arena, Lane};

    #[test]
    fn an_entry_holds_its_key_its_value_and_its_expiry() {
        let values = Values::new(&Arena::builder().plain_memory_fallback(true).build().unwrap());
        for len in [0, 1, 7, 8, 9, 1000, 100_000] {
            let key: Vec<u8> = (0..len).map(|n| n as u8).collect();
            let value = values.put(Lane::Default, b"value").unwrap();
            let mut entry = Entry::new(&key, value, 7, None);
            let at = |at| Some(Deadline { at, slot: at as u32 ^ 9 });
            for deadline in [at(5), at(UnixMs::MAX), None, at(-1)] {
                let before = entry.overhead();
                entry = entry.with_deadline(deadline);
                assert_eq!((entry.key(), entry.record().used), (&*key, 7));
                assert_eq!(entry.deadline(), deadline);
                assert_eq!(entry.record().is_volatile(), deadline.is_some());
                assert!(entry.overhead() > len && entry.overhead().abs_diff(before) <= 24);
            }
            entry = entry.with_deadline(at(5));
            assert!(entry.has_expired(5) && !entry.has_expired(4));
            assert_eq!(entry.expiry(), Expiry::At(5));
            let value = entry.into_value();
            assert_eq!(value.len(), 5);
            values.free(value);
        }
    }
}
