//! The features that this kernel offers to this process.

use super::SysError;
use super::accessed::AccessedBits;
use super::backing::PlainMemory;
use super::dumpable::is_dumpable;
use super::keeper::Keeper;
use super::outcome::Clears;
use super::pagemap::Pagemap;
use super::route::{self, OpenError};
use super::uapi::*;
use super::uffd::Uffd;
use crate::prim::in_library::InLibraryGuard;
use crate::prim::{BATCH_PAGES, PAGE_SIZE, PageRange};
use std::fmt;

pub use super::route::DescriptorRoute;

/// Tests which of the kernel's features that the library can use are present.
///
/// Opens descriptors, locks 256 KiB of memory and starts a thread, and releases all of them before it
/// returns. The result holds for this process at this time: privileges, limits and sysctls may change.
///
/// ```
/// let probe = thermocline::probe();
/// println!("{probe}");
/// for capability in probe.capabilities() {
///     if let thermocline::CapabilityStatus::Missing { reason, remedy } = capability.status() {
///         println!("no {}: {reason}. Remedy: {remedy}", capability.name());
///     }
/// }
/// ```
#[must_use]
pub fn probe() -> Probe {
    let _in_library = InLibraryGuard::enter();
    let descriptor = Uffd::supported();
    let pagemap = Pagemap::open();
    Probe {
        kernel: route::kernel_release().unwrap_or_else(|_| "unknown".to_owned()),
        features: descriptor.map_or(0, |(_, features)| features),
        descriptor: descriptor.map(|(route, _)| route),
        pagemap: pagemap.as_ref().map(|p| (p.has_scan(), p.has_accessed())).map_err(|e| *e),
        dumpable: is_dumpable(),
        lock: try_lock(),
        own_table: Keeper::start(&[]).is_ok_and(|keeper| keeper.has_own_table()),
        accessed_bits: AccessedBits::open(0..0, Clears::Files).map(drop),
    }
}

fn try_lock() -> Result<(), SysError> {
    let pages = PageRange::new(0, BATCH_PAGES);
    PlainMemory::new(pages.bytes())?.try_lock(pages)
}

/// The result of [`probe`].
#[derive(Clone, Debug)]
pub struct Probe {
    kernel: String,
    descriptor: Result<DescriptorRoute, OpenError>,
    features: u64,
    pagemap: Result<(bool, bool), SysError>,
    dumpable: bool,
    lock: Result<(), SysError>,
    own_table: bool,
    accessed_bits: Result<(), SysError>,
}

impl Probe {
    /// The kernel's release, as in `uname -r`.
    #[must_use]
    pub fn kernel(&self) -> &str {
        &self.kernel
    }

    /// How the process can open a userfaultfd, if at all.
    #[must_use]
    pub fn route(&self) -> Option<DescriptorRoute> {
        self.descriptor.ok()
    }

    /// Whether arenas can swap here, with either tracker.
    #[must_use]
    pub fn can_swap(&self) -> bool {
        self.can_zap() || self.can_rwp()
    }

    /// Whether the tracker by zapped page tables works here.
    #[must_use]
    pub fn can_zap(&self) -> bool {
        self.lacking_for_zap().is_none()
    }

    /// Whether the tracker by read-write protection works here.
    #[must_use]
    pub fn can_rwp(&self) -> bool {
        self.lacking_for_rwp().is_none()
    }

    /// Whether private memory with read-write protection works here.
    #[must_use]
    pub fn can_rwp_private(&self) -> bool {
        self.lacking_for_private_rwp().is_none()
    }

    /// Whether private memory with the tracker by accessed bits works here.
    #[must_use]
    pub fn can_accessed_private(&self) -> bool {
        self.lacking_for_private_accessed().is_none()
    }

    pub(crate) fn features(&self) -> u64 {
        self.features
    }

    pub(crate) fn open_error(&self) -> Option<OpenError> {
        self.descriptor.err()
    }

    /// The first capability that the zap tracker needs and that is missing.
    pub(crate) fn lacking_for_zap(&self) -> Option<Capability> {
        self.requires(&[Self::descriptor, Self::shared_memory, Self::write_protect, Self::pagemap])
            .err()
    }

    /// The first capability that the read-write-protection tracker needs and that is missing.
    pub(crate) fn lacking_for_rwp(&self) -> Option<Capability> {
        self.requires(&[
            Self::descriptor,
            Self::shared_memory,
            Self::read_write_protect,
            Self::accessed,
            Self::lock,
        ])
        .err()
    }

    /// The first capability that the read-write-protection tracker needs on private memory and that is missing.
    pub(crate) fn lacking_for_private_rwp(&self) -> Option<Capability> {
        self.lacking_for_private()
            .or_else(|| self.requires(&[Self::read_write_protect, Self::accessed]).err())
    }

    /// The first capability that the tracker by accessed bits needs on private memory and that is missing.
    pub(crate) fn lacking_for_private_accessed(&self) -> Option<Capability> {
        self.lacking_for_private().or_else(|| self.requires(&[Self::accessed_bits]).err())
    }

    fn lacking_for_private(&self) -> Option<Capability> {
        let needed = [
            Self::descriptor,
            Self::move_pages,
            Self::move_of_pinned_pages,
            Self::poison,
            Self::pagemap_scan,
        ];
        self.requires(&needed).err()
    }

    fn requires(&self, needed: &[fn(&Self) -> Capability]) -> Result<(), Capability> {
        match needed.iter().map(|ask| ask(self)).find(|c| !c.is_present()) {
            Some(missing) => Err(missing),
            None => Ok(()),
        }
    }

    /// Each capability that the library can use, with the reason and the remedy if it is missing.
    #[must_use]
    pub fn capabilities(&self) -> Vec<Capability> {
        vec![
            self.descriptor(),
            self.system_calls(),
            self.shared_memory(),
            self.write_protect(),
            self.read_write_protect(),
            self.poison(),
            self.move_pages(),
            self.move_of_pinned_pages(),
            self.pagemap(),
            self.pagemap_scan(),
            self.accessed(),
            self.accessed_bits(),
            self.lock(),
            self.own_table(),
        ]
    }

    fn descriptor(&self) -> Capability {
        let status = match self.descriptor {
            Ok(route) => CapabilityStatus::Present { how: route.to_string() },
            Err(OpenError { device, system_call }) => {
                let remedy = if system_call.errno() == libc::ENOSYS {
                    "run a kernel built with CONFIG_USERFAULTFD"
                } else if route::is_denied(system_call) {
                    "let the container's seccomp profile pass userfaultfd(2), or give the process \
                     read and write access to /dev/userfaultfd"
                } else {
                    "raise the limit that the call names"
                };
                CapabilityStatus::missing(format!("{device}; {system_call}"), remedy)
            }
        };
        Capability { name: "userfaultfd", status }
    }

    pub(crate) fn system_calls(&self) -> Capability {
        let status = match self.descriptor {
            Ok(route) if route.serves_system_calls() => {
                CapabilityStatus::Present { how: route.to_string() }
            }
            _ => CapabilityStatus::missing(
                "only faults of user code can be served; a system call that touches an evicted \
                 page fails with EFAULT"
                    .to_owned(),
                "give the process read and write access to /dev/userfaultfd, set the sysctl \
                 vm.unprivileged_userfaultfd to 1, or grant CAP_SYS_PTRACE",
            ),
        };
        Capability { name: "faults of system calls", status }
    }

    fn feature(&self, name: &'static str, bits: u64, first: &'static str) -> Capability {
        let status = if self.features & bits == bits {
            CapabilityStatus::Present { how: "feature bit".to_owned() }
        } else if self.descriptor.is_err() {
            CapabilityStatus::missing("no userfaultfd".to_owned(), "see userfaultfd")
        } else {
            CapabilityStatus::missing("the kernel does not offer the feature bit".to_owned(), first)
        };
        Capability { name, status }
    }

    fn shared_memory(&self) -> Capability {
        let bits = UFFD_FEATURE_MISSING_SHMEM;
        self.feature("missing faults on shared memory", bits, "Linux 4.11 or later")
    }

    fn write_protect(&self) -> Capability {
        let bits = UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_WP_HUGETLBFS_SHMEM;
        self.feature("write protection of shared memory", bits, "Linux 5.19 or later")
    }

    fn read_write_protect(&self) -> Capability {
        let bits = UFFD_FEATURE_RWP | UFFD_FEATURE_RWP_ASYNC;
        let first = "Linux 7.3 or later, built with CONFIG_USERFAULTFD_RWP; the zap tracker works \
                     without";
        self.feature("read-write protection", bits, first)
    }

    fn poison(&self) -> Capability {
        let first = "Linux 6.6 or later; an empty file mapped over the page does the same";
        self.feature("UFFDIO_POISON", UFFD_FEATURE_POISON, first)
    }

    fn move_pages(&self) -> Capability {
        let first = "Linux 6.8 or later; only private memory needs it";
        self.feature("UFFDIO_MOVE", UFFD_FEATURE_MOVE, first)
    }

    /// Whether a move of a page ends if a device has pinned the huge page in which it lies.
    ///
    /// Before Linux 6.18 the call tries again for ever (seen on 6.12): it has to split the huge page, and cannot
    /// (`move_pages`, `split_folio`). A test of it would never end, so the release decides.
    fn move_of_pinned_pages(&self) -> Capability {
        let status = if release(&self.kernel) >= (6, 18) {
            CapabilityStatus::Present { how: format!("Linux {}", self.kernel) }
        } else {
            let reason = format!("Linux {} never ends to move a pinned huge page", self.kernel);
            CapabilityStatus::missing(reason, "Linux 6.18 or later; only private memory needs it")
        };
        Capability { name: "UFFDIO_MOVE of pinned pages", status }
    }

    /// Why `/proc/self/pagemap` cannot be opened, with the remedy.
    fn without_pagemap(&self, error: SysError) -> CapabilityStatus {
        match (route::is_denied(error), self.dumpable) {
            (true, false) => CapabilityStatus::missing(
                format!("{error}: the process changed its user or group and is not dumpable since"),
                "call prctl(PR_SET_DUMPABLE, 1) after that change, or build the arena before it",
            ),
            (true, true) => CapabilityStatus::missing(
                error.to_string(),
                "let the process read /proc/self/pagemap",
            ),
            (false, _) => CapabilityStatus::missing(error.to_string(), "mount /proc"),
        }
    }

    fn pagemap(&self) -> Capability {
        let status = match self.pagemap {
            Ok(_) => CapabilityStatus::Present { how: "/proc/self/pagemap".to_owned() },
            Err(error) => self.without_pagemap(error),
        };
        Capability { name: "pagemap", status }
    }

    fn pagemap_bit(&self, name: &'static str, has: bool, remedy: &'static str) -> Capability {
        let status = match self.pagemap {
            Ok(_) if has => CapabilityStatus::Present { how: "ioctl".to_owned() },
            Ok(_) => CapabilityStatus::missing("the kernel does not know it".to_owned(), remedy),
            Err(error) => self.without_pagemap(error),
        };
        Capability { name, status }
    }

    fn pagemap_scan(&self) -> Capability {
        let remedy = "Linux 6.7 or later; the pagemap file is read instead";
        self.pagemap_bit("PAGEMAP_SCAN", self.pagemap.is_ok_and(|p| p.0), remedy)
    }

    fn accessed(&self) -> Capability {
        let remedy = "Linux 7.3 or later; only read-write protection needs it";
        self.pagemap_bit("PAGE_IS_ACCESSED", self.pagemap.is_ok_and(|p| p.1), remedy)
    }

    fn accessed_bits(&self) -> Capability {
        let status = match self.accessed_bits {
            Ok(()) => {
                CapabilityStatus::Present { how: "/proc/self/clear_refs and smaps".to_owned() }
            }
            Err(error) => CapabilityStatus::missing(
                error.to_string(),
                "let the process open these files; without them the evictor arms regions to find \
                 out whether they are in use",
            ),
        };
        Capability { name: "accessed bits", status }
    }

    fn own_table(&self) -> Capability {
        let status = if self.own_table {
            CapabilityStatus::Present { how: "close_range(2)".to_owned() }
        } else {
            CapabilityStatus::missing(
                "a thread may have no descriptor table of its own: the program must not close \
                 descriptors that it has not opened"
                    .to_owned(),
                "let the sandbox pass close_range(2) with CLOSE_RANGE_UNSHARE",
            )
        };
        Capability { name: "descriptor table", status }
    }

    fn lock(&self) -> Capability {
        let status = match self.lock {
            Ok(()) => CapabilityStatus::Present {
                how: format!("{} KiB at a time", BATCH_PAGES * PAGE_SIZE / 1024),
            },
            Err(e) => CapabilityStatus::missing(
                e.to_string(),
                "raise the limit that the call names: for mlock RLIMIT_MEMLOCK (ulimit -l), by at \
                 least 256 KiB; the zap tracker works without",
            ),
        };
        Capability { name: "locked memory", status }
    }
}

/// One line per capability.
impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Linux {}", self.kernel)?;
        for capability in self.capabilities() {
            write!(f, "\n{capability}")?;
        }
        Ok(())
    }
}

/// A feature of the kernel that the library can use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capability {
    name: &'static str,
    status: CapabilityStatus,
}

impl Capability {
    /// The feature's name, in the kernel's terms.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Whether the feature is present.
    #[must_use]
    pub const fn status(&self) -> &CapabilityStatus {
        &self.status
    }

    /// Whether the feature is present.
    #[must_use]
    pub const fn is_present(&self) -> bool {
        matches!(self.status, CapabilityStatus::Present { .. })
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.status {
            CapabilityStatus::Present { how } => write!(f, "{}: yes ({how})", self.name),
            CapabilityStatus::Missing { reason, remedy } => {
                write!(f, "{}: no ({reason}; remedy: {remedy})", self.name)
            }
        }
    }
}

/// Whether a [`Capability`] is present; if not, the reason and the remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CapabilityStatus {
    /// The feature is present.
    Present {
        /// How the kernel offers it.
        how: String,
    },
    /// The feature is missing.
    Missing {
        /// The kernel's answer.
        reason: String,
        /// What the user can change to get the feature.
        remedy: String,
    },
}

impl CapabilityStatus {
    fn missing(reason: String, remedy: &str) -> Self {
        Self::Missing { reason, remedy: remedy.to_owned() }
    }
}

/// The first two numbers of a release, as in `uname -r`; `(0, 0)` if it does not begin with them.
fn release(text: &str) -> (u32, u32) {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor),
        _ => (0, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn denied() -> Probe {
        let error = |call| SysError::new(call, libc::EPERM);
        Probe {
            kernel: "6.1.0".to_owned(),
            descriptor: Err(OpenError { device: error("open"), system_call: error("userfaultfd") }),
            features: 0,
            pagemap: Ok((false, false)),
            dumpable: true,
            lock: Ok(()),
            own_table: false,
            accessed_bits: Ok(()),
        }
    }

    #[test]
    fn a_release_begins_with_two_numbers() {
        assert_eq!(release("6.18.44-fc-v657"), (6, 18));
        assert_eq!(release("7.3.4+deb13-cloud-amd64"), (7, 3));
        for odd in ["", "6", "six.four", "6..4", ".6.4", "99999999999.1"] {
            assert_eq!(release(odd), (0, 0), "{odd}");
        }
    }

    #[test]
    fn private_memory_needs_a_kernel_that_moves_pinned_pages() {
        let of = |kernel: &str| Probe {
            kernel: kernel.to_owned(),
            descriptor: Ok(DescriptorRoute::Device),
            features: u64::MAX,
            pagemap: Ok((true, true)),
            ..denied()
        };
        assert!(of("6.18.0").can_accessed_private() && of("7.3.4").can_rwp_private());
        let old = of("6.17.9");
        assert!(!old.can_rwp_private());
        let lacking = old.lacking_for_private_accessed().unwrap();
        assert_eq!(lacking.name(), "UFFDIO_MOVE of pinned pages");
        let old_rwp = Probe { features: !UFFD_FEATURE_RWP, ..of("7.3.4") };
        assert!(old_rwp.can_accessed_private() && !old_rwp.can_rwp_private());
    }

    #[test]
    fn a_missing_capability_has_a_reason_and_a_remedy() {
        let probe = denied();
        assert!(!probe.can_swap());
        assert_eq!(probe.lacking_for_zap().unwrap().name(), "userfaultfd");
        for capability in probe.capabilities() {
            if let CapabilityStatus::Missing { reason, remedy } = capability.status() {
                assert!(!reason.is_empty() && !remedy.is_empty(), "{capability}");
            }
        }
        let text = probe.to_string();
        assert!(text.contains("seccomp"), "{text}");
        assert!(text.contains("PAGEMAP_SCAN: no"), "{text}");
    }

    #[test]
    fn the_remedy_depends_on_why_the_pagemap_is_missing() {
        let remedy = |errno, dumpable| {
            let pagemap = Err(SysError::new("open(/proc/self/pagemap)", errno));
            let probe = Probe { pagemap, dumpable, ..denied() };
            match probe.pagemap().status() {
                CapabilityStatus::Missing { remedy, .. } => remedy.clone(),
                present => panic!("{present:?}"),
            }
        };
        assert_eq!(remedy(libc::ENOENT, true), "mount /proc");
        assert_eq!(remedy(libc::ENOENT, false), "mount /proc");
        assert!(remedy(libc::EACCES, false).contains("PR_SET_DUMPABLE"));
        assert!(!remedy(libc::EACCES, true).contains("PR_SET_DUMPABLE"));
    }

    #[test]
    fn rwp_needs_its_feature_bits_its_scan_and_the_lock() {
        let whole = Probe {
            descriptor: Ok(DescriptorRoute::Device),
            features: u64::MAX,
            pagemap: Ok((true, true)),
            ..denied()
        };
        assert!(whole.can_rwp() && whole.can_zap());
        let old = Probe { features: !UFFD_FEATURE_RWP, ..whole.clone() };
        assert_eq!(old.lacking_for_rwp().unwrap().name(), "read-write protection");
        assert!(old.can_zap());
        let no_scan = Probe { pagemap: Ok((true, false)), ..whole.clone() };
        assert_eq!(no_scan.lacking_for_rwp().unwrap().name(), "PAGE_IS_ACCESSED");
        let no_lock = Probe { lock: Err(SysError::new("mlock", libc::ENOMEM)), ..whole };
        assert_eq!(no_lock.lacking_for_rwp().unwrap().name(), "locked memory");
        assert!(no_lock.can_swap());
    }
}
