//! The folder with the snapshots of a node.
//!
//! `<last entry>-<tag>/` is a snapshot, `work-<n>/` one that is being taken or is arriving; what a
//! crash leaves of the latter goes at the next start.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use twinkeep_core::id::ClusterId;

use super::manifest::{Manifest, Signed};
use super::{MANIFEST_FILE, Snapshot, SnapshotError};
use crate::disk::{self, At, DiskError};

/// Snapshots that are kept: the newest, and the one before in case the newest turns out torn.
pub const KEPT: usize = 2;

const WORK_PREFIX: &str = "work-";

/// The snapshots of a node.
pub struct SnapshotStore {
    root: PathBuf,
    cluster: ClusterId,
    /// In the order of their last entries.
    kept: Mutex<Vec<Arc<Snapshot>>>,
    works: AtomicU64,
}

impl SnapshotStore {
    /// Opens the folder, or makes it. Removes unfinished work; leaves out, and names in a warning,
    /// what is torn or another cluster's.
    ///
    /// # Errors
    /// [`SnapshotError::Disk`] when the folder cannot be read.
    pub fn open(root: &Path, cluster: ClusterId) -> Result<Self, SnapshotError> {
        disk::make_dir(root)?;
        let mut kept = Vec::new();
        for name in disk::names(root)? {
            let folder = root.join(&name);
            if name.starts_with(WORK_PREFIX) {
                fs::remove_dir_all(&folder).at("remove", &folder)?;
                continue;
            }
            match load(&folder, cluster) {
                Ok(snapshot) => kept.push(Arc::new(snapshot)),
                Err(error) => {
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    tracing::warn!(%error, cause, snapshot = name, "a snapshot is left out");
                }
            }
        }
        kept.sort_by_key(|snapshot| snapshot.manifest().index());
        let store = Self {
            root: root.to_owned(),
            cluster,
            kept: Mutex::new(kept),
            works: AtomicU64::new(0),
        };
        Ok(store)
    }

    /// Returns the newest snapshot.
    #[must_use]
    pub fn latest(&self) -> Option<Arc<Snapshot>> {
        self.kept.lock().last().cloned()
    }

    /// Returns the newest snapshot that ends at `index` or before. One that has arrived and was not
    /// installed ends beyond the state.
    #[must_use]
    pub fn latest_upto(&self, index: u64) -> Option<Arc<Snapshot>> {
        let kept = self.kept.lock();
        kept.iter().rev().find(|snapshot| snapshot.manifest().index() <= index).cloned()
    }

    /// Returns the newest snapshot whose files are all as they were signed. Reads them all.
    #[must_use]
    pub fn latest_whole(&self) -> Option<Arc<Snapshot>> {
        let kept = self.kept.lock().clone();
        kept.into_iter().rev().find(|snapshot| match snapshot.verify() {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(%error, "a snapshot is passed over");
                false
            }
        })
    }

    /// Returns the snapshots that are kept, the newest last.
    #[must_use]
    pub fn kept(&self) -> Vec<Arc<Snapshot>> {
        self.kept.lock().clone()
    }

    pub(super) fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// Makes an empty folder for a snapshot that has no name yet.
    pub(super) fn workplace(&self) -> Result<Workplace, DiskError> {
        let number = self.works.fetch_add(1, Ordering::Relaxed);
        let path = self.root.join(format!("{WORK_PREFIX}{number}"));
        fs::create_dir(&path).at("make", &path)?;
        Ok(Workplace(path))
    }

    /// Gives synced files their manifest and their name, durably; lets the oldest snapshots go.
    pub(super) fn adopt(
        &self,
        files: &Path,
        manifest: Manifest,
        signed: Signed,
    ) -> Result<Arc<Snapshot>, SnapshotError> {
        let mut kept = self.kept.lock();
        let folder = self.root.join(signed.name(&manifest));
        if let Some(same) = kept.iter().find(|snapshot| snapshot.folder == folder) {
            return Ok(same.clone());
        }
        if folder.exists() {
            // A torn one that was left out at the start.
            fs::remove_dir_all(&folder).at("remove", &folder)?;
        }
        disk::replace(&files.join(MANIFEST_FILE), &signed.encode())?;
        fs::rename(files, &folder).at("rename", files)?;
        disk::sync_dir(&self.root)?;

        let snapshot =
            Arc::new(Snapshot { folder, manifest, signed, retired: AtomicBool::new(false) });
        kept.push(snapshot.clone());
        kept.sort_by_key(|snapshot| snapshot.manifest().index());
        let surplus = kept.len().saturating_sub(KEPT);
        kept.drain(..surplus).for_each(|snapshot| snapshot.retire());
        Ok(snapshot)
    }
}

/// Reads the manifest of a snapshot and looks whether its files can be what it says.
fn load(folder: &Path, cluster: ClusterId) -> Result<Snapshot, SnapshotError> {
    let path = folder.join(MANIFEST_FILE);
    let (signed, manifest) = Signed::decode(&fs::read(&path).at("read", &path)?)?;
    manifest.check_cluster(cluster)?;
    manifest.check_lengths(folder)?;
    let folder = folder.to_owned();
    Ok(Snapshot { folder, manifest, signed, retired: AtomicBool::new(false) })
}

/// A folder for unfinished work; removed when dropped, if it is still there.
pub(super) struct Workplace(PathBuf);

impl Workplace {
    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Workplace {
    fn drop(&mut self) {
        if self.0.exists()
            && let Err(error) = fs::remove_dir_all(&self.0)
        {
            tracing::warn!(%error, folder = %self.0.display(), "unfinished work is left behind");
        }
    }
}
