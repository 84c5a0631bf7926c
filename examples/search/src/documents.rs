//! Finds documents on this machine and extracts their text.

use crate::BoxError;
use std::env;
use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::iter;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A title and a text.
#[derive(Debug)]
pub(crate) struct Document {
    pub(crate) title: String,
    pub(crate) body: String,
}

/// The source of the documents.
#[derive(Debug)]
pub(crate) struct Documents {
    paths: Vec<PathBuf>,
}

impl fmt::Display for Documents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = self.paths.first().map(|path| path.display());
        first.map_or(Ok(()), |first| write!(f, "{first}"))?;
        match self.paths.len() {
            0 | 1 => Ok(()),
            more => write!(f, " and {} more places", more - 1),
        }
    }
}

impl Documents {
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
            fs::metadata(path).map_err(|e| format!("{}: {e}", path.display()))?;
        }
        Ok(Self { paths })
    }

    /// The documents, up to `bytes` bytes of files. Skips files that are not text or cannot be read.
    pub(crate) fn read(&self, bytes: usize) -> impl Iterator<Item = Document> {
        let mut left = bytes;
        files(&self.paths)
            .map_while(move |path| {
                let text = fs::read_to_string(&path).unwrap_or_default();
                left = left.checked_sub(text.len())?;
                Some(document(&path, text))
            })
            .filter(|document| !document.body.is_empty())
    }
}

fn document(path: &Path, text: String) -> Document {
    let name = || path.display().to_string();
    if path.extension() != Some(OsStr::new("html")) {
        return Document { title: name(), body: text };
    }
    let title = text.split_once("<title>").and_then(|(_, rest)| rest.split_once("</title>"));
    Document {
        title: title.map_or_else(name, |(title, _)| unescaped(title)),
        body: stripped(&text),
    }
}

/// The text of HTML without its markup. Sufficient for generated files.
fn stripped(html: &str) -> String {
    let mut text = String::with_capacity(html.len() / 4);
    let mut rest = html.split_once("<body").map_or(html, |(_, body)| body);
    while let Some((before, tag)) = rest.split_once('<') {
        if let Some((_, words)) = before.split_once('>') {
            text.push_str(&unescaped(words));
        }
        // The contents of a script are no text.
        rest = if tag.starts_with("script") {
            tag.split_once("</script").map_or("", |(_, rest)| rest)
        } else {
            tag
        };
    }
    text
}

fn unescaped(text: &str) -> String {
    let named = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#39;", "'"), ("&amp;", "&")];
    named.iter().fold(text.to_owned(), |text, (name, character)| text.replace(name, character))
}

/// The files at `paths` and, sorted, in the directories there. Does not follow symbolic links in them, and
/// skips entries that cannot be read.
fn files(paths: &[PathBuf]) -> impl Iterator<Item = PathBuf> + use<> {
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

/// Books first, then the standard library.
fn toolchain_documentation() -> Option<Vec<PathBuf>> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).args(["--print", "sysroot"]).output();
    let sysroot = String::from_utf8(output.ok()?.stdout).ok()?;
    let html = Path::new(sysroot.trim_end()).join("share/doc/rust/html");
    let parts = ["book", "reference", "nomicon", "cargo", "rustc", "std", "alloc", "src", "core"];
    let parts: Vec<_> = parts.iter().map(|part| html.join(part)).filter(|p| p.is_dir()).collect();
    (!parts.is_empty()).then_some(parts)
}

/// Cargo has downloaded them to build this program, unless it was built from vendored sources.
fn crate_sources() -> Option<Vec<PathBuf>> {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(env::home_dir()?.join(".cargo")))?;
    let sources = home.join("registry/src");
    sources.is_dir().then(|| vec![sources])
}
