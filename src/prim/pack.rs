//! Bit fields of a `u64`, each derived from the one below it, so that no mask is written by hand.

/// A field of `width` bits, `shift` bits above the lowest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Field {
    shift: u32,
    width: u32,
}

impl Field {
    /// The field that holds the lowest `width` bits.
    pub(crate) const fn lowest(width: u32) -> Self {
        assert!(width > 0 && width < 64);
        Self { shift: 0, width }
    }

    /// The field of `width` bits right above this one.
    pub(crate) const fn then(self, width: u32) -> Self {
        let shift = self.shift + self.width;
        assert!(width > 0 && width < 64 && shift + width <= 64);
        Self { shift, width }
    }

    /// The first bit above this field.
    pub(crate) const fn end(self) -> u32 {
        self.shift + self.width
    }

    /// The largest value that the field holds.
    #[inline]
    pub(crate) const fn max(self) -> u64 {
        (1 << self.width) - 1
    }

    /// This field's value in `word`.
    #[inline]
    pub(crate) const fn get(self, word: u64) -> u64 {
        (word >> self.shift) & self.max()
    }

    /// This field's value in `word`, for a field of at most 32 bits.
    #[inline]
    pub(crate) const fn get_u32(self, word: u64) -> u32 {
        assert!(self.width <= 32);
        #[expect(clippy::cast_possible_truncation, reason = "the field's width")]
        let value = self.get(word) as u32;
        value
    }

    /// `word` with this field set to `value`.
    ///
    /// The caller must pass a value that fits. If not, a debug assertion fails; release builds truncate
    /// the value to the field, so that it never spills into a neighbour.
    #[inline]
    pub(crate) const fn set(self, word: u64, value: u64) -> u64 {
        debug_assert!(value <= self.max());
        (word & !(self.max() << self.shift)) | ((value & self.max()) << self.shift)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const A: Field = Field::lowest(3);
    const B: Field = A.then(20);
    const C: Field = B.then(41);

    #[test]
    fn fields_tile_the_word() {
        assert_eq!(C.end(), 64);
        let all = A.set(B.set(C.set(0, C.max()), B.max()), A.max());
        assert_eq!(all, u64::MAX);
    }

    proptest! {
        #[test]
        fn setting_one_field_changes_no_other_field(word: u64, value in 0..=B.max()) {
            let set = B.set(word, value);
            prop_assert_eq!(B.get(set), value);
            prop_assert_eq!(A.get(set), A.get(word));
            prop_assert_eq!(C.get(set), C.get(word));
        }
    }
}
