//! Takes a snapshot from a peer, chunk by chunk. Memory: one chunk.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::manifest::{Manifest, Signed};
use super::store::Workplace;
use super::{Snapshot, SnapshotError, SnapshotStore};
use crate::disk::{self, At};

/// A snapshot that is arriving. Dropping it before [`Self::finish`] leaves nothing behind.
pub struct Receiver<'a> {
    store: &'a SnapshotStore,
    work: Workplace,
    manifest: Manifest,
    signed: Signed,
    next: u64,
    /// The file that the last chunk went to.
    open: Option<(String, File)>,
}

impl SnapshotStore {
    /// Begins to take a snapshot. `signed` is what the sender's [`Snapshot::signed`] encodes to;
    /// `verify` judges the signature, before any chunk is taken.
    ///
    /// # Errors
    /// [`SnapshotError::Manifest`] if it is not a manifest of this cluster,
    /// [`SnapshotError::Signature`] with what `verify` says, others when the disk fails.
    pub fn receive<E>(
        &self,
        signed: &[u8],
        verify: impl FnOnce(&Manifest, &[u8], &[u8]) -> Result<(), E>,
    ) -> Result<Receiver<'_>, SnapshotError>
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (signed, manifest) = Signed::decode(signed)?;
        manifest.check_cluster(self.cluster())?;
        signed.authenticate(&manifest, verify)?;
        let work = self.workplace()?;
        for name in manifest.files() {
            // Files without a byte have no chunk, and RocksDB wants to find them.
            let path = work.path().join(name);
            File::create(&path).and_then(|file| file.sync_all()).at("create", &path)?;
        }
        Ok(Receiver { store: self, work, manifest, signed, next: 0, open: None })
    }
}

impl Receiver<'_> {
    /// Returns what is arriving.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Returns the number of the chunk that is next; an interrupted transfer goes on there.
    #[must_use]
    pub fn next_chunk(&self) -> u64 {
        self.next
    }

    /// Takes the next chunk.
    ///
    /// # Errors
    /// [`SnapshotError::OutOfTurn`] for another chunk, [`SnapshotError::Torn`] for one that is not
    /// what was signed. The right one can still follow.
    pub fn accept(&mut self, number: u64, chunk: &[u8]) -> Result<(), SnapshotError> {
        let at = self.manifest.chunk(number).filter(|_| number == self.next);
        let Some(at) = at else {
            return Err(SnapshotError::OutOfTurn { expected: self.next, found: number });
        };
        if !at.fits(chunk) {
            let name = self.signed.name(&self.manifest);
            return Err(SnapshotError::Torn { name, file: at.file.to_owned(), chunk: number });
        }
        let path = self.work.path().join(at.file);
        let file = match self.open.take() {
            Some((name, file)) if name == at.file => file,
            _ => File::options().write(true).open(&path).at("open", &path)?,
        };
        file.write_all_at(chunk, at.offset).at("write", &path)?;
        if at.ends(&self.manifest) {
            file.sync_all().at("sync", &path)?;
        } else {
            self.open = Some((at.file.to_owned(), file));
        }
        self.next += 1;
        Ok(())
    }

    /// Gives the snapshot its name, durably.
    ///
    /// # Errors
    /// [`SnapshotError::OutOfTurn`] while chunks are missing, others when the disk fails.
    pub fn finish(self) -> Result<Arc<Snapshot>, SnapshotError> {
        let (chunks, found) = (self.manifest.chunks(), self.next);
        if found != chunks {
            return Err(SnapshotError::OutOfTurn { expected: found, found: chunks });
        }
        // Every file was synced when it was complete; this is for their entries.
        disk::sync_dir(self.work.path())?;
        self.store.adopt(self.work.path(), self.manifest.clone(), self.signed.clone())
    }
}
