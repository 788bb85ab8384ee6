//! Reads a snapshot chunk by chunk, each one compared with the manifest.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::{Snapshot, SnapshotError};
use crate::disk::At;

/// The chunks of a snapshot in their order. Memory: one chunk.
pub struct Chunks<'a> {
    snapshot: &'a Snapshot,
    next: u64,
    /// The file that the last chunk came from.
    open: Option<(String, File)>,
}

impl<'a> Chunks<'a> {
    pub(super) fn of(snapshot: &'a Snapshot, from: u64) -> Self {
        Self { snapshot, next: from, open: None }
    }

    fn read(&mut self, number: u64) -> Result<Vec<u8>, SnapshotError> {
        let manifest = self.snapshot.manifest();
        let at = manifest.chunk(number).expect("the iterator ends before");
        let path = self.snapshot.folder().join(at.file);
        let file = match self.open.take() {
            Some((name, file)) if name == at.file => file,
            _ => File::open(&path).at("open", &path)?,
        };
        let mut chunk = vec![0; at.len];
        let read = file.read_exact_at(&mut chunk, at.offset);
        let is_short = read.as_ref().is_err_and(|e| e.kind() == std::io::ErrorKind::UnexpectedEof);
        if is_short || !at.fits(&chunk) {
            let name = self.snapshot.signed().name(manifest);
            return Err(SnapshotError::Torn { name, file: at.file.to_owned(), chunk: number });
        }
        read.at("read", &path)?;
        self.open = Some((at.file.to_owned(), file));
        Ok(chunk)
    }
}

impl Iterator for Chunks<'_> {
    type Item = Result<Vec<u8>, SnapshotError>;

    fn next(&mut self) -> Option<Self::Item> {
        let number = self.next;
        if number >= self.snapshot.manifest().chunks() {
            return None;
        }
        self.next += 1;
        Some(self.read(number))
    }
}

impl Snapshot {
    /// Reads the chunks from number `from` on; 0 is the first. An interrupted transfer goes on with
    /// [`super::Receiver::next_chunk`].
    #[must_use]
    pub fn chunks(&self, from: u64) -> Chunks<'_> {
        Chunks::of(self, from)
    }

    /// Reads one chunk, for a sender that keeps no borrow across its waits.
    ///
    /// # Errors
    /// [`SnapshotError::Torn`] if the file is not what was signed,
    /// [`SnapshotError::OutOfTurn`] if there is no such chunk.
    pub fn chunk(&self, number: u64) -> Result<Vec<u8>, SnapshotError> {
        let expected = self.manifest().chunks();
        if number >= expected {
            return Err(SnapshotError::OutOfTurn { expected, found: number });
        }
        Chunks::of(self, number).read(number)
    }
}
