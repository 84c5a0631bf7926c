//! Several copies of the library in one process, all with inline arenas. Each copy passes on a SIGBUS that
//! belongs to another copy.

use super::common::child::{child_case, passes_in_child, text};
use super::common::pages::{Pages, evict};
use super::common::plugin::{Loaded, path};
use super::common::stacks::{Stack, largest_frame};
use super::common::{Setup, inline_setups, quiet, skip};
use super::{PROMISED, frame};
use core::ffi::c_void;
use core::mem::transmute;
use std::fs;
use std::path::PathBuf;

const COUNT: usize = 100_000;

/// A copy of the library in a shared object, with numbers in an arena.
struct Copy {
    numbers: *const u64,
    evict: extern "C" fn() -> usize,
}

// SAFETY: numbers that no thread writes, in memory that is never freed.
unsafe impl Sync for Copy {}

impl Copy {
    fn load(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("thermocline-{}", std::process::id()));
        let copy: PathBuf = folder.join(name);
        fs::create_dir_all(&folder).unwrap();
        fs::copy(path().unwrap(), &copy).unwrap();
        let object = Loaded::new(&copy);
        fs::remove_dir_all(&folder).unwrap();
        let function = |name| object.function(name);
        // SAFETY: the functions have these types.
        let (numbers, evict) = unsafe {
            (
                transmute::<*mut c_void, extern "C" fn(usize) -> *const u64>(function(
                    c"thermocline_plugin_numbers",
                )),
                transmute::<*mut c_void, extern "C" fn() -> usize>(function(
                    c"thermocline_plugin_evict",
                )),
            )
        };
        let numbers = numbers(COUNT);
        assert!(!numbers.is_null());
        Self { numbers, evict }
    }

    /// How many numbers are wrong. Reads one in each page.
    fn wrong(&self) -> usize {
        let wrong = |i: &usize| {
            // SAFETY: within the numbers.
            let read = unsafe { self.numbers.add(*i).read_volatile() };
            read != *i as u64
        };
        (0..COUNT).step_by(500).filter(wrong).count()
    }
}

#[test]
fn three_copies_of_the_library_share_a_small_signal_stack() {
    const TEST: &str = "copies::three_copies_of_the_library_share_a_small_signal_stack";
    let Some(case) = child_case() else {
        if path().is_none() {
            skip(TEST, "plugin", "the plugin is not here (cargo build --example plugin)");
            return;
        }
        for setup in inline_setups(TEST) {
            let output = passes_in_child(TEST, &setup.to_string());
            println!("{}", text(&output).lines().find(|l| l.contains("of stack")).unwrap());
        }
        return;
    };
    let frame = frame();
    let arena = quiet(Setup::parse(&case)).build().unwrap();
    let pages = Pages::filled(&arena, 200);
    let copies = ["first.so", "second.so"].map(Copy::load);
    assert_ne!(copies[0].evict as usize, copies[1].evict as usize);
    let (stack, alternate) = (Stack::new(1 << 20), Stack::new(largest_frame() + 4 * PROMISED));
    for _ in 0..10 {
        evict(&arena, 200);
        assert!(copies.iter().all(|copy| (copy.evict)() > 100 * 4096));
        let mut wrong = 0;
        stack.run(Some(&alternate), &mut || {
            wrong += (0..200).filter(|page| !pages.is_right(*page)).count();
            wrong += copies.iter().map(Copy::wrong).sum::<usize>();
        });
        assert_eq!(wrong, 0);
    }
    assert!(arena.stats().refaults > 0);
    let used = alternate.used().saturating_sub(frame);
    println!("\n{case}: {used} bytes of stack beyond a frame of {frame}");
    assert!(used <= 3 * PROMISED, "{used} bytes beyond a frame of {frame}");
}
