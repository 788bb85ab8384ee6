//! Snapshots: checkpoints of the state with a signed list of what is in them.
//!
//! A snapshot is a folder with the files of a RocksDB checkpoint and a file `manifest`, which says
//! whose state it is, which entry it ends with, and the SHA-256 of every chunk of every file. A data
//! node signs the manifest; a node without keys (the witness) keeps and hands on manifest and files
//! as they are. Nothing of a snapshot is opened by RocksDB before the signature and all checksums
//! were verified ([`crate::StateDb::install`]).
//!
//! A snapshot gets its name, the number of its last entry, by a rename after everything in it was
//! synced. The last [`KEPT`] are kept; one that is still being read goes when the reader is done.
//!
//! SST files are hard links that the state and its snapshots share, so a snapshot costs little and
//! protects against a torn write, not against a bad sector: that is noticed by its checksum, and the
//! node takes a snapshot from a peer.

mod build;
mod chunks;
mod manifest;
mod receive;
mod store;

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use twinkeep_core::state::Fault;

pub use self::chunks::Chunks;
pub use self::manifest::{CHUNK_BYTES, InvalidManifest, Manifest, Signed};
pub use self::receive::Receiver;
pub use self::store::{KEPT, SnapshotStore};

use crate::disk::DiskError;
use crate::state;

/// The name of the signed manifest in a snapshot's folder.
const MANIFEST_FILE: &str = "manifest";

/// Why a snapshot was not taken, kept or used.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The manifest is not one.
    #[error("the manifest is refused")]
    Manifest(#[from] InvalidManifest),
    /// The signature is not that of a node that may sign.
    #[error("the signature of snapshot {name} is refused")]
    Signature {
        /// The snapshot.
        name: String,
        /// What the judge of the signature says.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// A file of the snapshot is not what the manifest says.
    #[error("snapshot {name} is torn: chunk {chunk} ({file}) is not what was signed")]
    Torn {
        /// The snapshot.
        name: String,
        /// The file.
        file: String,
        /// The chunk, counted through all files.
        chunk: u64,
    },
    /// A chunk came out of turn.
    #[error("chunk {found} came where chunk {expected} belongs")]
    OutOfTurn {
        /// The chunk that is next.
        expected: u64,
        /// The one that came.
        found: u64,
    },
    /// The state is empty: there is nothing to take a snapshot of.
    #[error("nothing was applied yet")]
    Empty,
    /// Signing the manifest failed.
    #[error("the manifest could not be signed")]
    Signing(#[source] Box<dyn Error + Send + Sync>),
    /// RocksDB could not write the checkpoint.
    #[error("rocksdb could not write a checkpoint")]
    Checkpoint(#[from] rocksdb::Error),
    /// The checkpoint cannot be opened.
    #[error("the checkpoint cannot be opened")]
    Open(#[from] state::OpenError),
    /// The checkpoint cannot be read.
    #[error("the checkpoint cannot be read")]
    Read(#[from] Fault),
    /// A file operation failed.
    #[error("a file of the snapshot is not usable")]
    Disk(#[from] DiskError),
}

/// A snapshot on this disk.
pub struct Snapshot {
    folder: PathBuf,
    manifest: Manifest,
    signed: Signed,
    /// Newer ones have taken its place; the folder goes with the last user.
    retired: AtomicBool,
}

impl Snapshot {
    /// Returns what the snapshot holds. Trust it after [`Self::authenticate`] alone.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Returns the manifest as it was signed, to be handed on verbatim.
    #[must_use]
    pub fn signed(&self) -> &Signed {
        &self.signed
    }

    /// Has the signature judged.
    ///
    /// # Errors
    /// [`SnapshotError::Signature`] with what `verify` says.
    pub fn authenticate<E>(
        &self,
        verify: impl FnOnce(&Manifest, &[u8], &[u8]) -> Result<(), E>,
    ) -> Result<(), SnapshotError>
    where
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        self.signed.authenticate(&self.manifest, verify)
    }

    /// Reads every file and compares it with the manifest.
    ///
    /// # Errors
    /// [`SnapshotError::Torn`] names the first file that differs.
    pub fn verify(&self) -> Result<(), SnapshotError> {
        Chunks::of(self, 0).try_for_each(|chunk| chunk.map(drop))
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    fn retire(&self) {
        self.retired.store(true, Ordering::Release);
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        if self.retired.load(Ordering::Acquire)
            && let Err(error) = fs::remove_dir_all(&self.folder)
        {
            tracing::warn!(%error, folder = %self.folder.display(), "an old snapshot is left behind");
        }
    }
}

#[cfg(test)]
mod tests;
