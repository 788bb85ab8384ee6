//! A file system that knows what was synced, and can lose the rest.
//!
//! Mounted by FUSE (the crate `fuser`, no libfuse), it keeps files in memory. [`CrashFs::cut_after`]
//! sets the moment at which the power goes: every change from then on fails. [`CrashFs::crash`] then
//! makes of the disk what a power cut may leave, drawn from a seed, and mounts it again.
//!
//! | what was done                     | what a crash leaves of it                                   |
//! |-----------------------------------|-------------------------------------------------------------|
//! | write, truncate + `fsync` of file | all of it                                                   |
//! | the same without `fsync`          | nothing, all, a prefix torn at any byte, or any 4 KiB pages |
//! | create, rename, remove + `fsync` of the directory | all of it                                   |
//! | the same without `fsync`          | any prefix of what was done in that directory               |
//!
//! Stricter than usual file systems in one point: `fsync` of a new file does not make its entry
//! durable, as POSIX has it. A rename within a directory is atomic; between two directories it is an
//! entry added to one and an entry removed from the other.
//!
//! Not modelled: a device that lies about a flush, and the reordering of synced data.

mod disk;
mod fuse;
mod rng;

use std::io;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use fuser::{BackgroundSession, Config, MountOption, Session};
use parking_lot::Mutex;
use tempfile::TempDir;

pub use self::rng::Rng;

use self::disk::Disk;
use self::fuse::Fuse;

/// What the mounts are called in `/proc/mounts`; the id of the process follows.
const NAME_PREFIX: &str = "twinkeep-crashfs-";

/// A mounted crash-model file system. Dropping it unmounts.
pub struct CrashFs {
    disk: Arc<Mutex<Disk>>,
    // Dropped before the folder that it is mounted on.
    session: Option<BackgroundSession>,
    folder: TempDir,
}

impl CrashFs {
    /// Mounts an empty one on a folder of its own.
    ///
    /// # Errors
    /// When `/dev/fuse` is missing or may not be used; tests then fail, unless `TWINKEEP_NO_FUSE=1` says to skip.
    pub fn mount() -> io::Result<Self> {
        sweep()?;
        let folder = tempfile::Builder::new().prefix(NAME_PREFIX).tempdir()?;
        let disk = Arc::new(Mutex::new(Disk::new()));
        let session = Some(start(&disk, folder.path())?);
        Ok(Self { disk, session, folder })
    }

    /// Returns where it is mounted; the same across crashes.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Lets the power go at the change after the next `changes`. Writes, syncs, and changes of
    /// directories count. That change and all that follow fail with `EIO`.
    pub fn cut_after(&self, changes: u64) {
        self.disk.lock().cut_after(changes);
    }

    /// Returns how many changes there were since the last crash.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.disk.lock().changes()
    }

    /// Says whether the power is gone.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.disk.lock().is_cut()
    }

    /// Loses and tears what was not synced, as `seed` says, and mounts what is left. Close all files
    /// before.
    ///
    /// # Errors
    /// When it cannot be unmounted or mounted again.
    pub fn crash(&mut self, seed: u64) -> io::Result<()> {
        self.unmount()?;
        self.disk.lock().crash(&mut Rng::new(seed));
        self.session = Some(start(&self.disk, self.folder.path())?);
        Ok(())
    }

    fn unmount(&mut self) -> io::Result<()> {
        let Some(session) = self.session.take() else { return Ok(()) };
        match session.umount_and_join() {
            // Its thread may end with an error after the mount is gone, and then there is nothing to do.
            Err(_) if is_mounted(self.folder.path())? => detach(self.folder.path()),
            _ => Ok(()),
        }
    }
}

impl Drop for CrashFs {
    fn drop(&mut self) {
        if let Err(error) = self.unmount() {
            eprintln!("{} is left mounted: {error}", self.folder.path().display());
        }
    }
}

fn start(disk: &Arc<Mutex<Disk>>, folder: &Path) -> io::Result<BackgroundSession> {
    let mut config = Config::default();
    config.mount_options = vec![
        MountOption::FSName(format!("{NAME_PREFIX}{}", std::process::id())),
        MountOption::NoDev,
        MountOption::NoSuid,
        MountOption::NoAtime,
    ];
    Session::new(Fuse::new(disk.clone()), folder, &config)?.spawn()
}

fn is_mounted(folder: &Path) -> io::Result<bool> {
    let mounts = std::fs::read_to_string("/proc/self/mounts")?;
    Ok(mounts.lines().any(|line| line.split(' ').nth(1).map(Path::new) == Some(folder)))
}

/// Takes a mount out of the tree at once, and fails what still waits for an answer: threads of a
/// killed process wait for one that the process itself should give, and keep it from ending.
fn detach(folder: &Path) -> io::Result<()> {
    let status = Command::new("umount").args(["--force", "--lazy"]).arg(folder).status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("umount: {status}"))) }
}

/// Detaches what processes that were killed left mounted.
fn sweep() -> io::Result<()> {
    for line in std::fs::read_to_string("/proc/self/mounts")?.lines() {
        let mut fields = line.split(' ');
        let (source, folder) = (fields.next().unwrap_or(""), fields.next().unwrap_or(""));
        let Some(pid) = source.strip_prefix(NAME_PREFIX) else { continue };
        if !is_running(pid) {
            detach(Path::new(folder))?;
        }
    }
    Ok(())
}

/// Says whether a process runs; a zombie does not.
fn is_running(pid: &str) -> bool {
    // After the name, which is in parentheses and may hold anything, comes the state (proc(5)).
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid).join("stat"));
    let state = stat.ok().and_then(|stat| stat.rsplit_once(") ")?.1.chars().next());
    !matches!(state, None | Some('Z' | 'X'))
}

#[cfg(test)]
mod tests;
