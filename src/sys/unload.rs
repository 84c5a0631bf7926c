//! Keeping the code where it is, when the object that it is a part of is to be unloaded.

#![allow(unsafe_code)]

/// Sees to it that `dlclose(3)` leaves the object that this code is a part of in memory, for ever.
///
/// A plugin that has built an arena leaves addresses of its code with the process: the handler for
/// SIGBUS, which others may have saved as the one to call after theirs, the hook for fork, destructors
/// of threads' variables, and threads, if an arena is never dropped. The program itself is never
/// unloaded, and neither is anything that was linked statically.
pub(crate) fn stay() {
    #[cfg(not(target_feature = "crt-static"))]
    dynamic::stay();
}

#[cfg(not(target_feature = "crt-static"))]
mod dynamic {
    use core::ffi::{c_int, c_void};
    use core::mem::MaybeUninit;

    pub(super) fn stay() {
        let ours = stay as fn() as *const c_void;
        if is_in_program(ours.addr()) {
            return;
        }
        let mut info = MaybeUninit::<libc::Dl_info>::zeroed();
        // SAFETY: any address may be asked about; the call writes the struct if it finds one.
        if unsafe { libc::dladdr(ours, info.as_mut_ptr()) } == 0 {
            return;
        }
        // SAFETY: pointers and integers, zeros before the call.
        let name = unsafe { info.assume_init() }.dli_fname;
        // NOLOAD: it is there already, which only its flag is to change. The loader knows it by the name
        // that it has told, whatever has become of the file.
        let flags = libc::RTLD_LAZY | libc::RTLD_NOLOAD | libc::RTLD_NODELETE;
        // SAFETY: a C string of the loader's. The handle is never closed, which is the second reason for
        // the object to stay.
        unsafe { libc::dlopen(name, flags) };
    }

    /// Whether the address lies in the program, rather than in an object that was loaded with or after it.
    fn is_in_program(address: usize) -> bool {
        struct Question {
            address: usize,
            answer: bool,
        }
        unsafe extern "C" fn first(
            object: *mut libc::dl_phdr_info,
            _: libc::size_t,
            question: *mut c_void,
        ) -> c_int {
            // SAFETY: the loader passes what it was given, and an object whose headers are there for the
            // time of the call.
            let (object, question) = unsafe { (&*object, &mut *question.cast::<Question>()) };
            // SAFETY: as above.
            let headers =
                unsafe { core::slice::from_raw_parts(object.dlpi_phdr, object.dlpi_phnum.into()) };
            question.answer =
                headers.iter().filter(|header| header.p_type == libc::PT_LOAD).any(|header| {
                    let start = object.dlpi_addr.wrapping_add(header.p_vaddr);
                    (question.address as u64).wrapping_sub(start) < header.p_memsz
                });
            // The program comes first, and no other is looked at.
            1
        }
        let mut question = Question { address, answer: false };
        // SAFETY: the function takes what it is passed for what it is, and keeps none of it.
        unsafe { libc::dl_iterate_phdr(Some(first), (&raw mut question).cast()) };
        question.answer
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn this_program_is_the_program_and_its_c_library_is_not() {
            assert!(is_in_program((stay as fn() as *const c_void).addr()));
            assert!(!is_in_program((libc::dladdr as *const c_void).addr()));
            stay();
        }
    }
}
