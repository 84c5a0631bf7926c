//! Sleeping on a word, simulated: nothing times out, so that a wake-up that is forgotten shows.

use super::Kernel;
use super::waiters::{On, Sleeper};
use crate::prim::sync::{AtomicU64, Ordering, thread};
use std::time::Duration;

fn key(word: &AtomicU64) -> On {
    On::Word(core::ptr::from_ref(word).addr())
}

pub(crate) fn wait(word: &AtomicU64, low: u32, _: Duration) {
    let mut asleep = None;
    Kernel::current().sleep_until(|state| {
        let Some(ticket) = asleep else {
            // The kernel compares and queues up under one lock.
            #[expect(clippy::cast_possible_truncation, reason = "the half that is slept on")]
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
