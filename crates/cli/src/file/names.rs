//! Names of encrypted files: the name, and `.twinkeep` behind it.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use crate::output::plain;

/// What an encrypted file's name ends in.
const SUFFIX: &[u8] = b".twinkeep";
/// What a hidden file that is being written begins with.
pub(super) const DRAFT_PREFIX: &str = ".twinkeep-";
/// What it ends in.
pub(super) const DRAFT_SUFFIX: &str = ".tmp";

/// Which way it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    /// From `report.pdf` to `report.pdf.twinkeep`.
    Encrypt,
    /// And back.
    Decrypt,
}

impl Direction {
    /// Returns the output's path for an input's; `None` if the name is not one for this direction.
    pub(super) fn target(self, path: &Path) -> Option<PathBuf> {
        let name = path.file_name()?.as_bytes();
        let name = match self {
            Self::Encrypt => [name, SUFFIX].concat(),
            Self::Decrypt => {
                name.strip_suffix(SUFFIX).filter(|rest| is_name(rest)).map(<[u8]>::to_vec)?
            }
        };
        Some(path.with_file_name(OsString::from_vec(name)))
    }

    /// Whether a file that was found in a folder is for this direction. What is encrypted is not encrypted
    /// again: a second run finds nothing to do, and does no harm.
    pub(super) fn takes(self, name: &OsStr) -> bool {
        let encrypted = name.as_bytes().ends_with(SUFFIX);
        let draft = name.as_bytes().starts_with(DRAFT_PREFIX.as_bytes())
            && name.as_bytes().ends_with(DRAFT_SUFFIX.as_bytes());
        match self {
            Self::Encrypt => !encrypted && !draft,
            Self::Decrypt => encrypted,
        }
    }

    /// What has been done to a file.
    pub(super) fn done(self) -> &'static str {
        match self {
            Self::Encrypt => "encrypted",
            Self::Decrypt => "decrypted",
        }
    }

    /// What is looked for in folders.
    pub(super) fn expects(self) -> &'static str {
        match self {
            Self::Encrypt => "there is no regular file but encrypted ones",
            Self::Decrypt => "there is no file whose name ends in `.twinkeep`",
        }
    }
}

/// What is left of a name must be one: not nothing, and neither `.` nor `..`.
fn is_name(rest: &[u8]) -> bool {
    !rest.is_empty() && rest != b"." && rest != b".."
}

/// A path as it can be shown on a terminal.
pub(super) fn shown(path: &Path) -> String {
    plain(&path.to_string_lossy())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(direction: Direction, path: &str) -> Option<String> {
        direction.target(Path::new(path)).map(|path| path.to_str().unwrap().to_owned())
    }

    #[test]
    fn names_go_there_and_back() {
        for path in ["report.pdf", "/a/b.c/report", "../x", ".hidden", "x.twinkeep"] {
            let there = target(Direction::Encrypt, path).unwrap();
            assert_eq!(there, format!("{path}.twinkeep"));
            assert_eq!(target(Direction::Decrypt, &there).as_deref(), Some(path));
        }
    }

    #[test]
    fn name_that_leaves_nothing_or_a_folder_is_no_name() {
        for path in ["message.enc", ".twinkeep", "a/..twinkeep", "...twinkeep", "/", "a/.."] {
            assert_eq!(target(Direction::Decrypt, path), None, "{path}");
        }
        assert_eq!(target(Direction::Encrypt, "a/.."), None);
    }

    #[test]
    fn folders_give_what_is_for_the_direction() {
        let takes = |direction: Direction, name| direction.takes(OsStr::new(name));
        assert!(takes(Direction::Encrypt, "report.pdf"));
        assert!(!takes(Direction::Encrypt, "report.pdf.twinkeep"));
        assert!(!takes(Direction::Encrypt, ".twinkeep-Ab12.tmp"));
        assert!(takes(Direction::Decrypt, "report.pdf.twinkeep"));
        assert!(!takes(Direction::Decrypt, "report.pdf"));
    }
}
