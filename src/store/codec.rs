//! How a page is made small, and how its bytes are checked on the way back.
//!
//! LZ4 blocks by `lz4_flex`, with a table that is kept between pages. The checksum (CRC-32, seeded
//! with the page's tag) is of the page's own bytes, so that it covers decoder and slabs alike.

use super::Corrupt;
use crate::prim::PAGE_SIZE;
use crate::prim::pack::Field;
use crate::prim::units::index;
use lz4_flex::block::{
    CompressTable, compress_into_with_table, decompress_into, get_maximum_output_size,
};

/// The largest block that is worth storing: three quarters of a page, header included.
pub(super) const MAX_BLOCK: usize = PAGE_SIZE / 4 * 3;

/// The word before a block's bytes: the page's checksum, and how many bytes follow.
const CHECKSUM: Field = Field::lowest(32);
const LENGTH: Field = CHECKSUM.then(16);
const HEADER: usize = size_of::<u64>();

/// A page, made small.
#[derive(Debug)]
pub(super) enum Compressed<'a> {
    /// Nothing but this word over and over.
    SameFilled(u32),
    Block(Block<'a>),
    Incompressible,
}

/// A header and the compressed bytes, as whole words.
#[derive(Clone, Copy, Debug)]
pub(super) struct Block<'a>(&'a [u64]);

impl<'a> Block<'a> {
    /// The words of the block.
    pub(super) fn words(self) -> &'a [u64] {
        self.0
    }

    /// Bytes of the block, without what rounds it up to a word.
    pub(super) fn bytes(self) -> usize {
        bytes_of(self.0[0])
    }
}

/// Bytes of the block that begins with `header`, the header included.
pub(super) fn bytes_of(header: u64) -> usize {
    HEADER + index(LENGTH.get(header))
}

fn checksum(page: &[u8], tag: u64) -> u64 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&tag.to_le_bytes());
    hasher.update(page);
    hasher.finalize().into()
}

/// The word that fills the whole page, if there is one. Looks no further than the first difference.
fn same_filled(page: &[u8]) -> Option<u32> {
    let words = page.as_chunks::<8>().0;
    let first = u64::from_ne_bytes(*words.first()?);
    let half = u32::try_from(first >> 32).ok()?;
    let repeats = first == u64::from(half) << 32 | u64::from(half);
    (repeats && words.iter().all(|w| u64::from_ne_bytes(*w) == first)).then_some(half)
}

/// Writes `word` over and over.
pub(super) fn fill(out: &mut [u8], word: u32) {
    for chunk in out.as_chunks_mut::<4>().0 {
        *chunk = word.to_ne_bytes();
    }
}

/// What compressing needs, kept between pages; one for each thread that evicts.
pub(crate) struct Compressor {
    table: CompressTable,
    bytes: Box<[u8]>,
    words: Box<[u64]>,
}

impl core::fmt::Debug for Compressor {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Compressor").finish_non_exhaustive()
    }
}

impl Compressor {
    pub(crate) fn new() -> Self {
        Self {
            table: CompressTable::small(),
            bytes: vec![0; get_maximum_output_size(PAGE_SIZE)].into(),
            words: vec![0; MAX_BLOCK / 8].into(),
        }
    }

    pub(super) fn compress(&mut self, page: &[u8], tag: u64) -> Compressed<'_> {
        debug_assert_eq!(page.len(), PAGE_SIZE);
        if let Some(word) = same_filled(page) {
            return Compressed::SameFilled(word);
        }
        // The output has room for the worst case, so this does not fail; if it did, the page would
        // stay where it is.
        let Ok(len) = compress_into_with_table(page, &mut self.bytes, &mut self.table) else {
            return Compressed::Incompressible;
        };
        if HEADER + len > MAX_BLOCK {
            return Compressed::Incompressible;
        }
        self.bytes[len..].iter_mut().take(8).for_each(|b| *b = 0);
        self.words[0] = LENGTH.set(CHECKSUM.set(0, checksum(page, tag)), len as u64);
        let used = 1 + len.div_ceil(8);
        for (word, chunk) in self.words[1..used].iter_mut().zip(self.bytes.as_chunks::<8>().0) {
            *word = u64::from_ne_bytes(*chunk);
        }
        Compressed::Block(Block(&self.words[..used]))
    }
}

/// What giving back needs, made before the first fault; one for each thread that fills pages.
pub(crate) struct Decompressor {
    words: Box<[u64]>,
    bytes: Box<[u8]>,
}

impl core::fmt::Debug for Decompressor {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Decompressor").finish_non_exhaustive()
    }
}

impl Decompressor {
    pub(crate) fn new() -> Self {
        Self { words: vec![0; MAX_BLOCK / 8].into(), bytes: vec![0; MAX_BLOCK].into() }
    }

    /// Room for a block's words.
    pub(super) fn words(&mut self) -> &mut [u64] {
        &mut self.words
    }

    /// Decodes the block whose first `words` words [`words`](Self::words) was filled with.
    pub(super) fn decompress(
        &mut self,
        words: usize,
        tag: u64,
        out: &mut [u8],
    ) -> Result<(), Corrupt> {
        let [header, ref block @ ..] = self.words[..words] else {
            return Err(Corrupt);
        };
        let len = bytes_of(header) - HEADER;
        if len > block.len() * 8 {
            return Err(Corrupt);
        }
        for (chunk, word) in self.bytes.as_chunks_mut::<8>().0.iter_mut().zip(block) {
            *chunk = word.to_ne_bytes();
        }
        match decompress_into(&self.bytes[..len], out) {
            Ok(PAGE_SIZE) if CHECKSUM.get(header) == checksum(out, tag) => Ok(()),
            _ => Err(Corrupt),
        }
    }
}
