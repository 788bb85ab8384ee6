//! Replaces the state by a snapshot, as a whole.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use twinkeep_core::state::Fault;

use super::{Applied, OpenError, StateDb, Store};
use crate::disk::{self, At, DiskError};
use crate::snapshot::{Manifest, Snapshot, SnapshotError};

/// Why a snapshot was not installed. The state is the old one.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The snapshot is torn, foreign or not signed by whom it should be.
    #[error("the snapshot is refused")]
    Snapshot(#[from] SnapshotError),
    /// The files are what was signed, and the database in them is not used.
    #[error("the database of the snapshot is refused")]
    Open(#[from] OpenError),
    /// The database holds another entry than the manifest says.
    #[error("the manifest says entry {manifest}, the database of the snapshot says {found:?}")]
    OtherEntry {
        /// The last entry as signed.
        manifest: u64,
        /// The last entry as found.
        found: Option<u64>,
    },
    /// Reading the new state failed.
    #[error("the new state cannot be read")]
    Read(#[from] Fault),
    /// A file operation failed.
    #[error("the snapshot cannot be put in place")]
    Disk(#[from] DiskError),
}

impl StateDb {
    /// Replaces the state by a snapshot. `verify` judges the signature over the manifest's bytes.
    ///
    /// Signature, cluster and all checksums are verified before RocksDB opens a file. Views and
    /// transactions that are open go on with the old state; such a transaction cannot commit.
    /// Before this, call [`crate::LogDb::expect_snapshot`].
    ///
    /// # Errors
    /// Any [`InstallError`]; the state is the old one then, also after a crash.
    pub fn install<E>(
        &self,
        snapshot: &Arc<Snapshot>,
        verify: impl FnOnce(&Manifest, &[u8], &[u8]) -> Result<(), E>,
    ) -> Result<(), InstallError>
    where
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        let _one_at_a_time = self.exchange.lock();
        let cluster = self.folder.identity.cluster;
        snapshot.manifest().check_cluster(cluster)?;
        snapshot.authenticate(verify)?;
        snapshot.verify()?;

        let folder = self.folder.next()?;
        let prepared = place(snapshot, &folder)
            .map_err(InstallError::from)
            .and_then(|()| open_placed(snapshot, &folder, cluster));
        let store = match prepared {
            Ok(store) => store,
            Err(error) => {
                // What is left goes with the next start, if not now.
                fs::remove_dir_all(&folder).ok();
                return Err(error);
            }
        };
        self.folder.activate(&folder)?;
        let old = std::mem::replace(&mut *self.current.write(), Arc::new(store));
        old.folder.retire();
        Ok(())
    }
}

/// Copies or links the files of a snapshot into a new folder, durably.
fn place(snapshot: &Snapshot, folder: &Path) -> Result<(), DiskError> {
    disk::make_dir(folder)?;
    for file in snapshot.manifest().files() {
        let (from, to) = (snapshot.folder().join(file), folder.join(file));
        // SST files never change, so both folders may share one. RocksDB appends to the others.
        if !(file.ends_with(".sst") && fs::hard_link(&from, &to).is_ok()) {
            fs::copy(&from, &to).at("copy", &from)?;
            disk::sync_file(&to)?;
        }
    }
    disk::sync_dir(folder)
}

fn open_placed(
    snapshot: &Snapshot,
    folder: &Path,
    cluster: twinkeep_core::id::ClusterId,
) -> Result<Store, InstallError> {
    let store = Store::open(folder, cluster)?;
    let found = store.applied()?;
    let manifest = snapshot.manifest();
    let expected = Applied { index: manifest.index(), meta: manifest.meta().to_vec() };
    if found.as_ref() != Some(&expected) {
        let found = found.map(|found| found.index);
        return Err(InstallError::OtherEntry { manifest: expected.index, found });
    }
    Ok(store)
}
