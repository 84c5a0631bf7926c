//! Arbitrary pages: the encoder's block is not too long, is the same each time, and both decoders make
//! the page of it.
//!
//! A page repeats the input's bytes. The input's first byte selects how each repetition is changed.

#![no_main]

use libfuzzer_sys::fuzz_target;
use std::cell::RefCell;

#[path = "../../src/store/lz4.rs"]
mod lz4;
#[path = "../../src/store/lz4_reference.rs"]
mod lz4_reference;

thread_local! {
    /// Used for all inputs: earlier pages must not matter.
    static USED: RefCell<lz4::Encoder> = RefCell::new(lz4::Encoder::new());
}

fuzz_target!(|input: &[u8]| {
    let Some((&how, bytes)) = input.split_first() else { return };
    let mut page = [0; lz4::PAGE];
    if !bytes.is_empty() {
        for (i, byte) in page.iter_mut().enumerate() {
            let round = i / bytes.len();
            *byte = bytes[i % bytes.len()].wrapping_add(match how % 4 {
                0 => 0,
                1 if i % 8 == 0 => round as u8,
                2 if round > 0 => (round * i) as u8,
                _ => 0,
            });
        }
    }
    let mut out = [0xA5; lz4::ROOM];
    let len = USED.with_borrow_mut(|encoder| encoder.encode(&page, &mut out));
    let mut again = [0x5A; lz4::ROOM];
    assert_eq!(lz4::Encoder::new().encode(&page, &mut again), len);
    let Some(len) = len else { return };
    assert!(len <= lz4::MAX);
    assert!(out[..len] == again[..len]);

    let mut decoded = [0xEE; lz4::PAGE];
    assert_eq!(lz4::decode(&out[..len], &mut decoded), Ok(()));
    assert!(decoded == page);
    assert!(lz4_reference::decode(&out[..len], lz4::PAGE).as_deref() == Some(&page[..]));
});
