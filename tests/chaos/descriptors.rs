//! Closes the arena's descriptors, or gives their numbers to a file of the program.

use super::common::blocks::Random;
use super::scene::Scene;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::FileExt;

const BYTES: usize = 64 << 10;
const FILL: u8 = 0x5a;

/// The arena's descriptors in the program's table. The program opens no such files itself.
fn of_arena() -> Vec<RawFd> {
    let is_of_arena = |number: &RawFd| {
        let target = std::fs::read_link(format!("/proc/self/fd/{number}")).unwrap_or_default();
        let target = target.to_string_lossy();
        ["userfaultfd", "memfd:thermocline", "/pagemap"].iter().any(|name| target.contains(name))
    };
    let entries = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers.filter(is_of_arena).collect()
}

/// A file that only this function writes to.
fn file() -> File {
    // SAFETY: the name is a C string; the call returns a new descriptor or -1.
    let number = unsafe { libc::memfd_create(c"foreign".as_ptr(), libc::MFD_CLOEXEC) };
    assert!(number >= 0);
    // SAFETY: the descriptor is new.
    let mut file = unsafe { File::from_raw_fd(number) };
    file.write_all(&[FILL; BYTES]).unwrap();
    file
}

/// Does nothing in one arena of three: most programs close only descriptors that they opened.
pub fn close(scene: Scene<'_>, mut random: Random) -> u64 {
    let file = file();
    let (spares, mut closed) = (random.one_in(3), 0);
    let mut replaced: Vec<OwnedFd> = Vec::new();
    scene.repeat(random, 40_000, |random| {
        if spares {
            return;
        }
        let numbers = of_arena();
        let Some(&number) = numbers.get(random.below(numbers.len().max(1))) else { return };
        closed += 1;
        if random.one_in(2) {
            // SAFETY: the arena must tolerate it.
            unsafe { libc::close(number) };
        } else {
            // SAFETY: as above. From here on the number belongs to this function.
            assert_eq!(unsafe { libc::dup2(file.as_raw_fd(), number) }, number);
            // SAFETY: as above.
            replaced.push(unsafe { OwnedFd::from_raw_fd(number) });
        }
    });
    let mut bytes = vec![0; BYTES];
    file.read_exact_at(&mut bytes, 0).unwrap();
    assert!(bytes.iter().all(|byte| *byte == FILL), "a foreign file was changed");
    closed
}
