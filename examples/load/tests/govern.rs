//! The governor with ordinary files in place of the kernel's.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

#[test]
fn the_groups_maximum_is_the_limit_less_the_device() {
    const LIMIT: u64 = 128 << 20;
    let directory = TempDir::new().unwrap();
    let file = |name: &str, content: &str| {
        let path = directory.path().join(name);
        fs::write(&path, content).unwrap();
        path
    };
    let maximum = file("maximum", "");
    let mut governor = Command::new(env!("CARGO_BIN_EXE_govern"))
        .arg(LIMIT.to_string())
        .arg(file("mm_stat", "      0   0 50000000 0 50000000 0 0 0 0"))
        .arg(file("usage", "90000000\n"))
        .arg(&maximum)
        .arg(file("statistics", "cache 0\n"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let expected = (LIMIT - LIMIT / 128 - 50_000_000).to_string();
    let start = Instant::now();
    while fs::read_to_string(&maximum).unwrap() != expected {
        assert!(start.elapsed() < Duration::from_secs(60), "{:?}", fs::read_to_string(&maximum));
        thread::sleep(Duration::from_millis(5));
    }
    // 140 MB exceed 128 MiB.
    let mut input = governor.stdin.take().unwrap();
    writeln!(input).unwrap();
    let mut line = String::new();
    BufReader::new(governor.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with("peak_bytes=140000000 device_peak_bytes=50000000 over_ms="), "{line}");
    drop(input);
    assert!(governor.wait().unwrap().success());
}
