//! What is known of each key, so that a reply with an old value is recognised.

use std::sync::atomic::{AtomicU32, Ordering};

/// A word per key: the version that the server has acknowledged last, times two, plus one while a
/// write is under way.
///
/// A key has one writer at a time; so versions reach the server in their order, and what was
/// acknowledged before a read was sent is the oldest that it may bring. What an earlier process has
/// written is not known: as long as nothing is acknowledged, any version will do.
#[derive(Debug)]
pub(crate) struct Versions(Vec<AtomicU32>);

impl Versions {
    pub(crate) fn new(keys: u64) -> Self {
        Self((0..keys).map(|_| AtomicU32::new(0)).collect())
    }

    /// The oldest that a read sent now may bring.
    pub(crate) fn oldest(&self, key: u64) -> u32 {
        // Pairs with `finish`. The server's replies order the rest.
        self.word(key).load(Ordering::Acquire) >> 1
    }

    /// The version to be written, or None while another write is under way.
    pub(crate) fn begin(&self, key: u64) -> Option<u32> {
        let word = self.word(key);
        let known = word.load(Ordering::Relaxed);
        let free = known & 1 == 0
            && word
                .compare_exchange(known, known | 1, Ordering::Acquire, Ordering::Relaxed)
                .is_ok();
        free.then_some((known >> 1) + 1)
    }

    /// Called by the one writer, with what the server made of it.
    pub(crate) fn finish(&self, key: u64, version: u32, stored: bool) {
        let known = if stored { version } else { version - 1 };
        self.word(key).store(known << 1, Ordering::Release);
    }

    fn word(&self, key: u64) -> &AtomicU32 {
        &self.0[key as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_one_writer_and_versions_rise() {
        let versions = Versions::new(2);
        assert_eq!(versions.begin(1), Some(1));
        assert_eq!(versions.begin(1), None);
        assert_eq!(versions.oldest(1), 0);
        versions.finish(1, 1, true);
        assert_eq!(versions.oldest(1), 1);
        assert_eq!(versions.begin(1), Some(2));
        versions.finish(1, 2, false);
        assert_eq!((versions.oldest(1), versions.begin(1)), (1, Some(2)));
        assert_eq!(versions.oldest(0), 0);
    }
}
