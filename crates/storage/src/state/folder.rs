//! Which of the folders below a state's root is in use.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use super::OpenError;
use crate::disk::{self, At, DiskError};
use crate::identity::Identity;
use crate::record;

const NODE: &str = "node";
const ACTIVE: &str = "active";

/// The root of a state.
pub(super) struct Folder {
    root: PathBuf,
    pub(super) identity: Identity,
}

impl Folder {
    /// Checks whose folder it is; stamps a new one.
    pub(super) fn open(root: &Path, identity: Identity) -> Result<Self, OpenError> {
        let node = root.join(NODE);
        match disk::read_if_there(&node)? {
            Some(stamp) => {
                let stamp = record::unframe("identity stamp", NODE.as_bytes(), &stamp)?;
                identity.expect(Identity::decode(NODE.as_bytes(), stamp)?)?;
            }
            None if disk::names(root)?.iter().any(|name| name != "node.new") => {
                return Err(OpenError::Missing(node));
            }
            None => disk::replace(&node, &record::frame(NODE.as_bytes(), &identity.encode()))?,
        }
        Ok(Self { root: root.to_owned(), identity })
    }

    /// Returns the folder in use; the first one for a new state.
    pub(super) fn active(&self) -> Result<PathBuf, OpenError> {
        let active = self.root.join(ACTIVE);
        if let Some(name) = disk::read_if_there(&active)? {
            let name = record::unframe("name of the active folder", ACTIVE.as_bytes(), &name)?;
            return Ok(self.root.join(String::from_utf8_lossy(name).as_ref()));
        }
        if disk::names(&self.root)?.iter().any(|name| number(name).is_some()) {
            return Err(OpenError::Missing(active));
        }
        // Named before it is made: a crash between leaves a name without a folder, which is an
        // empty state and not a lost one.
        let first = self.root.join(name(1));
        self.activate(&first)?;
        Ok(first)
    }

    /// Puts a folder into use, durably and at once.
    pub(super) fn activate(&self, folder: &Path) -> Result<(), DiskError> {
        let name = folder.file_name().expect("a folder below the root").as_encoded_bytes();
        disk::replace(&self.root.join(ACTIVE), &record::frame(ACTIVE.as_bytes(), name))
    }

    /// Returns the path of a folder that is not there yet.
    pub(super) fn next(&self) -> Result<PathBuf, DiskError> {
        let last = disk::names(&self.root)?.iter().filter_map(|name| number(name)).max();
        Ok(self.root.join(name(last.unwrap_or(0) + 1)))
    }

    /// Removes what a crash left: folders that are not in use.
    pub(super) fn remove_others(&self) -> Result<(), OpenError> {
        let active = self.active()?;
        for name in disk::names(&self.root)? {
            let folder = self.root.join(&name);
            if number(&name).is_some() && folder != active {
                fs::remove_dir_all(&folder).at("remove", &folder)?;
            }
        }
        Ok(())
    }
}

fn name(number: u32) -> String {
    format!("db-{number:08}")
}

fn number(name: &str) -> Option<u32> {
    name.strip_prefix("db-")?.parse().ok()
}

/// Removes a folder when dropped, if it was retired.
pub(super) struct RemoveLater {
    folder: PathBuf,
    retired: AtomicBool,
}

impl RemoveLater {
    pub(super) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), retired: AtomicBool::new(false) }
    }

    pub(super) fn retire(&self) {
        self.retired.store(true, Ordering::Release);
    }
}

impl Drop for RemoveLater {
    fn drop(&mut self) {
        if self.retired.load(Ordering::Acquire)
            && let Err(error) = fs::remove_dir_all(&self.folder)
        {
            // The next start removes it.
            tracing::warn!(%error, folder = %self.folder.display(), "an old state is left behind");
        }
    }
}
