//! The replicated state: one column family per table of `core`, and what was applied last.
//!
//! A transaction and the number of the entry that it applies go into one write batch, so the state
//! never says that it is further than it is. The batch is **not synced**: the log is the truth. After
//! a power cut the state is that of an earlier entry, whole, and the log brings it forward. What may
//! be purged from the log is therefore only what a snapshot holds, after [`StateDb::flush`];
//! [`crate::LogDb::check_applied`] refuses a state that ends below it.
//!
//! Default column family: `0x01` cluster id (16 bytes), `0x02` applied: index (8, big-endian) and
//! opaque bytes. Every value is a record ([`crate::record`]) under the table's number and the key.
//!
//! The folder has `node` (whose state it is), `active` (the name of the folder in use) and
//! `db-<number>/`. Installing a snapshot fills the next folder, syncs it and replaces `active`: after
//! a crash the state is the old one or the new one.

mod folder;
mod install;
mod latest;
mod transaction;
mod view;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};
use rocksdb::checkpoint::Checkpoint;
use rocksdb::{ColumnFamily, ColumnFamilyDescriptor, DB, DEFAULT_COLUMN_FAMILY_NAME, WriteBatch};
use twinkeep_core::id::ClusterId;
use twinkeep_core::state::{Fault, Table};

pub use self::install::InstallError;
pub use self::latest::Latest;
pub use self::transaction::Transaction;
pub use self::view::View;

use self::folder::{Folder, RemoveLater};
use crate::disk::DiskError;
use crate::identity::{Foreign, Identity};
use crate::metrics::Usage;
use crate::record::{self, Damaged};
use crate::{disk, options};

const CLUSTER: &[u8] = &[0x01];
const APPLIED: &[u8] = &[0x02];

/// The last entry that the state holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// Its index.
    pub index: u64,
    /// What the consensus library wants back with it: its full id, the membership.
    pub meta: Vec<u8>,
}

/// Why a state is not used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder belongs to another cluster or node.
    #[error("the state belongs to somebody else")]
    Foreign(#[from] Foreign),
    /// The database belongs to another cluster.
    #[error("the state is that of cluster {found}, not of cluster {expected}")]
    ForeignCluster {
        /// Whose it is.
        found: ClusterId,
        /// Who asked.
        expected: ClusterId,
    },
    /// A record is damaged.
    #[error("the state is damaged")]
    Damaged(#[from] Damaged),
    /// A file without which the folder cannot be what it says it is.
    #[error("the state is damaged: {} is missing", .0.display())]
    Missing(std::path::PathBuf),
    /// RocksDB does not open the database.
    #[error("rocksdb refuses the state")]
    Rocks(#[from] rocksdb::Error),
    /// A file operation failed.
    #[error("the folder of the state is not usable")]
    Disk(#[from] DiskError),
}

/// The state of one node. Readers and one applier may use it from any thread.
pub struct StateDb {
    folder: Folder,
    current: RwLock<Arc<Store>>,
    /// Held while a snapshot is taken or installed.
    exchange: Mutex<()>,
}

/// One opened database. Lives until its last reader is gone, also when a snapshot has replaced it.
pub(crate) struct Store {
    db: DB,
    commits: AtomicU64,
    // Dropped after `db`: the folder goes once the database is closed.
    folder: RemoveLater,
}

impl StateDb {
    /// Opens the state in a folder, or begins an empty one.
    ///
    /// # Errors
    /// Any [`OpenError`].
    pub fn open(root: &Path, identity: Identity) -> Result<Self, OpenError> {
        disk::make_dir(root)?;
        let folder = Folder::open(root, identity)?;
        let store = Store::open(&folder.active()?, identity.cluster)?;
        folder.remove_others()?;
        let current = RwLock::new(Arc::new(store));
        Ok(Self { folder, current, exchange: Mutex::new(()) })
    }

    /// Returns the last entry that the state holds, or none for an empty state.
    ///
    /// # Errors
    /// [`Fault`] when the store fails or the record is damaged.
    pub fn applied(&self) -> Result<Option<Applied>, Fault> {
        self.current().applied()
    }

    /// Returns the newest value under a key. For several reads that must fit each other, use
    /// [`Self::view`].
    ///
    /// # Errors
    /// [`Fault`] when the store fails or the row is damaged.
    pub fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        self.current().get(table, key)
    }

    /// Reads from one point in time. Nothing that is written meanwhile shows in the view.
    pub fn view<R>(&self, read: impl FnOnce(&View<'_>) -> R) -> R {
        let store = self.current();
        read(&View::of(&store))
    }

    /// Reads the newest state, each read for itself.
    #[must_use]
    pub fn latest(&self) -> Latest {
        Latest::of(self.current())
    }

    /// Begins a transaction on top of the newest state. There is one applier: a second transaction
    /// that overlaps is refused when it commits.
    #[must_use]
    pub fn begin(&self) -> Transaction {
        Transaction::on(self.current())
    }

    /// Writes a transaction together with the entry it applies. Visible when this returns; durable by
    /// the log, see the module.
    ///
    /// # Errors
    /// [`Fault`] when the store fails, when another transaction or a snapshot came between, or when
    /// the entry is not beyond the last one. The node must stop.
    pub fn commit(&self, transaction: Transaction, applied: &Applied) -> Result<(), Fault> {
        // Held to the end, so that no snapshot takes the store away between check and write.
        let store = self.current.read();
        let last = store.applied()?.map(|last| last.index);
        if last >= Some(applied.index) {
            return Err(Fault::new(format!("entry {} is applied already", applied.index)));
        }
        let mut batch = transaction.into_batch(&store)?;
        let meta = [&applied.index.to_be_bytes(), &applied.meta[..]].concat();
        batch.put(APPLIED, frame_meta(APPLIED, &meta));
        store.db.write(batch).map_err(|e| Fault::caused("writing to the state", e))
    }

    /// Makes everything written so far durable. Call it before the log is purged: what the purge takes
    /// must be on disk here.
    ///
    /// # Errors
    /// [`Fault`] when the store fails.
    pub fn flush(&self) -> Result<(), Fault> {
        self.current().db.flush_wal(true).map_err(|e| Fault::caused("syncing the state", e))
    }

    /// Writes a checkpoint into a folder that does not exist. It holds one point in time; which one is
    /// to be read from the checkpoint itself, since entries may be applied meanwhile.
    pub(crate) fn checkpoint(&self, into: &Path) -> Result<(), rocksdb::Error> {
        let _one_at_a_time = self.exchange.lock();
        Checkpoint::new(&self.current().db)?.create_checkpoint(into)
    }

    /// Copies the state as it is at one point in time into a new folder, for another node of the same cluster. This
    /// one stays as it is; files that never change are shared. Durable when it returns.
    ///
    /// # Errors
    /// [`OpenError`] when the folder holds something already or a file operation fails.
    pub fn copy_to(&self, root: &Path, identity: Identity) -> Result<Self, OpenError> {
        disk::make_dir(root)?;
        let folder = Folder::open(root, identity)?;
        let first = folder.active()?;
        self.checkpoint(&first)?;
        for name in disk::names(&first)? {
            disk::sync_file(&first.join(name))?;
        }
        disk::sync_dir(&first)?;
        disk::sync_dir(root)?;
        Self::open(root, identity)
    }

    /// Returns what the state takes up.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let tables: Vec<_> = Table::ALL.iter().map(|table| table.name()).collect();
        options::usage(&self.current().db, &tables)
    }

    fn current(&self) -> Arc<Store> {
        self.current.read().clone()
    }
}

impl Store {
    pub(crate) fn open(folder: &Path, cluster: ClusterId) -> Result<Self, OpenError> {
        let names = Table::ALL.iter().map(|table| table.name()).chain([DEFAULT_COLUMN_FAMILY_NAME]);
        let families = names.map(|name| ColumnFamilyDescriptor::new(name, options::state()));
        let db = DB::open_cf_descriptors(&options::state(), folder, families)?;
        let store = Self { db, commits: AtomicU64::new(0), folder: RemoveLater::new(folder) };
        store.check_cluster(cluster)?;
        Ok(store)
    }

    /// Opens a checkpoint to look into it; writes nothing.
    pub(crate) fn look(folder: &Path) -> Result<Self, OpenError> {
        let mut options = options::state();
        options.create_if_missing(false);
        let names = Table::ALL.iter().map(|table| table.name());
        let db = DB::open_cf_for_read_only(&options, folder, names, false)?;
        Ok(Self { db, commits: AtomicU64::new(0), folder: RemoveLater::new(folder) })
    }

    /// Refuses the state of another cluster; stamps a new one.
    fn check_cluster(&self, expected: ClusterId) -> Result<(), OpenError> {
        let shape = || Damaged::Shape { what: "cluster stamp", key: CLUSTER.to_vec() };
        let Some(stamp) = self.db.get_pinned(CLUSTER)? else {
            return Ok(self.db.put(CLUSTER, frame_meta(CLUSTER, expected.as_bytes()))?);
        };
        let stamp = unframe_meta("cluster stamp", CLUSTER, &stamp)?;
        let found = ClusterId::from_bytes(stamp.try_into().map_err(|_| shape())?);
        if found != expected {
            return Err(OpenError::ForeignCluster { found, expected });
        }
        Ok(())
    }

    pub(crate) fn applied(&self) -> Result<Option<Applied>, Fault> {
        let found = self.db.get_pinned(APPLIED).map_err(read_fault)?;
        found.map(|framed| decode_applied(&framed).map_err(damage_fault)).transpose()
    }

    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        let found = self.db.get_pinned_cf(self.family(table), key).map_err(read_fault)?;
        found.map(|framed| unframe(table, key, &framed)).transpose()
    }

    fn family(&self, table: Table) -> &ColumnFamily {
        self.db.cf_handle(table.name()).expect("every table was opened")
    }

    /// Takes the turn of the one applier; false if somebody else wrote since `base`.
    fn take_turn(&self, base: u64) -> bool {
        let (done, failed) = (Ordering::AcqRel, Ordering::Acquire);
        self.commits.compare_exchange(base, base + 1, done, failed).is_ok()
    }
}

fn decode_applied(framed: &[u8]) -> Result<Applied, Damaged> {
    let shape = || Damaged::Shape { what: "applied marker", key: APPLIED.to_vec() };
    let payload = unframe_meta("applied marker", APPLIED, framed)?;
    let (index, meta) = payload.split_first_chunk::<8>().ok_or_else(shape)?;
    Ok(Applied { index: u64::from_be_bytes(*index), meta: meta.to_vec() })
}

/// The checksum covers the table's number too: a row in the wrong table is noticed. 0 is no table.
fn scoped(scope: u8, key: &[u8]) -> Vec<u8> {
    [&[scope], key].concat()
}

fn frame_meta(key: &[u8], payload: &[u8]) -> Vec<u8> {
    record::frame(&scoped(0, key), payload)
}

fn unframe_meta<'a>(what: &'static str, key: &[u8], framed: &'a [u8]) -> Result<&'a [u8], Damaged> {
    record::unframe(what, &scoped(0, key), framed)
}

fn put(batch: &mut WriteBatch, store: &Store, table: Table, key: &[u8], value: &[u8]) {
    batch.put_cf(store.family(table), key, record::frame(&scoped(table as u8, key), value));
}

fn unframe(table: Table, key: &[u8], framed: &[u8]) -> Result<Vec<u8>, Fault> {
    let value = record::unframe(table.name(), &scoped(table as u8, key), framed);
    value.map(<[u8]>::to_vec).map_err(damage_fault)
}

fn read_fault(error: rocksdb::Error) -> Fault {
    Fault::caused("reading the state", error)
}

fn damage_fault(damaged: Damaged) -> Fault {
    Fault::caused("a record of the state", damaged)
}

#[cfg(test)]
mod tests;
