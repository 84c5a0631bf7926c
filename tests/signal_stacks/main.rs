//! Stacks on which the kernel delivers signals: how much of them an inline fault takes, and stacks that lie
//! in an arena.
//!
//! `scripts/test` also runs this program without optimisation and in the release profile, because the size
//! of a frame depends on the profile.

#![allow(missing_docs, unsafe_code)]
#![allow(clippy::print_stdout, reason = "the stack use is a part of the result")]

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

/// The most bytes that the library adds to a signal frame, for each copy of it in the process.
const PROMISED: usize = 1 << 10;

extern "C" fn nothing(_: c_int) {}

/// The size of a signal frame on this machine, with the return address of a handler.
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
    // Neighbours for a run of stored pages.
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
