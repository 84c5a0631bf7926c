//! Private memory that a device writes to, without a pin of the arena.

use super::common::pages::{PAGE, Pages};
use super::common::{quiet, setups, skip};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use thermocline::Backing;

/// The kernel holds pins on the pages of a registered buffer (`io_uring_register(2)`), as for any DMA.
#[test]
fn a_registered_buffer_of_private_memory_gets_all_that_is_read_into_it() {
    const TEST: &str = "a_registered_buffer_of_private_memory";
    const FIRST: usize = 40;
    const COUNT: usize = 24;
    const PAGES: usize = 4096;
    let private = setups(TEST).into_iter().filter(|setup| setup.backing == Backing::Private);
    for setup in private {
        let ring = match Ring::new() {
            Ok(ring) => ring,
            Err(e) => return skip(TEST, "io_uring", &format!("there is no io_uring here: {e}")),
        };
        // Short ticks, because a page that the kernel refuses backs off for eight of them.
        let arena = quiet(setup).scan_interval(Duration::from_millis(10)).build().unwrap();
        let pages = Pages::filled(&arena, PAGES);
        let buffer = pages.part(FIRST, COUNT).cast::<u8>().cast_mut();
        // SAFETY: the block outlives the ring's use of it, and no other code uses these pages meanwhile.
        if let Err(e) = unsafe { ring.register(buffer, COUNT * PAGE) } {
            return skip(TEST, "io_uring", &format!("a buffer cannot be registered: {e}"));
        }
        arena.evict_now().unwrap();
        // With them the kernel keeps the huge pages in which they lie.
        assert!(
            (FIRST..FIRST + COUNT).all(|page| arena.is_resident(pages.part(page, 1))),
            "{setup}"
        );
        let stats = arena.stats();
        assert!(stats.evicted_pages as usize >= PAGES - 2 * 512, "{setup}: {stats}");

        // Not touched since, so a copy of a page would still be as it was.
        let mut file = unnamed_file();
        let content: Vec<u8> = (0..COUNT * PAGE).map(|i| (i / 5 % 251) as u8).collect();
        file.write_all(&content).unwrap();
        assert_eq!(ring.read_fixed(&file, buffer, content.len()).unwrap(), content.len());
        arena.evict_now().unwrap();
        // SAFETY: the pages of the block, which nothing writes to any more.
        let found = unsafe { std::slice::from_raw_parts(buffer, content.len()) };
        assert!(found == content, "{setup}: {}", arena.stats());
        drop(ring);
        // The kernel gives the pins up soon after.
        super::common::pages::eventually(&arena, "an eviction of all pages", |stats| {
            arena.evict_now().unwrap();
            stats.resident_bytes == 0
        });
        assert!(found == content, "{setup}: {}", arena.stats());
        let others = (0..PAGES).filter(|page| !(FIRST..FIRST + COUNT).contains(page));
        assert!(others.clone().all(|page| pages.is_right(page)), "{setup}");
    }
}

fn unnamed_file() -> File {
    // SAFETY: the name is a C string; the call returns a new descriptor or -1.
    let fd = unsafe { libc::memfd_create(c"content".as_ptr(), 0) };
    assert!(fd >= 0);
    // SAFETY: the descriptor is new.
    unsafe { File::from_raw_fd(fd) }
}

/// `io_uring_params` as words: offsets of the fields that the test reads (`include/uapi/linux/io_uring.h`).
const PARAMS: usize = 30;
const SQ_OFF: usize = 10;
const CQ_OFF: usize = 20;
const RING_BYTES: usize = 4096;
const SQ_RING: libc::off_t = 0;
const CQ_RING: libc::off_t = 0x800_0000;
const SQES: libc::off_t = 0x1000_0000;
const READ_FIXED: u32 = 4;
const GET_EVENTS: u32 = 1;
const REGISTER_BUFFERS: u32 = 0;

/// An io_uring for one request at a time.
struct Ring {
    fd: OwnedFd,
    params: [u32; PARAMS],
    submissions: Mapped,
    completions: Mapped,
    entries: Mapped,
}

impl Ring {
    fn new() -> io::Result<Self> {
        let mut params = [0_u32; PARAMS];
        // SAFETY: the kernel writes to the parameters, which are as long as its structure.
        let fd = unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, params.as_mut_ptr()) };
        let fd = i32::try_from(checked(fd)?).map_err(io::Error::other)?;
        // SAFETY: a new descriptor.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let map = |offset| Mapped::new(&fd, offset);
        let (submissions, completions, entries) = (map(SQ_RING)?, map(CQ_RING)?, map(SQES)?);
        Ok(Self { submissions, completions, entries, params, fd })
    }

    /// # Safety
    ///
    /// Requests write to the buffer.
    unsafe fn register(&self, buffer: *mut u8, len: usize) -> io::Result<()> {
        let vector = libc::iovec { iov_base: buffer.cast(), iov_len: len };
        // SAFETY: one vector; the caller's promise.
        let done = unsafe {
            let (fd, vector) = (self.fd.as_raw_fd(), &raw const vector);
            libc::syscall(libc::SYS_io_uring_register, fd, REGISTER_BUFFERS, vector, 1)
        };
        checked(done).map(drop)
    }

    /// Reads the start of a file into the registered buffer. Returns how many bytes.
    fn read_fixed(&self, file: &File, buffer: *mut u8, len: usize) -> io::Result<usize> {
        let tail = self.submissions.word(self.params[SQ_OFF + 1]);
        let array = self.submissions.word(self.params[SQ_OFF + 6]);
        let word = |at: usize, value: u32| {
            self.entries.word(at as u32 * 4).store(value, Ordering::Relaxed);
        };
        let address = buffer.addr() as u64;
        word(0, READ_FIXED);
        word(1, file.as_raw_fd().cast_unsigned());
        (2..16).for_each(|at| word(at, 0));
        word(4, address as u32);
        word(5, (address >> 32) as u32);
        word(6, u32::try_from(len).unwrap());
        array.store(0, Ordering::Relaxed);
        tail.store(tail.load(Ordering::Relaxed) + 1, Ordering::Release);
        // SAFETY: submits one request, and waits for it; without a signal mask.
        let done = unsafe {
            let (fd, none) = (self.fd.as_raw_fd(), std::ptr::null::<()>());
            libc::syscall(libc::SYS_io_uring_enter, fd, 1, 1, GET_EVENTS, none, 0)
        };
        checked(done)?;
        let head = self.completions.word(self.params[CQ_OFF]);
        let completed = self.completions.word(self.params[CQ_OFF + 1]);
        assert_eq!(completed.load(Ordering::Acquire), head.load(Ordering::Relaxed) + 1);
        // A ring of one request has two completions of 16 bytes each.
        let at = self.params[CQ_OFF + 5] + head.load(Ordering::Relaxed) % 2 * 16;
        let result = self.completions.word(at + 8).load(Ordering::Relaxed).cast_signed();
        head.fetch_add(1, Ordering::Release);
        usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result))
    }
}

fn checked(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// A part of the ring that the kernel shares.
struct Mapped(NonNull<u8>);

impl Mapped {
    fn new(fd: &OwnedFd, offset: libc::off_t) -> io::Result<Self> {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let start = unsafe {
            let null = std::ptr::null_mut();
            libc::mmap(null, RING_BYTES, access, libc::MAP_SHARED, fd.as_raw_fd(), offset)
        };
        match NonNull::new(start.cast()) {
            Some(mapped) if start != libc::MAP_FAILED => Ok(Self(mapped)),
            _ => Err(io::Error::last_os_error()),
        }
    }

    fn word(&self, at: u32) -> &AtomicU32 {
        let at = at as usize;
        assert!(at + 4 <= RING_BYTES);
        // SAFETY: within the mapping; the kernel and the test access it by words.
        unsafe { self.0.add(at).cast::<AtomicU32>().as_ref() }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: this value owns the mapping.
        unsafe { libc::munmap(self.0.as_ptr().cast(), RING_BYTES) };
    }
}
