//! Where it comes from and where it goes, as the command line says.

use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};

use anyhow::bail;

use super::names::{Direction, shown};

/// Files and folders, and where their outputs go.
#[derive(Debug, clap::Args)]
pub(crate) struct Places {
    /// Files and folders; standard input without any, or as `-`.
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// File to write, `-` for standard output; for one input that is no folder.
    #[arg(short = 'o', long = "out", value_name = "FILE")]
    out: Option<PathBuf>,
    /// Folder to write to, with the folders of the input below it; it is made if it is missing. Otherwise
    /// outputs stand beside their inputs.
    #[arg(long, value_name = "FOLDER", conflicts_with = "out")]
    into: Option<PathBuf>,
    /// Replaces files that exist.
    #[arg(long)]
    force: bool,
}

/// Where bytes come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    /// Standard input.
    Stdin,
    /// A file.
    File {
        /// Its path.
        path: PathBuf,
        /// Whether a symbolic link is followed: if somebody named it, not if it was found in a folder.
        followed: bool,
    },
}

/// Where bytes go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// Standard output.
    Stdout,
    /// A file.
    File(PathBuf),
}

impl Source {
    /// How messages call it.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Stdin => "standard input".to_owned(),
            Self::File { path, .. } => shown(path),
        }
    }
}

impl Target {
    /// How messages call it.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Stdout => "standard output".to_owned(),
            Self::File(path) => shown(path),
        }
    }

    /// Refuses what cannot go to standard output, before anything is read.
    pub(super) fn check(&self, direction: Direction, json: bool) -> anyhow::Result<()> {
        if *self != Self::Stdout {
            return Ok(());
        }
        if json {
            bail!("JSON says what was done with which key, not the content: add `-o FILE`");
        }
        if direction == Direction::Encrypt && io::stdout().is_terminal() {
            bail!(
                "an encrypted file is binary: add `-o FILE`, or `--base64` for a short ciphertext as text"
            );
        }
        Ok(())
    }
}

impl Places {
    /// What was named.
    pub(super) fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// Where outputs go, if not beside their inputs.
    pub(super) fn folder(&self) -> Option<&Path> {
        self.into.as_deref()
    }

    /// Whether files may be replaced.
    pub(super) fn force(&self) -> bool {
        self.force
    }

    /// Returns the one input and its output where there is one: standard input, or a single file with an output of
    /// its own. `None` for files and folders that are gone through.
    pub(super) fn only(&self, direction: Direction) -> anyhow::Result<Option<(Source, Target)>> {
        let dash = |path: &Path| path.as_os_str() == "-";
        match self.files.as_slice() {
            [] => self.piped().map(Some),
            [path] if dash(path) => self.piped().map(Some),
            [path] if !path.is_dir() && self.into.is_none() => Ok(self.single(path, direction)),
            files if files.iter().any(|path| dash(path)) => {
                bail!("`-` is standard input and stands alone")
            }
            _ if self.out.is_some() => {
                bail!("`-o` is for one file; several, and folders, go to `--into FOLDER`")
            }
            _ => Ok(None),
        }
    }

    /// Returns the one input and its output for a bare ciphertext, which makes no name: standard output unless
    /// `-o` says otherwise.
    pub(super) fn bare(&self) -> anyhow::Result<(Source, Target)> {
        let source = match self.files.as_slice() {
            [] => Source::Stdin,
            [path] if path.as_os_str() == "-" => Source::Stdin,
            [path] if self.into.is_none() => Source::File { path: path.clone(), followed: true },
            _ => bail!("`--raw` and `--base64` take one file or standard input, and `-o`"),
        };
        Ok((source, self.out().unwrap_or(Target::Stdout)))
    }

    fn piped(&self) -> anyhow::Result<(Source, Target)> {
        if self.into.is_some() {
            bail!("standard input has no name to stand in a folder under: use `-o FILE`");
        }
        Ok((Source::Stdin, self.out().unwrap_or(Target::Stdout)))
    }

    fn single(&self, path: &Path, direction: Direction) -> Option<(Source, Target)> {
        let source = Source::File { path: path.to_owned(), followed: true };
        let target = match (self.out(), direction, direction.target(path)) {
            (Some(out), ..) => out,
            // A name of the user's own choice says nothing about the name to write to.
            (None, Direction::Decrypt, None) => Target::Stdout,
            (None, _, Some(target)) => Target::File(target),
            (None, Direction::Encrypt, None) => return None,
        };
        Some((source, target))
    }

    fn out(&self) -> Option<Target> {
        self.out.as_ref().map(|path| match path.as_os_str() == "-" {
            true => Target::Stdout,
            false => Target::File(path.clone()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(files: &[&str], out: Option<&str>, into: Option<&str>) -> Places {
        Places {
            files: files.iter().map(PathBuf::from).collect(),
            out: out.map(PathBuf::from),
            into: into.map(PathBuf::from),
            force: false,
        }
    }

    fn file(path: &str) -> Source {
        Source::File { path: path.into(), followed: true }
    }

    #[test]
    fn one_input_goes_where_its_name_or_the_caller_says() {
        use Direction::{Decrypt, Encrypt};
        let to = |path: &str| Target::File(path.into());
        for (files, out, direction, source, target) in [
            (&[][..], None, Encrypt, Source::Stdin, Target::Stdout),
            (&["-"], Some("x"), Encrypt, Source::Stdin, to("x")),
            (&["a"], None, Encrypt, file("a"), to("a.twinkeep")),
            (&["a"], Some("x"), Encrypt, file("a"), to("x")),
            (&["a"], Some("-"), Encrypt, file("a"), Target::Stdout),
            (&["a.twinkeep"], None, Decrypt, file("a.twinkeep"), to("a")),
            (&["message.enc"], None, Decrypt, file("message.enc"), Target::Stdout),
            (&["message.enc"], Some("x"), Decrypt, file("message.enc"), to("x")),
        ] {
            let only = places(files, out, None).only(direction).unwrap();
            assert_eq!(only, Some((source, target)), "{files:?} {out:?}");
        }
    }

    #[test]
    fn several_files_and_folders_have_no_single_output() {
        let refused = |files: &[&str], out, into| {
            places(files, out, into).only(Direction::Encrypt).unwrap_err().to_string()
        };
        assert!(refused(&["a", "b"], Some("x"), None).contains("--into"));
        assert!(refused(&["/"], Some("x"), None).contains("--into"));
        assert!(refused(&["a", "-"], None, None).contains("stands alone"));
        assert!(refused(&[], None, Some("x")).contains("-o FILE"));
        for files in [&["a", "b"][..], &["/"]] {
            assert_eq!(places(files, None, None).only(Direction::Encrypt).unwrap(), None);
        }
    }
}
