//! A program that a target reads from the input's bytes, from the front.

/// The unread bytes of a program.
#[derive(Debug)]
pub(crate) struct Program<'a>(&'a [u8]);

impl<'a> Program<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The next byte, or none at the end of the program.
    pub(crate) fn step(&mut self) -> Option<u8> {
        let (&byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(byte)
    }

    /// The next byte, or zero after the end.
    pub(crate) fn byte(&mut self) -> usize {
        self.step().unwrap_or(0).into()
    }

    /// A number of two bytes.
    pub(crate) fn number(&mut self) -> usize {
        self.byte() | self.byte() << 8
    }
}
