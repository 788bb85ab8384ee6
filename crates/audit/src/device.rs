//! What a log asks of the disk, as one seam, so that tests can make it refuse.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

/// The calls that change a file. Each may be repeated after it failed, save [`Device::sync`]: the
/// kernel may have dropped what it could not write and report success the next time.
pub(crate) trait Device: Send + Sync {
    /// Makes room for `bytes` from the file's beginning, so that later writes there need none.
    fn allocate(&self, file: &File, bytes: u64) -> io::Result<()>;
    /// Writes all of `bytes` at `offset`.
    fn write(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Returns once the file's bytes are on the disk.
    fn sync(&self, file: &File) -> io::Result<()>;
}

/// The operating system's files.
pub(crate) struct Files;

/// What is written at a time where a file needs room: where the file system cannot allocate, and ahead of records.
pub(crate) static ZEROS: [u8; 256 * 1024] = [0; 256 * 1024];

impl Device for Files {
    fn allocate(&self, file: &File, bytes: u64) -> io::Result<()> {
        match fallocate(file, FallocateFlags::empty(), 0, bytes) {
            Ok(()) => Ok(()),
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => write_zeros(file, bytes),
            Err(errno) => Err(errno.into()),
        }
    }

    fn write(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        file.write_all_at(bytes, offset)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }
}

/// Makes room the slow way, behind what the file holds already.
fn write_zeros(file: &File, bytes: u64) -> io::Result<()> {
    let mut at = file.metadata()?.len();
    while at < bytes {
        let part = ZEROS.len().min(usize::try_from(bytes - at).unwrap_or(usize::MAX));
        file.write_all_at(&ZEROS[..part], at)?;
        at += part as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_are_written_behind_what_is_there() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(b"kept", 0).unwrap();
        write_zeros(&file, 1_000_000).unwrap();
        let mut bytes = vec![1; 1_000_000];
        file.read_exact_at(&mut bytes, 0).unwrap();
        assert_eq!((file.metadata().unwrap().len(), &bytes[..4]), (1_000_000, &b"kept"[..]));
        assert!(bytes[4..].iter().all(|byte| *byte == 0));
    }
}
