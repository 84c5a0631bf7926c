//! A program loads an object that contains the library, uses an arena there, and unloads the object.

use super::common::child::{child_case, fork, in_child, text};
use super::common::plugin::{Loaded, path};
use super::common::{setups, skip};
use super::{setup_of_child, way_of_child};
use core::ffi::c_void;
use std::ptr;
use std::sync::mpsc;
use std::thread;

type Plugin = extern "C" fn(bool, bool) -> i32;

fn plugin_of(object: &Loaded) -> Plugin {
    // SAFETY: the function has that type.
    unsafe { core::mem::transmute::<*mut c_void, Plugin>(object.function(c"thermocline_plugin")) }
}

/// The program's own handler for SIGBUS: it ends the process.
extern "C" fn on_sigbus(_: libc::c_int) {
    // SAFETY: ends the process at once.
    unsafe { libc::_exit(77) }
}

/// Touches a page beyond the end of a file: a SIGBUS that no arena causes.
fn touch_beyond_a_file() {
    // SAFETY: the mapping is this function's own.
    unsafe {
        let file = libc::memfd_create(c"empty".as_ptr(), 0);
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        let page = libc::mmap(ptr::null_mut(), 4096, prot, libc::MAP_SHARED, file, 0);
        page.cast::<u8>().write_volatile(1);
    }
}

#[test]
fn dlclose_of_an_object_that_has_built_an_arena_is_harmless() {
    const TEST: &str = "unload::dlclose_of_an_object_that_has_built_an_arena_is_harmless";
    if child_case().is_none() {
        if path().is_none() {
            skip(TEST, "plugin", "the plugin is not here (cargo build --example plugin)");
            return;
        }
        for setup in setups(TEST) {
            for way in ["drop", "leave"] {
                let output = in_child(TEST, &format!("{setup} {way}"));
                let text = text(&output);
                assert_eq!(
                    output.status.code(),
                    Some(77),
                    "{setup} {way}: {:?} {text}",
                    output.status
                );
            }
        }
        return;
    }
    let (inline, leave) = (setup_of_child().unwrap().is_inline(), way_of_child() == "leave");
    // SAFETY: the handler ends the process.
    unsafe { libc::signal(libc::SIGBUS, on_sigbus as extern "C" fn(_) as usize) };
    // In a thread that ends: the loader keeps an object while a living thread has thread locals of it with
    // destructors.
    let object = Loaded::new(&path().unwrap());
    let plugin = plugin_of(&object);
    assert_eq!(thread::spawn(move || plugin(inline, leave)).join().unwrap(), 0);
    object.unload();
    // The library's fork hook must still be callable.
    assert_eq!(fork(|| 3).code(), Some(3));
    // Loads the same object again, and unloads it while a thread still has thread locals of it.
    let again = Loaded::new(&path().unwrap());
    assert_eq!(plugin_of(&again) as usize, plugin as usize);
    let (unloaded, until_unloaded) = mpsc::channel();
    let (worked, has_worked) = mpsc::channel();
    let thread = thread::spawn(move || {
        worked.send(plugin(inline, false)).unwrap();
        until_unloaded.recv().unwrap();
    });
    assert_eq!(has_worked.recv(), Ok(0));
    again.unload();
    unloaded.send(()).unwrap();
    thread.join().unwrap();
    // The SIGBUS handler is still the object's, and passes the signal on.
    touch_beyond_a_file();
    unreachable!("SIGBUS did not end the process");
}
