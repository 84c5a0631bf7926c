//! Finding text on this machine and loading it.

use crate::library::Library;
use crate::{Trouble, progress};
use std::env;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Bytes of a document at most: a larger file becomes several, so that there is always a tenth.
const PART: usize = 64 << 10;

/// Text that all files together must have at least. Thousands of copies of less are no real input.
const LEAST: usize = 4 << 10;

/// Files to be loaded, in an order that is the same each time.
#[derive(Debug)]
pub(crate) struct Texts {
    from: String,
    files: Vec<PathBuf>,
}

impl fmt::Display for Texts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "text from {} ({} files)", self.from, self.files.len())
    }
}

impl Texts {
    /// Finds the files of `paths`, or what every machine with Rust has if there are none.
    pub(crate) fn find(paths: &[PathBuf]) -> Result<Self, Trouble> {
        if paths.is_empty() {
            let found = toolchain_documentation().or_else(crate_sources);
            let directory = found.ok_or(
                "neither the toolchain's documentation nor the sources of any crate are on this \
                 machine. Name files or directories on the command line, or run `rustup component \
                 add rust-docs`",
            )?;
            return Self::find(&[directory]);
        }
        let mut files = Vec::new();
        for path in paths {
            let kind = fs::metadata(path).map_err(|e| format!("{}: {e}", path.display()))?;
            if kind.is_dir() {
                walk(path, &mut files);
            } else {
                files.push(path.clone());
            }
        }
        let names: Vec<_> = paths.iter().map(|p| p.display().to_string()).collect();
        let from = names.join(", ");
        if files.is_empty() {
            return Err(format!("there are no files in {from}").into());
        }
        Ok(Self { from, files })
    }

    /// Loads the files until the arena has handed out `bytes`, as often as that takes.
    pub(crate) fn load(&self, library: &mut Library<'_>, bytes: usize) -> Result<(), Trouble> {
        let bar = progress::bytes(bytes);
        for copy in 1.. {
            let before = library.text_bytes();
            for path in &self.files {
                load_file(path, copy, library, bytes)?;
                let loaded = library.allocated_bytes();
                bar.set_position(loaded as u64);
                if loaded >= bytes {
                    bar.finish_and_clear();
                    return Ok(());
                }
            }
            let text = library.text_bytes() - before;
            if text < LEAST {
                return Err(format!(
                    "the files in {} have {text} bytes of text that can be read; at least {LEAST} \
                     are needed",
                    self.from
                )
                .into());
            }
        }
        Ok(())
    }
}

/// Loads a file's parts, up to `limit` bytes. What is not text, or cannot be read, is passed over.
fn load_file(
    path: &Path,
    copy: usize,
    library: &mut Library<'_>,
    limit: usize,
) -> Result<(), Trouble> {
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

/// UTF-8 without null bytes, except that the last character may be cut off.
fn is_text(bytes: &[u8]) -> bool {
    let utf8 = str::from_utf8(bytes).map_or_else(|e| e.error_len().is_none(), |_| true);
    utf8 && !bytes.contains(&0)
}

/// Adds the regular files under `directory`, sorted; symbolic links are not followed. What cannot
/// be read is left out.
fn walk(directory: &Path, files: &mut Vec<PathBuf>) {
    let mut waiting = vec![directory.to_path_buf()];
    while let Some(directory) = waiting.pop() {
        let (inner, mut found) = list(&directory).unwrap_or_default();
        files.append(&mut found);
        // The last is walked next.
        waiting.extend(inner.into_iter().rev());
    }
}

/// The directories and the regular files in `directory`, sorted.
fn list(directory: &Path) -> io::Result<(Vec<PathBuf>, Vec<PathBuf>)> {
    let (mut directories, mut files) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(directory)?.flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => directories.push(entry.path()),
            Ok(kind) if kind.is_file() => files.push(entry.path()),
            _ => {}
        }
    }
    directories.sort();
    files.sort();
    Ok((directories, files))
}

fn toolchain_documentation() -> Option<PathBuf> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).args(["--print", "sysroot"]).output();
    let sysroot = String::from_utf8(output.ok()?.stdout).ok()?;
    let html = Path::new(sysroot.trim_end()).join("share/doc/rust/html");
    html.is_dir().then_some(html)
}

/// It is there wherever this program was built, unless that was done from vendored sources.
fn crate_sources() -> Option<PathBuf> {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(env::home_dir()?.join(".cargo")))?;
    let sources = home.join("registry/src");
    sources.is_dir().then_some(sources)
}
