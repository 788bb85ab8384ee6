//! What callers and the writer thread share: the queue of changes, and the view that readers see.
//!
//! A change is visible when it is queued and durable when it is synced. What is visible and not yet
//! in RocksDB is kept in `tail`.

use std::collections::{BTreeMap, VecDeque};
use std::ops::RangeInclusive;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex, MutexGuard};

use super::Note;
use super::check::Recovered;
use crate::disk::DiskError;

/// Changes that may wait for the writer; further callers wait for room.
const QUEUED_CHANGES_MAX: usize = 1024;
/// Bytes of entries that may wait for the writer; further callers wait for room.
const QUEUED_BYTES_MAX: usize = 64 << 20;
/// Bytes of entries after which a write batch takes no more changes.
const BATCH_BYTES_MAX: usize = 8 << 20;

/// Called once with the fate of a change, on the writer thread, in the order of the changes.
/// It must return soon and not wait for another change of the same log.
pub type Done = Box<dyn FnOnce(Result<(), WriteError>) + Send>;

/// Why a change was not made durable.
#[derive(Debug, Clone, thiserror::Error)]
pub enum WriteError {
    /// A write or sync failed. The log takes no more changes; the process has to end.
    #[error("the log failed and takes no more writes")]
    Failed(#[source] Arc<Failure>),
    /// The entry does not follow the last one. Nothing was changed.
    #[error("entry {found} does not follow entry {last}")]
    Gap {
        /// The last entry of the log.
        last: u64,
        /// The entry that was to be added.
        found: u64,
    },
    /// The change would take back what was purged. Nothing was changed.
    #[error("entries up to {purged} are purged, the log cannot end at {wanted:?}")]
    Purged {
        /// The last purged entry.
        purged: u64,
        /// Where the log was to end.
        wanted: Option<u64>,
    },
}

/// The first failure of the writer.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// RocksDB could not write or sync.
    #[error("rocksdb could not write")]
    Rocks(#[from] rocksdb::Error),
    /// The mark beside it could not be written.
    #[error("the acknowledged mark could not be written")]
    Mark(#[from] DiskError),
    /// The writer thread ended before it took the change.
    #[error("the writer is gone")]
    WriterGone,
}

/// A change, as the writer turns it into puts and deletes.
pub(super) enum Change {
    Vote(Bytes),
    Append(Vec<(u64, Bytes)>),
    /// Entries to remove.
    Truncate(RangeInclusive<u64>),
    Purge {
        upto: u64,
        marker: Bytes,
        entries: Option<RangeInclusive<u64>>,
    },
    Snapshot(u64),
    Note(Note, Bytes),
}

impl Change {
    /// Changes nothing and keeps its place in the order.
    const NOTHING: Self = Self::Append(Vec::new());

    fn size_bytes(&self) -> usize {
        match self {
            Self::Append(entries) => entries.iter().map(|(_, entry)| entry.len()).sum(),
            _ => 0,
        }
    }
}

pub(super) struct Queued {
    pub(super) ticket: u64,
    pub(super) change: Change,
    pub(super) done: Done,
}

/// What the writer takes at once.
pub(super) struct Batch {
    pub(super) changes: VecDeque<Queued>,
    /// The commit marker, if it moved since the last batch.
    pub(super) committed: Option<(u64, Bytes)>,
}

pub(super) struct Queue {
    inner: Mutex<Inner>,
    work: Condvar,
    room: Condvar,
    /// Told after each sync, and after the failure.
    settled: Condvar,
}

pub(super) struct Inner {
    pub(super) view: View,
    changes: VecDeque<Queued>,
    bytes: usize,
    next_ticket: u64,
    closing: bool,
    failure: Option<WriteError>,
}

/// What readers see.
pub(super) struct View {
    /// First and last entry.
    pub(super) entries: Option<(u64, u64)>,
    pub(super) purged: Option<(u64, Bytes)>,
    /// The last durable vote.
    pub(super) vote: Option<Bytes>,
    pub(super) committed: Option<(u64, Bytes)>,
    committed_moved: bool,
    pub(super) snapshot: Option<u64>,
    pub(super) notes: [Option<Bytes>; Note::ALL.len()],
    /// Entries that RocksDB may not have yet, with the ticket of the change that brought them.
    pub(super) tail: BTreeMap<u64, (u64, Bytes)>,
    /// Counts truncations and purges, so that a reader can tell a removed entry from a lost one.
    pub(super) removals: u64,
}

impl View {
    /// The last entry that the log accounts for, purged ones included.
    pub(super) fn last(&self) -> Option<u64> {
        self.entries.map(|(_, last)| last).max(self.purged_upto())
    }

    pub(super) fn purged_upto(&self) -> Option<u64> {
        self.purged.as_ref().map(|(index, _)| *index)
    }

    pub(super) fn set_committed(&mut self, index: u64, marker: Bytes) {
        self.committed = Some((index, marker));
        self.committed_moved = true;
    }

    pub(super) fn take_committed(&mut self) -> Option<(u64, Bytes)> {
        std::mem::take(&mut self.committed_moved).then(|| self.committed.clone()).flatten()
    }

    /// Adds entries that follow each other and the last one.
    fn append(&mut self, ticket: u64, entries: &[(u64, Bytes)]) -> Result<(), WriteError> {
        let mut last = self.last();
        for (index, _) in entries {
            match last {
                Some(last) if last.checked_add(1) != Some(*index) => {
                    return Err(WriteError::Gap { last, found: *index });
                }
                _ => last = Some(*index),
            }
        }
        let (Some((first, _)), Some(last)) = (entries.first(), last) else { return Ok(()) };
        self.entries = Some((self.entries.map_or(*first, |(first, _)| first), last));
        self.tail.extend(entries.iter().map(|(index, entry)| (*index, (ticket, entry.clone()))));
        Ok(())
    }

    /// Removes the entries after `last`; returns the range that was there.
    fn truncate_after(
        &mut self,
        last: Option<u64>,
    ) -> Result<Option<RangeInclusive<u64>>, WriteError> {
        if let Some(purged) = self.purged_upto().filter(|purged| last < Some(*purged)) {
            return Err(WriteError::Purged { purged, wanted: last });
        }
        let Some((first, end)) = self.entries else { return Ok(None) };
        let from = last.map_or(0, |last| last.saturating_add(1)).max(first);
        if from > end || last == Some(u64::MAX) {
            return Ok(None);
        }
        self.entries = (from > first).then(|| (first, from - 1));
        self.tail.split_off(&from);
        self.removals += 1;
        Ok(Some(from..=end))
    }

    /// Removes the entries up to `upto`, which is beyond what was purged; returns the range that was there.
    fn purge(&mut self, upto: u64, marker: Bytes) -> Option<RangeInclusive<u64>> {
        self.purged = Some((upto, marker));
        let (first, last) = self.entries.filter(|(first, _)| *first <= upto)?;
        self.entries = (last > upto).then_some((upto.saturating_add(1), last));
        self.tail = match self.entries {
            Some((first, _)) => self.tail.split_off(&first),
            None => BTreeMap::new(),
        };
        self.removals += 1;
        Some(first..=last.min(upto))
    }
}

impl Queue {
    pub(super) fn new(found: Recovered) -> Self {
        let view = View {
            entries: found.entries,
            purged: found.purged,
            vote: found.vote,
            committed: found.committed,
            committed_moved: false,
            snapshot: found.snapshot,
            notes: found.notes,
            tail: BTreeMap::new(),
            removals: 0,
        };
        let inner = Inner {
            view,
            changes: VecDeque::new(),
            bytes: 0,
            next_ticket: 0,
            closing: false,
            failure: None,
        };
        Self {
            inner: Mutex::new(inner),
            work: Condvar::new(),
            room: Condvar::new(),
            settled: Condvar::new(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock()
    }

    pub(super) fn vote(&self, vote: Bytes, done: Done) -> Result<(), WriteError> {
        self.submit(done, |_, _| Ok(Change::Vote(vote)))
    }

    pub(super) fn append(&self, entries: Vec<(u64, Bytes)>, done: Done) -> Result<(), WriteError> {
        self.submit(done, |view, ticket| {
            view.append(ticket, &entries)?;
            Ok(Change::Append(entries))
        })
    }

    pub(super) fn truncate_after(&self, last: Option<u64>, done: Done) -> Result<(), WriteError> {
        self.submit(done, |view, _| {
            let removed = view.truncate_after(last)?;
            Ok(removed.map_or(Change::NOTHING, Change::Truncate))
        })
    }

    pub(super) fn purge(&self, upto: u64, marker: Bytes, done: Done) -> Result<(), WriteError> {
        self.submit(done, |view, _| {
            if view.purged_upto() >= Some(upto) {
                // An older marker over a newer one would claim entries that are gone.
                return Ok(Change::NOTHING);
            }
            let entries = view.purge(upto, marker.clone());
            Ok(Change::Purge { upto, marker, entries })
        })
    }

    pub(super) fn snapshot(&self, index: u64, done: Done) -> Result<(), WriteError> {
        self.submit(done, |view, _| {
            let furthest = index.max(view.snapshot.unwrap_or(0));
            view.snapshot = Some(furthest);
            Ok(Change::Snapshot(furthest))
        })
    }

    pub(super) fn note(&self, note: Note, bytes: Bytes, done: Done) -> Result<(), WriteError> {
        self.submit(done, |view, _| {
            view.notes[note as usize] = Some(bytes.clone());
            Ok(Change::Note(note, bytes))
        })
    }

    /// Changes the view and queues the change, in one step so that both have the same order.
    fn submit(
        &self,
        done: Done,
        change: impl FnOnce(&mut View, u64) -> Result<Change, WriteError>,
    ) -> Result<(), WriteError> {
        let mut inner = self.inner.lock();
        while inner.is_full() && inner.failure.is_none() {
            self.room.wait(&mut inner);
        }
        if let Some(failure) = &inner.failure {
            return Err(failure.clone());
        }
        let ticket = inner.next_ticket;
        let change = change(&mut inner.view, ticket)?;
        inner.next_ticket += 1;
        inner.bytes += change.size_bytes();
        inner.changes.push_back(Queued { ticket, change, done });
        drop(inner);
        self.work.notify_one();
        Ok(())
    }

    /// Waits for changes and takes what has gathered; `None` when the log closes and all is done.
    pub(super) fn take(&self) -> Option<Batch> {
        let mut inner = self.inner.lock();
        while inner.changes.is_empty() && !inner.closing && inner.failure.is_none() {
            self.work.wait(&mut inner);
        }
        if inner.failure.is_some() {
            return None;
        }
        let changes = inner.take_changes();
        // The marker may speak of entries that this batch has no room for. On disk before them, it
        // would make the log of a node that died in between look damaged.
        let is_all_taken = inner.changes.is_empty();
        let committed = is_all_taken.then(|| inner.view.take_committed()).flatten();
        drop(inner);
        self.room.notify_all();
        (!changes.is_empty() || committed.is_some()).then_some(Batch { changes, committed })
    }

    /// Notes that the changes are in RocksDB and synced.
    pub(super) fn synced(&self, changes: &VecDeque<Queued>) {
        let mut inner = self.inner.lock();
        for Queued { ticket, change, .. } in changes {
            match change {
                Change::Vote(vote) => inner.view.vote = Some(vote.clone()),
                Change::Append(entries) => inner.view.forget(*ticket, entries),
                Change::Truncate(_)
                | Change::Purge { .. }
                | Change::Snapshot(_)
                | Change::Note(..) => {}
            }
        }
        drop(inner);
        self.settled.notify_all();
    }

    /// Waits until no entry up to `index` is left that is only in memory.
    pub(super) fn wait_synced(&self, index: u64) -> Result<(), WriteError> {
        let mut inner = self.inner.lock();
        while inner.view.tail.range(..=index).next().is_some() {
            if let Some(failure) = &inner.failure {
                return Err(failure.clone());
            }
            self.settled.wait(&mut inner);
        }
        Ok(())
    }

    /// Refuses everything from now on; returns with what, and who still waits for an answer.
    pub(super) fn fail(&self, failure: Failure) -> (WriteError, VecDeque<Queued>) {
        let failure = WriteError::Failed(Arc::new(failure));
        let mut inner = self.inner.lock();
        let first = inner.failure.get_or_insert(failure).clone();
        let waiting = std::mem::take(&mut inner.changes);
        drop(inner);
        self.room.notify_all();
        self.settled.notify_all();
        (first, waiting)
    }

    pub(super) fn close(&self) {
        self.inner.lock().closing = true;
        self.work.notify_all();
    }
}

impl View {
    /// Drops entries from the tail that RocksDB has now, unless a later change replaced them.
    fn forget(&mut self, ticket: u64, entries: &[(u64, Bytes)]) {
        for (index, _) in entries {
            if self.tail.get(index).is_some_and(|(brought_by, _)| *brought_by == ticket) {
                self.tail.remove(index);
            }
        }
    }
}

impl Inner {
    pub(super) fn failure(&self) -> Option<&WriteError> {
        self.failure.as_ref()
    }

    fn is_full(&self) -> bool {
        self.changes.len() >= QUEUED_CHANGES_MAX || self.bytes >= QUEUED_BYTES_MAX
    }

    fn take_changes(&mut self) -> VecDeque<Queued> {
        let mut taken = VecDeque::new();
        let mut bytes = 0;
        while bytes < BATCH_BYTES_MAX
            && let Some(queued) = self.changes.pop_front()
        {
            bytes += queued.change.size_bytes();
            taken.push_back(queued);
        }
        self.bytes -= bytes;
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ignore() -> Done {
        Box::new(|_| ())
    }

    fn entries(range: std::ops::Range<u64>) -> Vec<(u64, Bytes)> {
        range.map(|index| (index, Bytes::from(index.to_string()))).collect()
    }

    fn queue() -> Queue {
        Queue::new(Recovered::default())
    }

    #[test]
    fn gap_is_refused_and_changes_nothing() {
        let queue = queue();
        queue.append(entries(3..6), ignore()).unwrap();
        for bad in [entries(7..8), entries(5..6), [entries(6..7), entries(8..9)].concat()] {
            assert!(matches!(queue.append(bad, ignore()), Err(WriteError::Gap { .. })));
        }
        assert_eq!(queue.lock().view.entries, Some((3, 5)));
        assert_eq!(queue.take().unwrap().changes.len(), 1);
    }

    #[test]
    fn log_does_not_end_below_what_was_purged() {
        let queue = queue();
        queue.append(entries(1..9), ignore()).unwrap();
        queue.purge(4, Bytes::new(), ignore()).unwrap();
        let refused = queue.truncate_after(Some(3), ignore()).unwrap_err();
        assert!(matches!(refused, WriteError::Purged { purged: 4, wanted: Some(3) }));
        queue.truncate_after(Some(4), ignore()).unwrap();
        assert_eq!(queue.lock().view.entries, None);
        assert_eq!(queue.lock().view.last(), Some(4));
        queue.append(entries(5..6), ignore()).unwrap();
    }

    #[test]
    fn purging_beyond_the_end_moves_the_end() {
        let queue = queue();
        queue.append(entries(1..3), ignore()).unwrap();
        queue.purge(10, Bytes::new(), ignore()).unwrap();
        assert_eq!(queue.lock().view.last(), Some(10));
        assert!(queue.append(entries(3..4), ignore()).is_err());
        queue.append(entries(11..12), ignore()).unwrap();
    }

    #[test]
    fn older_purge_and_older_snapshot_do_not_take_back_the_newer() {
        let queue = queue();
        queue.append(entries(1..9), ignore()).unwrap();
        queue.purge(6, Bytes::from("new"), ignore()).unwrap();
        queue.purge(2, Bytes::from("old"), ignore()).unwrap();
        queue.snapshot(20, ignore()).unwrap();
        queue.snapshot(10, ignore()).unwrap();
        let changes = queue.take().unwrap().changes;
        assert!(matches!(changes[1].change, Change::Purge { upto: 6, .. }));
        assert!(matches!(&changes[2].change, Change::Append(entries) if entries.is_empty()));
        assert!(matches!(changes[4].change, Change::Snapshot(20)));
        assert_eq!(queue.lock().view.purged, Some((6, Bytes::from("new"))));
    }

    #[test]
    fn replaced_entry_stays_in_the_tail_when_its_forerunner_is_synced() {
        let queue = queue();
        queue.append(entries(1..3), ignore()).unwrap();
        let first = queue.take().unwrap();
        queue.truncate_after(Some(1), ignore()).unwrap();
        queue.append(vec![(2, Bytes::from("new"))], ignore()).unwrap();
        queue.synced(&first.changes);
        let inner = queue.lock();
        assert_eq!(inner.view.tail.len(), 1);
        assert_eq!(inner.view.tail[&2].1, "new");
    }

    #[test]
    fn failure_hands_back_those_who_wait_and_refuses_those_who_come() {
        let queue = queue();
        queue.append(entries(1..2), ignore()).unwrap();
        let (_, waiting) = queue.fail(Failure::WriterGone);
        assert_eq!(waiting.len(), 1);
        assert!(matches!(queue.vote(Bytes::new(), ignore()), Err(WriteError::Failed(_))));
        assert!(queue.take().is_none());
    }

    #[test]
    fn entries_are_waited_for_until_their_own_batch_is_synced() {
        let queue = queue();
        queue.append(entries(1..3), ignore()).unwrap();
        let first = queue.take().unwrap();
        queue.append(entries(3..4), ignore()).unwrap();
        let second = queue.take().unwrap();
        std::thread::scope(|scope| {
            let until_2 = scope.spawn(|| queue.wait_synced(2));
            let until_3 = scope.spawn(|| queue.wait_synced(3));
            queue.synced(&first.changes);
            until_2.join().unwrap().unwrap();
            assert!(!until_3.is_finished());
            queue.synced(&second.changes);
            until_3.join().unwrap().unwrap();
        });
        queue.wait_synced(9).unwrap();
    }

    #[test]
    fn failure_ends_the_wait_for_a_sync() {
        let queue = queue();
        queue.append(entries(1..2), ignore()).unwrap();
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| queue.wait_synced(1));
            queue.fail(Failure::WriterGone);
            assert!(matches!(waiter.join().unwrap(), Err(WriteError::Failed(_))));
        });
    }

    /// A node died between two batches. The first said that the entries of the second were committed,
    /// and the log was refused as one that had lost them.
    #[test]
    fn commit_marker_waits_for_the_entries_it_speaks_of() {
        let queue = queue();
        let big = Bytes::from(vec![0; BATCH_BYTES_MAX]);
        queue.append(vec![(1, big.clone())], ignore()).unwrap();
        queue.append(vec![(2, big)], ignore()).unwrap();
        queue.lock().view.set_committed(2, Bytes::new());
        assert_eq!(queue.take().unwrap().committed, None);
        assert_eq!(queue.take().unwrap().committed, Some((2, Bytes::new())));
    }

    #[test]
    fn batch_takes_no_more_than_its_limit() {
        let queue = queue();
        let big = Bytes::from(vec![0; BATCH_BYTES_MAX / 2 + 1]);
        for index in 1..=4 {
            queue.append(vec![(index, big.clone())], ignore()).unwrap();
        }
        assert_eq!(queue.take().unwrap().changes.len(), 2);
        assert_eq!(queue.take().unwrap().changes.len(), 2);
    }
}
