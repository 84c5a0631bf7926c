//! The object that contains the library, and that tests load: `tests/life/plugin.rs`.
//!
//! It is an example by its kind, which `cargo test` builds too, and lies beside the test programs.

#![allow(dead_code, unsafe_code, reason = "each test program uses a part of it")]

use core::ffi::{CStr, c_void};
use std::ffi::CString;
use std::path::{Path, PathBuf};

/// Where it lies, if it was built.
pub fn path() -> Option<PathBuf> {
    let exe = std::env::current_exe().unwrap();
    let path = exe.parent()?.parent()?.join("examples/libplugin.so");
    path.exists().then_some(path)
}

/// The object, loaded once more than before.
#[derive(Debug)]
pub struct Loaded(*mut c_void);

impl Loaded {
    /// Loads a file with the object. Each file is a copy of its own, with its own statics.
    pub fn new(path: &Path) -> Self {
        let path = CString::new(path.to_str().unwrap()).unwrap();
        // SAFETY: a path; the object's constructors are those of Rust's standard library.
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
        // SAFETY: loaded once, and nothing of it is called any more but what it left behind itself.
        assert_eq!(unsafe { libc::dlclose(self.0) }, 0);
    }
}
