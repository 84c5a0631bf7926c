use super::corpus::{CORPORA, Numbers, Page, pages};
use super::lz4::{Encoder, MAX, Malformed, PAGE, ROOM, decode};
use super::lz4_reference;
use lz4_flex::block::compress;
use proptest::prelude::*;

fn encode(encoder: &mut Encoder, page: &Page) -> Option<Vec<u8>> {
    // Bytes that lay in the buffer before must not matter.
    let mut out = [0xA5; ROOM];
    encoder.encode(page, &mut out).map(|len| out[..len].to_vec())
}

/// Decodes `block` to `len` bytes, and checks the result against the plain decoder. No byte of the result may
/// be one that lay there before, and no byte behind it may change.
fn check_len(block: &[u8], len: usize) -> Result<Vec<u8>, Malformed> {
    let expected = lz4_reference::decode(block, len).ok_or(Malformed);
    for before in [0x00, 0xFF] {
        let mut out = vec![before; len + 64];
        let decoded = decode(block, &mut out[..len]).map(|()| out[..len].to_vec());
        assert!(decoded == expected, "{len} bytes of {}: {block:?}", block.len());
        assert!(out[len..].iter().all(|byte| *byte == before), "{len}: {block:?}");
    }
    expected
}

/// Decodes a block of a page, and checks it.
fn check(block: &[u8]) -> Result<Page, Malformed> {
    check_len(block, PAGE).map(|page| page.try_into().unwrap())
}

/// Appends a sequence.
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

/// Appends the last sequence, which has no match.
fn last(out: &mut Vec<u8>, literals: &[u8]) {
    let mut whole = Vec::new();
    sequence(&mut whole, literals, 0, 4);
    out.extend_from_slice(&whole[..whole.len() - 2]);
}

#[test]
fn pages_of_every_corpus_come_back() {
    let mut encoder = Encoder::new();
    for corpus in CORPORA {
        let mut refused = 0;
        for page in pages(corpus, 1, 200) {
            match encode(&mut encoder, &page) {
                Some(block) => assert!(check(&block) == Ok(page), "{}", corpus.0),
                None => refused += 1,
            }
            // Made with the other hash table, and not refused if it is long.
            assert!(check(&compress(&page)) == Ok(page), "{}", corpus.0);
        }
        assert!(corpus.0 == "random" || refused < 100, "{}: {refused} refused", corpus.0);
    }
}

#[test]
fn a_used_encoder_makes_the_same_blocks_as_a_new_one() {
    let mut used = Encoder::new();
    for corpus in CORPORA {
        for page in pages(corpus, 3, 20) {
            assert_eq!(encode(&mut used, &page), encode(&mut Encoder::new(), &page));
        }
    }
}

#[test]
fn the_encoder_refuses_blocks_that_are_too_long() {
    let mut encoder = Encoder::new();
    for mut page in pages(CORPORA[5], 4, 8) {
        let lengths: Vec<Option<usize>> = (0..PAGE)
            .map(|zeros| {
                page[PAGE - zeros..].fill(0);
                encode(&mut encoder, &page).map(|block| {
                    assert!(check(&block) == Ok(page));
                    block.len()
                })
            })
            .collect();
        let first = lengths.iter().position(Option::is_some).unwrap();
        assert!((PAGE - MAX..PAGE - MAX + 64).contains(&first), "{first}");
        assert!(lengths[first].unwrap() > MAX - 16, "refused a short block");
        assert!(lengths[first + 16..].iter().all(|len| len.is_some_and(|len| len <= MAX)));
    }
}

#[test]
fn matches_of_every_offset_and_length() {
    let noise = pages(CORPORA[5], 5, 1)[0];
    for offset in (1..=80).chain([255, 256, 257, 1000, 2000]) {
        for length in (4..=80).chain([255, 270, 273, 274, 275, 529, 1000, 2000]) {
            // From the page's start on, and up to the last literals or to its end.
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
    let noise = pages(CORPORA[5], 6, 1)[0];
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
fn malformed_blocks_are_refused() {
    let noise = pages(CORPORA[5], 7, 1)[0];
    let block = |literals: usize, offset, length, tail: usize| {
        let mut block = Vec::new();
        sequence(&mut block, &noise[..literals], offset, length);
        last(&mut block, &noise[..tail]);
        block
    };
    assert!(check(&block(8, 8, 4000, 88)).is_ok());
    // A match that decoders copy at once, a long one, and one at the page's end.
    for (literals, length) in [(8, 8), (8, 4000), (4000, 8)] {
        let tail = PAGE - literals - length;
        for (offset, ok) in
            [(0, false), (literals as u16, true), (literals as u16 + 1, false), (u16::MAX, false)]
        {
            assert_eq!(check(&block(literals, offset, length, tail)).is_ok(), ok, "{offset}");
        }
        // One byte less than a page, and one more.
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
    // A block must not end with a match.
    let mut ends = Vec::new();
    sequence(&mut ends, &noise[..8], 8, PAGE - 8);
    assert_eq!(check(&ends), Err(Malformed));
    ends.push(0);
    assert!(check(&ends).is_ok(), "the last sequence may have no literals");
}

#[test]
fn blocks_with_missing_or_extra_bytes_are_refused() {
    let mut encoder = Encoder::new();
    for corpus in CORPORA {
        let Some(block) = encode(&mut encoder, &pages(corpus, 8, 1)[0]) else { continue };
        for len in 0..block.len() {
            assert_eq!(check(&block[..len]), Err(Malformed), "{} cut to {len}", corpus.0);
        }
        for byte in [0, 1, 0x10, 0xFF] {
            assert_eq!(check(&[&block[..], &[byte; 1]].concat()), Err(Malformed));
            assert_eq!(check(&[&block[..], &[byte; 40]].concat()), Err(Malformed));
        }
    }
}

/// A page of noise, runs of a short period, and copies of earlier bytes.
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

    /// Both decoders agree on a block with some changed bytes.
    #[test]
    fn damaged_blocks(
        page in patchwork(),
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..4),
        used in prop_oneof![0..40usize, 0..=PAGE],
    ) {
        let mut block = compress(&page[..used]);
        for (index, byte) in changes {
            let i = index.index(block.len());
            block[i] = byte;
        }
        let _ = (check_len(&block, used), check(&block));
    }

    /// Both decoders agree on sequences with arbitrary lengths and offsets.
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
    fn arbitrary_bytes(
        bytes in proptest::collection::vec(any::<u8>(), 0..3000),
        len in prop_oneof![0..40usize, 0..=PAGE],
    ) {
        let _ = (check_len(&bytes, len), check(&bytes));
    }
}
