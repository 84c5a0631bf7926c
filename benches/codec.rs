//! What a page costs to encode and to decode, here and with `lz4_flex`, for each kind of page.
//!
//! ```text
//! cargo bench --bench codec -- --quick
//! ```
//!
//! Times are per page. Pages and blocks are taken in turn from more than caches hold. How small
//! pages become is printed before: blocks too long to be kept count as a page.

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use std::hint::black_box;
use std::io::Write as _;

#[path = "../src/store/corpus.rs"]
#[allow(dead_code, reason = "tests use the rest")]
mod corpus;
#[path = "../src/store/lz4.rs"]
mod lz4;

use corpus::{KINDS, Page};
use lz4_flex::block::{CompressTable, compress, compress_into_with_table, decompress_into};

/// 16 MiB of a kind.
const PAGES: usize = (16 << 20) / lz4::PAGE;

/// Enough for a page's longest block.
const FLEX_ROOM: usize = 5 << 10;

fn encode(encoder: &mut lz4::Encoder, page: &Page) -> Option<Vec<u8>> {
    let mut out = [0; lz4::ROOM];
    encoder.encode(page, &mut out).map(|len| out[..len].to_vec())
}

fn report_ratios(kind: &str, pages: &[Page]) {
    let mut encoder = lz4::Encoder::new();
    let kept = |len: usize| if len > lz4::MAX { lz4::PAGE } else { len };
    let ours: usize =
        pages.iter().map(|page| encode(&mut encoder, page).map_or(lz4::PAGE, |b| b.len())).sum();
    let flex: usize = pages.iter().map(|page| kept(compress(page).len())).sum();
    let ratio = |bytes: usize| (pages.len() * lz4::PAGE) as f64 / bytes as f64;
    let line = format!("ratio/{kind}: ours {:.3}, lz4_flex {:.3}\n", ratio(ours), ratio(flex));
    std::io::stdout().write_all(line.as_bytes()).expect("standard output");
}

fn encoders(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("encode");
    for kind in KINDS {
        let pages = corpus::pages(kind, 1, PAGES);
        report_ratios(kind.0, &pages);
        let mut encoder = lz4::Encoder::new();
        let mut out = [0; lz4::ROOM];
        let mut turn = pages.iter().cycle();
        group.bench_function(BenchmarkId::new("ours", kind.0), |bencher| {
            bencher.iter(|| encoder.encode(turn.next().expect("a cycle"), black_box(&mut out)));
        });
        let mut table = CompressTable::small();
        let mut out = [0; FLEX_ROOM];
        group.bench_function(BenchmarkId::new("lz4_flex", kind.0), |bencher| {
            bencher.iter(|| {
                let page = turn.next().expect("a cycle");
                compress_into_with_table(page, black_box(&mut out), &mut table)
            });
        });
    }
}

fn decoders(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decode");
    for kind in KINDS {
        let mut encoder = lz4::Encoder::new();
        let pages = corpus::pages(kind, 1, PAGES);
        let blocks: Vec<_> = pages.iter().filter_map(|page| encode(&mut encoder, page)).collect();
        if blocks.len() < PAGES / 10 {
            // Pages of this kind are not kept.
            continue;
        }
        let mut turn = blocks.iter().cycle();
        let mut page = [0; lz4::PAGE];
        group.bench_function(BenchmarkId::new("ours", kind.0), |bencher| {
            bencher.iter(|| lz4::decode(turn.next().expect("a cycle"), black_box(&mut page)));
        });
        group.bench_function(BenchmarkId::new("lz4_flex", kind.0), |bencher| {
            bencher.iter(|| decompress_into(turn.next().expect("a cycle"), black_box(&mut page)));
        });
    }
}

fn checksum(criterion: &mut Criterion) {
    let pages = corpus::pages(KINDS[0], 1, PAGES);
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
