//! How many records a log takes: `cargo run --release -p twinkeep-audit --example throughput [directory]`.
//!
//! Four threads append for two seconds each, first answering when a record is queued, then, 256 at a
//! time, when it is on the disk. The figures depend on the disk that the directory lies on.
#![expect(clippy::unwrap_used, reason = "an example that cannot go on should stop there")]

use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use twinkeep_audit::call::{
    Context, Decision, Principal, PrincipalKind, Resource, Resources, Surface,
};
use twinkeep_audit::{AppendError, Call, Identity, Log, Options, Text};
use twinkeep_core::clock::{Clock, UnixMs};
use twinkeep_core::id::{ClusterId, InstanceId, KeyId, KeyVersionNumber, NodeId, RequestId};
use twinkeep_core::name::ZoneName;

const THREADS: u64 = 4;
const SPAN: Duration = Duration::from_secs(2);
const IN_FLIGHT: usize = 256;

struct SteadyClock(Instant);

impl Clock for SteadyClock {
    fn unix_ms(&self) -> UnixMs {
        1_700_000_000_000
    }

    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

fn main() {
    let scratch = tempfile::tempdir().unwrap();
    let parent = std::env::args_os().nth(1);
    let parent = parent.as_deref().map_or(scratch.path(), Path::new);
    let directory = parent.join(format!("audit-throughput-{}", std::process::id()));
    let identity = Identity {
        cluster: ClusterId::from_bytes([1; 16]),
        node: NodeId::FIRST,
        zone: ZoneName::parse("zone-a").unwrap(),
    };
    let clock = Arc::new(SteadyClock(Instant::now()));
    let log = Log::open(&directory, identity, &Options::default(), clock).unwrap();
    measure("answered when queued", &log, append_queued);
    measure("answered when synced", &log, append_durably);
    log.close().unwrap();
    std::fs::remove_dir_all(&directory).unwrap();
}

fn measure(name: &str, log: &Log, append: fn(&Log, Instant)) {
    let (before, begun) = (log.status(), Instant::now());
    let end = begun + SPAN;
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| append(log, end));
        }
    });
    while log.status().waiting_records > 0 {
        thread::sleep(Duration::from_millis(1));
    }
    let (seconds, after) = (begun.elapsed().as_secs_f64(), log.status());
    let records = after.records - before.records;
    let commits = after.commits - before.commits;
    println!(
        "{name}: {:.0} records/s, {:.1} MB/s, {commits} commits of {:.0} records",
        records as f64 / seconds,
        (after.bytes - before.bytes) as f64 / seconds / 1e6,
        records as f64 / commits as f64,
    );
}

fn append_queued(log: &Log, end: Instant) {
    let runtime = runtime();
    while Instant::now() < end {
        match log.append(call()) {
            Ok(ticket) => runtime.block_on(ticket.queued()).unwrap(),
            Err(AppendError::QueueFull { .. }) => thread::yield_now(),
            Err(refused) => panic!("{refused}"),
        }
    }
}

fn append_durably(log: &Log, end: Instant) {
    let runtime = runtime();
    while Instant::now() < end {
        let tickets: Vec<_> = (0..IN_FLIGHT).map(|_| log.append(call()).unwrap()).collect();
        for ticket in tickets {
            runtime.block_on(ticket.durable()).unwrap();
        }
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
}

fn call() -> Call {
    Call {
        time_unix_ns: 1_700_000_000_000_000_000,
        request: RequestId::from_bytes([2; 16]),
        client_trace: None,
        instance: InstanceId::from_bytes([3; 16]),
        principal: Principal {
            kind: PrincipalKind::Caller,
            name: Text::new("billing"),
            credential: Some([4; 32]),
        },
        source: Some(([127, 0, 1, 9], 40000).into()),
        surface: Surface::GrpcStream,
        operation: Text::new("Encrypt"),
        resources: Resources::new([Resource::Key {
            id: KeyId::from_bytes([5; 16]),
            version: Some(KeyVersionNumber::FIRST),
        }]),
        algorithm: Some(Text::new("AES_256")),
        context: Some(Context::from_pairs([("tenant", "acme")])),
        input_bytes: 1024,
        output_bytes: 1124,
        decision: Decision::Allow,
        outcome: Text::new("OK"),
        backend: Some(Text::new("software")),
        latency_us: 31,
        retries: 0,
        state_age_ms: None,
    }
}
