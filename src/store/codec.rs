//! How a page is made small, and how its bytes are checked on the way back.
//!
//! An LZ4 block behind a word with the checksum and the block's length. The checksum (CRC-32, seeded
//! with the page's tag) is of the page's own bytes, so that it covers decoder and slabs alike.

use super::Corrupt;
use super::lz4;
use crate::prim::PAGE_SIZE;
use crate::prim::pack::Field;
use crate::prim::units::index;

/// The largest block that is worth storing: three quarters of a page, header included.
pub(super) const MAX_BLOCK: usize = PAGE_SIZE / 4 * 3;

/// The word before a block's bytes: the page's checksum, and how many bytes follow.
const CHECKSUM: Field = Field::lowest(32);
const LENGTH: Field = CHECKSUM.then(16);
const HEADER: usize = size_of::<u64>();

const _: () = assert!(lz4::PAGE == PAGE_SIZE && HEADER + lz4::MAX == MAX_BLOCK);

/// A word of a block, as its bytes.
pub(super) type Chunk = [u8; 8];

/// A page, made small.
#[derive(Debug)]
pub(super) enum Compressed<'a> {
    /// Nothing but this word over and over.
    SameFilled(u32),
    Block(Block<'a>),
    Incompressible,
}

/// A header and the compressed bytes, padded to whole words.
#[derive(Clone, Copy, Debug)]
pub(super) struct Block<'a> {
    header: u64,
    chunks: &'a [Chunk],
}

impl<'a> Block<'a> {
    /// The word that a block begins with.
    pub(super) fn header(self) -> u64 {
        self.header
    }

    /// What follows the header.
    pub(super) fn chunks(self) -> &'a [Chunk] {
        self.chunks
    }

    /// Words of the block, the header among them.
    pub(super) fn words(self) -> usize {
        1 + self.chunks.len()
    }

    /// Bytes of the block, without what pads it.
    pub(super) fn bytes(self) -> usize {
        bytes_of(self.header)
    }
}

/// Bytes of the block that begins with `header`, the header included.
pub(super) fn bytes_of(header: u64) -> usize {
    HEADER + index(LENGTH.get(header))
}

fn checksum(page: &[u8; PAGE_SIZE], tag: u64) -> u64 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&tag.to_le_bytes());
    hasher.update(page);
    hasher.finalize().into()
}

/// Whether the block with this header was made of these bytes, as far as its checksum tells.
pub(super) fn is_copy(header: u64, tag: u64, page: &[u8; PAGE_SIZE]) -> bool {
    CHECKSUM.get(header) == checksum(page, tag)
}

/// The word that fills the whole page, if there is one. Looks not far beyond the first difference.
pub(super) fn same_filled(page: &[u8; PAGE_SIZE]) -> Option<u32> {
    let words = page.as_chunks::<8>().0;
    let first = u64::from_ne_bytes(*words.first()?);
    let half = u32::try_from(first >> 32).ok()?;
    let repeats = first == u64::from(half) << 32 | u64::from(half);
    let differs = |word: &Chunk| u64::from_ne_bytes(*word) ^ first;
    // Most pages differ in their first words.
    (repeats
        && words[..8].iter().all(|word| differs(word) == 0)
        && words
            .as_chunks::<32>()
            .0
            .iter()
            .all(|words| words.iter().map(differs).fold(0, |a, b| a | b) == 0))
    .then_some(half)
}

/// Writes `word` over and over.
pub(super) fn fill(out: &mut [u8], word: u32) {
    let bytes = word.to_ne_bytes();
    if bytes == [bytes[0]; 4] {
        out.fill(bytes[0]);
    } else {
        out.as_chunks_mut::<4>().0.fill(bytes);
    }
}

/// What compressing needs, kept between pages; one for each thread that evicts.
pub(crate) struct Compressor {
    encoder: lz4::Encoder,
    block: Box<[u8; lz4::ROOM]>,
}

impl core::fmt::Debug for Compressor {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Compressor").finish_non_exhaustive()
    }
}

impl Compressor {
    pub(crate) fn new() -> Self {
        Self { encoder: lz4::Encoder::new(), block: Box::new([0; lz4::ROOM]) }
    }

    /// Makes `page` small, which must have a page's length.
    pub(super) fn compress(&mut self, page: &[u8], tag: u64) -> Compressed<'_> {
        debug_assert_eq!(page.len(), PAGE_SIZE);
        let Ok(page) = page.try_into() else { return Compressed::Incompressible };
        if let Some(word) = same_filled(page) {
            return Compressed::SameFilled(word);
        }
        let Some(len) = self.encoder.encode(page, &mut self.block) else {
            return Compressed::Incompressible;
        };
        let padded = len.next_multiple_of(size_of::<Chunk>());
        self.block[len..padded].fill(0);
        Compressed::Block(Block {
            header: LENGTH.set(CHECKSUM.set(0, checksum(page, tag)), len as u64),
            chunks: self.block[..padded].as_chunks().0,
        })
    }
}

/// What giving back needs, made before the first fault; one for each thread that fills pages.
pub(crate) struct Decompressor {
    block: Box<[u8; lz4::MAX]>,
}

impl core::fmt::Debug for Decompressor {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Decompressor").finish_non_exhaustive()
    }
}

impl Decompressor {
    pub(crate) fn new() -> Self {
        Self { block: Box::new([0; lz4::MAX]) }
    }

    /// Room for what follows a block's header.
    pub(super) fn chunks(&mut self) -> &mut [Chunk] {
        self.block.as_chunks_mut().0
    }

    /// Decodes the block of this header, the rest of which [`chunks`](Self::chunks) was filled with.
    pub(super) fn decompress(&self, header: u64, tag: u64, out: &mut [u8]) -> Result<(), Corrupt> {
        let block = self.block.get(..bytes_of(header) - HEADER).ok_or(Corrupt)?;
        let page: &mut [u8; PAGE_SIZE] = out.try_into().map_err(|_| Corrupt)?;
        match lz4::decode(block, page) {
            Ok(()) if is_copy(header, tag, page) => Ok(()),
            _ => Err(Corrupt),
        }
    }
}
