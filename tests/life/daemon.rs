//! A process that continues as its own child, as a daemon does.

use super::common::child::{in_child, text};
use super::common::pages::{Pages, evict};
use super::common::{quiet, setups};
use super::{busy, setup_of_child, way_of_child};
use std::alloc::Layout;
use std::io::Write;
use thermocline::ArenaError;

extern "C" fn at_exit() {
    let _ = std::io::stdout().write_all(b"the exit handlers ran\n");
}

/// Continues in a child, and ends the parent as `daemon(3)` does.
fn continue_in_child() {
    // SAFETY: the child has this thread only; the parent ends at once.
    unsafe {
        match libc::fork() {
            -1 => panic!("{}", std::io::Error::last_os_error()),
            0 => assert!(
                libc::setsid() > 0
                    || std::io::Error::last_os_error().raw_os_error() == Some(libc::EPERM)
            ),
            _ => libc::_exit(0),
        }
    }
}

#[test]
fn a_daemon_has_arenas_of_its_own() {
    const TEST: &str = "daemon::a_daemon_has_arenas_of_its_own";
    if let Some(setup) = setup_of_child() {
        let (busy, _) = busy(setup);
        let idle = quiet(setup).build().unwrap();
        // SAFETY: a function that may be called at the end of the process.
        unsafe { libc::atexit(at_exit) };
        continue_in_child();
        if way_of_child() == "twice" {
            // In a grandchild the arenas of the parent and of the child are refused in the same way.
            let own = quiet(setup).build().unwrap();
            continue_in_child();
            assert_eq!(own.evict_now(), Err(ArenaError::ForkedChild));
        }
        for old in [busy, &idle] {
            assert!(old.allocate(Layout::new::<[u64; 100]>()).is_err());
            assert_eq!(old.evict_now(), Err(ArenaError::ForkedChild));
            assert_eq!(old.stop(), Err(ArenaError::ForkedChild));
            assert!(old.check().is_err());
            old.trim();
            assert_eq!(old.stats(), thermocline::Stats::default());
        }
        drop(idle);
        let arena = quiet(setup).build().unwrap();
        let pages = Pages::filled(&arena, 100);
        evict(&arena, 100);
        pages.verify();
        println!("the daemon is well");
        // Ends while an arena is at work.
        std::process::exit(0);
    }
    for setup in setups(TEST) {
        for way in ["once", "twice"] {
            // The output ends when the daemon ends.
            let output = in_child(TEST, &format!("{setup} {way}"));
            let text = text(&output);
            assert!(output.status.success(), "{setup}: {:?} {text}", output.status);
            assert!(text.contains("the daemon is well"), "{setup} {way}: {text}");
            assert!(text.contains("the exit handlers ran"), "{setup} {way}: {text}");
        }
    }
}
