//! The versions of all keys, for the detection of replies with old values.

use std::sync::atomic::{AtomicU32, Ordering};

/// A word per key: twice the version that the server has acknowledged last, plus one during a write.
///
/// A key has one writer at a time, so versions reach the server in order, and a read must return at
/// least the version that was acknowledged before the read was sent. Versions of an earlier process are
/// unknown: until a write is acknowledged, any version is right.
#[derive(Debug)]
pub(crate) struct Versions(Vec<AtomicU32>);

impl Versions {
    pub(crate) fn new(keys: u64) -> Self {
        Self((0..keys).map(|_| AtomicU32::new(0)).collect())
    }

    /// The oldest version that a read sent now may return.
    pub(crate) fn oldest(&self, key: u64) -> u32 {
        // Pairs with `finish`. The server's replies order the rest.
        self.word(key).load(Ordering::Acquire) >> 1
    }

    /// The next version to write, or None during another write.
    pub(crate) fn begin(&self, key: u64) -> Option<u32> {
        let word = self.word(key);
        let known = word.load(Ordering::Relaxed);
        let free = known & 1 == 0
            && word
                .compare_exchange(known, known | 1, Ordering::Acquire, Ordering::Relaxed)
                .is_ok();
        free.then_some((known >> 1) + 1)
    }

    /// Called by the writer, with whether the server has stored the value.
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
