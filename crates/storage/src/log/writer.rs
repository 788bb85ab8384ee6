//! The one thread that writes: takes what has gathered, writes one batch, syncs it, answers in order.
//!
//! No batch is written before the one before it is synced. [`super::wal`] rests on that.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Instant;

use rocksdb::{DB, WriteBatch, WriteOptions};

use super::mark::Mark;
use super::queue::{Batch, Change, Failure, Queue};
use super::{Durability, keys};
use crate::metrics::LogMeter;
use crate::recent::RecentTimes;
use crate::record;

/// From this many entries on, a removal is one range tombstone instead of a tombstone each. Reads
/// pay for every range tombstone until it is compacted away.
const RANGE_DELETE_FROM: u64 = 64;

pub(super) struct Writer {
    db: Arc<DB>,
    queue: Arc<Queue>,
    mark: Mark,
    /// Number of the last write batch.
    batch: u64,
    options: WriteOptions,
    meter: LogMeter,
    syncs: Arc<RecentTimes>,
}

impl Writer {
    pub(super) fn new(
        db: Arc<DB>,
        queue: Arc<Queue>,
        mark: Mark,
        batch: u64,
        durability: Durability,
    ) -> Self {
        let mut options = WriteOptions::default();
        options.set_sync(durability == Durability::Synced);
        Self { db, queue, mark, batch, options, meter: LogMeter::default(), syncs: Arc::default() }
    }

    /// Returns where the times of the last syncs stand.
    pub(super) fn syncs(&self) -> Arc<RecentTimes> {
        Arc::clone(&self.syncs)
    }

    /// Writes until the log closes or fails.
    pub(super) fn run(mut self) {
        let queue = Arc::clone(&self.queue);
        while let Some(batch) = queue.take() {
            let mut taken = Taken { queue: &queue, batch };
            if let Err(failure) = self.commit(&taken.batch) {
                tracing::error!(error = %failure, "the log failed, the process has to end");
                taken.fail(failure);
                return;
            }
            queue.synced(&taken.batch.changes);
            while let Some(queued) = taken.batch.changes.pop_front() {
                (queued.done)(Ok(()));
            }
        }
        if let Err(error) = self.mark.sync() {
            tracing::warn!(%error, "the acknowledged mark was not synced at closing");
        }
    }

    /// Writes and syncs one batch with everything in it.
    #[expect(clippy::cast_precision_loss, reason = "the queue holds far fewer than 2^52 changes")]
    pub(super) fn commit(&mut self, batch: &Batch) -> Result<(), Failure> {
        let mut rows = Rows::default();
        for queued in &batch.changes {
            rows.add(&queued.change);
        }
        if let Some((index, marker)) = &batch.committed {
            rows.put(keys::COMMITTED, &keys::numbered(*index, marker));
        }
        let began = Instant::now();
        self.write(rows)?;
        let took = began.elapsed();
        self.meter.sync.record(took);
        self.syncs.note(took);
        self.meter.changes.record(batch.changes.len() as f64);
        Ok(())
    }

    /// Writes the identity stamp, the first batch of all.
    pub(super) fn stamp(&mut self, stamp: &[u8]) -> Result<(), Failure> {
        let mut rows = Rows::default();
        rows.put(keys::IDENTITY, stamp);
        self.write(rows)
    }

    fn write(&mut self, mut rows: Rows) -> Result<(), Failure> {
        let number = self.batch + 1;
        rows.put(keys::BATCH, &number.to_be_bytes());
        self.db.write_opt(rows.0, &self.options)?;
        self.batch = number;
        Ok(self.mark.raise(number)?)
    }
}

/// A batch at work, with those who were not answered yet.
struct Taken<'a> {
    queue: &'a Queue,
    batch: Batch,
}

impl Taken<'_> {
    /// Ends the log and tells everybody. Whoever hears of it finds the log failed already.
    fn fail(&mut self, failure: Failure) {
        let (error, waiting) = self.queue.fail(failure);
        let unanswered = self.batch.changes.drain(..).chain(waiting);
        unanswered.for_each(|queued| (queued.done)(Err(error.clone())));
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // A callback panicked. Nobody may wait for a writer that is gone.
            self.fail(Failure::WriterGone);
        }
    }
}

/// A write batch of framed records.
#[derive(Default)]
struct Rows(WriteBatch);

impl Rows {
    fn add(&mut self, change: &Change) {
        match change {
            Change::Vote(vote) => self.put(keys::VOTE, vote),
            Change::Append(entries) => {
                for (index, entry) in entries {
                    self.put(&keys::entry(*index), entry);
                }
            }
            Change::Truncate(entries) => self.remove(entries),
            Change::Purge { upto, marker, entries } => {
                self.put(keys::PURGED, &keys::numbered(*upto, marker));
                entries.iter().for_each(|entries| self.remove(entries));
            }
            Change::Snapshot(index) => self.put(keys::SNAPSHOT, &index.to_be_bytes()),
            Change::Note(note, bytes) => self.put(note.key(), bytes),
        }
    }

    fn put(&mut self, key: &[u8], payload: &[u8]) {
        self.0.put(key, record::frame(key, payload));
    }

    fn remove(&mut self, entries: &RangeInclusive<u64>) {
        let (first, last) = (*entries.start(), *entries.end());
        if last - first < RANGE_DELETE_FROM || last == u64::MAX {
            entries.clone().for_each(|index| self.0.delete(keys::entry(index)));
        } else {
            self.0.delete_range(keys::entry(first), keys::entry(last + 1));
        }
    }
}
