//! The log of a node: opened once, written by one thread, closed at the end.
//!
//! What a caller may rely on:
//! - A record whose [`Ticket::durable`] returned `Ok` survives a crash of the process and of the
//!   machine.
//! - Of the calls answered after [`Ticket::queued`] a crash can lose those of at most
//!   [`LOSS_WINDOW`]: once the oldest record has waited that long for the disk, later ones wait for
//!   it too, and also while the queue is half full: a burst is slowed down before it is refused. The next
//!   run marks the loss.
//! - Nothing waits longer than [`Options::stall_limit`] for a disk that does not answer.
//! - When a record cannot be kept, [`Log::permit`] says so before the work is done.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use ring::rand::{SecureRandom as _, SystemRandom};
use tracing::warn;
use twinkeep_core::clock::Clock;
use twinkeep_core::id::{ClusterId, NodeId};
use twinkeep_core::name::ZoneName;

use crate::call::Call;
use crate::device::{Device, Files};
use crate::directory::Directory;
use crate::error::{AppendError, OpenError, Outage};
use crate::frame::Head;
use crate::queue::{Place, Queue};
use crate::record::{self, MarkEvent};
use crate::recover;
use crate::reserve::Reserve;
use crate::segment::{SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN};
use crate::tail::Tail;
use crate::ticket::Ticket;
use crate::writer::{Counters, Open, Parts, Writer};

/// The span of time whose records one crash can lose, of calls that did not wait for the disk.
pub const LOSS_WINDOW: Duration = Duration::from_millis(50);
/// [`LOSS_WINDOW`] as it stands in [`MarkEvent::LossPossible`].
const LOSS_WINDOW_MS: u32 = 50;

/// A verification that looks whether the log is in use holds its lock for an instant.
const LOCK_TRIES: u32 = 10;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// Whose log it is. Stands in every record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster.
    pub cluster: ClusterId,
    /// The node.
    pub node: NodeId,
    /// The node's zone.
    pub zone: ZoneName,
}

/// Sizes and limits of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Size of a segment file. Default 64 MiB.
    pub segment_bytes: u64,
    /// Room kept beside the open segment, rounded up to whole segments, one at least. Default 256 MiB.
    ///
    /// When the disk is full the log goes on for as long, with warnings, before calls are refused.
    pub reserve_bytes: u64,
    /// Most calls that may wait for their record, each of at most
    /// [`crate::record::RECORD_BYTES_MAX`]. Default 8,192; further ones are refused.
    pub queue_records_max: usize,
    /// How long a disk may take for one commit before calls are refused. Default 5 s.
    pub stall_limit: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes: 64 * 1024 * 1024,
            reserve_bytes: 256 * 1024 * 1024,
            queue_records_max: 8192,
            stall_limit: Duration::from_secs(5),
        }
    }
}

/// Counts of a log since it was opened, and its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// The newest record on the disk.
    pub head: Head,
    /// Why the log takes no records, if it takes none.
    pub outage: Option<Outage>,
    /// Records that are not on the disk yet.
    pub waiting_records: usize,
    /// Commits, each one sync.
    pub commits: u64,
    /// Records committed.
    pub records: u64,
    /// Bytes committed.
    pub bytes: u64,
    /// Segments that the reserve has room for.
    pub spare_segments: usize,
    /// Segments that the reserve lacks. Above zero the disk is full: make room, or calls will be
    /// refused when the spare ones are used up.
    pub spare_segments_missing: usize,
}

/// What the log, its permits, tickets and tails share.
pub(crate) struct Shared {
    pub(crate) queue: Queue,
    pub(crate) directory: Arc<Directory>,
    clock: Arc<dyn Clock>,
    counters: Arc<Counters>,
}

/// The log of a node.
///
/// Dropped without [`Log::close`] it writes what is queued, and the next run takes that for a crash.
pub struct Log {
    shared: Arc<Shared>,
    /// Held here and by the writer: a tail or a ticket that outlives the log does not keep it locked,
    /// and a writer that a dead disk holds does.
    _lock: Arc<Directory>,
}

/// A promise to take one record.
///
/// Asked for before the work is done, so that no key is used when its use cannot be recorded.
#[must_use = "without its record a call must not be answered"]
pub struct Permit {
    shared: Option<Arc<Shared>>,
}

impl Log {
    /// Opens the log in a directory, which is made if missing, and finds its end; begins a new log in
    /// an empty one.
    ///
    /// Blocks: reads two segments and waits for the disk.
    ///
    /// # Errors
    /// [`OpenError`] if the directory is not safe to use, belongs to another node or process, or holds
    /// a log that was damaged or altered. No record in it was changed then.
    pub fn open(
        path: &Path,
        identity: Identity,
        options: &Options,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, OpenError> {
        Self::open_on(Arc::new(Files), path, identity, options, clock)
    }

    pub(crate) fn open_on(
        device: Arc<dyn Device>,
        path: &Path,
        identity: Identity,
        options: &Options,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, OpenError> {
        if !(SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&options.segment_bytes) {
            return Err(OpenError::SegmentBytes(options.segment_bytes));
        }
        let lock = Arc::new(lock_directory(path)?);
        let directory =
            lock.reopen().map_err(|source| io_error("open the audit directory", source))?;
        let directory = Arc::new(directory);
        let listing =
            directory.list().map_err(|source| io_error("list the audit files", source))?;
        let end = recover::find_end(&directory, &*device, &identity, &listing.segments)?;
        let reserve = Reserve::open(
            Arc::clone(&directory),
            Arc::clone(&device),
            options.segment_bytes,
            options.reserve_bytes,
            listing.spares,
        )
        .map_err(|source| io_error("look through the audit reserve", source))?;

        let head = end.as_ref().map_or(Head::START, recover::End::head);
        let crashed = end.as_ref().and_then(|end| end.crashed);
        let open = end.map(Open::from);
        let mut writer = Writer::new(Parts {
            lock: Arc::clone(&lock),
            identity,
            device,
            reserve,
            clock: Arc::clone(&clock),
            segment_bytes: options.segment_bytes,
            event_base: random()?,
            open,
            head,
        });
        begin(&mut writer, crashed).map_err(OpenError::Outage)?;

        let queue = Queue::new(writer.head(), options.queue_records_max, options.stall_limit);
        let counters = writer.counters();
        let shared = Arc::new(Shared { queue, directory, clock, counters });
        let of_writer = Arc::clone(&shared);
        thread::Builder::new()
            .name("audit-sync".into())
            .spawn(move || writer.run(&of_writer.queue))
            .map_err(|source| io_error("start the audit thread", source))?;
        Ok(Self { shared, _lock: lock })
    }

    /// Promises to take one record.
    ///
    /// # Errors
    /// [`AppendError`] if the log takes none now. The call is to be refused before its work is done.
    pub fn permit(&self) -> Result<Permit, AppendError> {
        self.shared.queue.promise(self.shared.clock.elapsed())?;
        Ok(Permit { shared: Some(Arc::clone(&self.shared)) })
    }

    /// Queues a record for which no permit was asked.
    ///
    /// # Errors
    /// [`AppendError`] if the log takes none now. The call must not be answered.
    pub fn append(&self, call: Call) -> Result<Ticket, AppendError> {
        self.permit()?.append(&call)
    }

    /// Follows the log from a record on; with zero or one from the first.
    #[must_use]
    pub fn tail(&self, from_sequence: u64) -> Tail {
        Tail::new(Arc::clone(&self.shared), from_sequence)
    }

    /// Returns the log's counts and state.
    #[must_use]
    pub fn status(&self) -> Status {
        let counters = &self.shared.counters;
        let queue = &self.shared.queue;
        Status {
            head: queue.progress().head,
            outage: queue.outage(self.shared.clock.elapsed()),
            waiting_records: queue.len(),
            commits: counters.commits.load(Ordering::Relaxed),
            records: counters.records.load(Ordering::Relaxed),
            bytes: counters.bytes.load(Ordering::Relaxed),
            spare_segments: counters.spares.load(Ordering::Relaxed),
            spare_segments_missing: counters.spares_missing.load(Ordering::Relaxed),
        }
    }

    /// Writes what is queued and a mark that nothing is missing, and ends the log. Later calls of
    /// [`Log::permit`] are refused. May be repeated.
    ///
    /// Blocks until the disk has it, for at most the stall limit.
    ///
    /// # Errors
    /// The [`Outage`] that kept the mark from the disk. The next run takes that for a crash.
    pub fn close(&self) -> Result<Head, Outage> {
        self.shared.queue.end(true)?;
        Ok(self.shared.queue.progress().head)
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        if let Err(outage) = self.shared.queue.end(false) {
            warn!(error = %outage, "audit log ends with records that are not on the disk");
        }
    }
}

impl Permit {
    /// Queues the record of the call that the permit was for.
    ///
    /// # Errors
    /// [`AppendError::Unavailable`] if the disk has failed since. The call must not be answered.
    pub fn append(self, call: &Call) -> Result<Ticket, AppendError> {
        let shared = self.shared.as_ref().expect("a permit is used once");
        let now = shared.clock.elapsed();
        self.append_at(call, now)
    }

    /// As [`Permit::append`], for whoever has just read the log's steady clock ([`Clock::elapsed`]) and found `now`.
    /// An older `now` lets the record wait for the disk for longer than the loss bound says.
    ///
    /// # Errors
    /// As [`Permit::append`].
    pub fn append_at(mut self, call: &Call, now: Duration) -> Result<Ticket, AppendError> {
        let shared = self.shared.take().expect("a permit is used once");
        let (time_unix_ns, age) = (call.time_unix_ns, Duration::from_micros(call.latency_us));
        let entry = record::call_entry(call);
        let Place { sequence, oldest, crowded } = shared.queue.push(entry, time_unix_ns, now)?;
        let late = crowded || now.saturating_sub(oldest) >= LOSS_WINDOW;
        Ok(Ticket::new(shared, sequence, age, late))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(shared) = &self.shared {
            shared.queue.release();
        }
    }
}

fn lock_directory(path: &Path) -> Result<Directory, OpenError> {
    let error = |source| OpenError::Directory { path: path.to_owned(), source };
    let directory = Directory::open_or_create(path).map_err(error)?;
    let mode = directory.mode().map_err(error)?;
    if mode & 0o077 != 0 {
        return Err(OpenError::Exposed { path: path.to_owned(), mode });
    }
    for _ in 0..LOCK_TRIES {
        if directory.try_lock().map_err(error)? {
            return Ok(directory);
        }
        thread::sleep(LOCK_PAUSE);
    }
    Err(OpenError::Locked { path: path.to_owned() })
}

/// Writes the marks that a run begins with, and makes the reserve.
fn begin(writer: &mut Writer, crashed: Option<u64>) -> Result<(), Outage> {
    if let Some(cut_bytes) = crashed {
        let window_ms = LOSS_WINDOW_MS;
        warn!(window_ms, cut_bytes, "audit log was not closed: records may be missing");
        let event = MarkEvent::LossPossible { window_ms, cut_bytes };
        writer.mark(writer.head().sequence + 1, event)?;
    }
    writer.mark(writer.head().sequence + 1, MarkEvent::Opened)?;
    writer.fill_reserve();
    Ok(())
}

fn random() -> Result<u128, OpenError> {
    let mut bytes = [0; 16];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.map_err(|_| io_error("draw random bytes", std::io::Error::other("no randomness")))?;
    Ok(u128::from_be_bytes(bytes))
}

fn io_error(what: &str, source: std::io::Error) -> OpenError {
    OpenError::Io { what: what.to_owned(), source }
}

#[cfg(test)]
mod tests;
