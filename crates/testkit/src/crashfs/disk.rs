//! The model: what programs see, what is durable, and what a crash makes of the two.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};

use fuser::Errno;

use super::rng::Rng;

/// An inode number. The root is [`ROOT`].
pub(super) type Ino = u64;
pub(super) const ROOT: Ino = 1;

/// The kernel writes a page at once or not; it does not say in which order.
const PAGE_BYTES: usize = 4096;

pub(super) struct Disk {
    nodes: BTreeMap<Ino, Node>,
    next: Ino,
    changes: u64,
    /// Changes until the power goes; none for never.
    left: Option<u64>,
}

pub(super) enum Node {
    File(File),
    Dir(Dir),
}

#[derive(Default)]
pub(super) struct File {
    live: Vec<u8>,
    durable: Vec<u8>,
    /// What turns `durable` into `live`.
    edits: Vec<Edit>,
}

enum Edit {
    Write { offset: usize, bytes: Vec<u8> },
    Resize(usize),
}

#[derive(Default)]
pub(super) struct Dir {
    live: Entries,
    durable: Entries,
    /// What turns `durable` into `live`.
    moves: Vec<Move>,
}

type Entries = BTreeMap<OsString, Ino>;

enum Move {
    Add(OsString, Ino),
    Remove(OsString),
    Rename(OsString, OsString),
}

impl Disk {
    pub(super) fn new() -> Self {
        let nodes = BTreeMap::from([(ROOT, Node::Dir(Dir::default()))]);
        Self { nodes, next: ROOT + 1, changes: 0, left: None }
    }

    pub(super) fn cut_after(&mut self, changes: u64) {
        self.left = Some(changes);
    }

    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    pub(super) fn is_cut(&self) -> bool {
        self.left == Some(0)
    }

    /// Counts a change; fails when the power is gone.
    fn change(&mut self) -> Result<(), Errno> {
        if self.is_cut() {
            return Err(Errno::EIO);
        }
        self.changes += 1;
        if let Some(left) = &mut self.left {
            *left -= 1;
        }
        Ok(())
    }

    pub(super) fn node(&self, ino: Ino) -> Result<&Node, Errno> {
        self.nodes.get(&ino).ok_or(Errno::ENOENT)
    }

    pub(super) fn lookup(&self, parent: Ino, name: &OsStr) -> Result<Ino, Errno> {
        self.dir(parent)?.live.get(name).copied().ok_or(Errno::ENOENT)
    }

    pub(super) fn list(&self, dir: Ino) -> Result<Vec<(OsString, Ino)>, Errno> {
        let entries = self.dir(dir)?.live.iter();
        Ok(entries.map(|(name, ino)| (name.clone(), *ino)).collect())
    }

    pub(super) fn read(&self, file: Ino, offset: usize, len: usize) -> Result<&[u8], Errno> {
        let live = match self.node(file)? {
            Node::File(file) => &file.live,
            Node::Dir(_) => return Err(Errno::EISDIR),
        };
        let start = offset.min(live.len());
        Ok(&live[start..offset.saturating_add(len).min(live.len())])
    }

    pub(super) fn make(&mut self, parent: Ino, name: &OsStr, node: Node) -> Result<Ino, Errno> {
        self.change()?;
        if self.lookup(parent, name).is_ok() {
            return Err(Errno::EEXIST);
        }
        let ino = self.next;
        self.dir_mut(parent)?.go(Move::Add(name.to_owned(), ino));
        self.nodes.insert(ino, node);
        self.next += 1;
        Ok(ino)
    }

    pub(super) fn link(&mut self, ino: Ino, parent: Ino, name: &OsStr) -> Result<(), Errno> {
        self.change()?;
        if self.lookup(parent, name).is_ok() {
            return Err(Errno::EEXIST);
        }
        self.dir_mut(parent)?.go(Move::Add(name.to_owned(), ino));
        Ok(())
    }

    pub(super) fn remove(&mut self, parent: Ino, name: &OsStr) -> Result<(), Errno> {
        self.change()?;
        let ino = self.lookup(parent, name)?;
        if matches!(self.node(ino)?, Node::Dir(dir) if !dir.live.is_empty()) {
            return Err(Errno::ENOTEMPTY);
        }
        self.dir_mut(parent)?.go(Move::Remove(name.to_owned()));
        Ok(())
    }

    pub(super) fn rename(
        &mut self,
        (parent, name): (Ino, &OsStr),
        (to, new_name): (Ino, &OsStr),
    ) -> Result<(), Errno> {
        self.change()?;
        let ino = self.lookup(parent, name)?;
        if let Ok(old) = self.lookup(to, new_name)
            && matches!(self.node(old)?, Node::Dir(dir) if !dir.live.is_empty())
        {
            return Err(Errno::ENOTEMPTY);
        }
        if parent == to {
            self.dir_mut(to)?.go(Move::Rename(name.to_owned(), new_name.to_owned()));
        } else {
            self.dir_mut(to)?.go(Move::Add(new_name.to_owned(), ino));
            self.dir_mut(parent)?.go(Move::Remove(name.to_owned()));
        }
        Ok(())
    }

    /// Writes; when the power goes at this very write, it may be on the disk in part all the same.
    pub(super) fn write(&mut self, file: Ino, offset: usize, bytes: &[u8]) -> Result<(), Errno> {
        let alive = !self.is_cut();
        let counted = self.change();
        if alive {
            let edit = Edit::Write { offset, bytes: bytes.to_vec() };
            self.file_mut(file)?.go(edit);
        }
        counted
    }

    pub(super) fn resize(&mut self, file: Ino, len: usize) -> Result<(), Errno> {
        self.change()?;
        self.file_mut(file)?.go(Edit::Resize(len));
        Ok(())
    }

    pub(super) fn sync_file(&mut self, file: Ino) -> Result<(), Errno> {
        self.change()?;
        let file = self.file_mut(file)?;
        for edit in file.edits.drain(..) {
            edit.apply(&mut file.durable);
        }
        Ok(())
    }

    pub(super) fn sync_dir(&mut self, dir: Ino) -> Result<(), Errno> {
        self.change()?;
        let dir = self.dir_mut(dir)?;
        dir.moves.clear();
        dir.durable = dir.live.clone();
        Ok(())
    }

    /// Makes of the disk what a power cut may leave. The power is back afterwards.
    pub(super) fn crash(&mut self, rng: &mut Rng) {
        for node in self.nodes.values_mut() {
            match node {
                Node::File(file) => file.crash(rng),
                Node::Dir(dir) => dir.crash(rng),
            }
        }
        let reachable = self.reachable();
        self.nodes.retain(|ino, _| reachable.contains(ino));
        self.changes = 0;
        self.left = None;
    }

    fn reachable(&self) -> BTreeSet<Ino> {
        let (mut seen, mut waiting) = (BTreeSet::new(), vec![ROOT]);
        while let Some(ino) = waiting.pop() {
            if let (true, Some(Node::Dir(dir))) = (seen.insert(ino), self.nodes.get(&ino)) {
                waiting.extend(dir.live.values());
            }
        }
        seen
    }

    fn dir(&self, ino: Ino) -> Result<&Dir, Errno> {
        match self.node(ino)? {
            Node::Dir(dir) => Ok(dir),
            Node::File(_) => Err(Errno::ENOTDIR),
        }
    }

    fn dir_mut(&mut self, ino: Ino) -> Result<&mut Dir, Errno> {
        match self.nodes.get_mut(&ino) {
            Some(Node::Dir(dir)) => Ok(dir),
            Some(Node::File(_)) => Err(Errno::ENOTDIR),
            None => Err(Errno::ENOENT),
        }
    }

    fn file_mut(&mut self, ino: Ino) -> Result<&mut File, Errno> {
        match self.nodes.get_mut(&ino) {
            Some(Node::File(file)) => Ok(file),
            Some(Node::Dir(_)) => Err(Errno::EISDIR),
            None => Err(Errno::ENOENT),
        }
    }
}

impl File {
    pub(super) fn len(&self) -> usize {
        self.live.len()
    }

    fn go(&mut self, edit: Edit) {
        edit.apply(&mut self.live);
        self.edits.push(edit);
    }

    fn crash(&mut self, rng: &mut Rng) {
        let edits = std::mem::take(&mut self.edits);
        if !edits.is_empty() {
            match rng.below(4) {
                0 => {}
                1 => self.durable = self.live.clone(),
                2 => self.keep_prefix(edits, rng),
                _ => self.keep_pages(rng),
            }
        }
        self.live = self.durable.clone();
    }

    /// Keeps the first edits and a part of the next.
    fn keep_prefix(&mut self, edits: Vec<Edit>, rng: &mut Rng) {
        let whole = rng.index(edits.len());
        for (number, edit) in edits.into_iter().enumerate().take(whole + 1) {
            match edit {
                Edit::Write { offset, mut bytes } if number == whole => {
                    bytes.truncate(rng.index(bytes.len() + 1));
                    Edit::Write { offset, bytes }.apply(&mut self.durable);
                }
                edit => edit.apply(&mut self.durable),
            }
        }
    }

    /// Keeps any of the pages; those that were not written are as they were, or zeros.
    fn keep_pages(&mut self, rng: &mut Rng) {
        let mut kept = self.durable.clone();
        kept.resize(self.live.len(), 0);
        for (page, new) in kept.chunks_mut(PAGE_BYTES).zip(self.live.chunks(PAGE_BYTES)) {
            if rng.once_in(2) {
                page.copy_from_slice(new);
            }
        }
        self.durable = kept;
    }
}

impl Edit {
    fn apply(&self, contents: &mut Vec<u8>) {
        match self {
            Self::Resize(len) => contents.resize(*len, 0),
            Self::Write { offset, bytes } => {
                let end = offset + bytes.len();
                if contents.len() < end {
                    contents.resize(end, 0);
                }
                contents[*offset..end].copy_from_slice(bytes);
            }
        }
    }
}

impl Dir {
    fn go(&mut self, change: Move) {
        change.apply(&mut self.live);
        self.moves.push(change);
    }

    fn crash(&mut self, rng: &mut Rng) {
        let moves = std::mem::take(&mut self.moves);
        let kept = rng.index(moves.len() + 1);
        moves.iter().take(kept).for_each(|change| change.apply(&mut self.durable));
        self.live = self.durable.clone();
    }
}

impl Move {
    fn apply(&self, entries: &mut Entries) {
        match self {
            Self::Add(name, ino) => {
                entries.insert(name.clone(), *ino);
            }
            Self::Remove(name) => {
                entries.remove(name);
            }
            Self::Rename(name, new_name) => {
                if let Some(ino) = entries.remove(name) {
                    entries.insert(new_name.clone(), ino);
                }
            }
        }
    }
}
