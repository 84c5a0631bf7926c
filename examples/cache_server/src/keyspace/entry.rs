//! A key and what is kept about it, in one allocation: a million keys take tens of megabytes that
//! cannot be evicted, so every word counts.

#![allow(unsafe_code)]

use super::values::Value;
use super::{Expiry, UnixMs};
use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::fmt;
use std::marker::PhantomData;
use std::ptr::NonNull;

/// What is kept about a key.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) value: Value,
    /// Milliseconds since the epoch, or [`NEVER`].
    expiry: UnixMs,
    key_len: u32,
    /// When the value was last used: [`Ticks`](super::heat::Ticks) since the start.
    pub(super) used: u32,
    /// How often it was used of late: see [`heat`](super::heat).
    pub(super) heat: u8,
    /// Whether it was ever written into, which Redis calls `raw`.
    pub(super) raw: bool,
}

/// As the end of time is not a time that can be reached.
const NEVER: UnixMs = UnixMs::MAX;

const _: () = assert!(size_of::<Record>() <= 40);

impl Record {
    pub(super) fn expiry(&self) -> Expiry {
        if self.expiry == NEVER { Expiry::Never } else { Expiry::At(self.expiry) }
    }

    pub(super) fn set_expiry(&mut self, expiry: Expiry) {
        self.expiry = match expiry {
            Expiry::Never => NEVER,
            // A millisecond earlier, three hundred million years from now.
            Expiry::At(at) => at.min(NEVER - 1),
        };
    }

    pub(super) fn is_volatile(&self) -> bool {
        self.expiry != NEVER
    }

    pub(super) fn has_expired(&self, now: UnixMs) -> bool {
        self.expiry <= now
    }
}

/// An owned record, followed in memory by its key.
pub(super) struct Entry {
    record: NonNull<Record>,
    owns: PhantomData<Record>,
}

// SAFETY: an entry owns what it points to, which is `Send` itself.
unsafe impl Send for Entry {}

impl Entry {
    /// An entry without expiry, used at `used`. Keys are shorter than 4 GiB, as all arguments are.
    pub(super) fn new(key: &[u8], value: Value, used: u32) -> Self {
        let key_len = u32::try_from(key.len()).expect("a key of less than 4 GiB");
        let layout = Self::layout(key.len());
        // SAFETY: a record has a size.
        let Some(record) = NonNull::new(unsafe { alloc(layout) }.cast::<Record>()) else {
            handle_alloc_error(layout)
        };
        let content = Record { value, expiry: NEVER, key_len, used, heat: 0, raw: false };
        // SAFETY: new memory with the layout of a record and the key behind it.
        unsafe {
            record.write(content);
            let bytes = record.add(1).cast::<u8>();
            bytes.copy_from_nonoverlapping(NonNull::from(key).cast(), key.len());
        }
        Self { record, owns: PhantomData }
    }

    fn layout(key_len: usize) -> Layout {
        let bytes = size_of::<Record>() + key_len;
        Layout::from_size_align(bytes, align_of::<Record>()).expect("a key's length")
    }

    pub(super) fn key(&self) -> &[u8] {
        let len = self.record().key_len as usize;
        // SAFETY: so many bytes were written behind the record when it was made.
        unsafe { std::slice::from_raw_parts(self.record.add(1).cast::<u8>().as_ptr(), len) }
    }

    pub(super) fn record(&self) -> &Record {
        // SAFETY: owned, and borrowed as the entry is.
        unsafe { self.record.as_ref() }
    }

    pub(super) fn record_mut(&mut self) -> &mut Record {
        // SAFETY: owned, and borrowed as the entry is.
        unsafe { self.record.as_mut() }
    }

    /// Ends the entry and hands out what it was about.
    pub(super) fn into_value(self) -> Value {
        let layout = Self::layout(self.record().key_len as usize);
        // SAFETY: owned; it is not used after this, nor dropped.
        unsafe {
            let record = self.record.read();
            dealloc(self.record.cast().as_ptr(), layout);
            std::mem::forget(self);
            record.value
        }
    }

    /// Bytes of memory that it takes besides its value: with what an allocator rounds up, and a slot
    /// in the index.
    pub(super) fn overhead(&self) -> usize {
        const SLOT: usize = 16;
        (Self::layout(self.key().len()).size() + 8).next_multiple_of(16) + SLOT
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let layout = Self::layout(self.record().key_len as usize);
        // SAFETY: owned, allocated with this layout; a record needs no drop of its own.
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
    fn an_entry_is_its_key_and_its_record() {
        let values = Values::new(Arena::builder().or_plain_memory().build().unwrap());
        for len in [0, 1, 7, 8, 9, 1000, 100_000] {
            let key: Vec<u8> = (0..len).map(|n| n as u8).collect();
            let mut entry = Entry::new(&key, values.put(Lane::Default, b"value").unwrap(), 7);
            assert_eq!((entry.key(), entry.record().used), (&*key, 7));
            entry.record_mut().set_expiry(Expiry::At(UnixMs::MAX));
            assert!(entry.record().is_volatile() && !entry.record().has_expired(UnixMs::MAX - 2));
            entry.record_mut().set_expiry(Expiry::At(5));
            assert_eq!(entry.record().expiry(), Expiry::At(5));
            assert!(entry.record().has_expired(5) && !entry.record().has_expired(4));
            entry.record_mut().set_expiry(Expiry::Never);
            assert_eq!(entry.record().expiry(), Expiry::Never);
            assert!(entry.overhead() > len);
            let value = entry.into_value();
            assert_eq!(value.len(), 5);
            values.free(value);
        }
    }
}
