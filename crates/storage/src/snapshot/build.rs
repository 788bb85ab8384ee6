//! Takes a snapshot of the state.

use std::error::Error;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use super::manifest::{self, CHUNK_BYTES, Manifest, Origin, Signed};
use super::{Snapshot, SnapshotError, SnapshotStore};
use crate::disk::{self, At, DiskError};
use crate::identity::Identity;
use crate::state::{Applied, StateDb, Store};

impl SnapshotStore {
    /// Takes a snapshot of the state and has its manifest signed. Memory: one chunk.
    ///
    /// Entries may be applied meanwhile. What the snapshot ends with is read from the checkpoint
    /// itself, so data and number are from one point in time.
    ///
    /// # Errors
    /// [`SnapshotError::Empty`] before anything was applied, [`SnapshotError::Signing`] with what
    /// `sign` says, others when RocksDB or the disk fails. Nothing is left behind then.
    pub fn build<E>(
        &self,
        state: &StateDb,
        node: Identity,
        cluster_version: u32,
        sign: impl FnOnce(&[u8]) -> Result<Vec<u8>, E>,
    ) -> Result<Arc<Snapshot>, SnapshotError>
    where
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        let work = self.workplace()?;
        // RocksDB makes the folder of a checkpoint itself.
        let folder = work.path().join("checkpoint");
        state.checkpoint(&folder)?;
        let applied = last_applied(&folder)?.ok_or(SnapshotError::Empty)?;
        let files = list(&folder)?;
        let Identity { cluster, node } = node;
        let origin = Origin { cluster, node, cluster_version, applied };
        let manifest = Manifest::new(origin, files);
        let bytes = manifest.encode();
        let signature = sign(&bytes).map_err(|e| SnapshotError::Signing(e.into()))?;
        self.adopt(&folder, manifest, Signed::new(bytes, signature))
    }
}

fn last_applied(folder: &Path) -> Result<Option<Applied>, SnapshotError> {
    Ok(Store::look(folder)?.applied()?)
}

/// Syncs and hashes the files that belong into a snapshot; removes the others.
fn list(folder: &Path) -> Result<Vec<manifest::File>, DiskError> {
    let mut files = Vec::new();
    for name in disk::names(folder)? {
        let path = folder.join(&name);
        if manifest::is_checkpoint_file(&name) {
            files.push(hash(name, &path)?);
            disk::sync_file(&path)?;
        } else {
            fs::remove_file(&path).at("remove", &path)?;
        }
    }
    Ok(files)
}

fn hash(name: String, path: &Path) -> Result<manifest::File, DiskError> {
    let mut file = File::open(path).at("open", path)?;
    let mut chunk = Vec::with_capacity(CHUNK_BYTES);
    let (mut bytes, mut digests) = (0, Vec::new());
    loop {
        chunk.clear();
        let read = (&mut file).take(CHUNK_BYTES as u64).read_to_end(&mut chunk).at("read", path)?;
        if read == 0 {
            return Ok(manifest::File { name, bytes, digests });
        }
        bytes += read as u64;
        digests.extend_from_slice(manifest::digest_of(&chunk).as_ref());
    }
}
