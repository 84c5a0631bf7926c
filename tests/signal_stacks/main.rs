//! Stacks on which signals are delivered: how little of them an inline fault takes, and what has to be
//! done for those that lie in an arena.
//!
//! `scripts/test` runs this program without optimisation and in the release profile too: how large a
//! frame is depends on that.

#![allow(missing_docs, unsafe_code)]
#![allow(clippy::print_stdout, reason = "how much stack was used belongs to the result")]

#[path = "../common/mod.rs"]
mod common;

mod alternate;
mod copies;
mod in_arena;
mod service;

use common::pages::Pages;
use common::stacks::{Mixed, Stack, largest_frame};
use common::{SetOnDrop, Setup, quiet, scaled, signals};
use core::ffi::c_int;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

/// What the library adds to a signal frame at most, for each copy of it in the process.
const PROMISED: usize = 1 << 10;

extern "C" fn nothing(_: c_int) {}

/// The frame of a signal as it is here, with the return address of a handler.
fn frame() -> usize {
    let handler = nothing as extern "C" fn(_) as usize;
    signals::install(libc::SIGUSR1, handler, libc::SA_ONSTACK, &[]);
    let (stack, alternate) = (Stack::new(1 << 20), Stack::new(largest_frame() + (16 << 10)));
    // SAFETY: takes a number.
    stack.run(Some(&alternate), &mut || assert_eq!(unsafe { libc::raise(libc::SIGUSR1) }, 0));
    let frame = alternate.used();
    assert!(frame >= 500, "{frame}");
    frame
}

/// Touches pages of all kinds on `stack` while they are being evicted.
fn touch_on(stack: &Stack, alternate: Option<&Stack>, setup: Setup) {
    let rounds = scaled(40, 5);
    let arena = quiet(setup).build().unwrap();
    let mixed = Mixed::new(&arena);
    // Neighbours for the stretch that is all stored.
    let dense = Pages::filled(&arena, 1000);
    let (wrong, over) = (AtomicUsize::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                arena.evict_now().unwrap();
            }
        });
        let _over = SetOnDrop(&over);
        for _ in 0..rounds {
            arena.evict_now().unwrap();
            let empty = Pages::new(&arena, 64);
            stack.run(alternate, &mut || {
                let mut found = mixed.wrong();
                found += (0..1000).filter(|page| !dense.is_right(*page)).count();
                found += (0..64).filter(|page| empty.read(*page * 37 % 64, 9) != 0).count();
                wrong.fetch_add(found, Ordering::Relaxed);
            });
            empty.free();
        }
    });
    let stats = arena.stats();
    assert_eq!(wrong.into_inner(), 0, "{setup}: {stats}");
    assert!(stats.refaults > 500 && stats.readahead_pages > 100, "{setup}: {stats}");
    assert!(stats.zero_filled_pages > 64, "{setup}: {stats}");
}
