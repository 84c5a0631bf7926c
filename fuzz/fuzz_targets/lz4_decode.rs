//! Arbitrary bytes: the library's decoder and a plain one agree whether they are a block of a given length,
//! and on the bytes. The input's first two bytes select the length.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../src/store/lz4.rs"]
#[allow(dead_code, reason = "the target only decodes")]
mod lz4;
#[path = "../../src/store/lz4_reference.rs"]
mod lz4_reference;

fuzz_target!(|input: &[u8]| {
    let Some((len, block)) = input.split_first_chunk() else { return };
    // Few bytes, as before a long zero tail, or a whole page as often as any other length.
    let len = usize::from(u16::from_le_bytes(*len));
    let len = if len.is_multiple_of(4) { len % 40 } else { len.min(lz4::PAGE) };
    let expected = lz4_reference::decode(block, len).ok_or(lz4::Malformed);
    // No byte may be one that lay there before.
    for before in [0x00, 0xFF] {
        let mut out = vec![before; len];
        assert!(lz4::decode(block, &mut out).map(|()| out) == expected);
    }
});
