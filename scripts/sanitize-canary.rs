//! A program that is wrong on purpose. A sanitizer that does not report it proves nothing by silence.

use std::cell::UnsafeCell;
use std::hint::black_box;

struct Shared(UnsafeCell<u64>);

// SAFETY: none; the sanitizer is to find this.
unsafe impl Sync for Shared {}

static SHARED: Shared = Shared(UnsafeCell::new(0));

/// Reads the byte behind a block.
fn overflow() -> u8 {
    let block = black_box(vec![1u8; 64]);
    // SAFETY: none.
    unsafe { *block.as_ptr().add(black_box(block.len())) }
}

/// Two threads write to a word without synchronisation.
fn race() -> u8 {
    let write = || {
        for _ in 0..1000 {
            // SAFETY: none.
            unsafe { *black_box(SHARED.0.get()) += 1 };
        }
    };
    let threads = [std::thread::spawn(write), std::thread::spawn(write)];
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    0
}

fn main() {
    let sanitizer = std::env::args().nth(1);
    black_box(if sanitizer.as_deref() == Some("address") { overflow() } else { race() });
}
