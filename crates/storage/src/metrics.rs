//! The metrics of the databases. `database` is `log` or `state`.
//!
//! What one writer thread does is counted where it happens; sizes are read when somebody asks.

use metrics::{Histogram, describe_gauge, describe_histogram, gauge, histogram};

use crate::{LogDb, SnapshotStore, StateDb};

/// Time of one write and sync of the Raft log.
pub const LOG_SYNC_SECONDS: &str = "twinkeep_storage_log_sync_seconds";
/// Changes that shared a sync of the Raft log.
pub const LOG_BATCH_CHANGES: &str = "twinkeep_storage_log_batch_changes";
/// Bytes of a database's table files.
pub const DISK_BYTES: &str = "twinkeep_storage_disk_bytes";
/// Bytes of a database's memtables.
pub const MEMTABLE_BYTES: &str = "twinkeep_storage_memtable_bytes";
/// Bytes of the block cache that the databases share.
pub const BLOCK_CACHE_BYTES: &str = "twinkeep_storage_block_cache_bytes";
/// Snapshots on this disk.
pub const KEPT_SNAPSHOTS: &str = "twinkeep_storage_kept_snapshots";
/// Bytes of the newest snapshot.
pub const SNAPSHOT_BYTES: &str = "twinkeep_storage_snapshot_bytes";

/// Tells the process's recorder what the metrics of this crate mean.
pub fn describe() {
    describe_histogram!(LOG_SYNC_SECONDS, "Time of one write and sync of the Raft log");
    describe_histogram!(LOG_BATCH_CHANGES, "Changes that shared one sync of the Raft log");
    describe_gauge!(DISK_BYTES, "Table files of a database on disk, by `database`");
    describe_gauge!(MEMTABLE_BYTES, "Memtables of a database, by `database`");
    describe_gauge!(BLOCK_CACHE_BYTES, "The block cache that the databases share");
    describe_gauge!(KEPT_SNAPSHOTS, "Snapshots on the node's disk");
    describe_gauge!(SNAPSHOT_BYTES, "The newest snapshot; absent when there is none");
}

/// What a database takes up, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Its table files.
    pub disk_bytes: u64,
    /// Its memtables.
    pub memtable_bytes: u64,
    /// What all databases of the process have in the block cache.
    pub block_cache_bytes: u64,
}

/// Shows sizes, as they are now.
pub fn sample(log: &LogDb, state: &StateDb, snapshots: &SnapshotStore) {
    for (database, usage) in [("log", log.usage()), ("state", state.usage())] {
        show(gauge!(DISK_BYTES, "database" => database), usage.disk_bytes);
        show(gauge!(MEMTABLE_BYTES, "database" => database), usage.memtable_bytes);
        show(gauge!(BLOCK_CACHE_BYTES), usage.block_cache_bytes);
    }
    let kept = snapshots.kept();
    show(gauge!(KEPT_SNAPSHOTS), kept.len() as u64);
    if let Some(newest) = kept.last() {
        show(gauge!(SNAPSHOT_BYTES), newest.manifest().bytes());
    }
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a float; beyond 8 PiB it rounds")]
#[expect(clippy::needless_pass_by_value, reason = "a handle that was made for this")]
fn show(gauge: metrics::Gauge, value: u64) {
    gauge.set(value as f64);
}

/// Counts what the writer of the log does.
pub(crate) struct LogMeter {
    pub(crate) sync: Histogram,
    pub(crate) changes: Histogram,
}

impl Default for LogMeter {
    fn default() -> Self {
        Self { sync: histogram!(LOG_SYNC_SECONDS), changes: histogram!(LOG_BATCH_CHANGES) }
    }
}
