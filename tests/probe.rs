//! `probe` against the known features of a kernel.

#![allow(missing_docs)]

mod common;

use common::expected;
use thermocline::{Arena, CapabilityStatus, Swapping, Tracker};

/// `scripts/boot` sets the features that each kernel must and must not have.
#[test]
fn the_probe_finds_the_expected_features() {
    let probe = thermocline::probe();
    println!("{probe}");
    let present = |name: &str| {
        let all = probe.capabilities();
        all.iter().find(|c| c.name() == name).unwrap_or_else(|| panic!("{name}?")).is_present()
    };
    let known = [
        ("rwp", "read-write protection"),
        ("rwp", "PAGE_IS_ACCESSED"),
        ("pagemap_scan", "PAGEMAP_SCAN"),
        ("poison", "UFFDIO_POISON"),
        ("move", "UFFDIO_MOVE"),
        ("accessed_bits", "accessed bits"),
    ];
    for (short, name) in known {
        if let Some(wanted) = expected(short) {
            assert_eq!(present(name), wanted, "{name}:\n{probe}");
        }
    }
    let private = [
        ("private-rwp", probe.can_rwp_private()),
        ("private-accessed", probe.can_accessed_private()),
    ];
    for (name, works) in private {
        if let Some(wanted) = expected(name) {
            assert_eq!(works, wanted, "{name}:\n{probe}");
        }
    }
    if std::env::var("THERMOCLINE_EXPECT").is_err() {
        common::skip("the_probe_finds_the_expected_features", "", "THERMOCLINE_EXPECT is not set");
    }
}

#[test]
fn every_missing_capability_has_a_reason_and_a_remedy() {
    for capability in thermocline::probe().capabilities() {
        match capability.status() {
            CapabilityStatus::Missing { reason, remedy } => {
                assert!(!reason.is_empty() && !remedy.is_empty(), "{capability}");
            }
            CapabilityStatus::Present { how } => assert!(!how.is_empty(), "{capability}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn the_default_tracker_is_rwp_where_the_kernel_has_it() {
    let probe = thermocline::probe();
    if !probe.can_swap() {
        common::skip(
            "the_default_tracker_is_rwp_where_the_kernel_has_it",
            "userfaultfd",
            "no tracker works here",
        );
        return;
    }
    let best = if probe.can_rwp() { Tracker::Rwp } else { Tracker::Zap };
    if let Some(rwp) = expected("rwp") {
        assert_eq!(best == Tracker::Rwp, rwp, "{probe}");
    }
    let arena = Arena::builder().build().unwrap();
    assert_eq!(arena.swapping(), Swapping::On(best));
    assert_eq!(arena.route(), probe.route());
}

/// Without privileges a userfaultfd serves only faults of user code, and `route` says so.
#[test]
fn the_route_fits_the_privileges() {
    let probe = thermocline::probe();
    let Some(route) = probe.route() else {
        common::skip("the_route_fits_the_privileges", "userfaultfd", "there is no userfaultfd");
        return;
    };
    let owner =
        std::fs::metadata("/proc/self").map(|meta| std::os::unix::fs::MetadataExt::uid(&meta));
    let sysctl = std::fs::read_to_string("/proc/sys/vm/unprivileged_userfaultfd");
    if owner.is_ok_and(|uid| uid == 0) {
        assert!(route.serves_system_calls(), "{route}");
    } else if sysctl.is_ok_and(|text| text.trim() == "0") {
        let device = std::fs::File::options().read(true).write(true).open("/dev/userfaultfd");
        assert_eq!(route.serves_system_calls(), device.is_ok(), "{route}");
    }
}
