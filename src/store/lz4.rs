//! LZ4 blocks of exactly one page.
//!
//! A block is a row of sequences, each of them a token, literals and a match: a byte whose upper
//! half tells how many literals follow, and whose lower half how many bytes beyond four are then
//! repeated, from as far back as two bytes behind the literals say. A half of 15 is continued in
//! further bytes, up to the first that is not 255. The last sequence ends with its literals.
//!
//! Most sequences are short, and most of the time goes into wrong guesses of the branch predictor.
//! So both directions copy a fixed number of bytes where fewer are needed, wherever the surplus
//! still falls into the buffer: what comes next is written over it. Only a page's last bytes are
//! copied with care.
//!
//! The encoder is greedy. It keeps the last place of each hash of five bytes, and takes the first
//! match that it meets. Where it finds none for a while, its steps become longer.
//!
//! Nothing of the crate is used here: the benchmark and the fuzz targets include this file.

/// Bytes of a page.
pub(super) const PAGE: usize = 4096;

/// Bytes of the longest block that [`Encoder::encode`] makes: with a word before it, three quarters
/// of a page.
pub(super) const MAX: usize = PAGE / 4 * 3 - 8;

/// Bytes of the buffer that [`Encoder::encode`] wants. What lies behind the block is overwritten.
pub(super) const ROOM: usize = MAX + 64;

/// Bytes of the shortest match.
const MATCH: usize = 4;

/// A half of a token that is continued.
const MORE: usize = 15;

/// Not a block, or not one of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// The `N` bytes of `bytes` that begin at `at`.
#[inline(always)]
fn load<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

/// Writes `chunk` to `bytes`, from `at` on.
#[inline(always)]
fn store<const N: usize>(bytes: &mut [u8], at: usize, chunk: [u8; N]) -> Option<()> {
    *bytes.get_mut(at..)?.first_chunk_mut()? = chunk;
    Some(())
}

/// Copies `N` bytes within `page`.
#[inline(always)]
fn copy<const N: usize>(page: &mut [u8; PAGE], from: usize, to: usize) -> Option<()> {
    let chunk: [u8; N] = load(page, from)?;
    store(page, to, chunk)
}

/// Decodes a block that makes exactly one page. Where it is no such block, the page's bytes are
/// not to be used.
pub(super) fn decode(block: &[u8], page: &mut [u8; PAGE]) -> Result<(), Malformed> {
    decode_sequences(block, page).ok_or(Malformed)
}

/// The page's bytes before `to` are made from the block alone: copies read nothing behind it that
/// counts.
#[inline]
fn decode_sequences(block: &[u8], page: &mut [u8; PAGE]) -> Option<()> {
    /// A token, the literals that are copied, and an offset behind as many as there are at most.
    const READ: usize = 18;
    /// The literals that there are at most, and the bytes that are copied for a match, rounded up.
    const WRITTEN: usize = 40;

    let (mut at, mut to) = (0, 0);
    loop {
        let (offset, mut length);
        match block.get(at..).and_then(|rest| rest.first_chunk::<READ>()) {
            // Few literals, and not near an end: fixed copies.
            Some(window) if window[0] < 0xF0 && to <= PAGE - WRITTEN => {
                let literals = usize::from(window[0] >> 4);
                length = MATCH + usize::from(window[0] & 15);
                offset =
                    usize::from(u16::from_le_bytes([window[1 + literals], window[2 + literals]]));
                store::<16>(page, to, load(window, 1)?)?;
                (at, to) = (at + 1 + literals + 2, to + literals);
                if length < MATCH + MORE && offset >= 8 {
                    let from = to.checked_sub(offset)?;
                    copy::<8>(page, from, to)?;
                    copy::<8>(page, from + 8, to + 8)?;
                    copy::<8>(page, from + 16, to + 16)?;
                    to += length;
                    continue;
                }
            }
            _ => {
                let token = *block.get(at)?;
                at += 1;
                let mut literals = usize::from(token >> 4);
                if literals == MORE {
                    literals += more(block, &mut at)?;
                }
                copy_literals(block, at, page, to, literals)?;
                (at, to) = (at + literals, to + literals);
                if at == block.len() {
                    return (to == PAGE).then_some(());
                }
                offset = usize::from(u16::from_le_bytes(load(block, at)?));
                length = MATCH + usize::from(token & 15);
                at += 2;
            }
        }
        if length == MATCH + MORE {
            length += more(block, &mut at)?;
        }
        to = repeat(page, to, offset, length)?;
    }
}

/// What continues a length, if there is an end to it and it does not exceed a page by far.
#[inline]
fn more(block: &[u8], at: &mut usize) -> Option<usize> {
    let mut length = 0;
    while length <= PAGE {
        let byte = *block.get(*at)?;
        *at += 1;
        length += usize::from(byte);
        if byte != u8::MAX {
            return Some(length);
        }
    }
    None
}

#[inline]
fn copy_literals(
    block: &[u8],
    at: usize,
    page: &mut [u8; PAGE],
    to: usize,
    literals: usize,
) -> Option<()> {
    const STEP: usize = 32;
    if at + literals + STEP <= block.len() && to + literals + STEP <= PAGE {
        for done in (0..literals).step_by(STEP) {
            store::<STEP>(page, to + done, load(block, at + done)?)?;
        }
    } else {
        let source = block.get(at..at + literals)?;
        page.get_mut(to..to + literals)?.copy_from_slice(source);
    }
    Some(())
}

/// Writes `length` bytes from `to` on, each like the one `offset` before it, and says where they
/// end.
#[inline]
fn repeat(page: &mut [u8; PAGE], mut to: usize, offset: usize, length: usize) -> Option<usize> {
    let end = to + length;
    if end > PAGE || offset == 0 || offset > to {
        return None;
    }
    // A copy reads only what is there before it, if it is no longer than the offset.
    if offset >= 32 && end <= PAGE - 32 {
        while to < end {
            copy::<32>(page, to - offset, to)?;
            to += 32;
        }
    } else if offset >= 16 && end <= PAGE - 16 {
        while to < end {
            copy::<16>(page, to - offset, to)?;
            to += 16;
        }
    } else if offset < 8 {
        let period = page.get(to - offset..to)?;
        let word = period.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
        fill(page.get_mut(to..end)?, word, offset);
    } else {
        // What can be copied at once doubles each time.
        let from = to - offset;
        while to < end {
            let bytes = (to - from).min(end - to);
            page.copy_within(from..from + bytes, to);
            to += bytes;
        }
    }
    Some(end)
}

/// Fills `out` with the lowest `period` bytes of `word`, of which the others are zero, over and
/// over.
#[inline]
fn fill(out: &mut [u8], mut word: u64, period: usize) {
    for bits in [8 * period, 16 * period, 32 * period] {
        if bits < 64 {
            word |= word << bits;
        }
    }
    let bytes = word.to_le_bytes();
    // The periods that are whole in a word; what is cut off behind them is written over.
    let step = 8 / period * period;
    if step == 8 {
        let (words, rest) = out.as_chunks_mut::<8>();
        words.fill(bytes);
        rest.copy_from_slice(&bytes[..rest.len()]);
    } else {
        for chunk in out.chunks_mut(step) {
            chunk.copy_from_slice(&bytes[..chunk.len()]);
        }
    }
}

/// Hashes have this many bits.
const HASH_BITS: u32 = 12;

/// After as many steps as two to the power of this without a match, steps become longer by one.
const PATIENCE: u32 = 5;

/// Matches begin no later than this, so that five bytes and a hash's eight can be read there, and
/// end no later than five bytes before the end: decoders rely on both.
const LAST_START: usize = PAGE - 12;
const LAST_END: usize = PAGE - 5;

/// Where in a page bytes of each hash were last seen: nowhere is 0 too, as every place is compared.
type Table = [u16; 1 << HASH_BITS];

/// What encoding needs, kept between pages.
pub(super) struct Encoder {
    table: Box<Table>,
}

impl Encoder {
    pub(super) fn new() -> Self {
        Self { table: Box::new([0; 1 << HASH_BITS]) }
    }

    /// Writes the block of `page` and says how long it is; nothing where it would be too long.
    pub(super) fn encode(&mut self, page: &[u8; PAGE], out: &mut [u8; ROOM]) -> Option<usize> {
        self.table.fill(0);
        encode_sequences(page, out, &mut self.table)
    }
}

/// The word at `at`, which lies at least a word before the end.
#[inline(always)]
fn word(page: &[u8; PAGE], at: usize) -> u64 {
    u64::from_le_bytes(load(page, at).unwrap_or_default())
}

/// Puts `at` into the table and says where bytes of the same hash were before.
#[inline(always)]
#[allow(clippy::cast_possible_truncation, reason = "places are less than a page")]
fn exchange(table: &mut Table, word: u64, at: usize) -> usize {
    // The shift leaves five bytes of eight: fewer would find more, short matches that cost more
    // than they save.
    let hash = word.wrapping_mul(0x9E37_79B1_85EB_CA87 << 24) >> (u64::BITS - HASH_BITS);
    usize::from(core::mem::replace(&mut table[hash as usize], at as u16))
}

/// Whether a match at `from` begins with the bytes of `word`.
///
/// Places of which nothing was recorded lead to the page's start. To compare there as well costs
/// less than a branch that asks for it, which would be guessed wrong.
#[inline(always)]
#[allow(clippy::cast_possible_truncation, reason = "the first four bytes are meant")]
fn is_match(page: &[u8; PAGE], from: usize, word: u64) -> bool {
    load(page, from).is_some_and(|bytes| u32::from_le_bytes(bytes) == word as u32)
}

fn encode_sequences(page: &[u8; PAGE], out: &mut [u8; ROOM], table: &mut Table) -> Option<usize> {
    // Literals begin at `anchor`.
    let (mut anchor, mut at, mut to) = (0, 1, 0);
    'block: loop {
        // Literals up to there would be too many for the block.
        let last = LAST_START.min(anchor + MAX.saturating_sub(to));
        let mut steps = 1 << PATIENCE;
        let mut from;
        loop {
            if at > last {
                break 'block;
            }
            let here = word(page, at);
            from = exchange(table, here, at);
            if is_match(page, from, here) {
                break;
            }
            at += steps >> PATIENCE;
            steps += 1;
        }
        while from > 0 && page[at - 1] == page[from - 1] && at > anchor {
            at -= 1;
            from -= 1;
        }
        let mut token = to;
        to = put_literals(out, to, page, anchor, at - anchor)?;
        // Often a match follows the last one at once.
        loop {
            let length = common(page, from + MATCH, at + MATCH);
            to = put_match(out, token, to, at - from, length)?;
            at += MATCH + length;
            anchor = at;
            if at > LAST_START {
                break 'block;
            }
            exchange(table, word(page, at - 2), at - 2);
            let here = word(page, at);
            from = exchange(table, here, at);
            if !is_match(page, from, here) {
                break;
            }
            token = to;
            to = put_literals(out, to, page, anchor, 0)?;
        }
        at += 1;
    }
    to = put_literals(out, to, page, anchor, PAGE - anchor)?;
    (to <= MAX).then_some(to)
}

/// How many bytes from `at` on are those from `from` on, up to the last that a match may have.
#[inline(always)]
fn common(page: &[u8; PAGE], from: usize, at: usize) -> usize {
    let mut length = 0;
    while at + length <= LAST_END - 8 {
        let difference = word(page, from + length) ^ word(page, at + length);
        if difference != 0 {
            return length + difference.trailing_zeros() as usize / 8;
        }
        length += 8;
    }
    while at + length < LAST_END && page[from + length] == page[at + length] {
        length += 1;
    }
    length
}

/// Writes a token for `literals` bytes of the page from `anchor` on, and these, and says where they
/// end; nothing where the block has no room for them.
#[inline]
fn put_literals(
    out: &mut [u8; ROOM],
    to: usize,
    page: &[u8; PAGE],
    anchor: usize,
    literals: usize,
) -> Option<usize> {
    if to + literals > MAX {
        return None;
    }
    *out.get_mut(to)? = half(literals) << 4;
    if literals < MORE && anchor <= PAGE - 16 {
        store::<16>(out, to + 1, load(page, anchor)?)?;
        return Some(to + 1 + literals);
    }
    let start = put_more(out, to + 1, literals)?;
    out.get_mut(start..start + literals)?.copy_from_slice(page.get(anchor..anchor + literals)?);
    Some(start + literals)
}

/// Writes a match of `length` beyond the shortest, whose token is there, and says where it ends.
#[inline]
fn put_match(
    out: &mut [u8; ROOM],
    token: usize,
    to: usize,
    offset: usize,
    length: usize,
) -> Option<usize> {
    *out.get_mut(token)? |= half(length);
    store(out, to, u16::try_from(offset).ok()?.to_le_bytes())?;
    put_more(out, to + 2, length)
}

/// What a token tells of a length.
#[inline(always)]
#[allow(clippy::cast_possible_truncation, reason = "at most 15")]
fn half(length: usize) -> u8 {
    length.min(MORE) as u8
}

/// Writes what a token does not tell of a length, and says where it ends.
#[inline(always)]
#[allow(clippy::cast_possible_truncation, reason = "less than 255")]
fn put_more(out: &mut [u8; ROOM], mut to: usize, length: usize) -> Option<usize> {
    let Some(mut rest) = length.checked_sub(MORE) else { return Some(to) };
    while rest >= 255 {
        *out.get_mut(to)? = 255;
        rest -= 255;
        to += 1;
    }
    *out.get_mut(to)? = rest as u8;
    Some(to + 1)
}
