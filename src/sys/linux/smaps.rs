//! A parser of `/proc/self/smaps` that takes the text in pieces.

use crate::prim::geometry::{PAGE_SIZE, REGION_BYTES};
use crate::prim::units::index;
use core::ops::Range;

/// The bytes of a line that the parser keeps: more than the addresses of a mapping and more than a count
/// take. The rest of a line is a path at most.
const KEPT: usize = 80;

/// A count that smaps has for each mapping, in the order of its lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Figure {
    /// `Referenced:`, the bytes whose accessed bits are set.
    Referenced,
    /// `AnonHugePages:`, the bytes of anonymous memory that huge pages map.
    Huge,
}

/// Takes the addresses of a mapping, and one of its counts in bytes. False if the caller needs no more.
pub(super) type Visit<'a> = dyn FnMut(&Range<u64>, Figure, u64) -> bool + 'a;

/// Finds the mappings and their counts. Skips every other line.
///
/// The format is `fs/proc/task_mmu.c`'s: a line `START-END PERMISSIONS ...` opens a mapping, and lines
/// `Name:  VALUE` follow. A path cannot fake a line, because the kernel writes its newlines as `\012`.
#[derive(Debug)]
pub(super) struct SmapsParser {
    /// Mappings from this address on are not read.
    end: u64,
    /// The beginning of the current line.
    line: [u8; KEPT],
    /// The bytes in `line`.
    kept: usize,
    /// The mapping whose lines follow, and its next count, until all are found.
    mapping: Option<(Range<u64>, Figure)>,
}

impl SmapsParser {
    /// A parser that stops at the first mapping that begins at `end` or later.
    pub(super) fn new(end: u64) -> Self {
        Self { end, line: [0; KEPT], kept: 0, mapping: None }
    }

    /// Parses the next piece of the text. Calls `visit` for each count of each mapping below the end. False if the
    /// rest of the text is of no use: a mapping at the end or later has begun, or `visit` has returned false.
    pub(super) fn feed(&mut self, mut text: &[u8], visit: &mut Visit<'_>) -> bool {
        while let Some(length) = text.iter().position(|&byte| byte == b'\n') {
            self.keep(&text[..length]);
            text = &text[length + 1..];
            let go_on = self.end_line(visit);
            self.kept = 0;
            if !go_on {
                return false;
            }
        }
        self.keep(text);
        true
    }

    fn keep(&mut self, bytes: &[u8]) {
        let taken = bytes.len().min(KEPT - self.kept);
        self.line[self.kept..self.kept + taken].copy_from_slice(&bytes[..taken]);
        self.kept += taken;
    }

    fn end_line(&mut self, visit: &mut Visit<'_>) -> bool {
        let line = &self.line[..self.kept];
        if let Some(mapping) = header(line) {
            let before = mapping.start < self.end;
            self.mapping = Some((mapping, Figure::Referenced));
            return before;
        }
        let Some((mapping, figure)) = &self.mapping else { return true };
        let (name, next): (&[u8], _) = match figure {
            Figure::Referenced => (b"Referenced:", Some(Figure::Huge)),
            Figure::Huge => (b"AnonHugePages:", None),
        };
        let Some(count) = line.strip_prefix(name) else { return true };
        let go_on = kilobytes(count)
            .is_none_or(|count| visit(mapping, *figure, count.saturating_mul(1024)));
        self.mapping = self.mapping.take().zip(next).map(|((mapping, _), next)| (mapping, next));
        go_on
    }
}

/// The addresses of a mapping's first line.
fn header(line: &[u8]) -> Option<Range<u64>> {
    let (start, rest) = number::<16>(line)?;
    let (end, rest) = number::<16>(rest.strip_prefix(b"-")?)?;
    (start < end && rest.starts_with(b" ")).then_some(start..end)
}

/// The number in `   N kB`.
fn kilobytes(text: &[u8]) -> Option<u64> {
    let (count, rest) = number::<10>(text.trim_ascii_start())?;
    (rest == b" kB").then_some(count)
}

/// The number at the start of the text, and the rest. None if there is none, or if it has over 64 bits.
fn number<const BASE: u32>(text: &[u8]) -> Option<(u64, &[u8])> {
    let digits = |byte: &u8| char::from(*byte).to_digit(BASE);
    let length = text.iter().map_while(digits).count();
    let append = |n: u64, digit| n.checked_mul(u64::from(BASE))?.checked_add(u64::from(digit));
    let value = text[..length].iter().filter_map(digits).try_fold(0, append)?;
    (length > 0).then_some((value, &text[length..]))
}

/// Adds the referenced pages of a mapping to the counts of the regions that it covers. The regions lie one
/// after the other from `start` on.
///
/// A mapping of several regions does not say where in it the pages are. Each region gets a share by the
/// bytes that the mapping has in it, rounded up.
pub(super) fn add_shares(counts: &mut [u16], start: u64, mapping: &Range<u64>, bytes: u64) {
    let region = REGION_BYTES as u64;
    let end = start.saturating_add(region.saturating_mul(counts.len() as u64));
    let covered = mapping.start.max(start)..mapping.end.min(end);
    let length = pages(mapping.end - mapping.start).max(1);
    let referenced = pages(bytes).min(length);
    if covered.is_empty() || referenced == 0 {
        return;
    }
    let first = index((covered.start - start) / region);
    let last = index((covered.end - 1 - start) / region);
    for (count, number) in counts[first..=last].iter_mut().zip(first as u64..) {
        let at = start + number * region;
        let part = pages(at.saturating_add(region).min(covered.end) - at.max(covered.start));
        // Both factors are small: at most 2^52 pages and 512 pages.
        let share = (referenced * part).div_ceil(length).min(part);
        let sum = u64::from(*count) + share;
        *count = u16::try_from(sum.min(pages(region))).expect("at most 512");
    }
}

/// The pages that this number of bytes touches.
fn pages(bytes: u64) -> u64 {
    bytes.div_ceil(PAGE_SIZE as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SAMPLE: &str = "\
garbage before the first mapping
Referenced:           99 kB
00400000-00452000 r-xp 00000000 08:02 173521      /usr/bin/name\\012Referenced:  4 kB
Size:                328 kB
Referenced:          300 kB
Referenced:           77 kB
Future: yes
FutureCount:    18446744073709551616 kB

20000000000-20000200000 rw-s 00000000 00:01 1035 /memfd:Referenced:            8 kB (deleted)
Size:               2048 kB
Referenced:            0 kB
VmFlags: rd wr sh mr mw me ms dc nr dd hg
20000200000-20000400000 rw-s 00200000 00:01 1035 /memfd:thermocline (deleted)
Referenced:99999999999999999999999 kB
Referenced:            8 MB
Referenced:            8 kB more
30000000000-20000000000 rw-s 00000000 00:01 1035
fffffffffffffffff-ffffffffffffffffff rw-s 00000000 00:01 1035
abc: 12-34
20000400000-20000600000 rw-s
Referenced:\t18014398509481984 kB
40000000000-40000001000 rw-p 00000000 00:00 0 [heap]
Referenced:            4 kB
";

    type Found = Vec<(Range<u64>, u64)>;

    fn parse(end: u64, pieces: &[&[u8]]) -> (Found, bool) {
        let mut found = Vec::new();
        let mut parser = SmapsParser::new(end);
        let go_on = pieces.iter().all(|piece| {
            parser.feed(piece, &mut |mapping, figure, bytes| {
                if figure == Figure::Referenced {
                    found.push((mapping.clone(), bytes));
                }
                true
            })
        });
        (found, go_on)
    }

    fn expected() -> Found {
        vec![
            (0x40_0000..0x45_2000, 300 << 10),
            (0x200_0000_0000..0x200_0020_0000, 0),
            (0x200_0040_0000..0x200_0060_0000, u64::MAX),
        ]
    }

    #[test]
    fn a_text_split_at_any_two_positions_parses_as_a_whole() {
        let text = SAMPLE.as_bytes();
        let end = 0x400_0000_0000;
        assert_eq!(parse(end, &[text]), (expected(), false));
        for split in 0..=text.len() {
            let (first, second) = text.split_at(split);
            assert_eq!(parse(end, &[first, second]).0, expected(), "split at {split}");
            let (second, third) = second.split_at(second.len().min(13));
            assert_eq!(parse(end, &[first, second, third]).0, expected(), "split at {split}, 13");
        }
        let bytes: Vec<&[u8]> = text.chunks(1).collect();
        assert_eq!(parse(end, &bytes).0, expected());
    }

    #[test]
    fn the_parser_stops_at_the_end_and_when_the_caller_has_enough() {
        let text = SAMPLE.as_bytes();
        assert_eq!(parse(0x200_0000_0000, &[text]), (expected()[..1].to_vec(), false));
        assert_eq!(parse(0x200_0000_0001, &[text]), (expected()[..2].to_vec(), false));
        let (all, go_on) = parse(u64::MAX, &[text]);
        assert_eq!((all.len(), go_on), (4, true));
        let mut calls = 0;
        let stopped = !SmapsParser::new(u64::MAX).feed(text, &mut |_, _, _| {
            calls += 1;
            false
        });
        assert!(stopped && calls == 1);
        assert_eq!(parse(u64::MAX, &[]), (vec![], true));
        assert_eq!(parse(u64::MAX, &[b"", b"\n\n"]), (vec![], true));
    }

    #[test]
    fn the_huge_pages_of_a_mapping_follow_its_references() {
        let text = b"1000-3000 rw-p 00000000 00:00 0\nAnonHugePages: 9 kB\nReferenced: 4 kB\nAnonymous: 8 kB\n\
            AnonHugePages: 2048 kB\nAnonHugePages: 1 kB\nReferenced: 7 kB\n\
            5000-6000 rw-p 00000000 00:00 0\nReferenced: 8 kB\n\
            7000-8000 rw-p 00000000 00:00 0\nReferenced: 0 kB\nAnonHugePages: 4096 kB\n";
        let mut found = Vec::new();
        let go_on = SmapsParser::new(u64::MAX).feed(text, &mut |mapping, figure, bytes| {
            found.push((mapping.start, figure, bytes >> 10));
            true
        });
        let expected = [
            (0x1000, Figure::Referenced, 4),
            (0x1000, Figure::Huge, 2048),
            (0x5000, Figure::Referenced, 8),
            (0x7000, Figure::Referenced, 0),
            (0x7000, Figure::Huge, 4096),
        ];
        assert_eq!((found.as_slice(), go_on), (&expected[..], true));
    }

    #[test]
    fn a_path_of_a_megabyte_hides_no_line() {
        let path = "x".repeat(1 << 20);
        let text = format!("1000-3000 rw-s 00000000 00:01 7 /{path}\nReferenced: 4 kB\n");
        for size in [1, 79, 80, 81, 4096, 1 << 21] {
            let pieces: Vec<&[u8]> = text.as_bytes().chunks(size).collect();
            assert_eq!(parse(u64::MAX, &pieces).0, [(0x1000..0x3000, 4096)]);
        }
    }

    #[test]
    fn a_mapping_gives_each_region_that_it_covers_a_share() {
        const REGION: u64 = REGION_BYTES as u64;
        let share = |mapping: Range<u64>, bytes: u64| {
            let mut counts = [0; 4];
            add_shares(&mut counts, 4096, &mapping, bytes);
            counts
        };
        let at = |region: u64| 4096 + region * REGION;
        assert_eq!(share(at(1)..at(2), 12 << 10), [0, 3, 0, 0]);
        assert_eq!(share(at(1)..at(3), 4 << 10), [0, 1, 1, 0]);
        assert_eq!(share(at(0)..at(4), 4 * REGION), [512; 4]);
        assert_eq!(share(0..at(0), 4096), [0; 4]);
        assert_eq!(share(at(4)..at(9), REGION), [0; 4]);
        assert_eq!(share(0..u64::MAX, u64::MAX), [512; 4]);
        assert_eq!(share(0..u64::MAX, 1), [1; 4]);
        // Of 513 pages one lies in the second region.
        assert_eq!(share(at(0)..at(1) + 4096, REGION), [512, 1, 0, 0]);
        assert_eq!(share(at(0)..at(0) + 8192, 1 << 40), [2, 0, 0, 0]);
        let mut counts = [510];
        add_shares(&mut counts, 0, &(0..8192), 8192);
        add_shares(&mut counts, 0, &(8192..16384), 8192);
        assert_eq!(counts, [512]);
    }

    proptest! {
        #[test]
        fn any_bytes_and_any_split_give_the_same_result_and_no_panic(
            lines in proptest::collection::vec(
                prop_oneof![
                    proptest::collection::vec(any::<u8>(), 0..100),
                    "[0-9a-f]{0,18}-[0-9a-f]{0,18} ?rw-p\n".prop_map(String::into_bytes),
                    "(Referenced|AnonHugePages): {0,9}[0-9]{0,22} kB\n".prop_map(String::into_bytes),
                ],
                0..30,
            ),
            size in 1usize..200,
            start: u64,
        ) {
            let text = lines.concat();
            let pieces: Vec<&[u8]> = text.chunks(size).collect();
            let whole = parse(u64::MAX, &[&text]);
            prop_assert_eq!(&whole, &parse(u64::MAX, &pieces));
            let mut counts = [0; 3];
            for (mapping, bytes) in whole.0 {
                add_shares(&mut counts, start, &mapping, bytes);
                prop_assert!(counts.iter().all(|&count| count <= 512));
            }
        }
    }
}
