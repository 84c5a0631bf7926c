//! The shared object that contains the library, for tests that load it: `tests/life/plugin.rs`.
//!
//! To cargo it is an example, so that `cargo test` builds it too, and puts it beside the test programs.

#![allow(dead_code, unsafe_code, reason = "each test program uses a part of it")]

use core::ffi::{CStr, c_void};
use std::ffi::CString;
use std::path::{Path, PathBuf};

/// Its path, if it was built.
pub fn path() -> Option<PathBuf> {
    let exe = std::env::current_exe().unwrap();
    let path = exe.parent()?.parent()?.join("examples/libplugin.so");
    path.exists().then_some(path)
}

/// One load of the object.
#[derive(Debug)]
pub struct Loaded(*mut c_void);

impl Loaded {
    /// Loads a file with the object. Each file has its own copy of the statics.
    pub fn new(path: &Path) -> Self {
        let path = CString::new(path.to_str().unwrap()).unwrap();
        // SAFETY: a path; the object has only the constructors of Rust's standard library.
        let object = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        assert!(!object.is_null(), "{path:?}");
        Self(object)
    }

    /// The address of a function.
    pub fn function(&self, name: &CStr) -> *mut c_void {
        // SAFETY: a loaded object, and a name.
        let function = unsafe { libc::dlsym(self.0, name.as_ptr()) };
        assert!(!function.is_null(), "{name:?}");
        function
    }

    pub fn unload(self) {
        // SAFETY: loaded once. The program calls the object no more, except where the library itself has
        // registered functions.
        assert_eq!(unsafe { libc::dlclose(self.0) }, 0);
    }
}
