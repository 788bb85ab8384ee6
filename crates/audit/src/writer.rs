//! The one thread that writes a log: frames what has gathered, writes it, syncs it, reports it.
//!
//! While one commit is on its way to the disk the next one gathers, so that a slow disk gets larger commits;
//! on a fast one `queue` lets records gather for a moment.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tracing::{debug, info, warn};
use twinkeep_core::clock::Clock;

use crate::device::{Device, ZEROS};
use crate::directory::Directory;
use crate::error::Outage;
use crate::frame::{self, Head};
use crate::log::Identity;
use crate::metrics::sync_seconds;
use crate::queue::{Pending, Queue, Work};
use crate::record::{Entry, EventId, Mark, MarkEvent, Stamp, VERSION};
use crate::reserve::Reserve;
use crate::segment::{self, Header};

/// Most bytes of one commit, so that a burst costs neither memory for ever nor one long sync.
const COMMIT_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Pause before the log tries a full disk again, or fills its reserve again.
pub(crate) const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Counts of a log since it was opened, for whoever shows them.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) commits: AtomicU64,
    pub(crate) records: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) spares: AtomicUsize,
    pub(crate) spares_missing: AtomicUsize,
}

/// The open segment.
pub(crate) struct Open {
    pub(crate) file: File,
    pub(crate) number: u64,
    pub(crate) offset: u64,
    pub(crate) capacity: u64,
    /// Offset in bytes up to which the file's blocks are written and not only allocated.
    pub(crate) ready: u64,
}

/// Writes the segments of a log.
pub(crate) struct Writer {
    _lock: Arc<Directory>,
    identity: Identity,
    device: Arc<dyn Device>,
    reserve: Reserve,
    clock: Arc<dyn Clock>,
    segment_bytes: u64,
    counters: Arc<Counters>,
    /// Drawn when the log is opened; sequence numbers are added to it. See [`EventId`].
    event_base: u128,
    open: Option<Open>,
    head: Head,
    /// The frames of one commit; kept for its memory.
    frames: Vec<u8>,
    fill_failed_at: Option<Duration>,
    sync_seconds: metrics::Histogram,
}

/// What a new writer starts from.
pub(crate) struct Parts {
    pub(crate) lock: Arc<Directory>,
    pub(crate) identity: Identity,
    pub(crate) device: Arc<dyn Device>,
    pub(crate) reserve: Reserve,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) segment_bytes: u64,
    pub(crate) event_base: u128,
    pub(crate) open: Option<Open>,
    pub(crate) head: Head,
}

impl Writer {
    pub(crate) fn new(parts: Parts) -> Self {
        Self {
            _lock: parts.lock,
            identity: parts.identity,
            device: parts.device,
            reserve: parts.reserve,
            clock: parts.clock,
            segment_bytes: parts.segment_bytes,
            counters: Arc::default(),
            event_base: parts.event_base,
            open: parts.open,
            head: parts.head,
            frames: Vec::new(),
            fill_failed_at: None,
            sync_seconds: sync_seconds(),
        }
    }

    pub(crate) fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    pub(crate) const fn head(&self) -> Head {
        self.head
    }

    /// Writes until the log is to end or the disk fails for good.
    pub(crate) fn run(self, queue: &Queue) {
        let mut ended = Ended { queue, outage: Outage::Crashed };
        // Dropped before `ended` tells of it, and with it the lock: the log can be opened again then.
        let mut writer = self;
        ended.outage = writer.work(queue);
    }

    fn work(&mut self, queue: &Queue) -> Outage {
        let mut batch = VecDeque::new();
        loop {
            match queue.take(&mut batch) {
                Work::Commit => {}
                Work::End { closed: false } => return Outage::Closed,
                Work::End { closed: true } => return self.close(queue),
            }
            if let Err(outage) = self.commit_all(&mut batch, queue) {
                return outage;
            }
            self.fill_reserve();
        }
    }

    /// Commits the batch, waiting for room where there is none.
    fn commit_all(&mut self, batch: &mut VecDeque<Pending>, queue: &Queue) -> Result<(), Outage> {
        while !batch.is_empty() {
            match self.commit(batch) {
                Ok(records) => queue.committed(self.head, records, batch.front()),
                Err(outage) => {
                    warn!(error = %outage, records = batch.len(), "audit log takes no records");
                    queue.fail(outage);
                    if !outage.passes() || !queue.pause(RETRY_PAUSE) {
                        return Err(outage);
                    }
                }
            }
        }
        Ok(())
    }

    /// Writes and syncs as many records as the segment takes, and takes them out of the batch. After
    /// an error nothing is taken out, and the next try writes the same bytes at the same place.
    pub(crate) fn commit(&mut self, batch: &mut VecDeque<Pending>) -> Result<usize, Outage> {
        let (mut records, mut head) = self.gather(batch);
        if records == 0 {
            self.rotate()?;
            (records, head) = self.gather(batch);
        }
        let open = self.open.as_mut().expect("rotation leaves a segment open");
        let began = Instant::now();
        let end = open.offset + self.frames.len() as u64;
        if let Err(error) = make_ready(&*self.device, open, end) {
            // The records may have room all the same.
            debug!(%error, "audit segment is not written ahead");
        }
        self.device
            .write(&open.file, &self.frames, open.offset)
            .map_err(|error| Outage::of_write("write an audit segment", &error))?;
        self.device.sync(&open.file).map_err(|error| Outage::of_sync(&error))?;
        self.sync_seconds.record(began.elapsed());
        open.offset = end;
        self.head = head;
        batch.drain(..records);
        self.counters.commits.fetch_add(1, Ordering::Relaxed);
        self.counters.records.fetch_add(records as u64, Ordering::Relaxed);
        self.counters.bytes.fetch_add(self.frames.len() as u64, Ordering::Relaxed);
        Ok(records)
    }

    /// Frames what fits into the open segment; returns how many records that are, and the head with
    /// them.
    fn gather(&mut self, batch: &VecDeque<Pending>) -> (usize, Head) {
        self.frames.clear();
        let mut head = self.head;
        let room = self.open.as_ref().map_or(0, |open| open.capacity.saturating_sub(open.offset));
        let room = room.min(COMMIT_BYTES_MAX);
        let mut stamp = self.stamp();
        for (place, pending) in (0..).zip(batch) {
            let random = self.event_base.wrapping_add(u128::from(pending.sequence));
            stamp.sequence = pending.sequence;
            stamp.event = EventId::new(pending.time_unix_ns, random);
            let start = self.frames.len();
            let record = |out: &mut Vec<u8>| stamp.write_record(&pending.entry, out);
            let chain = frame::push(&mut self.frames, head.chain, pending.sequence, place, record);
            if self.frames.len() as u64 > room {
                self.frames.truncate(start);
                return (place as usize, head);
            }
            head = Head { sequence: pending.sequence, chain };
        }
        (batch.len(), head)
    }

    /// Returns the stamp of a record that is still to be named.
    fn stamp(&self) -> Stamp {
        Stamp {
            version: VERSION,
            sequence: 0,
            event: EventId::new(0, 0),
            cluster: self.identity.cluster,
            node: self.identity.node,
            zone: self.identity.zone.clone(),
        }
    }

    /// Returns the header of the segment that follows the log's head.
    fn header(&self, number: u64) -> Header {
        Header {
            cluster: self.identity.cluster,
            node: self.identity.node,
            number,
            first_sequence: self.head.sequence + 1,
            previous: self.head.chain,
        }
    }

    /// Begins a new segment.
    fn rotate(&mut self) -> Result<(), Outage> {
        let number = self.open.as_ref().map_or(1, |open| open.number + 1);
        let header = self.header(number);
        let file = self
            .reserve
            .take(&header)
            .map_err(|error| Outage::of_write("make an audit segment", &error))?;
        let offset = segment::HEADER_BYTES as u64;
        let next = Open { file, number, offset, capacity: self.segment_bytes, ready: offset };
        self.head.chain = header.chain();
        if let Some(full) = self.open.replace(next) {
            // Gives back what the last record left free. If it fails the file stays longer, with zeros.
            if let Err(error) = full.file.set_len(full.offset) {
                warn!(segment = full.number, %error, "full audit segment keeps its unused room");
            }
        }
        self.count_spares();
        Ok(())
    }

    /// Fills the reserve if it is short, not more often than every [`RETRY_PAUSE`] while it fails.
    pub(crate) fn fill_reserve(&mut self) {
        let now = self.clock.elapsed();
        let waits = self.fill_failed_at.is_some_and(|at| now.saturating_sub(at) < RETRY_PAUSE);
        if !self.reserve.is_short() || waits {
            return;
        }
        match self.reserve.fill() {
            Ok(()) => {
                if self.fill_failed_at.take().is_some() {
                    info!("audit reserve is whole again");
                }
            }
            Err(error) => {
                if self.fill_failed_at.replace(now).is_none() {
                    let spares = self.reserve.spares();
                    warn!(%error, spares, "audit reserve cannot be filled: make room on the disk");
                }
            }
        }
        self.count_spares();
    }

    fn count_spares(&self) {
        self.counters.spares.store(self.reserve.spares(), Ordering::Relaxed);
        self.counters.spares_missing.store(self.reserve.missing(), Ordering::Relaxed);
    }

    /// Writes a mark in a commit of its own, so that what stands before it is known to be synced.
    pub(crate) fn mark(&mut self, sequence: u64, event: MarkEvent) -> Result<(), Outage> {
        let time_unix_ns = self.clock.unix_ms().saturating_mul(1_000_000);
        let entry = Entry::Mark(Mark { time_unix_ns, event }).to_bytes();
        let queued_at = self.clock.elapsed();
        let mut batch = VecDeque::from([Pending { sequence, time_unix_ns, entry, queued_at }]);
        self.commit(&mut batch).map(drop)
    }

    fn close(&mut self, queue: &Queue) -> Outage {
        match self.mark(queue.next_sequence(), MarkEvent::Closed) {
            Ok(()) => {
                queue.committed(self.head, 0, None);
                Outage::Closed
            }
            Err(outage) => outage,
        }
    }
}

/// Writes a piece of the segment ahead, as zeros, if a commit up to `end` comes to room that was only allocated. Such
/// room reads as zeros anyway; but the first write to it changes the file's extents, and its sync has to write
/// those too. So they change for hundreds of records at once, and other commits sync the records and nothing else.
fn make_ready(device: &dyn Device, open: &mut Open, end: u64) -> io::Result<()> {
    if end <= open.ready {
        return Ok(());
    }
    let room = usize::try_from(open.capacity.saturating_sub(end)).unwrap_or(usize::MAX);
    let ahead = ZEROS.len().min(room);
    device.write(&open.file, &ZEROS[..ahead], end)?;
    open.ready = end + ahead as u64;
    Ok(())
}

/// Tells the queue that the writer ended, even if it ended by a panic.
struct Ended<'a> {
    queue: &'a Queue,
    outage: Outage,
}

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.queue.ended(self.outage);
    }
}
