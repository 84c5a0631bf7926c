//! The threads of this process.

use std::fs;

pub fn gettid() -> libc::pid_t {
    // SAFETY: takes nothing.
    unsafe { libc::gettid() }
}

/// The numbers and names of the present threads.
pub fn all() -> Vec<(libc::pid_t, String)> {
    let name = |task: fs::DirEntry| {
        let id = task.file_name().to_str()?.parse().ok()?;
        // A thread that has ended has no file.
        let name = fs::read_to_string(task.path().join("comm")).ok()?;
        Some((id, name.trim_end().to_owned()))
    };
    fs::read_dir("/proc/self/task").unwrap().flatten().filter_map(name).collect()
}
