//! What the tests of this crate share: a small log, a clock that is turned by hand, a disk that
//! refuses when told to.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tempfile::TempDir;
use twinkeep_core::clock::{Clock, UnixMs};
use twinkeep_core::id::{ClusterId, InstanceId, KeyId, KeyVersionNumber, NodeId, RequestId};
use twinkeep_core::name::ZoneName;

use crate::call::{
    Call, Context, Decision, Principal, PrincipalKind, Resource, Resources, Surface,
};
use crate::device::{Device, Files};
use crate::error::OpenError;
use crate::frame::Head;
use crate::log::{Identity, Log, Options};
use crate::record::{Entry, MarkEvent, Record};
use crate::segment::SEGMENT_BYTES_MIN;
use crate::text::Text;

/// A call whose request id holds `n`.
pub(crate) fn call(n: u64) -> Call {
    let mut request = [0; 16];
    request[8..].copy_from_slice(&n.to_be_bytes());
    Call {
        time_unix_ns: 1_700_000_000_123_456_789,
        request: RequestId::from_bytes(request),
        client_trace: None,
        instance: InstanceId::from_bytes([0x33; 16]),
        principal: Principal {
            kind: PrincipalKind::Caller,
            name: Text::new("billing"),
            credential: Some([0xab; 32]),
        },
        source: Some("127.0.1.9:40000".parse().unwrap()),
        surface: Surface::Grpc,
        operation: Text::new("Encrypt"),
        resources: Resources::new([Resource::Key {
            id: KeyId::from_bytes([0x44; 16]),
            version: Some(KeyVersionNumber::FIRST),
        }]),
        algorithm: Some(Text::new("AES_256")),
        context: Some(Context::from_pairs([("tenant", "acme")])),
        input_bytes: 14,
        output_bytes: 114,
        decision: Decision::Allow,
        outcome: Text::new("OK"),
        backend: Some(Text::new("software")),
        latency_us: 31,
        retries: 0,
        state_age_ms: None,
    }
}

/// A call whose record has several KiB.
pub(crate) fn large_call(n: u64) -> Call {
    let context = Context::from_pairs([("k", "x".repeat(8000).as_str())]);
    Call { context: Some(context), ..call(n) }
}

/// Returns what [`call`] was given, for records of calls.
pub(crate) fn number(record: &Record) -> Option<u64> {
    let Entry::Call(call) = &record.entry else { return None };
    Some(u64::from_be_bytes(call.request.as_bytes()[8..].try_into().unwrap()))
}

pub(crate) fn marks(records: &[Record]) -> Vec<MarkEvent> {
    let mark = |record: &Record| match record.entry {
        Entry::Mark(mark) => Some(mark.event),
        Entry::Call(_) => None,
    };
    records.iter().filter_map(mark).collect()
}

pub(crate) fn identity() -> Identity {
    Identity {
        cluster: ClusterId::from_bytes([0x10; 16]),
        node: NodeId::new(3).unwrap(),
        zone: ZoneName::parse("zone-a").unwrap(),
    }
}

/// Small files, so that logs rotate soon.
pub(crate) fn options() -> Options {
    Options {
        segment_bytes: SEGMENT_BYTES_MIN,
        reserve_bytes: 2 * SEGMENT_BYTES_MIN,
        queue_records_max: 1000,
        stall_limit: Duration::from_secs(20),
    }
}

pub(crate) fn directory() -> TempDir {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::Permissions::from_mode(0o700);
    tempfile::Builder::new().permissions(mode).tempdir().unwrap()
}

pub(crate) fn open(path: &Path) -> Result<Log, OpenError> {
    open_on(&Arc::default(), path)
}

pub(crate) fn open_on(device: &Arc<Disk>, path: &Path) -> Result<Log, OpenError> {
    let device = Arc::clone(device);
    Log::open_on(device, path, identity(), &options(), Arc::new(HandClock::default()))
}

/// Closes a log, and lets go of it: as long as it lives, verification takes its end for one in the making.
pub(crate) fn close(log: Log) -> Head {
    log.close().unwrap()
}

/// Returns all records on the disk.
pub(crate) fn read_all(log: &Log) -> Vec<Record> {
    let mut tail = log.tail(1);
    let mut records = Vec::new();
    loop {
        let more = tail.read(usize::MAX).unwrap();
        if more.is_empty() {
            return records;
        }
        records.extend(more);
    }
}

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}

/// Appends and waits for the disk.
pub(crate) fn append_durably(log: &Log, call: Call) {
    block_on(log.append(call).unwrap().durable()).unwrap();
}

/// A clock that stands until it is turned.
#[derive(Default)]
pub(crate) struct HandClock(Mutex<Duration>);

impl HandClock {
    pub(crate) fn turn(&self, by: Duration) {
        *self.0.lock() += by;
    }
}

impl Clock for HandClock {
    fn unix_ms(&self) -> UnixMs {
        1_700_000_000_000 + u64::try_from(self.0.lock().as_millis()).unwrap()
    }

    fn elapsed(&self) -> Duration {
        *self.0.lock()
    }
}

/// What a [`Disk`] does wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Fault {
    #[default]
    None,
    /// Has no room for new files.
    NoRoom,
    /// Has no room at all: half of what is written arrives.
    NoRoomInside,
    /// Has room for records and none to write ahead.
    NoZeros,
    /// Fails writes.
    Write,
    /// Fails syncs.
    Sync,
    /// Does not answer syncs.
    Hang,
    /// Is a fault of this software.
    Panic,
}

/// Real files on a disk with a fault. It syncs nothing: here processes end, machines do not.
#[derive(Default)]
pub(crate) struct Disk {
    fault: Mutex<Fault>,
    changed: Condvar,
    zeros: AtomicUsize,
}

impl Disk {
    pub(crate) fn set(&self, fault: Fault) {
        *self.fault.lock() = fault;
        self.changed.notify_all();
    }

    /// Returns how often room was written ahead.
    pub(crate) fn zeros(&self) -> usize {
        self.zeros.load(Ordering::SeqCst)
    }
}

impl Device for Disk {
    fn allocate(&self, file: &File, bytes: u64) -> io::Result<()> {
        match *self.fault.lock() {
            Fault::NoRoom | Fault::NoRoomInside => Err(io::ErrorKind::StorageFull.into()),
            _ => Files.allocate(file, bytes),
        }
    }

    fn write(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        if bytes.iter().all(|byte| *byte == 0) {
            if *self.fault.lock() == Fault::NoZeros {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.zeros.fetch_add(1, Ordering::SeqCst);
        }
        match *self.fault.lock() {
            Fault::Write => Err(io::Error::from_raw_os_error(5)),
            Fault::NoRoomInside => {
                Files.write(file, &bytes[..bytes.len() / 2], offset)?;
                Err(io::ErrorKind::StorageFull.into())
            }
            Fault::Panic => panic!("a fault of this software"),
            _ => Files.write(file, bytes, offset),
        }
    }

    fn sync(&self, _: &File) -> io::Result<()> {
        let mut fault = self.fault.lock();
        while *fault == Fault::Hang {
            self.changed.wait(&mut fault);
        }
        match *fault {
            Fault::Sync => Err(io::Error::from_raw_os_error(5)),
            _ => Ok(()),
        }
    }
}
