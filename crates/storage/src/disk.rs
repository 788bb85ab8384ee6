//! Files that are there after a power cut, or not at all.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A file operation that failed, with the path that the standard library leaves out.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}", .path.display())]
pub struct DiskError {
    /// What was tried.
    pub action: &'static str,
    /// On which path.
    pub path: PathBuf,
    /// What the system answered.
    #[source]
    pub source: io::Error,
}

/// Adds action and path to an `io::Error`.
pub(crate) trait At<T> {
    fn at(self, action: &'static str, path: &Path) -> Result<T, DiskError>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, action: &'static str, path: &Path) -> Result<T, DiskError> {
        self.map_err(|source| DiskError { action, path: path.to_owned(), source })
    }
}

/// Makes the entries of a directory durable: files made, renamed or removed in it.
pub(crate) fn sync_dir(dir: &Path) -> Result<(), DiskError> {
    File::open(dir).and_then(|dir| dir.sync_all()).at("sync", dir)
}

/// Makes the contents of a file durable.
pub(crate) fn sync_file(file: &Path) -> Result<(), DiskError> {
    File::open(file).and_then(|file| file.sync_all()).at("sync", file)
}

/// Makes a directory and those above it, with durable entries. One that is there already is fine.
pub(crate) fn make_dir(dir: &Path) -> Result<(), DiskError> {
    if dir.is_dir() {
        return Ok(());
    }
    let above = match dir.parent() {
        Some(above) if !above.as_os_str().is_empty() => above,
        _ => Path::new("."),
    };
    make_dir(above)?;
    fs::create_dir(dir).at("make", dir)?;
    sync_dir(above)
}

/// Replaces a file as a whole: after a crash it has the old contents or the new, never a mixture.
pub(crate) fn replace(path: &Path, contents: &[u8]) -> Result<(), DiskError> {
    let beside = path.with_extension("new");
    let mut file = File::create(&beside).at("create", &beside)?;
    file.write_all(contents).and_then(|()| file.sync_all()).at("write", &beside)?;
    fs::rename(&beside, path).at("rename", &beside)?;
    sync_dir(path.parent().expect("a file has a directory"))
}

/// Reads a file, or nothing if it does not exist.
pub(crate) fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>, DiskError> {
    match fs::read(path) {
        Ok(contents) => Ok(Some(contents)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e).at("read", path),
    }
}

/// Lists the names in a directory, sorted; names that are not UTF-8 are left out.
pub(crate) fn names(dir: &Path) -> Result<Vec<String>, DiskError> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).at("list", dir)? {
        if let Ok(name) = entry.at("list", dir)?.file_name().into_string() {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}
