//! The cost of encoding and decoding a page, for each corpus of pages.
//!
//! ```text
//! cargo bench --bench codec -- --quick
//! cargo bench --bench codec --features lz4_flex/safe-encode,lz4_flex/safe-decode -- --quick
//! ```
//!
//! The second command measures the safe code of `lz4_flex`. Features are additive, so any crate of a
//! program can select it. The benchmark prints which decoder is linked, and the compression ratios, where
//! a block that the store refuses counts as a page.
//!
//! Times are per page. The benchmark takes pages and blocks in turn from more memory than the caches hold.

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use std::hint::black_box;
use std::io::Write as _;

#[path = "../src/store/corpus.rs"]
#[allow(dead_code, reason = "tests use the rest")]
mod corpus;
#[path = "../src/store/lz4.rs"]
mod lz4;

use corpus::{CORPORA, Page};
use lz4_flex::block::{DecompressError, decompress_into};

/// 16 MiB of a corpus.
const PAGES: usize = (16 << 20) / lz4::PAGE;

/// A block, and the bytes before the page's zero tail, which it decodes to.
struct Block {
    bytes: Vec<u8>,
    used: usize,
}

/// Encodes as the store does, which leaves a zero tail of 128 bytes or more out of the block.
fn encode(encoder: &mut lz4::Encoder, page: &Page) -> Option<Block> {
    let mut out = [0; lz4::ROOM];
    let used = page.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let used = if lz4::PAGE - used < 128 { lz4::PAGE } else { used };
    let len = encoder.encode(&page[..used], &mut out)?;
    Some(Block { bytes: out[..len].to_vec(), used })
}

fn decode(block: &Block, page: &mut Page) {
    let (bytes, tail) = page.split_at_mut(block.used);
    lz4::decode(&block.bytes, bytes).expect("a block of the encoder's");
    tail.fill(0);
}

fn print(line: &str) {
    std::io::stdout().write_all(line.as_bytes()).expect("standard output");
}

/// Prints which decoder of `lz4_flex` is linked. For this match, which begins before the page and ends
/// behind it, each of them returns another error.
fn print_build() {
    let block = [0x1F, 7, 9, 0, 0xFF, 0xFF, 0];
    print(match decompress_into(&block, &mut [0; 16]) {
        Err(DecompressError::OutputTooSmall { .. }) => "lz4_flex: safe decoder\n",
        Err(DecompressError::OffsetOutOfBounds) => "lz4_flex: decoder with raw pointers\n",
        _ => "lz4_flex: unknown decoder\n",
    });
}

fn print_ratio(corpus: &str, pages: &[Page]) {
    let mut encoder = lz4::Encoder::new();
    let stored: usize = pages
        .iter()
        .map(|page| encode(&mut encoder, page).map_or(lz4::PAGE, |block| block.bytes.len()))
        .sum();
    let ratio = (pages.len() * lz4::PAGE) as f64 / stored as f64;
    print(&format!("ratio/{corpus}: {ratio:.3}\n"));
}

fn encoders(criterion: &mut Criterion) {
    print_build();
    let mut group = criterion.benchmark_group("encode");
    for corpus in CORPORA {
        let pages = corpus::pages(corpus, 1, PAGES);
        print_ratio(corpus.0, &pages);
        let mut encoder = lz4::Encoder::new();
        let mut out = [0; lz4::ROOM];
        let mut turn = pages.iter().cycle();
        group.bench_function(BenchmarkId::from_parameter(corpus.0), |bencher| {
            bencher.iter(|| encoder.encode(turn.next().expect("a cycle"), black_box(&mut out)));
        });
    }
}

fn decoders(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decode");
    for corpus in CORPORA {
        let mut encoder = lz4::Encoder::new();
        let pages = corpus::pages(corpus, 1, PAGES);
        let blocks: Vec<_> = pages.iter().filter_map(|page| encode(&mut encoder, page)).collect();
        if blocks.len() < PAGES / 10 {
            // The store refuses the pages of this corpus.
            continue;
        }
        let mut turn = blocks.iter().cycle();
        let mut page = [0; lz4::PAGE];
        group.bench_function(BenchmarkId::from_parameter(corpus.0), |bencher| {
            bencher.iter(|| decode(turn.next().expect("a cycle"), black_box(&mut page)));
        });
    }
}

fn checksum(criterion: &mut Criterion) {
    let pages = corpus::pages(CORPORA[0], 1, PAGES);
    let mut group = criterion.benchmark_group("checksum");
    let crc = |page: &Page| {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&7_u64.to_le_bytes());
        hasher.update(page);
        hasher.finalize()
    };
    let mut turn = pages.iter().cycle();
    group.bench_function("cold", |bencher| {
        bencher.iter(|| crc(turn.next().expect("a cycle")));
    });
    group.bench_function("hot", |bencher| bencher.iter(|| crc(black_box(&pages[0]))));
}

criterion_group!(benches, encoders, decoders, checksum);
criterion_main!(benches);
