//! The directory of a log, opened once.
//!
//! Everything below it is reached through that descriptor, with names that this crate makes, and
//! never through a symbolic link: whoever can rename a directory above it, or plant a link in it,
//! cannot make the log write elsewhere. No name or path comes from a caller.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use crate::segment;

/// Files of a log that hold no records yet.
const SPARE_PREFIX: &str = "spare-";

/// The names in a log's directory.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Listing {
    /// Numbers of the segments, ascending.
    pub(crate) segments: Vec<u64>,
    /// Names of spare files, ascending.
    pub(crate) spares: Vec<String>,
    /// Names that are no log's.
    pub(crate) strangers: Vec<String>,
}

/// An open directory.
#[derive(Debug)]
pub(crate) struct Directory {
    fd: OwnedFd,
}

impl Directory {
    /// Opens a directory; the last part of the path may not be a symbolic link.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(CWD, path, flags, Mode::empty())?;
        Ok(Self { fd })
    }

    /// Makes the directory for its owner alone if it is missing, and opens it.
    pub(crate) fn open_or_create(path: &Path) -> io::Result<Self> {
        match rustix::fs::mkdirat(CWD, path, Mode::RWXU) {
            Ok(()) => sync_parent(path)?,
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
        Self::open(path)
    }

    /// Opens the same directory once more, apart from this descriptor's lock.
    pub(crate) fn reopen(&self) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self { fd: rustix::fs::openat(&self.fd, ".", flags, Mode::empty())? })
    }

    /// Returns the permission bits.
    pub(crate) fn mode(&self) -> io::Result<u32> {
        Ok(rustix::fs::fstat(&self.fd)?.st_mode & 0o7777)
    }

    /// Locks the directory against a second log; `false` if another holds it. The lock ends with the
    /// descriptor.
    pub(crate) fn try_lock(&self) -> io::Result<bool> {
        self.flock(FlockOperation::NonBlockingLockExclusive)
    }

    /// Tells whether a log has the directory locked. For an instant that keeps a log from locking it.
    pub(crate) fn is_locked(&self) -> io::Result<bool> {
        Ok(!self.reopen()?.flock(FlockOperation::NonBlockingLockShared)?)
    }

    fn flock(&self, operation: FlockOperation) -> io::Result<bool> {
        match rustix::fs::flock(&self.fd, operation) {
            Ok(()) => Ok(true),
            Err(Errno::WOULDBLOCK) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Returns the names in the directory.
    pub(crate) fn list(&self) -> io::Result<Listing> {
        let mut listing = Listing::default();
        for entry in Dir::read_from(&self.fd)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            match segment::number_of(&name) {
                _ if name == "." || name == ".." => {}
                Some(number) => listing.segments.push(number),
                None if name.starts_with(SPARE_PREFIX) => listing.spares.push(name),
                None => listing.strangers.push(name),
            }
        }
        listing.segments.sort_unstable();
        listing.spares.sort_unstable();
        listing.strangers.sort_unstable();
        Ok(listing)
    }

    /// Opens a file to read.
    pub(crate) fn read(&self, name: &str) -> io::Result<File> {
        self.file(name, OFlags::RDONLY)
    }

    /// Opens a file to read and write.
    pub(crate) fn write(&self, name: &str) -> io::Result<File> {
        self.file(name, OFlags::RDWR)
    }

    /// Makes a file that must not exist, for its owner alone.
    pub(crate) fn create(&self, name: &str) -> io::Result<File> {
        self.file(name, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL)
    }

    fn file(&self, name: &str, flags: OFlags) -> io::Result<File> {
        // Without NONBLOCK a planted pipe would hold the node's start for ever.
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = File::from(rustix::fs::openat(&self.fd, name, flags, Mode::RUSR | Mode::WUSR)?);
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{name} is not a file"),
            ));
        }
        Ok(file)
    }

    /// Reads a whole file of at most `bytes_max` bytes.
    pub(crate) fn contents(&self, name: &str, bytes_max: u64) -> io::Result<Vec<u8>> {
        let file = self.read(name)?;
        let size = file.metadata()?.size();
        if size > bytes_max {
            let text = format!("{name} has {size} bytes, more than any segment ({bytes_max})");
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
        }
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
        file.take(bytes_max).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Renames a file. The new name must be free.
    pub(crate) fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let flags = rustix::fs::RenameFlags::NOREPLACE;
        Ok(rustix::fs::renameat_with(&self.fd, from, &self.fd, to, flags)?)
    }

    /// Removes a file.
    pub(crate) fn remove(&self, name: &str) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.fd, name, AtFlags::empty())?)
    }

    /// Returns once the names in the directory are on the disk.
    pub(crate) fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::fsync(&self.fd)?)
    }
}

/// Returns the name of the n-th spare file.
pub(crate) fn spare_name(n: u64) -> String {
    format!("{SPARE_PREFIX}{n:020}")
}

fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(parent)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn directory_and_files_are_made_for_their_owner_alone() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("audit");
        let directory = Directory::open_or_create(&path).unwrap();
        let file = directory.create("segment-00000000000000000001").unwrap();
        assert_eq!(directory.mode().unwrap(), 0o700);
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o7777, 0o600);
        assert!(directory.create("segment-00000000000000000001").is_err());
    }

    #[test]
    fn links_and_pipes_are_not_opened() {
        let root = tempfile::tempdir().unwrap();
        let victim = root.path().join("victim");
        std::fs::write(&victim, "untouched").unwrap();
        let path = root.path().join("audit");
        let directory = Directory::open_or_create(&path).unwrap();
        symlink(&victim, path.join("segment-00000000000000000001")).unwrap();
        rustix::fs::mknodat(CWD, path.join("pipe"), rustix::fs::FileType::Fifo, Mode::RWXU, 0)
            .unwrap();
        assert!(directory.write("segment-00000000000000000001").is_err());
        assert!(directory.read("segment-00000000000000000001").is_err());
        assert!(directory.create("segment-00000000000000000001").is_err());
        assert!(directory.read("pipe").is_err());

        symlink(&path, root.path().join("link")).unwrap();
        assert!(Directory::open_or_create(&root.path().join("link")).is_err());
    }

    #[test]
    fn directory_moved_away_is_still_the_one_opened() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("audit");
        let directory = Directory::open_or_create(&path).unwrap();
        std::fs::rename(&path, root.path().join("moved")).unwrap();
        std::fs::create_dir(&path).unwrap();
        directory.create("spare-1").unwrap();
        assert!(root.path().join("moved/spare-1").exists());
    }

    #[test]
    fn names_are_sorted_by_what_they_are() {
        let root = tempfile::tempdir().unwrap();
        let directory = Directory::open(root.path()).unwrap();
        for name in [segment::file_name(10), segment::file_name(9), spare_name(1), "notes".into()] {
            directory.create(&name).unwrap();
        }
        let listing = directory.list().unwrap();
        assert_eq!(listing.segments, [9, 10]);
        assert_eq!(
            (listing.spares, listing.strangers),
            (vec![spare_name(1)], vec!["notes".into()])
        );
    }

    #[test]
    fn second_lock_is_refused_until_the_first_ends() {
        let root = tempfile::tempdir().unwrap();
        let first = Directory::open(root.path()).unwrap();
        let second = Directory::open(root.path()).unwrap();
        assert!(!second.is_locked().unwrap());
        assert!(first.try_lock().unwrap());
        assert!(!second.try_lock().unwrap());
        assert!(second.is_locked().unwrap());
        drop(first);
        assert!(second.try_lock().unwrap());
    }

    #[test]
    fn file_over_the_limit_is_not_read() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("spare-1"), [0; 101]).unwrap();
        let directory = Directory::open(root.path()).unwrap();
        assert_eq!(directory.contents("spare-1", 101).unwrap().len(), 101);
        let refused = directory.contents("spare-1", 100).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::FileTooLarge);
    }
}
