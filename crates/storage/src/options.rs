//! RocksDB's options, set where its defaults leave durability or memory to chance.

use std::sync::LazyLock;

use rocksdb::{
    BlockBasedOptions, Cache, DB, DBCompressionType, DBRecoveryMode, InfoLogger, LogLevel, Options,
    properties,
};

use crate::metrics::Usage;

/// Bytes of one memtable. Reaching it starts a flush and a new WAL.
const WRITE_BUFFER_BYTES: usize = 16 << 20;
/// Bytes of all WALs of a database. Bounds what a restart replays and what the check at start reads.
const WAL_BYTES_MAX: u64 = 64 << 20;
/// Bytes of the memtables of all tables of the state together.
const STATE_WRITE_BUFFERS_BYTES: usize = 48 << 20;
/// Files that the state keeps open; the index of an open file is in memory.
const STATE_OPEN_FILES_MAX: i32 = 256;
/// Bytes of the block cache that all databases of the process share.
const BLOCK_CACHE_BYTES: usize = 64 << 20;

static BLOCK_CACHE: LazyLock<Cache> = LazyLock::new(|| Cache::new_lru_cache(BLOCK_CACHE_BYTES));

/// Returns the options that both databases share.
pub(crate) fn common() -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);

    // Replays up to the first bad record. AbsoluteConsistency would refuse the torn tail that every
    // power cut leaves; the other modes leave holes. What was dropped is judged in `log::check`.
    options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    options.set_paranoid_checks(true);
    options.set_track_and_verify_wals_in_manifest(true);
    options.set_atomic_flush(true);
    // A recycled WAL holds valid records of its former life behind its end.
    options.set_recycle_log_file_num(0);
    options.set_max_total_wal_size(WAL_BYTES_MAX);

    // A mapped page that fails to read is a SIGBUS, not an error.
    options.set_allow_mmap_reads(false);
    options.set_allow_mmap_writes(false);

    options.set_write_buffer_size(WRITE_BUFFER_BYTES);
    options.set_max_write_buffer_number(3);
    options.set_max_background_jobs(2);
    options.set_block_based_table_factory(&block_options());
    options.set_info_logger(InfoLogger::new_callback_logger(LogLevel::Warn, tell));
    options
}

fn block_options() -> BlockBasedOptions {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(&BLOCK_CACHE);
    // Counts index and filter blocks as cache, so that memory does not grow with the database.
    blocks.set_cache_index_and_filter_blocks(true);
    blocks.set_bloom_filter(10.0, false);
    blocks
}

/// Returns the options of the state: many tables that share one budget of memory.
pub(crate) fn state() -> Options {
    let mut options = common();
    options.set_db_write_buffer_size(STATE_WRITE_BUFFERS_BYTES);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_max_open_files(STATE_OPEN_FILES_MAX);
    options
}

/// Returns what some tables of a database take up. A property that cannot be read counts as zero.
pub(crate) fn usage(db: &DB, families: &[&str]) -> Usage {
    let sum = |property: &properties::PropName| {
        let of = |family: &&str| {
            let family = db.cf_handle(family)?;
            db.property_int_value_cf(family, property).ok().flatten()
        };
        families.iter().filter_map(of).sum()
    };
    Usage {
        disk_bytes: sum(properties::TOTAL_SST_FILES_SIZE),
        memtable_bytes: sum(properties::CUR_SIZE_ALL_MEM_TABLES),
        block_cache_bytes: BLOCK_CACHE.get_usage() as u64,
    }
}

/// RocksDB's log lines go to ours: no LOG files beside the data, which nobody reads in time.
fn tell(level: LogLevel, message: &str) {
    match level {
        LogLevel::Error | LogLevel::Fatal => tracing::error!(message, "rocksdb"),
        LogLevel::Warn => tracing::warn!(message, "rocksdb"),
        _ => tracing::debug!(message, "rocksdb"),
    }
}
