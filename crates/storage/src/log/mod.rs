//! The Raft log: votes, entries, and how far they count. Nothing counts before it is synced.
//!
//! One thread writes. It drains the queue, puts everything into one write batch, writes and syncs it,
//! and answers in the order in which the changes came. So
//!
//! - a vote is durable before any entry that was added after it, and the other way round;
//! - many callers share one sync (group commit), without a timer;
//! - at most the last record of RocksDB's write-ahead log was never synced, which is what lets us
//!   tell a torn tail from damage ([`wal`]).
//!
//! Entries can be read as soon as [`LogDb::append`] returns. They are kept in memory until they are
//! synced. The other way, writing at once and syncing later, would leave several unsynced records
//! behind a crash, in any order that the disk likes, and damage could no longer be told from a tear.
//!
//! The folder has `db/` (RocksDB, see [`keys`]), `acknowledged` (see [`mark`]) and `lock`. At start
//! everything is checked before anything is written; see [`check`] for what is noticed and what
//! cannot be. A log that is refused is left as it was.

mod check;
mod keys;
mod mark;
mod queue;
mod wal;
mod writer;

use std::fs::{File, TryLockError};
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use bytes::Bytes;
use rocksdb::{DB, DEFAULT_COLUMN_FAMILY_NAME, Direction, IteratorMode, ReadOptions};

pub use self::check::OpenError;
pub use self::queue::{Done, Failure, WriteError};

use self::check::Recovered;
use self::mark::Mark;
use self::queue::Queue;
use self::writer::Writer;
use crate::disk::{self, At, DiskError};
use crate::identity::Identity;
use crate::metrics::Usage;
use crate::options;
use crate::recent::{RecentTimes, Syncs};
use crate::record::{self, Damaged};

/// Purged entries after which their space is given back by a compaction.
const COMPACT_AFTER_PURGED: u64 = 100_000;

/// When an acknowledgement is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// After the write was synced.
    #[default]
    Synced,
    /// After the write was handed to the operating system: **a power cut loses acknowledged votes
    /// and entries**. For the test that shows that the crash model would notice.
    DangerUnsynced,
}

/// What a node writes down beside its log. The bytes are the writer's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Note {
    /// Until when the node's zone holds every acknowledged change.
    SyncLease,
    /// When the node's state was last known to be new.
    Freshness,
    /// What other nodes are known to have acknowledged.
    Acknowledged,
}

impl Note {
    /// All kinds, each at its own number.
    pub(crate) const ALL: [Self; 3] = [Self::SyncLease, Self::Freshness, Self::Acknowledged];

    const fn key(self) -> &'static [u8] {
        match self {
            Self::SyncLease => keys::SYNC_LEASE,
            Self::Freshness => keys::FRESHNESS,
            Self::Acknowledged => keys::ACKNOWLEDGED,
        }
    }
}

/// Why entries could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// An entry is damaged.
    #[error("an entry is damaged")]
    Damaged(#[from] Damaged),
    /// An entry between the first and the last is not there.
    #[error("entry {0} is missing")]
    Missing(u64),
    /// RocksDB could not read.
    #[error("rocksdb could not read the log")]
    Rocks(#[from] rocksdb::Error),
}

/// The log of one node, open for writing. Dropping it writes and syncs what still waits.
pub struct LogDb {
    db: Arc<DB>,
    queue: Arc<Queue>,
    writer: Option<JoinHandle<()>>,
    /// Entries purged since the last compaction.
    uncompacted: AtomicU64,
    syncs: Arc<RecentTimes>,
    /// Held for as long as the log is open.
    _lock: File,
}

impl LogDb {
    /// Opens the log in a folder, or begins one if there is none. Checks all of it first.
    ///
    /// # Errors
    /// Any [`OpenError`]; a log that is refused is not changed.
    pub fn open(folder: &Path, identity: Identity) -> Result<Self, OpenError> {
        Self::open_with(folder, identity, Durability::Synced)
    }

    /// Opens a log that acknowledges before it syncs, to show that a test would notice.
    ///
    /// # Errors
    /// Any [`OpenError`].
    pub fn danger_open_unsynced(folder: &Path, identity: Identity) -> Result<Self, OpenError> {
        Self::open_with(folder, identity, Durability::DangerUnsynced)
    }

    fn open_with(
        folder: &Path,
        identity: Identity,
        durability: Durability,
    ) -> Result<Self, OpenError> {
        disk::make_dir(folder)?;
        let lock = lock(folder)?;
        let (mark, found) = look(folder, identity)?;
        let db = Arc::new(DB::open(&options::common(), folder.join("db"))?);
        let batch = found.batch;
        let queue = Arc::new(Queue::new(found));
        let mut writer = Writer::new(db.clone(), queue.clone(), mark, batch, durability);
        if batch == 0 {
            writer.stamp(&identity.encode()).map_err(|failure| match failure {
                Failure::Mark(error) => OpenError::Disk(error),
                Failure::Rocks(error) => OpenError::Rocks(error),
                Failure::WriterGone => unreachable!("stamping asks no other thread"),
            })?;
        }
        let syncs = writer.syncs();
        let writer = std::thread::Builder::new()
            .name("log-writer".into())
            .spawn(move || writer.run())
            .at("start the writer of", folder)?;
        let (writer, uncompacted) = (Some(writer), AtomicU64::new(0));
        Ok(Self { db, queue, writer, uncompacted, syncs, _lock: lock })
    }

    /// Adds entries. They can be read when this returns; `done` is called once they are synced.
    /// Waits while the queue is full.
    ///
    /// # Errors
    /// [`WriteError::Gap`] if they do not follow each other and the last one (a log without any may
    /// begin anywhere), [`WriteError::Failed`] after a failure. `done` is not called then.
    pub fn append(&self, entries: Vec<(u64, Bytes)>, done: Done) -> Result<(), WriteError> {
        self.queue.append(entries, done)
    }

    /// Saves the vote; `done` is called once it is synced, and only then does [`Self::vote`] show it.
    ///
    /// # Errors
    /// [`WriteError::Failed`] after a failure. `done` is not called then.
    pub fn save_vote_then(&self, vote: Bytes, done: Done) -> Result<(), WriteError> {
        self.queue.vote(vote, done)
    }

    /// Saves the vote and waits until it is synced.
    ///
    /// # Errors
    /// [`WriteError::Failed`]: the vote must not be used then.
    pub fn save_vote(&self, vote: Bytes) -> Result<(), WriteError> {
        wait(|done| self.save_vote_then(vote, done))
    }

    /// Removes the entries after `last`, or all of them. They cannot be read any more when this
    /// returns; `done` is called once that is synced.
    ///
    /// # Errors
    /// [`WriteError::Purged`] if the log would end below what was purged, [`WriteError::Failed`]
    /// after a failure. `done` is not called then.
    pub fn truncate_after_then(&self, last: Option<u64>, done: Done) -> Result<(), WriteError> {
        self.queue.truncate_after(last, done)
    }

    /// Removes the entries after `last`, or all of them, and waits until that is synced.
    ///
    /// # Errors
    /// As [`Self::truncate_after_then`].
    pub fn truncate_after(&self, last: Option<u64>) -> Result<(), WriteError> {
        wait(|done| self.truncate_after_then(last, done))
    }

    /// Removes the entries up to `upto`, which may lie beyond the last one; `marker` is kept and comes
    /// back from [`Self::purged`]. Waits until that is synced, and now and then for a compaction.
    ///
    /// Purge only what a durable snapshot holds: the state itself is not synced.
    ///
    /// # Errors
    /// [`WriteError::Failed`] after a failure.
    pub fn purge(&self, upto: u64, marker: Bytes) -> Result<(), WriteError> {
        let first = self.span().map_or(upto, |(first, _)| first);
        wait(|done| self.queue.purge(upto, marker, done))?;
        let gone = upto.saturating_add(1).saturating_sub(first);
        if self.uncompacted.fetch_add(gone, Ordering::Relaxed) + gone >= COMPACT_AFTER_PURGED {
            self.uncompacted.store(0, Ordering::Relaxed);
            self.db.compact_range(Some(keys::ENTRIES), Some(keys::entry(upto).as_slice()));
        }
        Ok(())
    }

    /// Notes how far entries are committed. Written with the next change or at closing, without a
    /// sync of its own: what is lost of it is learned again from the leader.
    pub fn save_committed(&self, index: u64, marker: Bytes) {
        self.queue.lock().view.set_committed(index, marker);
    }

    /// Notes that a snapshot that reaches `index` is about to be installed, and waits until that is
    /// synced. Call it before the state changes: a crash between the installation and the purge of
    /// the log leaves a state beyond the log, and without this note that would be refused as damage.
    ///
    /// # Errors
    /// [`WriteError::Failed`] after a failure.
    pub fn expect_snapshot(&self, index: u64) -> Result<(), WriteError> {
        wait(|done| self.queue.snapshot(index, done))
    }

    /// Writes down what is not Raft's; `done` is told once that is on disk. The newest note of a kind replaces
    /// the one before.
    ///
    /// # Errors
    /// [`WriteError::Failed`] after a failure.
    pub fn save_note_then(&self, note: Note, bytes: Bytes, done: Done) -> Result<(), WriteError> {
        self.queue.note(note, bytes, done)
    }

    /// Returns the newest note of a kind, synced or not.
    #[must_use]
    pub fn note(&self, note: Note) -> Option<Bytes> {
        self.queue.lock().view.notes[note as usize].clone()
    }

    /// Waits until every entry up to `index` is on disk. Call it before the state changes by them: a
    /// majority may have an entry that this disk does not have yet, and a crash between the two would
    /// leave a state beyond the log, which is otherwise damage.
    ///
    /// # Errors
    /// [`WriteError::Failed`] after a failure.
    pub fn wait_synced(&self, index: u64) -> Result<(), WriteError> {
        self.queue.wait_synced(index)
    }

    /// Checks the log against the last entry that the state holds. Call it once both are open.
    ///
    /// # Errors
    /// [`OpenError::EndsBelow`] if the log lost entries that were applied,
    /// [`OpenError::StateBelowPurged`] if the state lost entries that the log no longer has.
    pub fn check_applied(&self, applied: Option<u64>) -> Result<(), OpenError> {
        let inner = self.queue.lock();
        let view = &inner.view;
        if let Some(purged) = view.purged_upto().filter(|purged| applied < Some(*purged)) {
            return Err(OpenError::StateBelowPurged { applied, purged });
        }
        match applied {
            Some(index) if view.last().max(view.snapshot) < applied => {
                let what = "what was applied";
                Err(OpenError::EndsBelow { what, index, last: view.last() })
            }
            _ => Ok(()),
        }
    }

    /// Returns what the log takes up.
    #[must_use]
    pub fn usage(&self) -> Usage {
        options::usage(&self.db, &[DEFAULT_COLUMN_FAMILY_NAME])
    }

    /// Returns how long the last syncs took.
    #[must_use]
    pub fn recent_syncs(&self) -> Syncs {
        self.syncs.summary()
    }

    /// Returns the last vote that was synced.
    #[must_use]
    pub fn vote(&self) -> Option<Bytes> {
        self.queue.lock().view.vote.clone()
    }

    /// Returns the last commit marker with its index.
    #[must_use]
    pub fn committed(&self) -> Option<(u64, Bytes)> {
        self.queue.lock().view.committed.clone()
    }

    /// Returns the last purged entry's index with the marker given for it.
    #[must_use]
    pub fn purged(&self) -> Option<(u64, Bytes)> {
        self.queue.lock().view.purged.clone()
    }

    /// Returns the first and the last entry, synced or not.
    #[must_use]
    pub fn span(&self) -> Option<(u64, u64)> {
        self.queue.lock().view.entries
    }

    /// Returns the last entry up to which all are synced; `None` while none is.
    #[must_use]
    pub fn synced_index(&self) -> Option<u64> {
        let inner = self.queue.lock();
        let view = &inner.view;
        match view.tail.first_key_value() {
            Some((unsynced, _)) => unsynced.checked_sub(1),
            None => view.last(),
        }
    }

    /// Returns the failure that ended the log, if one has.
    #[must_use]
    pub fn failure(&self) -> Option<WriteError> {
        self.queue.lock().failure().cloned()
    }

    /// Reads the entries of a range, as far as there are any, in order.
    ///
    /// # Errors
    /// Any [`ReadError`].
    pub fn read(&self, range: Range<u64>) -> Result<Vec<(u64, Bytes)>, ReadError> {
        self.read_limited(range, usize::MAX)
    }

    /// Reads entries of a range up to about `bytes_max` bytes of them; one at least if there is any.
    ///
    /// # Errors
    /// Any [`ReadError`].
    pub fn read_limited(
        &self,
        range: Range<u64>,
        bytes_max: usize,
    ) -> Result<Vec<(u64, Bytes)>, ReadError> {
        let Some(visible) = Visible::of(&self.queue, range) else { return Ok(Vec::new()) };
        let mut found = self.read_stored(&visible, bytes_max)?;
        if (found.len() as u64) < visible.stored.end - visible.stored.start {
            return Ok(found);
        }
        let mut bytes: usize = found.iter().map(|(_, entry)| entry.len()).sum();
        for (index, entry) in visible.tail {
            if bytes >= bytes_max && !found.is_empty() {
                break;
            }
            bytes += entry.len();
            found.push((index, entry));
        }
        Ok(found)
    }

    /// Reads what is visible and not in the tail; less of it at the limit, or when somebody removed
    /// entries meanwhile.
    fn read_stored(
        &self,
        visible: &Visible,
        bytes_max: usize,
    ) -> Result<Vec<(u64, Bytes)>, ReadError> {
        let mut found = Vec::new();
        let mut bytes = 0;
        let mut reading = ReadOptions::default();
        reading.set_iterate_upper_bound(keys::entry(visible.stored.end));
        let from = keys::entry(visible.stored.start);
        let mut rows = self.db.iterator_opt(IteratorMode::From(&from, Direction::Forward), reading);
        for index in visible.stored.clone() {
            if bytes >= bytes_max && !found.is_empty() {
                break;
            }
            let row = rows.next().transpose()?;
            let Some((key, framed)) = row.filter(|(key, _)| **key == keys::entry(index)) else {
                return visible.missing(&self.queue, index).map(|()| found);
            };
            let entry = record::unframe("log entry", &key, &framed)?;
            bytes += entry.len();
            found.push((index, Bytes::copy_from_slice(entry)));
        }
        Ok(found)
    }
}

impl Drop for LogDb {
    fn drop(&mut self) {
        self.queue.close();
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the log writer panicked");
        }
    }
}

/// What a reader may see of a range: entries in RocksDB, then entries in memory.
struct Visible {
    stored: Range<u64>,
    tail: Vec<(u64, Bytes)>,
    removals: u64,
}

impl Visible {
    fn of(queue: &Queue, range: Range<u64>) -> Option<Self> {
        let inner = queue.lock();
        let view = &inner.view;
        let (first, last) = view.entries?;
        let range = range.start.max(first)..range.end.min(last.saturating_add(1));
        if range.is_empty() {
            return None;
        }
        let entries = view.tail.range(range.clone());
        let tail: Vec<_> = entries.map(|(index, (_, entry))| (*index, entry.clone())).collect();
        let stored = range.start..tail.first().map_or(range.end, |(index, _)| *index);
        Some(Self { stored, tail, removals: view.removals })
    }

    /// Tells an entry that was removed while we read from one that is lost.
    fn missing(&self, queue: &Queue, index: u64) -> Result<(), ReadError> {
        if queue.lock().view.removals == self.removals {
            return Err(ReadError::Missing(index));
        }
        Ok(())
    }
}

/// Takes the lock of a folder, so that not even the checks run beside another process.
fn lock(folder: &Path) -> Result<File, OpenError> {
    let path = folder.join("lock");
    let file =
        File::options().create(true).truncate(false).write(true).open(&path).at("open", &path)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse(folder.to_owned())),
        Err(TryLockError::Error(source)) => Err(DiskError { action: "lock", path, source }.into()),
    }
}

/// Looks at what a folder holds, and makes the mark of one that holds nothing.
fn look(folder: &Path, identity: Identity) -> Result<(Mark, Recovered), OpenError> {
    let (db, mark) = (folder.join("db"), folder.join("acknowledged"));
    let current = db.join("CURRENT");
    match (Mark::open(&mark)?, current.exists()) {
        (Some(mark), true) => {
            let found = check::check(&db, &mark, identity)?;
            Ok((mark, found))
        }
        (None, true) => Err(OpenError::Missing(mark)),
        (Some(mark), false) if mark.read()?.is_some_and(|batch| batch > 0) => {
            Err(OpenError::Missing(current))
        }
        // RocksDB would begin anew and remove these as left over.
        (_, false) if db.exists() && disk::names(&db)?.iter().any(|name| is_data(name)) => {
            Err(OpenError::Missing(current))
        }
        (_, false) => {
            disk::make_dir(&db)?;
            Ok((Mark::create(&mark)?, Recovered::default()))
        }
    }
}

fn is_data(name: &str) -> bool {
    name.ends_with(".sst") || name.ends_with(".log")
}

/// Makes a change and waits for its fate.
fn wait(change: impl FnOnce(Done) -> Result<(), WriteError>) -> Result<(), WriteError> {
    let (tell, hear) = mpsc::sync_channel(1);
    change(Box::new(move |fate| {
        // The receiver waits below, whatever happens.
        tell.send(fate).ok();
    }))?;
    hear.recv().unwrap_or_else(|_| Err(WriteError::Failed(Arc::new(Failure::WriterGone))))
}

#[cfg(test)]
mod tests;
