//! The Raft log on [`LogDb`].
//!
//! Votes are on disk before [`RaftLogStorage::save_vote`] returns; entries are readable at once and
//! acknowledged when they are on disk. One writer thread keeps votes and entries in order: were an
//! entry to survive a crash and the vote of its term not, an older leader could overwrite it.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, Range, RangeBounds};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use futures::{Stream, TryStreamExt};
use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::{LogState, OptionalSend, RaftLogReader};
use tokio::sync::oneshot;
use twinkeep_storage::log::{Done, WriteError};
use twinkeep_storage::{LogDb, Note, StateDb};

use crate::blocking::blocking;
use crate::boot::{Boot, Shown};
use crate::codec::{decode_entry, decode_log_id, decode_vote};
use crate::codec::{encode_entry, encode_log_id, encode_vote};
use crate::config::ENTRY_BYTES_PER_MESSAGE;
use crate::types::{Entry, LogId, TypeConfig, Vote};

/// Reads of the last entry that somebody removed meanwhile, before it counts as a failure.
const LAST_READS_MAX: usize = 100;

/// The log as openraft uses it. Clones share one database.
#[derive(Clone)]
pub struct LogStore {
    db: Arc<LogDb>,
    /// Made durable before entries that it holds are thrown away.
    state: Arc<StateDb>,
    /// What is remembered of other nodes, written down with the next entries.
    boot: Option<Weak<Boot>>,
}

impl LogStore {
    /// Takes an open log and the state that its entries are applied to.
    #[must_use]
    pub fn new(db: Arc<LogDb>, state: Arc<StateDb>) -> Self {
        Self { db, state, boot: None }
    }

    /// Writes down with entries what the handshake remembers.
    pub(crate) fn remembering(mut self, boot: &Arc<Boot>) -> Self {
        self.boot = Some(Arc::downgrade(boot));
        self
    }

    /// Returns what this disk shows: the last durable vote, and the last entry that can be read. An entry that
    /// is not on the disk yet is shown too: to claim more makes others more careful.
    pub(crate) fn shown(&self) -> io::Result<Shown> {
        let vote = self.db.vote().map(|bytes| decode_vote(&bytes).map_err(damaged)).transpose()?;
        for _ in 0..LAST_READS_MAX {
            let last = self.last_log_id()?;
            // Nothing where there are entries: the last one was removed between two looks.
            if last.is_some() || self.db.span().is_none() {
                return Ok(Shown { vote, last });
            }
        }
        Err(io::Error::other("the end of the log cannot be read"))
    }

    /// Returns the last committed entry, if this disk has it.
    pub(crate) fn committed_and_synced(&self) -> Option<LogId> {
        let (index, marker) = self.db.committed()?;
        // Markers are checked when the log is opened.
        let id = read_log_id(&marker).ok()?;
        (self.db.synced_index() >= Some(index)).then_some(id)
    }

    fn write_down(&self) {
        let boot = self.boot.as_ref().and_then(Weak::upgrade);
        let Some(bytes) = boot.and_then(|boot| boot.ledger.take_unwritten()) else { return };
        if let Err(error) = self.db.save_note_then(Note::Acknowledged, bytes, Box::new(|_| ())) {
            // The failure of the log ends the node, and is told there.
            tracing::debug!(%error, "what others acknowledged was not written down");
        }
    }

    fn last_log_id(&self) -> io::Result<Option<LogId>> {
        let Some((_, last)) = self.db.span() else { return self.purged() };
        let entries = blocking(|| self.db.read(last..last + 1)).map_err(io::Error::other)?;
        let entry = entries.into_iter().next();
        entry.map(|(_, bytes)| Ok(decode(bytes)?.log_id)).transpose()
    }

    fn purged(&self) -> io::Result<Option<LogId>> {
        self.db.purged().map(|(_, marker)| read_log_id(&marker)).transpose()
    }

    /// Reads the entries of a range up to about `bytes_max` bytes of them; one at least if there is any.
    pub(crate) fn read(
        &self,
        range: impl RangeBounds<u64>,
        bytes_max: usize,
    ) -> io::Result<Vec<Entry>> {
        let range = half_open(&range);
        let rows = blocking(|| self.db.read_limited(range, bytes_max)).map_err(io::Error::other)?;
        rows.into_iter().map(|(_, bytes)| decode(bytes)).collect()
    }
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> io::Result<Vec<Entry>>
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        self.read(range, usize::MAX)
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        self.db.vote().map(|bytes| decode_vote(&bytes).map_err(damaged)).transpose()
    }

    // Applied entry by entry, so that a long way behind does not mean much memory.
    async fn entries_stream<RB>(
        &mut self,
        range: RB,
    ) -> impl Stream<Item = io::Result<Entry>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let rest = (self.clone(), half_open(&range));
        let chunks = futures::stream::try_unfold(rest, |(log, rest)| async move {
            let chunk = log.read(rest.clone(), ENTRY_BYTES_PER_MESSAGE)?;
            let Some(last) = chunk.last() else { return Ok(None) };
            let rest = last.log_id.index + 1..rest.end;
            Ok::<_, io::Error>(Some((chunk, (log, rest))))
        });
        chunks.map_ok(|chunk| futures::stream::iter(chunk.into_iter().map(Ok))).try_flatten()
    }

    // One message has room for a few large entries or for many small ones.
    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        self.read(start..end, ENTRY_BYTES_PER_MESSAGE)
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        let last_purged_log_id = self.purged()?;
        Ok(LogState { last_purged_log_id, last_log_id: self.last_log_id()? })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        synced(|done| self.db.save_vote_then(encode_vote(vote).into(), done)).await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        if let Some(id) = committed {
            self.db.save_committed(id.index, marker(&id));
        }
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        self.db.committed().map(|(_, marker)| read_log_id(&marker)).transpose()
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let rows = entries.into_iter().map(|e| (e.log_id.index, encode_entry(&e).into()));
        let rows: Vec<(u64, Bytes)> = rows.collect();
        let done: Done = Box::new(|fate| callback.io_completed(fate.map_err(io::Error::other)));
        self.write_down();
        // Waits only when the disk is far behind, and then everybody has to.
        blocking(|| self.db.append(rows, done)).map_err(io::Error::other)
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> io::Result<()> {
        let last = last_log_id.map(|id| id.index);
        if let Some((committed, _)) = self.db.committed().filter(|(index, _)| last < Some(*index)) {
            return Err(io::Error::other(format!(
                "entry {committed} is committed and the log would end at {last:?}"
            )));
        }
        synced(|done| self.db.truncate_after_then(last, done)).await
    }

    async fn purge(&mut self, log_id: LogId) -> io::Result<()> {
        // Commits to the state are not synced, the purge is. A power cut after it would leave a state
        // below the purged log: the entries between were nowhere, and the node would not start.
        blocking(|| {
            self.state.flush().map_err(io::Error::other)?;
            self.db.purge(log_id.index, marker(&log_id)).map_err(io::Error::other)
        })
    }
}

/// Starts a change and waits until it is on disk.
async fn synced(start: impl FnOnce(Done) -> Result<(), WriteError>) -> io::Result<()> {
    let (tell, hear) = oneshot::channel();
    let done: Done = Box::new(move |fate| {
        // Nobody waits any more when Raft is stopping.
        let _ = tell.send(fate);
    });
    start(done).map_err(io::Error::other)?;
    hear.await.map_err(io::Error::other)?.map_err(io::Error::other)
}

pub(crate) fn marker(id: &LogId) -> Bytes {
    Bytes::copy_from_slice(&encode_log_id(id))
}

fn read_log_id(marker: &[u8]) -> io::Result<LogId> {
    decode_log_id(marker).map_err(damaged)
}

fn decode(bytes: Bytes) -> io::Result<Entry> {
    decode_entry(bytes).map_err(damaged)
}

fn damaged(error: crate::codec::Malformed) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

fn half_open(range: &impl RangeBounds<u64>) -> Range<u64> {
    let start = match range.start_bound() {
        Bound::Included(start) => *start,
        Bound::Excluded(start) => start.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(end) => end.saturating_add(1),
        Bound::Excluded(end) => *end,
        Bound::Unbounded => u64::MAX,
    };
    start..end
}
