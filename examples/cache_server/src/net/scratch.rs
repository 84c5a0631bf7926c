//! A worker's buffers, which all batches share, so that a steady stream of requests allocates nothing.

use crate::command::table::Found;
use crate::request::Span;
use std::ops::Range;

/// The most bytes of one read.
pub const READ_BYTES: usize = 64 << 10;

/// The largest capacity of an output buffer that is kept between turns.
const OUTPUT_KEPT: usize = 256 << 10;

const INPUTS_KEPT: usize = 4;

/// One request of a batch: the range of its arguments among the batch's, and its end in the input.
#[derive(Debug, Clone, Copy)]
pub struct Parsed {
    pub first: usize,
    pub behind: usize,
    pub end: usize,
}

impl Parsed {
    pub fn args(self) -> Range<usize> {
        self.first..self.behind
    }
}

#[derive(Debug, Default)]
pub struct Scratch {
    inputs: Vec<Vec<u8>>,
    output: Vec<u8>,
    pub spans: Vec<Span>,
    pub parsed: Vec<Parsed>,
    /// The batch's start in the input.
    pub start: usize,
    /// The batch is one line of words.
    pub of_words: bool,
    pub found: Vec<Found>,
    pub args: Slices,
}

impl Scratch {
    /// An empty buffer of [`READ_BYTES`].
    pub fn take_input(&mut self) -> Vec<u8> {
        self.inputs.pop().unwrap_or_else(|| Vec::with_capacity(READ_BYTES))
    }

    /// Takes back an input buffer. Frees it if it has another size or enough are kept.
    pub fn give_input(&mut self, mut input: Vec<u8>) {
        if input.capacity() == READ_BYTES && self.inputs.len() < INPUTS_KEPT {
            input.clear();
            self.inputs.push(input);
        }
    }

    /// An empty buffer for replies.
    pub fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.output)
    }

    pub fn give_output(&mut self, mut output: Vec<u8>) {
        if (self.output.capacity()..=OUTPUT_KEPT).contains(&output.capacity()) {
            output.clear();
            self.output = output;
        }
    }
}

/// The allocation of a vector of slices, for vectors with different lifetimes.
#[derive(Debug, Default)]
pub struct Slices(Vec<&'static [u8]>);

impl Slices {
    pub fn take<'a>(&mut self) -> Vec<&'a [u8]> {
        std::mem::take(&mut self.0)
    }

    pub fn give(&mut self, mut slices: Vec<&[u8]>) {
        const KEPT: usize = 1 << 14;
        if slices.capacity() <= KEPT {
            slices.clear();
            // Collected in place: this neither copies nor allocates.
            self.0 = slices.into_iter().map(|_| -> &'static [u8] { unreachable!() }).collect();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Slices;

    #[test]
    fn the_memory_of_slices_is_used_again() {
        let mut kept = Slices::default();
        let address = {
            let text = b"borrowed".to_vec();
            let mut slices = kept.take();
            slices.extend([&text[..]; 100]);
            let address = slices.as_ptr().addr();
            kept.give(slices);
            address
        };
        let again: Vec<&[u8]> = kept.take();
        assert!(again.is_empty() && again.capacity() >= 100);
        assert_eq!(again.as_ptr().addr(), address);
    }
}
