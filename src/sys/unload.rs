//! Keeps the library's code in memory when a program unloads the shared object that contains it.

#![allow(unsafe_code)]

/// Makes `dlclose(3)` leave the shared object with this code in memory until the process ends.
///
/// A plugin that has built an arena leaves addresses of its code in the process: the SIGBUS handler,
/// which another handler may call after its own work, the fork hook, destructors of thread-local
/// variables, and threads, if an arena is never dropped. The program itself and statically linked code
/// are never unloaded.
pub(crate) fn prevent() {
    #[cfg(not(target_feature = "crt-static"))]
    dynamic::prevent();
}

#[cfg(not(target_feature = "crt-static"))]
mod dynamic {
    use core::ffi::{c_int, c_void};
    use core::mem::MaybeUninit;

    pub(super) fn prevent() {
        let ours = prevent as fn() as *const c_void;
        if is_in_program(ours.addr()) {
            return;
        }
        let mut info = MaybeUninit::<libc::Dl_info>::zeroed();
        // SAFETY: takes any address; the call writes the struct if it finds an object.
        if unsafe { libc::dladdr(ours, info.as_mut_ptr()) } == 0 {
            return;
        }
        // SAFETY: pointers and integers, zeros before the call.
        let name = unsafe { info.assume_init() }.dli_fname;
        // NOLOAD: the object is loaded already; only its flag changes. The loader finds the object by this
        // name even if the file has been removed.
        let flags = libc::RTLD_LAZY | libc::RTLD_NOLOAD | libc::RTLD_NODELETE;
        // SAFETY: a C string of the loader. The handle is never closed, which also keeps the object in
        // memory.
        unsafe { libc::dlopen(name, flags) };
    }

    /// Whether the address lies in the program itself and not in a shared object.
    fn is_in_program(address: usize) -> bool {
        struct Search {
            address: usize,
            found: bool,
        }
        unsafe extern "C" fn first(
            object: *mut libc::dl_phdr_info,
            _: libc::size_t,
            search: *mut c_void,
        ) -> c_int {
            // SAFETY: the loader passes on the pointer that it was given, and an object whose headers stay
            // valid during the call.
            let (object, search) = unsafe { (&*object, &mut *search.cast::<Search>()) };
            // SAFETY: as above.
            let headers =
                unsafe { core::slice::from_raw_parts(object.dlpi_phdr, object.dlpi_phnum.into()) };
            search.found =
                headers.iter().filter(|header| header.p_type == libc::PT_LOAD).any(|header| {
                    let start = object.dlpi_addr.wrapping_add(header.p_vaddr);
                    (search.address as u64).wrapping_sub(start) < header.p_memsz
                });
            // The program comes first; 1 ends the iteration.
            1
        }
        let mut search = Search { address, found: false };
        // SAFETY: the function casts the pointer to the type that it has here, and keeps no pointer.
        unsafe { libc::dl_iterate_phdr(Some(first), (&raw mut search).cast()) };
        search.found
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn test_code_lies_in_the_program_and_the_c_library_does_not() {
            assert!(is_in_program((prevent as fn() as *const c_void).addr()));
            assert!(!is_in_program((libc::dladdr as *const c_void).addr()));
            prevent();
        }
    }
}
