//! Opening what bytes come from and go to, without buffers of our own in between.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Context as _, bail};
use rustix::fs::OFlags;
use tokio::fs::File;

use super::draft::Draft;
use super::places::{Source, Target};
use crate::file::names::shown;

/// An open input.
pub(super) struct Input {
    pub(super) file: File,
    /// How it lies; not for standard input.
    pub(super) metadata: Option<fs::Metadata>,
}

impl Input {
    /// Opens a source. What is there must be a regular file, which is looked at after it was opened: between
    /// a look and an opening it could be swapped.
    pub(super) fn open(source: &Source) -> anyhow::Result<Self> {
        let (path, followed) = match source {
            Source::Stdin => {
                let file = duplicate(io::stdin()).context("cannot read standard input")?;
                return Ok(Self { file, metadata: None });
            }
            Source::File { path, followed } => (path, *followed),
        };
        let file = open(path, followed).with_context(|| format!("cannot read {}", shown(path)))?;
        let metadata = file.metadata().with_context(|| format!("cannot read {}", shown(path)))?;
        if metadata.is_dir() {
            bail!("{} is a folder", shown(path));
        }
        // Whoever names a pipe or a terminal, such as `/dev/stdin`, means what comes out of it.
        if !metadata.is_file() {
            if !followed {
                bail!("{} is no longer a regular file", shown(path));
            }
            return Ok(Self { file: File::from_std(file), metadata: None });
        }
        Ok(Self { file: File::from_std(file), metadata: Some(metadata) })
    }

    /// Bytes, if they are known.
    pub(super) fn len(&self) -> Option<u64> {
        self.metadata.as_ref().map(fs::Metadata::len)
    }
}

fn open(path: &Path, followed: bool) -> io::Result<fs::File> {
    // Where a pipe was put in the place of a file that was found, opening it must not wait for a writer.
    let found = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let flags = if followed { OFlags::empty() } else { found };
    let flags = i32::try_from(flags.bits()).unwrap_or_default();
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}

/// An open output.
pub(super) struct Output {
    pub(super) file: File,
    /// What becomes the file when it is whole; not for standard output.
    pub(super) draft: Option<Draft>,
}

impl Output {
    /// Opens a target; refuses a file that exists unless it may be replaced.
    pub(super) fn open(target: &Target, force: bool) -> anyhow::Result<Self> {
        match target {
            Target::Stdout => {
                let file = duplicate(io::stdout()).context("cannot write standard output")?;
                Ok(Self { file, draft: None })
            }
            Target::File(path) => {
                let draft = Draft::beside(path, force)?;
                Ok(Self { file: draft.writer()?, draft: Some(draft) })
            }
        }
    }
}

/// The same pipe or file under another number. Tokio's own standard streams cut what they carry at line ends.
fn duplicate(stream: impl AsFd) -> io::Result<File> {
    let stream = stream.as_fd().try_clone_to_owned()?;
    Ok(File::from_std(fs::File::from(stream)))
}
