//! Pinned memory that the kernel and devices read and write.

use super::common::pages::{PAGE, Pages, rounds};
use super::common::{SetOnDrop, quiet, scaled, setups, skip};
use super::{bytes, is_enough};
use core::ffi::c_void;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use thermocline::{Advice, Arena};

/// Runs `what` while another thread calls `evict_now` in a loop.
fn while_evicting(arena: &Arena, what: impl FnOnce()) {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                arena.evict_now().unwrap();
            }
        });
        let _over = SetOnDrop(&over);
        what();
    });
}

/// A buffer that begins 100 bytes into a page, so that it ends in another page.
fn buffer(pages: Pages<'_>, first: usize, len: usize) -> *mut c_void {
    assert!(len + 100 <= (pages.count - first) * PAGE);
    std::ptr::with_exposed_provenance_mut(pages.address + first * PAGE + 100)
}

#[test]
fn system_calls_on_pinned_memory_never_fail() {
    const LEN: usize = 5 * PAGE;
    for setup in setups("system_calls_on_pinned_memory") {
        let arena = quiet(setup).build().unwrap();
        let pages = Pages::filled(&arena, 512);
        let pipe = std::io::pipe().unwrap();
        let (reader, writer) = (pipe.0.as_raw_fd(), pipe.1.as_raw_fd());
        while_evicting(&arena, || {
            for round in rounds(&arena, scaled(2000, 100), "eviction", is_enough) {
                let (from, to) = (round * 13 % 250, 256 + round * 7 % 250);
                let source = arena.pin(pages.part(from, 6)).unwrap();
                let written = write_to(writer, buffer(pages, from, LEN), LEN);
                assert_eq!(written, Ok(LEN), "{setup}, {round}");
                drop(source);
                let target = arena.pin(pages.part(to, 6)).unwrap();
                let read = read_from(reader, buffer(pages, to, LEN), LEN);
                assert_eq!(read, Ok(LEN), "{setup}, {round}");
                drop(target);
                // By now the evictor may have taken some of it again.
                let wrong = (0..LEN / 8).filter(|i| {
                    let at = |first| buffer(pages, first, LEN).addr() + i * 8;
                    // SAFETY: words of the block, which no other thread writes to.
                    let word = |address| unsafe {
                        std::ptr::with_exposed_provenance::<u64>(address).read_unaligned()
                    };
                    word(at(from)) != word(at(to))
                });
                assert_eq!(wrong.count(), 0, "{setup}, {round}");
                pages.write(from, 200, round as u64);
            }
        });
        assert!((0..250).all(|page| pages.is_right(page)));
    }
}

fn write_to(fd: i32, from: *const c_void, len: usize) -> Result<usize, std::io::ErrorKind> {
    // SAFETY: the caller passes memory of the arena.
    let done = unsafe { libc::write(fd, from, len) };
    usize::try_from(done).map_err(|_| std::io::Error::last_os_error().kind())
}

fn read_from(fd: i32, to: *mut c_void, len: usize) -> Result<usize, std::io::ErrorKind> {
    // SAFETY: as above; no other thread uses the memory meanwhile.
    let done = unsafe { libc::read(fd, to, len) };
    usize::try_from(done).map_err(|_| std::io::Error::last_os_error().kind())
}

/// A file for one test, removed on drop.
struct Scrap(std::path::PathBuf);

impl Scrap {
    const PAGES: usize = 256;

    /// The word that belongs to this place.
    fn word(at: usize) -> u64 {
        (at as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15)
    }

    fn new(folder: &std::path::Path, name: &str) -> std::io::Result<Self> {
        let this = Self(folder.join(format!("thermocline-{name}-{}", std::process::id())));
        let words = (0..Self::PAGES * PAGE / 8).flat_map(|at| Self::word(at).to_ne_bytes());
        std::fs::write(&this.0, words.collect::<Vec<_>>())?;
        File::open(&this.0)?.sync_all()?;
        Ok(this)
    }

    /// The file, if its file system reads past the page cache.
    fn open_direct(&self) -> std::io::Result<File> {
        let file = File::options().read(true).custom_flags(libc::O_DIRECT).open(&self.0)?;
        // Some file systems refuse only the read.
        #[repr(align(4096))]
        struct Page([u8; PAGE]);
        file.read_exact_at(&mut Page([0; PAGE]).0, 0)?;
        Ok(file)
    }
}

impl Drop for Scrap {
    fn drop(&mut self) {
        // A file that stays behind is no failure of the test.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A file in the first folder whose file system allows `O_DIRECT`.
fn direct_file(test: &str) -> Option<(Scrap, File)> {
    let folders = [env!("CARGO_TARGET_TMPDIR").into(), std::env::temp_dir()];
    let open = |folder: &std::path::PathBuf| {
        let scrap = Scrap::new(folder, test)?;
        let file = scrap.open_direct()?;
        Ok::<_, std::io::Error>((scrap, file))
    };
    let mut refusals = Vec::new();
    for folder in &folders {
        match open(folder) {
            Ok(opened) => return Some(opened),
            Err(e) => refusals.push(format!("{}: {e}", folder.display())),
        }
    }
    skip(test, "o_direct", &format!("no O_DIRECT here: {}", refusals.join("; ")));
    None
}

/// A device writes to physical pages, past the page table.
#[test]
fn direct_reads_into_pinned_memory_arrive() {
    const TEST: &str = "system_calls::direct_reads_into_pinned_memory_arrive";
    const RUN: usize = 8;
    let Some((_scrap, file)) = direct_file(TEST) else { return };
    for setup in setups(TEST) {
        let arena = quiet(setup).build().unwrap();
        let pages = Pages::filled(&arena, 512);
        while_evicting(&arena, || {
            for round in rounds(&arena, scaled(1500, 60), "eviction", is_enough) {
                let (to, from) = (round * 29 % (512 - RUN), round * 17 % (Scrap::PAGES - RUN));
                let pinned = arena.pin(pages.part(to, RUN)).unwrap();
                let address = pages.address + to * PAGE;
                // SAFETY: pages of the block, which no other thread writes to.
                let target = unsafe {
                    let start = std::ptr::with_exposed_provenance_mut::<u8>(address);
                    std::slice::from_raw_parts_mut(start, RUN * PAGE)
                };
                file.read_exact_at(target, bytes(from)).unwrap();
                // In every second round the pages are evicted before they are read.
                let pinned = (round % 2 == 0).then_some(pinned);
                if pinned.is_none() {
                    arena.advise(pages.part(to, RUN), Advice::Cold).unwrap();
                }
                for at in 0..RUN * PAGE / 8 {
                    let read = pages.read(to + at / 512, at % 512);
                    let wanted = Scrap::word(from * PAGE / 8 + at);
                    assert_eq!(read, wanted, "{setup}, {round}, word {at}");
                }
                // The file's content does not compress, so it would not be evicted.
                (to..to + RUN).for_each(|page| {
                    (0..512).for_each(|word| pages.write(page, word, round as u64));
                });
            }
        });
        arena.check().unwrap();
    }
}
