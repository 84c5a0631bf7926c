//! Sleeping on a word, simulated. Sleeps do not time out, so that a missing wake-up ends in a deadlock.

use super::Kernel;
use super::waiters::{Sleeper, WakeSource};
use crate::prim::sync::{AtomicU64, Ordering, thread};
use std::time::Duration;

fn key(word: &AtomicU64) -> WakeSource {
    WakeSource::Word(core::ptr::from_ref(word).addr())
}

pub(crate) fn wait(word: &AtomicU64, low: u32, _: Duration) {
    let mut asleep = None;
    Kernel::current().sleep_until(|state| {
        let Some(ticket) = asleep else {
            // The kernel compares the word and enqueues the thread under one lock.
            #[expect(clippy::cast_possible_truncation, reason = "the kernel compares this half")]
            let now = word.load(Ordering::Relaxed) as u32;
            if now != low {
                return Some(());
            }
            let ticket = state.ticket();
            state.sleepers.push(Sleeper { on: key(word), ticket, thread: thread::current() });
            asleep = Some(ticket);
            return None;
        };
        state.sleepers.iter().all(|sleeper| sleeper.ticket != ticket).then_some(())
    });
}

pub(crate) fn wake_all(word: &AtomicU64) {
    Kernel::current().with(|state| state.wake_sleepers(key(word)));
}
