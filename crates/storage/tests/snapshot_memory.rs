//! The promise: a snapshot of 1 GiB of state is taken, sent, received and installed in less than
//! 256 MiB of memory beyond what the process had before. Measured from before the databases are
//! opened, so their caches and memtables count too, those of sender and receiver.
//!
//! `TWINKEEP_SNAPSHOT_BYTES` sets another size of the state.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::convert::Infallible;
use std::fs;
use std::path::Path;

use twinkeep_core::id::{ClusterId, NodeId};
use twinkeep_core::state::{Table, Write};
use twinkeep_storage::snapshot::Manifest;
use twinkeep_storage::state::Applied;
use twinkeep_storage::{Identity, SnapshotStore, StateDb};
use twinkeep_testkit::crashfs::Rng;

const STATE_BYTES: u64 = 1 << 30;
const EXTRA_BYTES_MAX: u64 = 256 << 20;
const ROW_BYTES: u64 = 32 << 10;
const ROWS_PER_ENTRY: u64 = 32;

#[test]
fn snapshot_of_a_gibibyte_takes_bounded_memory() {
    let bytes = match std::env::var("TWINKEEP_SNAPSHOT_BYTES") {
        Ok(text) => text.parse().expect("a number of bytes"),
        Err(_) => STATE_BYTES,
    };
    let home = tempfile::tempdir().unwrap();
    let before = memory("VmRSS:");
    let (from, from_store) = open(&home.path().join("a"), 1);
    let rows = fill(&from, bytes);

    let node = identity(1);
    let snapshot = from_store.build(&from, node, 1, |_| Ok::<_, Infallible>(Vec::new())).unwrap();
    assert!(snapshot.manifest().bytes() >= bytes, "the rows do not compress");
    let (to, to_store) = open(&home.path().join("b"), 2);
    let mut receiver = to_store.receive(&snapshot.signed().encode(), any).unwrap();
    for chunk in snapshot.chunks(0) {
        receiver.accept(receiver.next_chunk(), &chunk.unwrap()).unwrap();
    }
    to.install(&receiver.finish().unwrap(), any).unwrap();
    let extra = memory("VmHWM:") - before;

    println!("snapshot of {} MiB: {} MiB of extra memory", bytes >> 20, extra >> 20);
    assert!(extra < EXTRA_BYTES_MAX, "{extra} bytes");
    let last = to.get(Table::Keys, &(rows - 1).to_be_bytes()).unwrap();
    assert_eq!(last, Some(row(rows - 1)));
}

fn identity(node: u64) -> Identity {
    Identity { cluster: ClusterId::from_bytes([4; 16]), node: NodeId::new(node).unwrap() }
}

fn open(home: &Path, node: u64) -> (StateDb, SnapshotStore) {
    let identity = identity(node);
    let state = StateDb::open(&home.join("state"), identity).unwrap();
    let store = SnapshotStore::open(&home.join("snapshots"), identity.cluster).unwrap();
    (state, store)
}

fn any(_: &Manifest, _: &[u8], _: &[u8]) -> Result<(), Infallible> {
    Ok(())
}

/// Fills the state; returns how many rows it has.
fn fill(state: &StateDb, bytes: u64) -> u64 {
    let entries = bytes.div_ceil(ROW_BYTES * ROWS_PER_ENTRY);
    for entry in 0..entries {
        let mut transaction = state.begin();
        for number in entry * ROWS_PER_ENTRY..(entry + 1) * ROWS_PER_ENTRY {
            transaction.put(Table::Keys, &number.to_be_bytes(), row(number));
        }
        state.commit(transaction, &Applied { index: entry + 1, meta: Vec::new() }).unwrap();
    }
    entries * ROWS_PER_ENTRY
}

/// Sealed records look random, so these rows do.
fn row(number: u64) -> Vec<u8> {
    let mut rng = Rng::new(number);
    (0..ROW_BYTES / 8).flat_map(|_| rng.bits().to_le_bytes()).collect()
}

/// Returns a figure of `/proc/self/status` in bytes.
fn memory(name: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib << 10
}
