//! A program is its bytes: numbers are taken off its front for as long as there are any.

/// What is left of a program.
#[derive(Debug)]
pub(crate) struct Program<'a>(&'a [u8]);

impl<'a> Program<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The next byte, if there is one: a program ends between two steps.
    pub(crate) fn step(&mut self) -> Option<u8> {
        let (&byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(byte)
    }

    /// The next byte; zero behind the end.
    pub(crate) fn byte(&mut self) -> usize {
        self.step().unwrap_or(0).into()
    }

    /// A number of two bytes.
    pub(crate) fn number(&mut self) -> usize {
        self.byte() | self.byte() << 8
    }
}
