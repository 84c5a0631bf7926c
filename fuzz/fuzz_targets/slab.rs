//! A program of puts, gets, frees and trims: each page comes back under its own tag and under no other
//! tag, and the store's counts are right after every step.

#![no_main]

use libfuzzer_sys::fuzz_target;
use std::cell::RefCell;

#[path = "../../src/prim/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the target uses a part of it")]
mod prim;
#[allow(dead_code, reason = "the target uses a part of it")]
mod program;
#[path = "../../src/stats/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the target uses a part of it")]
mod stats;
#[path = "../../src/store/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the target uses a part of it")]
mod store;
#[path = "../../src/sys/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the target uses a part of it")]
mod sys;

use prim::{Handle, PAGE_SIZE};
use program::Program;
use store::{Compressor, Corrupt, Decompressor, Put, SLAB_BYTES, Store};

type Page = [u8; PAGE_SIZE];

/// Pages that begin with at most this many bytes of noise compress.
const COMPRESSES: usize = 2900;
/// Pages that begin with at least this many bytes of noise do not.
const RESISTS: usize = 3100;

thread_local! {
    /// Made once and reused, as an evictor and a faulting thread do.
    static TOOLS: RefCell<(Compressor, Decompressor)> =
        RefCell::new((Compressor::new(), Decompressor::new()));
}

/// A page in the store.
struct Stored {
    tag: u64,
    page: Page,
    handle: Handle,
    same_filled: bool,
}

/// The page of this tag: `noise` bytes that do not compress, then zeros.
fn page(tag: u64, noise: usize) -> Page {
    let mut page = [0; PAGE_SIZE];
    let mut state = (tag + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    for word in page[..noise].chunks_mut(8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        word.copy_from_slice(&state.to_le_bytes()[..word.len()]);
    }
    page
}

struct Model {
    store: Store,
    stored: Vec<Stored>,
    puts: u64,
    /// Pages that are stored in slabs.
    blocks: usize,
}

impl Model {
    fn put(&mut self, compressor: &mut Compressor, page: Page, noise: usize) {
        let tag = self.puts;
        self.puts += 1;
        let (handle, same_filled) = match self.store.put(compressor, &page, tag) {
            Put::SameFilled(handle) => (handle, true),
            Put::Compressed(handle) => (handle, false),
            Put::Incompressible => return assert!(noise > COMPRESSES, "{noise} bytes of noise"),
            Put::Full => return assert_eq!(self.store.held_bytes(), self.store.limit()),
        };
        assert!(noise < RESISTS, "{noise} bytes of noise");
        self.blocks += usize::from(!same_filled);
        self.stored.push(Stored { tag, page, handle, same_filled });
    }

    fn verify(&self, decompressor: &mut Decompressor, at: usize) {
        let Some(stored) = self.stored.get(at % self.stored.len().max(1)) else { return };
        let mut out = [0xEE; PAGE_SIZE];
        self.store.prefetch(stored.handle);
        assert_eq!(self.store.get(stored.handle, stored.tag, decompressor, &mut out), Ok(()));
        assert!(out == stored.page, "page {} has other bytes", stored.tag);
        if !stored.same_filled {
            let other = self.store.get(stored.handle, stored.tag + 1, decompressor, &mut out);
            assert_eq!(other, Err(Corrupt));
        }
    }

    fn free(&mut self, at: usize) {
        if self.stored.is_empty() {
            return;
        }
        let stored = self.stored.swap_remove(at % self.stored.len());
        self.blocks -= usize::from(!stored.same_filled);
        self.store.free(stored.handle);
    }

    fn check(&self) {
        self.store.check(self.stored.iter().map(|stored| stored.handle)).unwrap();
        assert!(self.store.held_bytes() <= self.store.limit());
        assert!(self.store.payload_bytes() <= self.store.held_bytes());
        assert!((self.blocks == 0) == (self.store.payload_bytes() == 0));
    }
}

fuzz_target!(|bytes: &[u8]| {
    let mut program = Program::new(bytes);
    let limit = (1 + program.byte() % 4) * SLAB_BYTES;
    let mut model =
        Model { store: Store::new(limit).unwrap(), stored: Vec::new(), puts: 0, blocks: 0 };
    TOOLS.with_borrow_mut(|(compressor, decompressor)| {
        while let Some(step) = program.step() {
            match step % 8 {
                // Up to 16 pages of a size: a slab has 21 slots of the largest class.
                0..=2 => {
                    let noise = program.number() % (PAGE_SIZE + 1);
                    for _ in 0..=step >> 4 {
                        let page = page(model.puts, noise);
                        model.put(compressor, page, noise);
                    }
                }
                3 => {
                    let word = (program.number() as u32) << (step >> 4);
                    let page = word.to_le_bytes().repeat(PAGE_SIZE / 4);
                    model.put(compressor, page.try_into().unwrap(), 0);
                }
                4 => model.verify(decompressor, program.byte()),
                5 | 6 => {
                    let (at, stride) = (program.byte(), program.byte());
                    for n in 0..=usize::from(step >> 4) {
                        model.free(at + n * stride);
                    }
                }
                _ => model.store.trim(),
            }
            model.check();
        }
        (0..model.stored.len()).for_each(|at| model.verify(decompressor, at));
    });
    while !model.stored.is_empty() {
        model.free(0);
    }
    model.store.trim();
    model.check();
    assert_eq!((model.store.held_bytes(), model.store.payload_bytes()), (0, 0));
});
