//! The high-water mark: which write batch is known to be synced, kept beside the database.
//!
//! RocksDB cannot tell a last record that a power cut tore from one that was synced and went bad
//! later; it drops both. So each batch has a number, and once it is synced the number is written
//! here, *without* a sync of its own. The mark is thus a lower bound of what must be there: exact
//! after a crash of the process, and as of the last write-back (seconds) after a power cut.
//!
//! File `acknowledged`: two slots, written in turn, at offsets 0 and 4096 so that one torn page
//! leaves the other. Each slot is a record ([`crate::record`], key `mark`) of one number, big-endian.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::disk::{self, At, DiskError};
use crate::record;

const KEY: &[u8] = b"mark";
const SLOTS: [u64; 2] = [0, 4096];
/// A record's header and eight bytes.
const SLOT_BYTES: usize = 13;

pub(super) struct Mark {
    path: PathBuf,
    file: File,
}

impl Mark {
    /// Makes the file with the mark 0 and syncs it, entry and all.
    pub(super) fn create(path: &Path) -> Result<Self, DiskError> {
        let file = Self::options().create(true).truncate(true).open(path).at("create", path)?;
        let mark = Self { path: path.to_owned(), file };
        mark.raise(0)?;
        mark.sync()?;
        disk::sync_dir(path.parent().expect("a file has a directory"))?;
        Ok(mark)
    }

    /// Opens the file, or returns nothing if there is none.
    pub(super) fn open(path: &Path) -> Result<Option<Self>, DiskError> {
        match Self::options().open(path) {
            Ok(file) => Ok(Some(Self { path: path.to_owned(), file })),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e).at("open", path),
        }
    }

    fn options() -> OpenOptions {
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        options
    }

    /// Returns the highest batch known to be synced, or nothing if a power cut tore both slots.
    pub(super) fn read(&self) -> Result<Option<u64>, DiskError> {
        let mut highest = None;
        for offset in SLOTS {
            let mut slot = [0; SLOT_BYTES];
            match self.file.read_exact_at(&mut slot, offset) {
                Ok(()) => highest = highest.max(decode(&slot)),
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {}
                Err(e) => return Err(e).at("read", &self.path),
            }
        }
        Ok(highest)
    }

    /// Notes that the batch is synced. Not synced itself.
    pub(super) fn raise(&self, batch: u64) -> Result<(), DiskError> {
        let slot = record::frame(KEY, &batch.to_be_bytes());
        let offset = if batch.is_multiple_of(2) { SLOTS[0] } else { SLOTS[1] };
        self.file.write_all_at(&slot, offset).at("write", &self.path)
    }

    pub(super) fn sync(&self) -> Result<(), DiskError> {
        self.file.sync_data().at("sync", &self.path)
    }
}

fn decode(slot: &[u8]) -> Option<u64> {
    let payload = record::unframe("mark", KEY, slot).ok()?;
    payload.try_into().ok().map(u64::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn highest_mark_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("acknowledged");
        assert!(Mark::open(&path).unwrap().is_none());
        let mark = Mark::create(&path).unwrap();
        for batch in 1..=5 {
            mark.raise(batch).unwrap();
            assert_eq!(Mark::open(&path).unwrap().unwrap().read().unwrap(), Some(batch));
        }
    }

    #[test]
    fn torn_slot_leaves_the_one_before() {
        let dir = tempfile::tempdir().unwrap();
        let mark = Mark::create(&dir.path().join("acknowledged")).unwrap();
        mark.raise(7).unwrap();
        mark.raise(8).unwrap();
        mark.file.write_all_at(&[0xff; 4], SLOTS[0]).unwrap();
        assert_eq!(mark.read().unwrap(), Some(7));
        mark.file.write_all_at(&[0xff; 4], SLOTS[1]).unwrap();
        assert_eq!(mark.read().unwrap(), None);
    }
}
