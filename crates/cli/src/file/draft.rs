//! A file that is written beside its place and moved there when it is whole.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};
use tempfile::{NamedTempFile, PersistError};
use tokio::fs::File;

use super::names::{DRAFT_PREFIX, DRAFT_SUFFIX, shown};

/// A hidden file, readable by its owner alone; removed when it is dropped unfinished.
#[derive(Debug)]
pub(super) struct Draft {
    hidden: NamedTempFile,
    target: PathBuf,
    force: bool,
}

impl Draft {
    /// Begins a file; makes the folder that it stands in.
    pub(super) fn beside(target: &Path, force: bool) -> anyhow::Result<Self> {
        if target.file_name().is_none() || target.is_dir() {
            bail!("{} is a folder", shown(target));
        }
        // Seen before the service is called and anything is read; `finish` makes sure.
        if !force && fs::symlink_metadata(target).is_ok() {
            return Err(exists(target));
        }
        let folder = folder_of(target);
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot make the folder {}", shown(folder)))?;
        let hidden = tempfile::Builder::new()
            .prefix(DRAFT_PREFIX)
            .suffix(DRAFT_SUFFIX)
            .tempfile_in(folder)
            .with_context(|| format!("cannot write to {}", shown(folder)))?;
        Ok(Self { hidden, target: target.to_owned(), force })
    }

    /// A handle to write with.
    pub(super) fn writer(&self) -> anyhow::Result<File> {
        let file = self.hidden.as_file().try_clone().context("cannot write")?;
        Ok(File::from_std(file))
    }

    /// The file, to set its mode and time.
    pub(super) fn file(&self) -> &fs::File {
        self.hidden.as_file()
    }

    /// Syncs the file, gives it its name and syncs the folder. Nobody sees it before it is on the disk.
    pub(super) async fn finish(self, writer: File) -> anyhow::Result<()> {
        let Self { hidden, target, force } = self;
        let cannot = || format!("cannot write {}", shown(&target));
        // Not on a thread of its own together with the rest: a call that is dropped here removes the file.
        writer.sync_all().await.with_context(cannot)?;
        let moved = if force { hidden.persist(&target) } else { hidden.persist_noclobber(&target) };
        match moved {
            Ok(_) => {}
            Err(PersistError { error, .. }) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(exists(&target));
            }
            Err(PersistError { error, .. }) => return Err(error).with_context(cannot),
        }
        fs::File::open(folder_of(&target))
            .and_then(|folder| folder.sync_all())
            .with_context(|| format!("{} may not outlive a power cut", shown(&target)))
    }
}

fn exists(target: &Path) -> anyhow::Error {
    anyhow!("{} exists; `--force` replaces it", shown(target))
}

fn folder_of(target: &Path) -> &Path {
    match target.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use tokio::io::AsyncWriteExt as _;

    use super::*;

    async fn write(draft: Draft, bytes: &[u8]) -> anyhow::Result<()> {
        let mut writer = draft.writer()?;
        writer.write_all(bytes).await?;
        writer.flush().await?;
        draft.finish(writer).await
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[tokio::test]
    async fn file_has_its_name_when_it_is_whole_and_not_before() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("new/inner/file");
        let draft = Draft::beside(&target, false).unwrap();
        assert!(!target.exists());
        let hidden = draft.hidden.path().to_owned();
        assert_eq!(fs::metadata(&hidden).unwrap().permissions().mode() & 0o777, 0o600);
        write(draft, b"content").await.unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"content");
        assert_eq!(names(target.parent().unwrap()), ["file"]);
    }

    #[tokio::test]
    async fn unfinished_file_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let draft = Draft::beside(&folder.path().join("file"), false).unwrap();
        let mut writer = draft.writer().unwrap();
        writer.write_all(b"half").await.unwrap();
        drop(draft);
        assert_eq!(names(folder.path()), [""; 0]);
    }

    #[tokio::test]
    async fn file_that_exists_is_replaced_with_force_alone() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("file");
        // It appears after the first look.
        let late = Draft::beside(&target, false).unwrap();
        fs::write(&target, "old").unwrap();
        let early = Draft::beside(&target, false).unwrap_err().to_string();
        assert!(early.contains("--force"), "{early}");
        let late = write(late, b"new").await.unwrap_err().to_string();
        assert!(late.contains("--force"), "{late}");
        assert_eq!(fs::read(&target).unwrap(), b"old");
        assert_eq!(names(folder.path()), ["file"]);
        write(Draft::beside(&target, true).unwrap(), b"new").await.unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"new");
    }

    #[tokio::test]
    async fn link_in_the_outputs_place_is_replaced_and_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (elsewhere, target) = (folder.path().join("elsewhere"), folder.path().join("file"));
        fs::write(&elsewhere, "precious").unwrap();
        symlink(&elsewhere, &target).unwrap();
        assert!(Draft::beside(&target, false).is_err());
        write(Draft::beside(&target, true).unwrap(), b"new").await.unwrap();
        assert_eq!(fs::read(&elsewhere).unwrap(), b"precious");
        assert_eq!(fs::read(&target).unwrap(), b"new");
    }

    #[test]
    fn folder_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        for force in [false, true] {
            assert!(Draft::beside(folder.path(), force).is_err());
        }
    }
}
