//! The threads of this process.

use std::fs;

pub fn gettid() -> libc::pid_t {
    // SAFETY: takes nothing.
    unsafe { libc::gettid() }
}

/// Those that are there at the moment, and their names.
pub fn all() -> Vec<(libc::pid_t, String)> {
    let name = |task: fs::DirEntry| {
        let id = task.file_name().to_str()?.parse().ok()?;
        // A thread that has ended meanwhile has none.
        let name = fs::read_to_string(task.path().join("comm")).ok()?;
        Some((id, name.trim_end().to_owned()))
    };
    fs::read_dir("/proc/self/task").unwrap().flatten().filter_map(name).collect()
}
