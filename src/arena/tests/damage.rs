//! Damaged pages at each place of a run, for touches and for calls of the program. `fault::damage` tests the
//! decisions with all combinations of damaged pages.

use super::*;
use crate::common::pages::{Pages, eventually, evict};
use crate::fault::Resolved;

/// Pages of the block.
const COUNT: usize = 64;

/// The order in which a test touches pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Up,
    Down,
}

/// The damaged pages, relative to the touched page.
const PATTERNS: [(&str, &[isize]); 5] = [
    ("below", &[-3]),
    ("above", &[3]),
    ("both", &[-3, 3]),
    ("all", &[-4, -3, -2, -1, 0, 1, 2, 3, 4]),
    ("itself", &[0]),
];

/// A block of stored pages, some of them damaged.
struct Damaged<'a> {
    arena: &'a Arena,
    pages: Pages<'a>,
    damaged: Vec<usize>,
}

impl<'a> Damaged<'a> {
    fn new(arena: &'a Arena, touched: usize, pattern: &[isize]) -> Self {
        let pages = Pages::filled(arena, COUNT);
        evict(arena, COUNT);
        let damaged = pattern.iter().map(|at| touched.checked_add_signed(*at).unwrap()).collect();
        let this = Self { arena, pages, damaged };
        for &page in &this.damaged {
            let word = engine(arena).core.table.load(this.index(page));
            assert_eq!(word.state(), State::Stored);
            engine(arena).core.store.corrupt(word.handle());
        }
        this
    }

    fn index(&self, page: usize) -> PageIndex {
        let first = self.pages.address - self.arena.inner.base.0.addr();
        PageIndex(PageIndex::containing(first).0 + page)
    }

    fn state(&self, page: usize) -> State {
        engine(self.arena).core.table.load(self.index(page)).state()
    }

    fn good(&self) -> impl Iterator<Item = usize> {
        (0..COUNT).filter(|page| !self.damaged.contains(page))
    }

    fn verify_good(&self, case: &str) {
        self.good().for_each(|page| assert!(self.pages.is_right(page), "{case}: page {page}"));
    }
}

/// Touches pages in sequence, so that the touch of `touched` brings a whole run, and then all good pages.
/// It does not touch the damaged ones.
fn touch_in_a_run(setup: Setup, way: Way, name: &str, pattern: &[isize]) {
    let arena = quiet(setup).build().unwrap();
    let touched = if way == Way::Up { 16 } else { COUNT - 1 - 16 };
    let it = Damaged::new(&arena, touched, pattern);
    let case = format!("{setup} {way:?} {name}");
    for i in [0, 1, 2, 4, 8] {
        let page = if way == Way::Up { i } else { COUNT - 1 - i };
        assert!(it.pages.is_right(page), "{case}: page {page}");
    }
    if it.damaged.contains(&touched) {
        assert_eq!(engine(&arena).resolver.resolve(it.index(touched)), Resolved::Lost, "{case}");
        assert_eq!(it.state(touched), State::Lost, "{case}");
    } else {
        assert!(it.pages.is_right(touched), "{case}");
        // A damaged page behind the touched one breaks the run, so its readahead is shorter.
        let (ahead, behind) = if way == Way::Up { (3, -3) } else { (-3, 3) };
        if !pattern.contains(&behind) {
            // Of the touches before, the last three brought runs of two, four and eight pages.
            let before = 1 + 3 + 7;
            let expected = before + if pattern.contains(&ahead) { 2 } else { 15 };
            eventually(&arena, "the readahead", |stats| stats.readahead_pages == expected);
        }
    }
    it.verify_good(&case);
    arena.check().unwrap();
    for &page in it.damaged.iter().filter(|page| **page != touched) {
        assert_eq!(it.state(page), State::Stored, "{case}: page {page}");
    }
}

#[test]
fn readahead_past_damaged_pages_brings_good_ones_and_damaged_ones_are_sigbus() {
    const TEST: &str = "arena::tests::damage::readahead_past_damaged_pages_brings_good_ones_and_damaged_ones_are_sigbus";
    if let Some(case) = child_case() {
        let (setup, name) = case.split_once(' ').unwrap();
        let setup = Setup::parse(setup);
        let (_, pattern) = PATTERNS.into_iter().find(|(known, _)| *known == name).unwrap();
        for way in [Way::Up, Way::Down] {
            touch_in_a_run(setup, way, name, pattern);
        }
        let arena = quiet(setup).build().unwrap();
        let it = Damaged::new(&arena, 16, pattern);
        println!("good pages read");
        println!("read {}", it.pages.read(it.damaged[0], 3));
        return;
    }
    for setup in setups("whatever_is_damaged_around_a_touch") {
        for (name, _) in PATTERNS {
            let output = in_child(TEST, &format!("{setup} {name}"));
            let text = String::from_utf8_lossy(&output.stdout);
            assert_eq!(signal_of(&output), Some(libc_sigbus()), "{setup} {name}: {output:?}");
            assert!(text.contains("good pages read") && !text.contains("\nread "), "{text}");
        }
    }
}

/// Calls `check` with a block of damaged pages, for each setup and pattern.
fn call(test: &str, check: impl Fn(&Damaged<'_>, &str)) {
    for setup in setups(test) {
        for (name, pattern) in PATTERNS {
            let arena = quiet(setup).build().unwrap();
            let it = Damaged::new(&arena, 20, pattern);
            check(&it, &format!("{setup} {name}"));
            arena.check().unwrap();
        }
    }
}

#[test]
fn ensure_and_prefetch_bring_good_pages_and_mark_damaged_ones_lost() {
    let brought = |it: &Damaged<'_>, case: &str| {
        it.verify_good(case);
        for &page in &it.damaged {
            assert_eq!(it.state(page), State::Lost, "{case}: page {page}");
            assert_eq!(it.arena.ensure(it.pages.part(page, 1)), Err(ArenaError::Lost), "{case}");
        }
        assert_eq!(it.arena.stats().lost_bytes, (it.damaged.len() * PAGE_SIZE) as u64, "{case}");
        assert_eq!(it.arena.stats().refaults, 0, "{case}");
    };
    call("ensure_with_damaged_pages", |it, case| {
        assert_eq!(it.arena.ensure(it.pages.range()), Err(ArenaError::Lost), "{case}");
        brought(it, case);
    });
    call("prefetch_with_damaged_pages", |it, case| {
        let good = COUNT - it.damaged.len();
        assert_eq!(it.arena.prefetch(it.pages.range()), Ok(good), "{case}");
        brought(it, case);
    });
}

#[test]
fn peek_reads_good_pages_and_marks_damaged_ones_lost() {
    call("peek_with_damaged_pages", |it, case| {
        let mut buffer = Vec::new();
        for page in 0..COUNT {
            let start = it.pages.word(page, 0).cast::<u8>();
            // SAFETY: within the block, to which no thread writes.
            let bytes = unsafe { core::slice::from_raw_parts(start, PAGE_SIZE) };
            let peeked = it.arena.peek(bytes, &mut buffer);
            if it.damaged.contains(&page) {
                assert_eq!(peeked, Err(ArenaError::Lost), "{case}: page {page}");
                assert_eq!(it.state(page), State::Lost, "{case}: page {page}");
            } else {
                let mut expected = [0; PAGE_SIZE];
                expected[24..32].copy_from_slice(&(page as u64 + 1).to_ne_bytes());
                assert_eq!(peeked, Ok(Peek::Copied(&expected)), "{case}: page {page}");
                assert_eq!(it.state(page), State::Stored, "{case}: page {page}");
            }
        }
        it.verify_good(case);
    });
}
