//! Goes through files and folders, in the order of their names.
//!
//! One folder's names are held at a time, and those of the folders above it. A symbolic link that was named is
//! followed; one that was found is left alone, since it may lead anywhere, also back. So are sockets, pipes
//! and devices.

use std::collections::HashSet;
use std::fs::{self, FileType};
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};

use super::names::{Direction, shown};
use super::places::Places;

/// Something that was come across.
#[derive(Debug)]
pub(super) enum Found {
    /// A file to take.
    File { path: PathBuf, followed: bool, target: PathBuf },
    /// Something that is left alone, and why.
    Left(String),
    /// Something that cannot be taken.
    Failed(anyhow::Error),
}

/// What is still to be looked at; the last one first.
struct Pending {
    path: PathBuf,
    /// Where it would stand if it kept its name.
    place: PathBuf,
    named: bool,
}

pub(super) struct Walk {
    direction: Direction,
    pending: Vec<Pending>,
    /// With `--force` nobody else notices that two inputs have one output.
    targets: Option<HashSet<PathBuf>>,
}

impl Walk {
    pub(super) fn new(places: &Places, direction: Direction) -> Self {
        let pending = places.files().iter().rev().map(|path| Pending {
            path: path.clone(),
            place: places.folder().map_or_else(|| path.clone(), |into| below(into, path)),
            named: true,
        });
        Self { direction, pending: pending.collect(), targets: places.force().then(HashSet::new) }
    }

    fn look(&mut self, pending: Pending) -> anyhow::Result<Option<Found>> {
        let Pending { path, place, named } = pending;
        let metadata = if named { fs::metadata(&path) } else { fs::symlink_metadata(&path) };
        let metadata = metadata.with_context(|| format!("{} cannot be read", shown(&path)))?;
        let kind = metadata.file_type();
        if kind.is_dir() {
            self.enter(&path, &place)?;
            return Ok(None);
        }
        if !kind.is_file() {
            let what = kind_name(kind);
            return match named {
                true => Err(anyhow!(
                    "{} is {what}, not a regular file: pipe it, with `-` as FILE",
                    shown(&path)
                )),
                false => Ok(Some(Found::Left(format!("{} is {what}: left alone", shown(&path))))),
            };
        }
        if !named && !path.file_name().is_some_and(|name| self.direction.takes(name)) {
            return Ok(None);
        }
        let target = self.direction.target(&place).ok_or_else(|| {
            anyhow!(
                "{} does not end in `.twinkeep`: decrypt it alone, with `-o FILE`",
                shown(&path)
            )
        })?;
        if self.targets.as_mut().is_some_and(|targets| !targets.insert(target.clone())) {
            return Err(anyhow!(
                "{} would replace {}, which this very call wrote",
                shown(&path),
                shown(&target)
            ));
        }
        Ok(Some(Found::File { path, followed: named, target }))
    }

    fn enter(&mut self, path: &Path, place: &Path) -> anyhow::Result<()> {
        let cannot = || format!("{} cannot be listed", shown(path));
        let mut names = Vec::new();
        for entry in fs::read_dir(path).with_context(cannot)? {
            names.push(entry.with_context(cannot)?.file_name());
        }
        names.sort_unstable_by(|one, other| other.cmp(one));
        self.pending.extend(names.into_iter().map(|name| Pending {
            path: path.join(&name),
            place: place.join(&name),
            named: false,
        }));
        Ok(())
    }
}

impl Iterator for Walk {
    type Item = Found;

    fn next(&mut self) -> Option<Found> {
        loop {
            let pending = self.pending.pop()?;
            match self.look(pending) {
                Ok(Some(found)) => return Some(found),
                Ok(None) => {}
                Err(error) => return Some(Found::Failed(error)),
            }
        }
    }
}

/// Where a file or folder stands below another folder: under its last name, and what has none, as `.` and
/// `..`, under none.
fn below(into: &Path, path: &Path) -> PathBuf {
    path.file_name().map_or_else(|| into.to_owned(), |name| into.join(name))
}

fn kind_name(kind: FileType) -> &'static str {
    match kind {
        kind if kind.is_symlink() => "a symbolic link",
        kind if kind.is_fifo() => "a pipe",
        kind if kind.is_socket() => "a socket",
        _ => "a device",
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Arguments {
        #[command(flatten)]
        places: Places,
    }

    /// Files as `path > target`, what is left as `- path`, failures as `! text`.
    fn walk(folder: &Path, direction: Direction, arguments: &[&str]) -> Vec<String> {
        let arguments = arguments.iter().map(|text| text.replace('@', folder.to_str().unwrap()));
        let arguments = std::iter::once("twinkeep".to_owned()).chain(arguments);
        let places = Arguments::parse_from(arguments).places;
        let relative = |text: String| text.replace(&format!("{}/", folder.display()), "");
        Walk::new(&places, direction)
            .map(|found| match found {
                Found::File { path, target, .. } => {
                    relative(format!("{} > {}", path.display(), target.display()))
                }
                Found::Left(note) => relative(format!("- {note}")),
                Found::Failed(error) => relative(format!("! {error}")),
            })
            .collect()
    }

    fn tree() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("docs/inner/empty")).unwrap();
        for name in ["one", "docs/b", "docs/a", "docs/old.twinkeep", "docs/inner/c"] {
            fs::write(folder.path().join(name), name).unwrap();
        }
        folder
    }

    #[test]
    fn folders_are_gone_through_in_order_and_keep_their_shape() {
        let folder = tree();
        let beside = walk(folder.path(), Direction::Encrypt, &["@/one", "@/docs"]);
        let expected = [
            "one > one.twinkeep",
            "docs/a > docs/a.twinkeep",
            "docs/b > docs/b.twinkeep",
            "docs/inner/c > docs/inner/c.twinkeep",
        ];
        assert_eq!(beside, expected);
        let into = walk(folder.path(), Direction::Encrypt, &["@/docs", "--into", "@/out"]);
        assert_eq!(into[2], "docs/inner/c > out/docs/inner/c.twinkeep");
        let nameless =
            walk(folder.path(), Direction::Encrypt, &["@/docs/inner/..", "--into", "@/o"]);
        assert_eq!(nameless[0], "docs/inner/../a > o/a.twinkeep");
        let back = walk(folder.path(), Direction::Decrypt, &["@/docs", "--into", "@/out"]);
        assert_eq!(back, ["docs/old.twinkeep > out/docs/old"]);
    }

    #[test]
    fn links_that_were_found_and_special_files_are_left_alone() {
        let folder = tree();
        symlink("/etc", folder.path().join("docs/etc")).unwrap();
        symlink("../docs", folder.path().join("docs/loop")).unwrap();
        symlink("../one", folder.path().join("docs/link")).unwrap();
        let _socket = UnixListener::bind(folder.path().join("docs/socket")).unwrap();
        let found = walk(folder.path(), Direction::Encrypt, &["@/docs"]);
        let left: Vec<_> = found.iter().filter(|found| found.starts_with('-')).collect();
        assert_eq!(
            left,
            [
                "- docs/etc is a symbolic link: left alone",
                "- docs/link is a symbolic link: left alone",
                "- docs/loop is a symbolic link: left alone",
                "- docs/socket is a socket: left alone",
            ]
        );
        assert_eq!(found.len(), left.len() + 3);
        // Who names a link means what it leads to.
        let named = walk(folder.path(), Direction::Encrypt, &["@/docs/link", "@/docs/socket"]);
        assert_eq!(named[0], "docs/link > docs/link.twinkeep");
        assert!(named[1].starts_with("! docs/socket is a socket"), "{named:?}");
    }

    #[test]
    fn what_cannot_be_taken_does_not_end_the_walk() {
        let folder = tree();
        let found = walk(folder.path(), Direction::Decrypt, &["@/no", "@/one", "@/docs"]);
        assert!(found[0].starts_with("! no cannot be read"), "{found:?}");
        assert!(found[1].starts_with("! one does not end in"), "{found:?}");
        assert_eq!(found[2], "docs/old.twinkeep > docs/old");
    }

    #[test]
    fn two_inputs_never_become_one_output() {
        let folder = tree();
        fs::write(folder.path().join("docs/one"), "another").unwrap();
        let arguments = ["@/one", "@/docs/one", "--into", "@/out", "--force"];
        let found = walk(folder.path(), Direction::Encrypt, &arguments);
        assert_eq!(found[0], "one > out/one.twinkeep");
        assert!(found[1].contains("which this very call wrote"), "{found:?}");
    }
}
