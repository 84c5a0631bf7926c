//! Finds text on this machine and loads it.

use crate::library::Library;
use crate::{BoxError, progress};
use std::env;
use std::fmt;
use std::fs::{self, File};
use std::io::Read;
use std::iter;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The most bytes of a document. A larger file becomes several documents, so that a tenth exists.
const PART: usize = 64 << 10;

/// The least text of all files together. Thousands of copies of less text are no real input.
const LEAST: usize = 4 << 10;

/// The source of the text.
#[derive(Debug)]
pub(crate) struct Texts {
    paths: Vec<PathBuf>,
}

impl fmt::Display for Texts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let paths: Vec<_> = self.paths.iter().map(|p| p.display().to_string()).collect();
        f.write_str(&paths.join(" "))
    }
}

impl Texts {
    /// Takes the files at `paths`, or, if there are none, the toolchain's documentation or crates' sources.
    pub(crate) fn find(mut paths: Vec<PathBuf>) -> Result<Self, BoxError> {
        if paths.is_empty() {
            let found = toolchain_documentation().or_else(crate_sources);
            paths = found.ok_or(
                "neither the toolchain's documentation nor the sources of any crate are on this \
                 machine. Name files or directories on the command line, or run `rustup component \
                 add rust-docs`",
            )?;
        }
        for path in &paths {
            check(path).map_err(|e| format!("{}: {e}", path.display()))?;
        }
        Ok(Self { paths })
    }

    /// Loads the files, repeatedly, until the arena has allocated `bytes`.
    pub(crate) fn load(&self, library: &mut Library<'_>, bytes: usize) -> Result<(), BoxError> {
        let bar = progress::bytes(bytes);
        for copy in 1.. {
            let before = library.text_bytes();
            for path in files(&self.paths) {
                load_file(&path, copy, library, bytes)?;
                let loaded = library.allocated_bytes() as usize;
                bar.set_position(loaded as u64);
                if loaded >= bytes {
                    bar.finish_and_clear();
                    return Ok(());
                }
            }
            let text = library.text_bytes() - before;
            if text < LEAST {
                return Err(format!(
                    "there are {text} bytes of text that can be read, and at least {LEAST} are \
                     needed, in {self}"
                )
                .into());
            }
        }
        Ok(())
    }
}

/// The user's paths must exist; the contents of a directory need not be readable.
fn check(path: &Path) -> Result<(), BoxError> {
    let kind = fs::metadata(path)?;
    if !kind.is_file() && !kind.is_dir() {
        return Err("it is neither a file nor a directory".into());
    }
    File::open(path)?;
    Ok(())
}

/// Loads a file's parts, up to `limit` bytes. Skips files that are not text or cannot be read.
fn load_file(
    path: &Path,
    copy: usize,
    library: &mut Library<'_>,
    limit: usize,
) -> Result<(), BoxError> {
    let Ok(file) = File::open(path) else {
        return Ok(());
    };
    let mut part = Vec::with_capacity(PART);
    for number in 0..=limit / PART {
        part.clear();
        let read = (&file).take(PART as u64).read_to_end(&mut part);
        if read.is_err() || part.is_empty() || (number == 0 && !is_text(&part)) {
            break;
        }
        let name = format!("{}, part {number}, copy {copy}", path.display());
        library.add(&name, &part)?;
    }
    Ok(())
}

/// UTF-8 without null bytes; the last character may be cut off.
fn is_text(bytes: &[u8]) -> bool {
    let utf8 = str::from_utf8(bytes).map_or_else(|e| e.error_len().is_none(), |_| true);
    utf8 && !bytes.contains(&0)
}

/// The files at `paths` and, sorted, in the directories there. Does not follow symbolic links in them, and
/// skips entries that cannot be read.
fn files(paths: &[PathBuf]) -> impl Iterator<Item = PathBuf> {
    // The last element is the next to visit.
    let mut waiting: Vec<PathBuf> = paths.iter().rev().cloned().collect();
    iter::from_fn(move || {
        loop {
            let path = waiting.pop()?;
            let Ok(entries) = fs::read_dir(&path) else {
                return Some(path);
            };
            let mut inner: Vec<PathBuf> = entries
                .flatten()
                .filter(|entry| entry.file_type().is_ok_and(|t| t.is_dir() || t.is_file()))
                .map(|entry| entry.path())
                .collect();
            inner.sort_by(|a, b| b.cmp(a));
            waiting.append(&mut inner);
        }
    })
}

/// The standard library's documentation, and its sources as pages of it.
fn toolchain_documentation() -> Option<Vec<PathBuf>> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).args(["--print", "sysroot"]).output();
    let sysroot = String::from_utf8(output.ok()?.stdout).ok()?;
    let html = Path::new(sysroot.trim_end()).join("share/doc/rust/html");
    let parts = ["std", "src", "alloc", "core"].map(|name| html.join(name));
    parts.iter().all(|path| path.is_dir()).then(|| parts.into())
}

/// Cargo has downloaded them to build this program, unless it was built from vendored sources.
fn crate_sources() -> Option<Vec<PathBuf>> {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(env::home_dir()?.join(".cargo")))?;
    let sources = home.join("registry/src");
    sources.is_dir().then(|| vec![sources])
}
