//! A plain decoder of LZ4 blocks, with which the tests and the fuzz targets compare `lz4_flex`.
//!
//! A block is a row of sequences. Each sequence has a token, literals and a match. The token's upper
//! half is the number of literals, its lower half the length of the match less four. A half of 15 goes
//! on in further bytes, up to the first byte below 255. The match repeats decoded bytes: two bytes
//! behind the literals say how far back it begins. The last sequence ends with its literals.

use super::lz4::PAGE;

/// The page that `block` decodes to, or `None` if it is not a block of exactly one page.
pub(super) fn decode(block: &[u8]) -> Option<[u8; PAGE]> {
    let mut input = block.iter().copied();
    let mut page = Vec::with_capacity(PAGE);
    loop {
        let token = usize::from(input.next()?);
        let literals = length(&mut input, token >> 4)?;
        if literals > input.len() || literals > PAGE - page.len() {
            return None;
        }
        page.extend(input.by_ref().take(literals));
        if input.len() == 0 {
            return page.try_into().ok();
        }
        let offset = usize::from(u16::from_le_bytes([input.next()?, input.next()?]));
        let length = 4 + length(&mut input, token & 15)?;
        if offset == 0 || offset > page.len() || length > PAGE - page.len() {
            return None;
        }
        for _ in 0..length {
            page.push(page[page.len() - offset]);
        }
    }
}

/// The length that begins with this half of a token.
fn length(input: &mut impl Iterator<Item = u8>, half: usize) -> Option<usize> {
    let mut length = half;
    if half == 15 {
        loop {
            let byte = input.next()?;
            length += usize::from(byte);
            if byte != u8::MAX {
                break;
            }
        }
    }
    Some(length)
}
