//! Arbitrary bytes: the library's decoder and a plain one agree whether they are a block of a page, and
//! on the page.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../src/store/lz4.rs"]
#[allow(dead_code, reason = "the target only decodes")]
mod lz4;
#[path = "../../src/store/lz4_reference.rs"]
mod lz4_reference;

fuzz_target!(|block: &[u8]| {
    let expected = lz4_reference::decode(block).ok_or(lz4::Malformed);
    // No byte of the page may be one that lay there before.
    for before in [0x00, 0xFF] {
        let mut page = [before; lz4::PAGE];
        assert!(lz4::decode(block, &mut page).map(|()| page) == expected);
    }
});
