//! The time of one page in our LZ4 coder and in `lz4_flex`, for each corpus of pages.
//!
//! ```text
//! cargo bench --bench codec
//! cargo bench --bench codec --features lz4_flex/safe-encode,lz4_flex/safe-decode
//! ```
//!
//! The features of `lz4_flex` are additive: any crate of a program can switch the safe code on. So both
//! builds count.
//!
//! Each round works through all slices of a corpus. The coders take turns slice by slice, on slices far
//! apart, so that no coder finds a page in the caches that the other has just read. A slice takes less
//! than a time slice of the scheduler. The table sums the fastest time, and the median time, of each slice.

use std::fmt::Write as _;
use std::hint::black_box;
use std::io::Write as _;
use std::time::{Duration, Instant};

#[path = "../src/store/corpus.rs"]
#[allow(dead_code, reason = "tests use the rest")]
mod corpus;
#[path = "../src/store/lz4.rs"]
mod lz4;

use corpus::{KINDS, Page};
use lz4_flex::block::{
    CompressTable, DecompressError, compress_into_with_table, decompress_into,
    get_maximum_output_size,
};

/// 16 MiB of a corpus.
const PAGES: usize = (16 << 20) / lz4::PAGE;
const SLICE: usize = 64;
const ROUNDS: usize = 31;

fn say(line: &str) {
    std::io::stdout().write_all(line.as_bytes()).expect("standard output");
}

/// Which decoder of `lz4_flex` is linked. The safe one compares the output's size first.
fn build() -> &'static str {
    let block = [0x1F, 7, 9, 0, 0xFF, 0xFF, 0];
    match decompress_into(&block, &mut [0; 16]) {
        Err(DecompressError::OutputTooSmall { .. }) => "safe",
        Err(DecompressError::OffsetOutOfBounds) => "unsafe",
        other => panic!("{other:?}"),
    }
}

/// Times the sides on every slice, in turn, and gives the sums of minima and of medians.
fn compare<T, const N: usize>(
    items: &[T],
    mut sides: [&mut dyn FnMut(&T); N],
) -> [[Duration; 2]; N] {
    let slices: Vec<&[T]> = items.chunks(SLICE).collect();
    let mut times = [(); N].map(|()| vec![Vec::new(); slices.len()]);
    for round in 0..ROUNDS {
        for at in 0..slices.len() {
            for turn in 0..N {
                let side = (turn + round) % N;
                let slice = (at + side * slices.len() / N) % slices.len();
                let start = Instant::now();
                slices[slice].iter().for_each(|item| sides[side](item));
                times[side][slice].push(start.elapsed());
            }
        }
    }
    times.map(|slices| {
        let mut sums = [Duration::ZERO; 2];
        for mut times in slices {
            times.sort_unstable();
            sums[0] += times[0];
            sums[1] += times[ROUNDS / 2];
        }
        sums
    })
}

fn report(what: &str, corpus: &str, pages: usize, [ours, flex]: [[Duration; 2]; 2]) -> [f64; 2] {
    let micros = |sum: Duration| sum.as_secs_f64() * 1e6 / pages as f64;
    let ratio = |i: usize| flex[i].as_secs_f64() / ours[i].as_secs_f64();
    say(&format!(
        "| {what} | {corpus} | {:.2} / {:.2} | {:.2} / {:.2} | {:.2} / {:.2} |\n",
        micros(ours[0]),
        micros(ours[1]),
        micros(flex[0]),
        micros(flex[1]),
        ratio(0),
        ratio(1),
    ));
    [ratio(0), ratio(1)]
}

fn main() {
    let build = build();
    say(&format!(
        "lz4_flex: {build} decoder\n\n\
         | | corpus | ours, us a page, min / median | lz4_flex | lz4_flex : ours |\n|---|---|---|---|---|\n"
    ));
    let mut sizes = String::new();
    let mut ratios = [Vec::new(), Vec::new(), Vec::new()];
    for kind in KINDS {
        let pages = corpus::pages(kind, 1, PAGES);
        let mut encoder = lz4::Encoder::new();
        let mut out = [0; lz4::ROOM];
        let mut table = CompressTable::small();
        let mut large = CompressTable::large();
        let mut room = [0; get_maximum_output_size(lz4::PAGE)];
        let mut again = room;
        let [ours, small, big] = compare(
            &pages,
            [
                &mut |page: &Page| {
                    black_box(encoder.encode(page, black_box(&mut out)));
                },
                &mut |page: &Page| {
                    let _ =
                        black_box(compress_into_with_table(page, black_box(&mut room), &mut table));
                },
                &mut |page: &Page| {
                    let _ = black_box(compress_into_with_table(
                        page,
                        black_box(&mut again),
                        &mut large,
                    ));
                },
            ],
        );
        ratios[0].push(report("encode", kind.0, PAGES, [ours, small]));
        ratios[1].push(report("encode, large table", kind.0, PAGES, [ours, big]));

        let kept = |len: usize| if len > lz4::MAX { lz4::PAGE } else { len };
        let ours: Vec<_> = pages
            .iter()
            .filter_map(|page| encoder.encode(page, &mut out).map(|l| out[..l].to_vec()))
            .collect();
        let mut bytes_with = |table: &mut CompressTable| -> usize {
            pages
                .iter()
                .map(|page| kept(compress_into_with_table(page, &mut room, table).unwrap()))
                .sum()
        };
        let (flex, flex_large) = (bytes_with(&mut table), bytes_with(&mut large));
        let bytes = ours.iter().map(Vec::len).sum::<usize>() + (PAGES - ours.len()) * lz4::PAGE;
        let _ = writeln!(
            sizes,
            "| {} | {:.3} | {:.3} | {:.3} |",
            kind.0,
            (PAGES * lz4::PAGE) as f64 / bytes as f64,
            (PAGES * lz4::PAGE) as f64 / flex as f64,
            (PAGES * lz4::PAGE) as f64 / flex_large as f64,
        );
        if ours.len() < PAGES / 10 {
            continue;
        }
        let (mut page, mut other) = ([0; lz4::PAGE], [0; lz4::PAGE]);
        let times = compare(
            &ours,
            [
                &mut |block: &Vec<u8>| {
                    let _ = black_box(lz4::decode(block, black_box(&mut page)));
                },
                &mut |block: &Vec<u8>| {
                    let _ = black_box(decompress_into(block, black_box(&mut other)));
                },
            ],
        );
        ratios[2].push(report("decode", kind.0, ours.len(), times));
    }
    for (what, ratios) in ["encode", "encode, large table", "decode"].iter().zip(ratios) {
        let mean =
            |i: usize| (ratios.iter().map(|r| r[i].ln()).sum::<f64>() / ratios.len() as f64).exp();
        let wins = ratios.iter().filter(|r| r[0] >= 1.15).count();
        say(&format!(
            "{what}: geometric mean {:.3} / {:.3}; ours wins by 15 percent on {wins} of {} corpora\n",
            mean(0),
            mean(1),
            ratios.len()
        ));
    }
    say(&format!(
        "\n| corpus | ratio, ours | ratio, lz4_flex | large table |\n|---|---|---|---|\n{sizes}"
    ));
}
