use std::collections::BTreeMap;
use std::fs;

use proptest::prelude::*;
use tempfile::TempDir;
use twinkeep_core::id::NodeId;
use twinkeep_core::state::{Read, Rows, Write};

use super::*;

fn identity(cluster: u8, node: u64) -> Identity {
    Identity { cluster: ClusterId::from_bytes([cluster; 16]), node: NodeId::new(node).unwrap() }
}

fn open(home: &TempDir) -> Result<StateDb, OpenError> {
    StateDb::open(&home.path().join("state"), identity(1, 1))
}

fn applied(index: u64) -> Applied {
    Applied { index, meta: format!("entry {index}").into_bytes() }
}

fn put_row(state: &StateDb, index: u64, key: &[u8], value: &[u8]) {
    let mut transaction = state.begin();
    transaction.put(Table::Keys, key, value.to_vec());
    state.commit(transaction, &applied(index)).unwrap();
}

#[test]
fn transaction_and_its_entry_become_visible_together_and_stay() {
    let home = tempfile::tempdir().unwrap();
    let state = open(&home).unwrap();
    assert_eq!(state.applied().unwrap(), None);
    let mut transaction = state.begin();
    transaction.put(Table::Keys, b"a", b"1".to_vec());
    transaction.put(Table::Nodes, b"a", b"2".to_vec());
    assert_eq!(transaction.get(Table::Keys, b"a").unwrap(), Some(b"1".to_vec()));
    assert_eq!(state.get(Table::Keys, b"a").unwrap(), None);
    state.commit(transaction, &applied(5)).unwrap();
    drop(state);

    let state = open(&home).unwrap();
    assert_eq!(state.applied().unwrap(), Some(applied(5)));
    assert_eq!(state.get(Table::Keys, b"a").unwrap(), Some(b"1".to_vec()));
    assert_eq!(state.get(Table::Nodes, b"a").unwrap(), Some(b"2".to_vec()));
    assert_eq!(state.get(Table::Sealed, b"a").unwrap(), None);
}

#[test]
fn view_does_not_move() {
    let home = tempfile::tempdir().unwrap();
    let state = open(&home).unwrap();
    put_row(&state, 1, b"k", b"old");
    state.view(|view| {
        put_row(&state, 2, b"k", b"new");
        put_row(&state, 3, b"l", b"new");
        assert_eq!(view.get(Table::Keys, b"k").unwrap(), Some(b"old".to_vec()));
        assert_eq!(view.scan(Table::Keys, b"", b"", 9).unwrap().len(), 1);
        assert_eq!(view.applied().unwrap(), Some(applied(1)));
    });
    assert_eq!(state.get(Table::Keys, b"k").unwrap(), Some(b"new".to_vec()));
}

#[test]
fn entry_is_not_applied_twice_or_backwards() {
    let home = tempfile::tempdir().unwrap();
    let state = open(&home).unwrap();
    put_row(&state, 7, b"k", b"v");
    for index in [7, 6] {
        state.commit(state.begin(), &applied(index)).unwrap_err();
    }
    put_row(&state, 8, b"k", b"w");
}

#[test]
fn transaction_that_overlaps_another_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let state = open(&home).unwrap();
    let mut late = state.begin();
    late.put(Table::Keys, b"k", b"late".to_vec());
    put_row(&state, 1, b"k", b"first");
    state.commit(late, &applied(2)).unwrap_err();
    assert_eq!(state.get(Table::Keys, b"k").unwrap(), Some(b"first".to_vec()));
}

#[test]
fn damaged_row_is_a_fault_and_not_an_answer() {
    let home = tempfile::tempdir().unwrap();
    let state = open(&home).unwrap();
    put_row(&state, 1, b"k", b"value");
    let store = state.current();
    let mut framed = store.db.get_cf(store.family(Table::Keys), b"k").unwrap().unwrap();
    store.db.put_cf(store.family(Table::Nodes), b"k", &framed).unwrap();
    state.get(Table::Nodes, b"k").unwrap_err();
    *framed.last_mut().unwrap() ^= 1;
    store.db.put_cf(store.family(Table::Keys), b"k", framed).unwrap();
    state.get(Table::Keys, b"k").unwrap_err();
    state.begin().get(Table::Keys, b"k").unwrap_err();
    state.begin().scan(Table::Keys, b"", b"", 9).unwrap_err();
    state.view(|view| {
        view.get(Table::Keys, b"k").unwrap_err();
        view.scan(Table::Keys, b"", b"", 9).unwrap_err();
    });
}

#[test]
fn state_of_another_node_or_cluster_is_refused() {
    let home = tempfile::tempdir().unwrap();
    drop(open(&home).unwrap());
    for other in [identity(1, 2), identity(2, 1)] {
        let error = StateDb::open(&home.path().join("state"), other).err().unwrap();
        assert!(matches!(error, OpenError::Foreign(_)), "{error}");
    }
}

#[test]
fn database_of_another_cluster_in_the_right_folder_is_refused() {
    let (home, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let root = home.path().join("state");
    drop(open(&home).unwrap());
    drop(StateDb::open(&other.path().join("state"), identity(2, 1)).unwrap());
    fs::remove_dir_all(root.join("db-00000001")).unwrap();
    fs::rename(other.path().join("state/db-00000001"), root.join("db-00000001")).unwrap();
    assert!(matches!(open(&home), Err(OpenError::ForeignCluster { .. })));
}

#[test]
fn missing_files_are_refused() {
    for name in ["node", "active"] {
        let home = tempfile::tempdir().unwrap();
        put_row(&open(&home).unwrap(), 1, b"k", b"v");
        fs::remove_file(home.path().join("state").join(name)).unwrap();
        assert!(matches!(open(&home), Err(OpenError::Missing(_))), "{name}");
    }
}

#[test]
fn folder_that_is_not_in_use_is_removed_at_start() {
    let home = tempfile::tempdir().unwrap();
    put_row(&open(&home).unwrap(), 1, b"k", b"v");
    let left = home.path().join("state/db-00000002");
    fs::create_dir(&left).unwrap();
    assert_eq!(open(&home).unwrap().applied().unwrap(), Some(applied(1)));
    assert!(!left.exists());
}

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

fn scan_model(model: &Model, prefix: &[u8], from: &[u8], limit: usize) -> Rows {
    let rows = model.iter().filter(|(key, _)| key.starts_with(prefix) && key.as_slice() >= from);
    rows.take(limit).map(|(key, value)| (key.clone(), value.clone())).collect()
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop_oneof![Just(0u8), Just(1), Just(0xff)], 0..4)
}

fn write() -> impl Strategy<Value = (Vec<u8>, Option<Vec<u8>>)> {
    (key(), any::<Option<u8>>().prop_map(|value| value.map(|byte| vec![byte])))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A transaction over a state reads like a map with both in it, and so does the state after it.
    #[test]
    fn scans_read_like_a_map(
        stored in prop::collection::vec(write(), 0..12),
        written in prop::collection::vec(write(), 0..12),
        scans in prop::collection::vec((key(), key(), 0usize..6), 8),
    ) {
        let home = tempfile::tempdir().unwrap();
        let state = open(&home).unwrap();
        let mut model = Model::new();
        for (index, writes) in [stored, written].into_iter().enumerate() {
            let mut transaction = state.begin();
            for (key, value) in writes {
                match value {
                    Some(value) => {
                        model.insert(key.clone(), value.clone());
                        transaction.put(Table::Keys, &key, value);
                    }
                    None => {
                        model.remove(&key);
                        transaction.delete(Table::Keys, &key);
                    }
                }
            }
            for (prefix, from, limit) in &scans {
                let found = transaction.scan(Table::Keys, prefix, from, *limit).unwrap();
                prop_assert_eq!(found, scan_model(&model, prefix, from, *limit));
            }
            state.commit(transaction, &applied(index as u64 + 1)).unwrap();
            for (prefix, from, limit) in &scans {
                let found = state.view(|view| view.scan(Table::Keys, prefix, from, *limit)).unwrap();
                prop_assert_eq!(found, scan_model(&model, prefix, from, *limit));
            }
        }
    }
}
