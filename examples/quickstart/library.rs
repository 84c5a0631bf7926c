//! The program's data in the arena: ordinary collections with an allocator.

use crate::BoxError;
use allocator_api2::vec::Vec as ArenaVec;
use hashbrown::{DefaultHashBuilder, HashMap};
use std::hash::{DefaultHasher, Hasher};
use std::ops::Range;
use thermocline::Arena;

/// A byte vector in the arena.
type Text<'a> = ArenaVec<u8, &'a Arena>;

/// A file or a part of a large one, and the rounds in which it has been read.
#[derive(Debug)]
struct Document<'a> {
    text: Text<'a>,
    rounds: ArenaVec<u32, &'a Arena>,
}

/// Documents by name, and the names in the order of loading. All of it lies in the arena, also the map's
/// table. The checksums lie outside, so that a fault of the arena cannot lose them with the data.
#[derive(Debug)]
pub(crate) struct Library<'a> {
    arena: &'a Arena,
    documents: HashMap<Text<'a>, Document<'a>, DefaultHashBuilder, &'a Arena>,
    index: ArenaVec<Text<'a>, &'a Arena>,
    checksums: Vec<u64>,
    text_bytes: usize,
}

/// A document is missing or has changed.
#[derive(Debug)]
pub(crate) struct Mismatch;

impl<'a> Library<'a> {
    pub(crate) fn new(arena: &'a Arena) -> Self {
        Self {
            arena,
            documents: HashMap::with_hasher_in(DefaultHashBuilder::default(), arena),
            index: ArenaVec::new_in(arena),
            checksums: Vec::new(),
            text_bytes: 0,
        }
    }

    pub(crate) fn add(&mut self, name: &str, text: &[u8]) -> Result<(), BoxError> {
        let name = self.copy(name.as_bytes())?;
        let document = Document { text: self.copy(text)?, rounds: ArenaVec::new_in(self.arena) };
        self.text_bytes += text.len();
        self.checksums.push(document.checksum());
        self.index.push(name.clone());
        self.documents.insert(name, document);
        Ok(())
    }

    /// Copies `bytes` into the arena. Returns an error if the arena is full, where a collection that grows
    /// by itself would abort the process.
    fn copy(&self, bytes: &[u8]) -> Result<Text<'a>, BoxError> {
        let mut copy = ArenaVec::new_in(self.arena);
        copy.try_reserve_exact(bytes.len())
            .map_err(|e| format!("the arena has no room: {e}; try a smaller --mib"))?;
        copy.extend_from_slice(bytes);
        Ok(copy)
    }

    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }

    pub(crate) fn text_bytes(&self) -> usize {
        self.text_bytes
    }

    /// Bytes that the arena has allocated for this.
    pub(crate) fn allocated_bytes(&self) -> u64 {
        self.arena.stats().allocated_bytes
    }

    /// The documents that were loaded first, up to a tenth of the text and at least one.
    pub(crate) fn first_tenth(&self) -> Range<usize> {
        let mut bytes = 0;
        let documents = self.index.iter().take_while(|name| {
            bytes += self.documents.get(*name).map_or(0, |d| d.text.len());
            bytes <= self.text_bytes / 10
        });
        0..documents.count().max(1).min(self.len())
    }

    /// Reads a whole document and then writes to it. The next round verifies the writes, so that a lost
    /// write is noticed.
    pub(crate) fn revise(&mut self, number: usize, round: u32) -> Result<(), Mismatch> {
        self.verify(number)?;
        let name = &self.index[number];
        let document = self.documents.get_mut(name).ok_or(Mismatch)?;
        // Changes one byte, elsewhere in each round, and appends a number to a vector, which the arena has
        // to enlarge now and then.
        let at = (round as usize).wrapping_mul(4099) % document.text.len().max(1);
        if let Some(byte) = document.text.get_mut(at) {
            *byte = byte.wrapping_add(1);
        }
        document.rounds.push(round);
        self.checksums[number] = document.checksum();
        Ok(())
    }

    pub(crate) fn verify(&self, number: usize) -> Result<(), Mismatch> {
        let document = self.documents.get(&self.index[number]).ok_or(Mismatch)?;
        let right = document.checksum() == self.checksums[number];
        right.then_some(()).ok_or(Mismatch)
    }

    pub(crate) fn text(&self, number: usize) -> &[u8] {
        let document = self.documents.get(&self.index[number]);
        document.map_or(&[], |document| document.text.as_slice())
    }
}

impl Document<'_> {
    fn checksum(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        hasher.write(&self.text);
        self.rounds.iter().for_each(|&r| hasher.write_u32(r));
        hasher.finish()
    }
}
