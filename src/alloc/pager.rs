//! The interface through which the heap gives memory to pages and takes it back.

use crate::prim::{PageIndex, PageRange};
use crate::sys::SysError;
use core::fmt;

/// Where a page's bytes are, as far as the allocator needs to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Presence {
    /// Nowhere: the page reads as zeros.
    Empty,
    /// In memory.
    Resident,
    /// Outside memory: a touch brings them back.
    Away,
}

/// Gives memory to pages and takes it back.
pub(crate) trait Pager: fmt::Debug + Send + Sync {
    /// Gives memory to the empty pages of `range`; false if there is none.
    fn populate(&self, range: PageRange) -> bool;

    /// Makes those pages of `range` empty whose bytes are outside memory. The pages are free: the
    /// program does not read these bytes again.
    fn forget(&self, range: PageRange);

    /// Whether the bytes of `range` are probably in memory: an estimate that costs next to nothing.
    fn is_likely_resident(&self, range: PageRange) -> bool;

    /// Counts the pages of `range` that are in memory.
    fn resident(&self, range: PageRange) -> usize;

    /// Makes all pages of `range` empty.
    fn release(&self, range: PageRange) -> Result<(), SysError>;

    fn presence(&self, page: PageIndex) -> Presence;
}
