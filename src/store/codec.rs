//! Compresses pages to blocks, and verifies the bytes that a block decodes to.
//!
//! A block begins with a header of one word, which names the codec and the dictionary that made it. So
//! blocks of several codecs can lie in the slabs side by side. The header's checksum (CRC-32, seeded with
//! the page's tag) covers the page's own bytes: it finds damage in the slabs and mistakes of a decoder.
//!
//! To add a codec: add a variant to [`Codec`] and to its `of`. The compiler then points to the place in
//! [`Decompressor::decompress`] that must decode it. Decoding runs in a signal handler: it must not
//! allocate, must not panic, and must need little stack.

use super::Corrupt;
use super::lz4;
use crate::prim::PAGE_SIZE;
use crate::prim::pack::Field;
use crate::prim::units::index;

/// The largest block that the store takes: three quarters of a page, header included.
pub(super) const MAX_BLOCK: usize = PAGE_SIZE / 4 * 3;

/// A block's header: the page's checksum, the number of bytes that follow, the codec and the dictionary.
const CHECKSUM: Field = Field::lowest(32);
const LENGTH: Field = CHECKSUM.then(16);
const CODEC: Field = LENGTH.then(4);
const DICTIONARY: Field = CODEC.then(12);
const HEADER: usize = size_of::<u64>();

/// The dictionary of blocks that need none.
const NO_DICTIONARY: u64 = 0;

const _: () = assert!(lz4::PAGE == PAGE_SIZE && HEADER + lz4::MAX == MAX_BLOCK);
const _: () = assert!(DICTIONARY.end() == u64::BITS);

/// The format of a block's bytes, by the number that its header has.
///
/// No codec has number 0, so that a header of zeros is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Codec {
    /// An LZ4 block of the whole page.
    Lz4 = 1,
    /// An LZ4 block of the page's bytes before its zero tail, then their number (16 bits, little-endian).
    ///
    /// `lz4_flex` decodes a long run of zeros byte by byte. Without the tail a page with half of zeros takes
    /// a sixth of the time (`cargo bench --bench codec`, "zero tail").
    Lz4ZeroTail = 2,
}

/// Zero bytes at a page's end from which [`Codec::Lz4ZeroTail`] pays.
const MIN_ZERO_TAIL: usize = 128;

/// Bytes that [`Codec::Lz4ZeroTail`] appends.
const TAIL_BYTES: usize = size_of::<u16>();

impl Codec {
    /// The codec that `header` names. [`Corrupt`] if there is no such codec.
    fn of(header: u64) -> Result<Self, Corrupt> {
        const LZ4: u64 = Codec::Lz4 as u64;
        const LZ4_ZERO_TAIL: u64 = Codec::Lz4ZeroTail as u64;
        match CODEC.get(header) {
            LZ4 => Ok(Self::Lz4),
            LZ4_ZERO_TAIL => Ok(Self::Lz4ZeroTail),
            _ => Err(Corrupt),
        }
    }
}

/// A word of a block, as its bytes.
pub(super) type Chunk = [u8; 8];

/// The result of compressing a page.
#[derive(Debug)]
pub(super) enum Compressed<'a> {
    /// The page repeats this word.
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
    pub(super) fn header(self) -> u64 {
        self.header
    }

    /// The bytes after the header.
    pub(super) fn chunks(self) -> &'a [Chunk] {
        self.chunks
    }

    /// Words of the block, including the header.
    pub(super) fn words(self) -> usize {
        1 + self.chunks.len()
    }

    /// Bytes of the block, including the header, without the padding.
    pub(super) fn bytes(self) -> usize {
        bytes_of(self.header)
    }
}

/// Bytes of the block that begins with `header`, including the header.
pub(super) fn bytes_of(header: u64) -> usize {
    HEADER + index(LENGTH.get(header))
}

fn checksum(page: &[u8; PAGE_SIZE], tag: u64) -> u64 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&tag.to_le_bytes());
    hasher.update(page);
    hasher.finalize().into()
}

/// Whether the header's checksum is the checksum of this page.
pub(super) fn is_copy(header: u64, tag: u64, page: &[u8; PAGE_SIZE]) -> bool {
    CHECKSUM.get(header) == checksum(page, tag)
}

/// The word that the whole page repeats, if there is one. Stops soon after the first difference.
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

/// Bytes of the zeros at the page's end, in whole words.
fn zero_tail(page: &[u8; PAGE_SIZE]) -> usize {
    let words = page.as_chunks::<8>().0.iter().rev();
    words.take_while(|word| **word == [0; 8]).count() * size_of::<Chunk>()
}

/// Fills `out` with copies of `word`.
pub(super) fn fill(out: &mut [u8], word: u32) {
    let bytes = word.to_ne_bytes();
    if bytes == [bytes[0]; 4] {
        out.fill(bytes[0]);
    } else {
        out.as_chunks_mut::<4>().0.fill(bytes);
    }
}

/// The encoder's tables and its output buffer. Each thread that evicts has one.
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

    /// Compresses `page`, which must have a page's length.
    pub(super) fn compress(&mut self, page: &[u8], tag: u64) -> Compressed<'_> {
        debug_assert_eq!(page.len(), PAGE_SIZE);
        let Ok(page) = page.try_into() else { return Compressed::Incompressible };
        if let Some(word) = same_filled(page) {
            return Compressed::SameFilled(word);
        }
        let Some((codec, len)) = self.encode(page) else {
            return Compressed::Incompressible;
        };
        let padded = len.next_multiple_of(size_of::<Chunk>());
        self.block[len..padded].fill(0);
        let header = LENGTH.set(CHECKSUM.set(0, checksum(page, tag)), len as u64);
        let header = DICTIONARY.set(CODEC.set(header, codec as u64), NO_DICTIONARY);
        Compressed::Block(Block { header, chunks: self.block[..padded].as_chunks().0 })
    }

    /// Writes the page's block to the buffer. Returns its codec and its length, or `None` if it is too long.
    fn encode(&mut self, page: &[u8; PAGE_SIZE]) -> Option<(Codec, usize)> {
        let used = PAGE_SIZE - zero_tail(page);
        if PAGE_SIZE - used < MIN_ZERO_TAIL {
            return Some((Codec::Lz4, self.encoder.encode(page, &mut self.block)?));
        }
        let len = self.encoder.encode(&page[..used], &mut self.block)?;
        let end = len + TAIL_BYTES;
        #[expect(clippy::cast_possible_truncation, reason = "at most a page")]
        self.block[len..end].copy_from_slice(&(used as u16).to_le_bytes());
        (end <= lz4::MAX).then_some((Codec::Lz4ZeroTail, end))
    }
}

/// A buffer for a block, made before the first fault. Each thread that decodes has one at a time.
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

    /// The buffer for the bytes after a block's header.
    pub(super) fn chunks(&mut self) -> &mut [Chunk] {
        self.block.as_chunks_mut().0
    }

    /// Decodes the block with this header, whose other bytes are in [`chunks`](Self::chunks), and
    /// verifies the page.
    pub(super) fn decompress(&self, header: u64, tag: u64, out: &mut [u8]) -> Result<(), Corrupt> {
        let block = self.block.get(..bytes_of(header) - HEADER).ok_or(Corrupt)?;
        let page: &mut [u8; PAGE_SIZE] = out.try_into().map_err(|_| Corrupt)?;
        if DICTIONARY.get(header) != NO_DICTIONARY {
            return Err(Corrupt);
        }
        match Codec::of(header)? {
            Codec::Lz4 => lz4::decode(block, page).map_err(|lz4::Malformed| Corrupt)?,
            Codec::Lz4ZeroTail => {
                let (block, used) = block.split_last_chunk().ok_or(Corrupt)?;
                let used = usize::from(u16::from_le_bytes(*used));
                let (bytes, tail) = page.split_at_mut_checked(used).ok_or(Corrupt)?;
                lz4::decode(block, bytes).map_err(|lz4::Malformed| Corrupt)?;
                tail.fill(0);
            }
        }
        if is_copy(header, tag, page) { Ok(()) } else { Err(Corrupt) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_that_name_an_unknown_codec_or_dictionary_are_refused() {
        let mut page = [0; PAGE_SIZE];
        page[..3].copy_from_slice(b"abc");
        let mut compressor = Compressor::new();
        let Compressed::Block(block) = compressor.compress(&page, 7) else { panic!("no block") };
        let (header, chunks) = (block.header(), block.chunks());
        let mut decompressor = Decompressor::new();
        decompressor.chunks()[..chunks.len()].copy_from_slice(chunks);
        let decode = |header| {
            let mut out = [0xEE; PAGE_SIZE];
            decompressor.decompress(header, 7, &mut out).map(|()| out)
        };
        assert_eq!(decode(header), Ok(page));
        for codec in 0..=CODEC.max() {
            let own = codec == CODEC.get(header);
            assert_eq!(decode(CODEC.set(header, codec)).is_ok(), own, "codec {codec}");
        }
        for dictionary in 0..=DICTIONARY.max() {
            let known = dictionary == NO_DICTIONARY;
            assert_eq!(decode(DICTIONARY.set(header, dictionary)).is_ok(), known, "{dictionary}");
        }
        assert_eq!(decode(LENGTH.set(header, LENGTH.max())), Err(Corrupt));
        assert_eq!(decode(0), Err(Corrupt));
    }

    #[test]
    fn pages_with_every_length_of_zero_tail_come_back() {
        let (mut compressor, mut decompressor) = (Compressor::new(), Decompressor::new());
        let mut page: [u8; PAGE_SIZE] = core::array::from_fn(|i| (i / 4 % 251) as u8 | 1);
        for used in (1..=PAGE_SIZE).rev() {
            page[used..].fill(0);
            let Compressed::Block(block) = compressor.compress(&page, 3) else { panic!("{used}") };
            let (header, chunks) = (block.header(), block.chunks());
            decompressor.chunks()[..chunks.len()].copy_from_slice(chunks);
            // No byte of the page may be one that lay there before.
            let mut out = [0xEE; PAGE_SIZE];
            assert_eq!(decompressor.decompress(header, 3, &mut out), Ok(()), "{used}");
            assert!(out == page, "{used}");
            let codec =
                if PAGE_SIZE - used < MIN_ZERO_TAIL { Codec::Lz4 } else { Codec::Lz4ZeroTail };
            assert_eq!(CODEC.get(header), codec as u64, "{used}");
        }
    }

    #[test]
    fn a_wrong_length_before_the_zero_tail_is_refused() {
        let mut page = [0; PAGE_SIZE];
        page[..40].fill(9);
        let mut compressor = Compressor::new();
        let Compressed::Block(block) = compressor.compress(&page, 3) else { panic!("no block") };
        let (header, chunks) = (block.header(), block.chunks());
        let at = block.bytes() - HEADER - TAIL_BYTES;
        let mut decompressor = Decompressor::new();
        for used in (0..=u16::MAX).step_by(7).chain([39, 40, 41, 4096, 4097, u16::MAX]) {
            decompressor.chunks()[..chunks.len()].copy_from_slice(chunks);
            let bytes = decompressor.chunks().as_flattened_mut();
            bytes[at..at + TAIL_BYTES].copy_from_slice(&used.to_le_bytes());
            let decoded = decompressor.decompress(header, 3, &mut [0; PAGE_SIZE]);
            assert_eq!(decoded.is_ok(), used == 40, "{used}");
        }
        assert_eq!(decompressor.decompress(LENGTH.set(header, 1), 3, &mut page), Err(Corrupt));
    }
}
