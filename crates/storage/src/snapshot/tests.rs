use std::convert::Infallible;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use tempfile::TempDir;
use twinkeep_core::id::{ClusterId, NodeId};
use twinkeep_core::state::{Table, Write};

use super::*;
use crate::identity::Identity;
use crate::state::{Applied, InstallError, StateDb};

const SIGNATURE: &[u8] = b"signed by node 1";

fn identity(cluster: u8, node: u64) -> Identity {
    Identity { cluster: ClusterId::from_bytes([cluster; 16]), node: NodeId::new(node).unwrap() }
}

/// A node's folders, opened.
struct Node {
    home: TempDir,
    identity: Identity,
    state: StateDb,
    snapshots: SnapshotStore,
}

impl Node {
    fn new(cluster: u8, node: u64) -> Self {
        let home = tempfile::tempdir().unwrap();
        let identity = identity(cluster, node);
        let state = StateDb::open(&home.path().join("state"), identity).unwrap();
        let snapshots =
            SnapshotStore::open(&home.path().join("snapshots"), identity.cluster).unwrap();
        Self { home, identity, state, snapshots }
    }

    /// A node that applied entries 1 to `last`; row `n` says which entry wrote it last.
    fn filled(cluster: u8, node: u64, last: u64) -> Self {
        let node = Self::new(cluster, node);
        node.apply(1, last);
        node
    }

    fn apply(&self, from: u64, last: u64) {
        for index in from..=last {
            let mut transaction = self.state.begin();
            transaction.put(
                Table::Keys,
                &(index % 100).to_be_bytes(),
                index.to_be_bytes().to_vec(),
            );
            transaction.put(Table::Cluster, b"last", index.to_be_bytes().to_vec());
            let meta = format!("log id {index}").into_bytes();
            self.state.commit(transaction, &Applied { index, meta }).unwrap();
        }
    }

    fn build(&self) -> Arc<Snapshot> {
        self.snapshots.build(&self.state, self.identity, 1, sign).unwrap()
    }

    fn reopened(&self) -> SnapshotStore {
        SnapshotStore::open(&self.home.path().join("snapshots"), self.identity.cluster).unwrap()
    }

    fn snapshot_folders(&self) -> Vec<String> {
        crate::disk::names(&self.home.path().join("snapshots")).unwrap()
    }

    fn last_row(&self) -> Option<u64> {
        let row = self.state.get(Table::Cluster, b"last").unwrap()?;
        Some(u64::from_be_bytes(row.try_into().unwrap()))
    }
}

fn sign(_manifest: &[u8]) -> Result<Vec<u8>, Infallible> {
    Ok(SIGNATURE.to_vec())
}

fn verify(_: &Manifest, manifest: &[u8], signature: &[u8]) -> Result<(), &'static str> {
    assert!(manifest.starts_with(b"TWKSNAP\x01"));
    if signature == SIGNATURE { Ok(()) } else { Err("a stranger signed") }
}

fn strangers(_: &Manifest, _: &[u8], _: &[u8]) -> Result<(), &'static str> {
    Err("a stranger signed")
}

fn transfer(snapshot: &Snapshot, to: &Node) -> Arc<Snapshot> {
    let mut receiver = to.snapshots.receive(&snapshot.signed().encode(), verify).unwrap();
    for (number, chunk) in snapshot.chunks(0).enumerate() {
        receiver.accept(number as u64, &chunk.unwrap()).unwrap();
    }
    receiver.finish().unwrap()
}

/// Flips a byte in the middle of the first file with this ending; returns its name.
fn damage(snapshot: &Snapshot, ending: &str) -> String {
    let name = snapshot.manifest().files().find(|name| name.ends_with(ending)).unwrap().to_owned();
    let path = snapshot.folder().join(&name);
    let file = fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    let at = file.metadata().unwrap().len() / 2;
    file.read_exact_at(&mut byte, at).unwrap();
    byte[0] ^= 1;
    file.write_all_at(&byte, at).unwrap();
    name
}

#[test]
fn snapshot_travels_and_replaces_the_state() {
    let from = Node::filled(1, 1, 250);
    let to = Node::filled(1, 2, 30);
    let snapshot = transfer(&from.build(), &to);
    assert_eq!(snapshot.manifest().index(), 250);
    assert_eq!(snapshot.manifest().meta(), b"log id 250");
    assert_eq!((snapshot.manifest().node().get(), snapshot.manifest().cluster_version()), (1, 1));
    to.state.install(&snapshot, verify).unwrap();
    assert_eq!(to.last_row(), Some(250));
    to.apply(251, 260);

    let root = to.home.path().join("state");
    let Node { state, home: _home, identity, .. } = to;
    drop(state);
    let state = StateDb::open(&root, identity).unwrap();
    assert_eq!(state.applied().unwrap().unwrap().index, 260);
    let folders = crate::disk::names(&root).unwrap();
    assert_eq!(folders, ["active", "db-00000002", "node"], "the old state is gone");
}

/// A snapshot that is newer than its number makes the receiver apply entries twice.
#[test]
fn data_and_number_are_of_one_point_in_time() {
    let node = Node::filled(1, 1, 50);
    std::thread::scope(|scope| {
        let applier = scope.spawn(|| node.apply(51, 6000));
        while !applier.is_finished() {
            let snapshot = node.build();
            let copy = Node::new(1, 2);
            copy.state.install(&transfer(&snapshot, &copy), verify).unwrap();
            assert_eq!(copy.last_row(), Some(snapshot.manifest().index()));
        }
    });
}

#[test]
fn only_files_of_a_checkpoint_are_in_a_snapshot() {
    let node = Node::filled(1, 1, 10);
    let snapshot = node.build();
    let mut names = crate::disk::names(snapshot.folder()).unwrap();
    names.retain(|name| name != MANIFEST_FILE);
    assert_eq!(names, snapshot.manifest().files().collect::<Vec<_>>());
    assert!(names.iter().all(|name| manifest::is_checkpoint_file(name)), "{names:?}");
}

#[test]
fn interrupted_transfer_goes_on_where_it_was() {
    let from = Node::filled(1, 1, 10);
    let to = Node::new(1, 2);
    let snapshot = from.build();
    let mut receiver = to.snapshots.receive(&snapshot.signed().encode(), verify).unwrap();
    receiver.accept(0, &snapshot.chunk(0).unwrap()).unwrap();
    for wrong in [0, 2] {
        let refused = receiver.accept(wrong, &snapshot.chunk(wrong).unwrap()).unwrap_err();
        assert!(matches!(refused, SnapshotError::OutOfTurn { expected: 1, .. }), "{refused}");
    }
    for chunk in snapshot.chunks(receiver.next_chunk()) {
        receiver.accept(receiver.next_chunk(), &chunk.unwrap()).unwrap();
    }
    to.state.install(&receiver.finish().unwrap(), verify).unwrap();
    assert_eq!(to.last_row(), Some(10));
}

#[test]
fn changed_chunk_is_refused_and_the_right_one_still_accepted() {
    let from = Node::filled(1, 1, 10);
    let to = Node::new(1, 2);
    let snapshot = from.build();
    let mut receiver = to.snapshots.receive(&snapshot.signed().encode(), verify).unwrap();
    let good = snapshot.chunk(0).unwrap();
    let mut bad = good.clone();
    bad[0] ^= 1;
    for wrong in [&bad, &good[1..].to_vec(), &[good.clone(), vec![0]].concat()] {
        let refused = receiver.accept(0, wrong).unwrap_err();
        assert!(matches!(refused, SnapshotError::Torn { chunk: 0, .. }), "{refused}");
    }
    receiver.accept(0, &good).unwrap();
}

#[test]
fn unfinished_transfer_has_no_name_and_leaves_nothing() {
    let from = Node::filled(1, 1, 10);
    let to = Node::new(1, 2);
    let signed = from.build().signed().encode();
    let receiver = to.snapshots.receive(&signed, verify).unwrap();
    assert!(matches!(receiver.finish(), Err(SnapshotError::OutOfTurn { expected: 0, .. })));
    assert!(to.snapshot_folders().is_empty());
    std::mem::forget(to.snapshots.receive(&signed, verify).unwrap());
    assert_eq!(to.snapshot_folders().len(), 1, "as a crash leaves it");
    to.reopened();
    assert!(to.snapshot_folders().is_empty());
}

#[test]
fn snapshot_of_another_cluster_is_refused() {
    let foreign = Node::filled(2, 1, 10).build();
    let node = Node::filled(1, 1, 5);
    let refused = node.snapshots.receive(&foreign.signed().encode(), verify).err().unwrap();
    assert!(
        matches!(refused, SnapshotError::Manifest(InvalidManifest::Foreign { .. })),
        "{refused}"
    );
    node.state.install(&foreign, verify).unwrap_err();
    assert_eq!(node.last_row(), Some(5));
}

#[test]
fn snapshot_signed_by_a_stranger_is_refused_by_name_at_both_doors() {
    let node = Node::filled(1, 1, 10);
    let snapshot = node.build();
    let refused = node.snapshots.receive(&snapshot.signed().encode(), strangers).err().unwrap();
    assert!(refused.to_string().contains("00000000000000000010-"), "{refused}");
    node.apply(11, 12);
    node.state.install(&snapshot, strangers).unwrap_err();
    assert_eq!(node.last_row(), Some(12));
    assert_eq!(node.snapshot_folders().len(), 1, "nothing is left behind");
}

#[test]
fn torn_snapshot_is_refused_by_name_before_the_state_changes() {
    for ending in [".sst", "CURRENT"] {
        let node = Node::filled(1, 1, 10);
        let snapshot = node.build();
        let file = damage(&snapshot, ending);
        node.apply(11, 12);
        let refused = node.state.install(&snapshot, verify).unwrap_err();
        let InstallError::Snapshot(SnapshotError::Torn { name, file: torn, .. }) = &refused else {
            panic!("{refused}");
        };
        assert!(name.starts_with("00000000000000000010-") && *torn == file, "{refused}");
        assert_eq!(node.last_row(), Some(12));
        assert!(snapshot.chunks(0).any(|chunk| chunk.is_err()), "nor is it handed on");
    }
}

#[test]
fn torn_newest_snapshot_falls_back_to_the_one_before() {
    let node = Node::filled(1, 1, 10);
    node.build();
    node.apply(11, 20);
    // Not an SST: both snapshots may share it by a hard link.
    damage(&node.build(), "CURRENT");
    assert_eq!(node.snapshots.latest().unwrap().manifest().index(), 20);
    assert_eq!(node.snapshots.latest_whole().unwrap().manifest().index(), 10);
}

#[test]
fn snapshot_without_manifest_or_with_short_files_is_left_out() {
    let node = Node::filled(1, 1, 10);
    node.build();
    node.apply(11, 20);
    let newest = node.build();
    let sst = newest.manifest().files().find(|name| name.ends_with(".sst")).unwrap();
    // A file of its own: the SST is shared with the state by a hard link.
    fs::remove_file(newest.folder().join(sst)).unwrap();
    fs::write(newest.folder().join(sst), b"short").unwrap();
    assert_eq!(node.reopened().latest().unwrap().manifest().index(), 10);
    fs::remove_file(newest.folder().join(MANIFEST_FILE)).unwrap();
    assert_eq!(node.reopened().latest().unwrap().manifest().index(), 10);
}

#[test]
fn last_two_are_kept_and_one_in_use_goes_later() {
    let node = Node::filled(1, 1, 1);
    let first = node.build();
    for index in 2..=4 {
        node.apply(index, index);
        node.build();
    }
    let indexes = |store: &SnapshotStore| -> Vec<_> {
        store.kept().iter().map(|snapshot| snapshot.manifest().index()).collect()
    };
    assert_eq!(indexes(&node.snapshots), [3, 4]);
    first.verify().unwrap();
    drop(first);
    assert_eq!(node.snapshot_folders().len(), KEPT);
    assert_eq!(indexes(&node.reopened()), [3, 4]);
}

#[test]
fn same_snapshot_twice_is_one() {
    let from = Node::filled(1, 1, 10);
    let to = Node::new(1, 2);
    let snapshot = from.build();
    transfer(&snapshot, &to);
    transfer(&snapshot, &to);
    assert_eq!(to.snapshot_folders().len(), 1);
}

#[test]
fn empty_state_has_no_snapshot() {
    let node = Node::new(1, 1);
    let refused = node.snapshots.build(&node.state, node.identity, 1, sign).err().unwrap();
    assert!(matches!(refused, SnapshotError::Empty), "{refused}");
    assert!(node.snapshot_folders().is_empty());
}

#[test]
fn failed_signing_leaves_nothing_behind() {
    let node = Node::filled(1, 1, 3);
    let sealed = |_: &[u8]| Err::<Vec<u8>, _>("the node is sealed");
    let refused = node.snapshots.build(&node.state, node.identity, 1, sealed).err().unwrap();
    assert!(matches!(refused, SnapshotError::Signing(_)), "{refused}");
    assert!(node.snapshot_folders().is_empty());
}

#[test]
fn open_view_keeps_the_old_state_and_an_open_transaction_cannot_commit() {
    let node = Node::filled(1, 1, 10);
    let snapshot = node.build();
    node.apply(11, 20);
    let transaction = node.state.begin();
    node.state.view(|view| {
        node.state.install(&snapshot, verify).unwrap();
        assert_eq!(view.applied().unwrap().unwrap().index, 20);
    });
    assert_eq!(node.last_row(), Some(10));
    let meta = Vec::new();
    node.state.commit(transaction, &Applied { index: 21, meta }).unwrap_err();
}
