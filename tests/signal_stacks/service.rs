//! What serving takes of the stacks that the library has for it.

use super::common::child::{child_case, passes_in_child, text};
use super::common::pages::{PAGE, Pages, evict};
use super::common::signals::{Foreign, install};
use super::common::stacks::Stack;
use super::common::{Setup, inline_setups, quiet};
use super::touch_on;
use core::ffi::c_int;
use core::ptr;
use std::fs;

/// Bytes of a service stack.
const SIZE: usize = 64 << 10;

/// The addresses at which there is accessible memory of that size, above a page that is not.
fn above_guards() -> Vec<usize> {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let number = |text| usize::from_str_radix(text, 16).unwrap();
    let mappings: Vec<(usize, usize, &str)> = maps
        .lines()
        .map(|line| {
            let mut words = line.split(' ');
            let (start, end) = words.next().unwrap().split_once('-').unwrap();
            (number(start), number(end), words.next().unwrap())
        })
        .collect();
    let is_pair = |pair: &&[(usize, usize, &str)]| {
        let ((start, end, access), above) = (pair[0], pair[1]);
        (end - start, access, above.2) == (PAGE, "---p", "rw-p")
            && (above.0, above.1) == (end, end + SIZE)
    };
    mappings.windows(2).filter(is_pair).map(|pair| pair[1].0).collect()
}

extern "C" fn lengthen(_: c_int) {
    Foreign::lengthen();
}

#[test]
fn service_stacks_have_room_to_spare() {
    const TEST: &str = "service::service_stacks_have_room_to_spare";
    let Some(case) = child_case() else {
        for setup in inline_setups(TEST) {
            let output = passes_in_child(TEST, &setup.to_string());
            println!("{}", text(&output).lines().find(|l| l.contains("service stack")).unwrap());
        }
        return;
    };
    install(libc::SIGBUS, lengthen as extern "C" fn(_) as usize, 0, &[]);
    let before = above_guards();
    let arena = quiet(Setup::parse(&case)).build().unwrap();
    let new = above_guards().into_iter().filter(|start| !before.contains(start));
    let stacks: Vec<Stack> =
        new.map(|start| Stack::at(ptr::with_exposed_provenance_mut(start), SIZE)).collect();
    assert!(stacks.len() >= 32, "only {} service stacks are found", stacks.len());
    // No thread touches a page meanwhile.
    stacks.iter().for_each(Stack::paint);

    let most = || stacks.iter().map(Stack::used).max().unwrap();
    touch_on(&Stack::new(1 << 20), None, Setup::parse(&case));
    let served = most();
    Foreign::new().touch(3);
    let passed_on = most();
    // And what is said on standard error, of memory that cannot be read.
    let pages = Pages::filled(&arena, 100);
    evict(&arena, 100);
    pages.verify();
    let used = most();
    println!(
        "\n{case}: {used} of {SIZE} bytes of a service stack, {served} and {passed_on} before"
    );
    assert!(served > 500, "faults are served on other stacks");
    assert!(used <= SIZE / 2, "{used} of {SIZE} bytes");
}
