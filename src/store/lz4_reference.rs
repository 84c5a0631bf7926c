//! A plain decoder of LZ4 blocks, with which the tests and the fuzz targets compare `lz4_flex`.
//!
//! A block is a row of sequences. Each sequence has a token, literals and a match. The token's upper
//! half is the number of literals, its lower half the length of the match less four. A half of 15 goes
//! on in further bytes, up to the first byte below 255. The match repeats decoded bytes: two bytes
//! behind the literals say how far back it begins. The last sequence ends with its literals.

/// The bytes that `block` decodes to, or `None` if it is not a block of exactly `len` bytes.
pub(super) fn decode(block: &[u8], len: usize) -> Option<Vec<u8>> {
    let mut input = block.iter().copied();
    let mut out = Vec::with_capacity(len);
    loop {
        let token = usize::from(input.next()?);
        let literals = length(&mut input, token >> 4)?;
        if literals > input.len() || literals > len - out.len() {
            return None;
        }
        out.extend(input.by_ref().take(literals));
        if input.len() == 0 {
            return (out.len() == len).then_some(out);
        }
        let offset = usize::from(u16::from_le_bytes([input.next()?, input.next()?]));
        let length = 4 + length(&mut input, token & 15)?;
        if offset == 0 || offset > out.len() || length > len - out.len() {
            return None;
        }
        for _ in 0..length {
            out.push(out[out.len() - offset]);
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
