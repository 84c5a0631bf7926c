//! Any bytes: our decoder makes a page of them where `lz4_flex` does, and the same one.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../src/store/lz4.rs"]
#[allow(dead_code, reason = "only one direction is used")]
mod lz4;

fuzz_target!(|block: &[u8]| {
    let mut pages = [[0x00; lz4::PAGE], [0xFF; lz4::PAGE]];
    let ours = pages.each_mut().map(|page| lz4::decode(block, page));
    let mut other = [0xEE; lz4::PAGE];
    match lz4_flex::block::decompress_into(block, &mut other) {
        Ok(lz4::PAGE) => {
            assert_eq!(ours, [Ok(()); 2]);
            // Nothing of what lay in a page before is left.
            assert!(pages[0] == other && pages[1] == other);
        }
        _ => assert_eq!(ours, [Err(lz4::Malformed); 2]),
    }
});
