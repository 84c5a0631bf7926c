use super::corpus::{KINDS, Numbers, Page, pages};
use super::lz4::{Encoder, MAX, Malformed, PAGE, ROOM, decode};
use lz4_flex::block::{compress, decompress_into};
use proptest::prelude::*;

fn encode(encoder: &mut Encoder, page: &Page) -> Option<Vec<u8>> {
    // What is behind the block must not matter.
    let mut out = [0xA5; ROOM];
    encoder.encode(page, &mut out).map(|len| out[..len].to_vec())
}

/// Decodes, and makes sure that no byte of the page is what lay there before.
fn decoded(block: &[u8]) -> Result<Page, Malformed> {
    let mut pages = [[0x00; PAGE], [0xFF; PAGE]];
    let results = pages.each_mut().map(|page| decode(block, page));
    assert_eq!(results[0], results[1]);
    results[0].map(|()| {
        assert!(pages[0] == pages[1], "stale bytes");
        pages[0]
    })
}

/// What `lz4_flex` says of a block: a page, or anything else.
fn decoded_by_other(block: &[u8]) -> Result<Page, Malformed> {
    let mut page = [0xEE; PAGE];
    match decompress_into(block, &mut page) {
        Ok(PAGE) => Ok(page),
        _ => Err(Malformed),
    }
}

/// Both decoders say the same.
fn check(block: &[u8]) -> Result<Page, Malformed> {
    let ours = decoded(block);
    assert!(ours == decoded_by_other(block), "{} bytes: {block:?}", block.len());
    ours
}

/// A sequence, spelled out.
fn sequence(out: &mut Vec<u8>, literals: &[u8], offset: u16, length: usize) {
    fn more(out: &mut Vec<u8>, length: usize) {
        if let Some(rest) = length.checked_sub(15) {
            out.extend(std::iter::repeat_n(255, rest / 255));
            out.push((rest % 255) as u8);
        }
    }
    let length = length - 4;
    out.push((literals.len().min(15) << 4 | length.min(15)) as u8);
    more(out, literals.len());
    out.extend_from_slice(literals);
    out.extend_from_slice(&offset.to_le_bytes());
    more(out, length);
}

/// The last sequence.
fn last(out: &mut Vec<u8>, literals: &[u8]) {
    let mut whole = Vec::new();
    sequence(&mut whole, literals, 0, 4);
    out.extend_from_slice(&whole[..whole.len() - 2]);
}

#[test]
fn pages_of_every_kind_come_back() {
    let mut encoder = Encoder::new();
    for kind in KINDS {
        let mut refused = 0;
        for page in pages(kind, 1, 200) {
            match encode(&mut encoder, &page) {
                Some(block) => assert!(check(&block) == Ok(page), "{}", kind.0),
                None => refused += 1,
            }
            // The other encoder has other habits, and its blocks may be longer.
            assert!(check(&compress(&page)) == Ok(page), "{}", kind.0);
        }
        assert!(kind.0 == "random" || refused < 100, "{}: {refused} refused", kind.0);
    }
}

#[test]
fn blocks_are_as_short_as_those_of_others() {
    let mut encoder = Encoder::new();
    for kind in KINDS {
        let (mut ours, mut others) = (0, 0);
        for page in pages(kind, 2, 200) {
            let other = compress(&page).len();
            // What is refused is kept whole.
            ours += encode(&mut encoder, &page).map_or(PAGE, |block| block.len());
            others += if other > MAX { PAGE } else { other };
        }
        assert!(ours * 1000 <= others * 1015, "{}: {ours} bytes, others {others}", kind.0);
    }
}

#[test]
fn the_same_page_gives_the_same_block_whatever_came_before() {
    let mut used = Encoder::new();
    for kind in KINDS {
        for page in pages(kind, 3, 20) {
            assert_eq!(encode(&mut used, &page), encode(&mut Encoder::new(), &page));
        }
    }
}

#[test]
fn blocks_end_as_decoders_expect() {
    let mut encoder = Encoder::new();
    let zeros = encode(&mut encoder, &[0; PAGE]).unwrap();
    // One byte, then all but the last five bytes from the one before.
    let mut expected = Vec::new();
    sequence(&mut expected, &[0], 1, PAGE - 1 - 5);
    last(&mut expected, &[0; 5]);
    assert_eq!(zeros, expected);
}

#[test]
fn the_encoder_gives_up_where_a_block_would_be_too_long() {
    let mut encoder = Encoder::new();
    let random = pages(KINDS[5], 4, 64);
    assert!(random.iter().all(|page| encode(&mut encoder, page).is_none()));
    // The more zeros, the shorter: somewhere it begins to fit, and then it goes on to fit.
    for page in &random[..8] {
        let lengths: Vec<Option<usize>> = (0..PAGE)
            .map(|zeros| {
                let mut page = *page;
                page[PAGE - zeros..].fill(0);
                encode(&mut encoder, &page).map(|block| {
                    assert!(check(&block) == Ok(page));
                    block.len()
                })
            })
            .collect();
        let first = lengths.iter().position(Option::is_some).unwrap();
        assert!((PAGE - MAX..PAGE - MAX + 64).contains(&first), "{first}");
        assert!(lengths[first..].iter().all(|len| len.is_some_and(|len| len <= MAX)));
        assert!(lengths[first].unwrap() > MAX - 16, "gave up too early");
    }
}

#[test]
fn matches_of_every_offset_and_length() {
    let noise = pages(KINDS[5], 5, 1)[0];
    for offset in (1..=80).chain([255, 256, 257, 1000, 2000]) {
        for length in (4..=80).chain([255, 270, 273, 274, 275, 529, 1000, 2000]) {
            // At the page's start, and up to its very end but for the last literals.
            for tail in [PAGE - offset - length, 5, 0] {
                let head = PAGE - length - tail;
                let mut block = Vec::new();
                sequence(&mut block, &noise[..head], offset as u16, length);
                last(&mut block, &noise[..tail]);
                let mut expected = noise[..head].to_vec();
                (0..length).for_each(|i| expected.push(expected[head - offset + i]));
                expected.extend_from_slice(&noise[..tail]);
                assert!(check(&block).unwrap()[..] == expected[..], "{offset} {length} {tail}");
            }
        }
    }
}

#[test]
fn literals_of_every_length() {
    let noise = pages(KINDS[5], 6, 1)[0];
    for literals in (4..400).chain([1000, 4000, PAGE - 4]) {
        let mut block = Vec::new();
        sequence(&mut block, &noise[..literals], literals as u16, 4);
        let rest = PAGE - literals - 4;
        last(&mut block, &noise[..rest]);
        let page = check(&block).unwrap();
        assert!(page[..literals] == noise[..literals] && page[literals..][..4] == noise[..4]);
        assert!(page[literals + 4..] == noise[..rest]);
    }
}

#[test]
fn what_is_no_block_of_a_page_is_refused() {
    let noise = pages(KINDS[5], 7, 1)[0];
    let block = |literals: usize, offset, length, tail: usize| {
        let mut block = Vec::new();
        sequence(&mut block, &noise[..literals], offset, length);
        last(&mut block, &noise[..tail]);
        block
    };
    assert!(check(&block(8, 8, 4000, 88)).is_ok());
    // Behind each: a match that is written quickly, one that is not, and one at the end.
    for (literals, length) in [(8, 8), (8, 4000), (4000, 8)] {
        let tail = PAGE - literals - length;
        for (offset, ok) in
            [(0, false), (literals as u16, true), (literals as u16 + 1, false), (u16::MAX, false)]
        {
            assert_eq!(check(&block(literals, offset, length, tail)).is_ok(), ok, "{offset}");
        }
        // A page less one byte, and one too much.
        assert_eq!(check(&block(literals, 1, length, tail - 1)), Err(Malformed));
        assert_eq!(check(&block(literals, 1, length, tail + 1)), Err(Malformed));
        assert_eq!(check(&block(literals, 1, length - 1, tail)), Err(Malformed));
        assert_eq!(check(&block(literals, 1, length + 1, tail)), Err(Malformed));
    }
    assert_eq!(check(&[]), Err(Malformed));
    assert_eq!(check(&[0]), Err(Malformed));
    assert_eq!(check(&block(8, 8, PAGE * 300, 5)), Err(Malformed));
    // Lengths without an end, of literals and of a match.
    assert_eq!(check(&[0xFF; 8000]), Err(Malformed));
    assert_eq!(check(&[&[0x1F, 7, 1, 0][..], &[0xFF; 8000]].concat()), Err(Malformed));
    // A match at the end is not a page, nor if it is followed by nothing.
    let mut ends = Vec::new();
    sequence(&mut ends, &noise[..8], 8, PAGE - 8);
    assert_eq!(check(&ends), Err(Malformed));
    ends.push(0);
    assert!(check(&ends).is_ok(), "no literals are literals too");
}

#[test]
fn cut_short_and_made_longer() {
    let mut encoder = Encoder::new();
    for kind in KINDS {
        let Some(block) = encode(&mut encoder, &pages(kind, 8, 1)[0]) else { continue };
        for len in 0..block.len() {
            assert_eq!(check(&block[..len]), Err(Malformed), "{} cut to {len}", kind.0);
        }
        for byte in [0, 1, 0x10, 0xFF] {
            assert_eq!(check(&[&block[..], &[byte; 1]].concat()), Err(Malformed));
            assert_eq!(check(&[&block[..], &[byte; 40]].concat()), Err(Malformed));
        }
    }
}

/// A page out of pieces: noise, runs of a short period, and copies of what was before.
fn patchwork() -> impl Strategy<Value = Page> {
    let piece = (0..3, 1usize..64, 1usize..600);
    (any::<u64>(), proptest::collection::vec(piece, 1..200)).prop_map(|(seed, pieces)| {
        let mut numbers = Numbers::new(seed);
        let mut bytes = vec![7];
        for (what, period, length) in pieces.into_iter().cycle().take(PAGE) {
            let from = bytes.len()
                - match what {
                    0 => period.min(bytes.len()),
                    _ => 1 + numbers.below(bytes.len() as u64) as usize,
                };
            for i in 0..length {
                bytes.push(match what {
                    2 if i < 20 => numbers.next() as u8,
                    2 => break,
                    _ => bytes[from + i],
                });
            }
            if bytes.len() >= PAGE {
                break;
            }
        }
        bytes.resize(PAGE, 0);
        bytes.try_into().unwrap()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn patchwork_comes_back(page in patchwork()) {
        if let Some(block) = encode(&mut Encoder::new(), &page) {
            prop_assert!(block.len() <= MAX);
            prop_assert!(check(&block) == Ok(page));
        }
        prop_assert!(check(&compress(&page)) == Ok(page));
    }

    /// Both decoders say the same of a block some bytes of which were changed.
    #[test]
    fn damaged_blocks(
        page in patchwork(),
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut block = compress(&page);
        for (index, byte) in changes {
            let i = index.index(block.len());
            block[i] = byte;
        }
        let _ = check(&block);
    }

    /// And of sequences whose numbers are anything.
    #[test]
    fn wild_sequences(
        sequences in proptest::collection::vec((0usize..40, 0u16..300, 4usize..300), 0..60),
        fit in any::<bool>(),
    ) {
        let noise = [0x5A; PAGE];
        let (mut block, mut made) = (Vec::new(), 0);
        for (literals, offset, length) in sequences {
            if fit && (offset == 0 || usize::from(offset) > made + literals || made + literals + length > PAGE) {
                continue;
            }
            sequence(&mut block, &noise[..literals], offset, length);
            made += literals + length;
        }
        last(&mut block, &noise[..PAGE.saturating_sub(made)]);
        prop_assert!(check(&block).is_ok() || !fit);
    }

    #[test]
    fn anything_at_all(bytes in proptest::collection::vec(any::<u8>(), 0..3000)) {
        let _ = check(&bytes);
    }
}
