use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;
use twinkeep_core::id::{ClusterId, NodeId};

use super::*;

const CLUSTER: ClusterId = ClusterId::from_bytes([1; 16]);

fn identity(node: u64) -> Identity {
    Identity { cluster: CLUSTER, node: NodeId::new(node).unwrap() }
}

/// A folder for a log that is opened again and again.
struct Home(TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn folder(&self) -> PathBuf {
        self.0.path().join("log")
    }

    fn open(&self) -> Result<LogDb, OpenError> {
        LogDb::open(&self.folder(), identity(1))
    }

    /// Opens the database below, as damage or another version would reach it.
    fn raw(&self) -> DB {
        DB::open(&options::common(), self.folder().join("db")).unwrap()
    }

    /// Every file with its contents.
    fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = BTreeMap::new();
        let mut folders = vec![self.folder()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    files.insert(path.clone(), fs::read(path).unwrap());
                }
            }
        }
        files
    }

    /// The write-ahead log with contents.
    fn wal(&self) -> (PathBuf, Vec<u8>) {
        let wals = self.files().into_iter();
        let mut wals = wals.filter(|(path, bytes)| {
            path.extension().is_some_and(|ext| ext == "log") && !bytes.is_empty()
        });
        let wal = wals.next().expect("the log was written to");
        assert!(wals.next().is_none(), "the tests expect one write-ahead log");
        wal
    }

    /// Expects a refusal that leaves every file as it is.
    fn refused(&self) -> OpenError {
        let before = self.files();
        let error = self.open().err().expect("a damaged log is refused");
        assert!(before == self.files(), "a refused log was changed: {error}");
        error
    }
}

fn entry(index: u64) -> (u64, Bytes) {
    (index, Bytes::from(format!("entry {index}")))
}

fn append(log: &LogDb, range: Range<u64>) {
    wait(|done| log.append(range.map(entry).collect(), done)).unwrap();
}

/// A log with a vote and entries 1 to 9, each synced on its own.
fn filled() -> Home {
    let home = Home::new();
    let log = home.open().unwrap();
    log.save_vote(Bytes::from("vote 1")).unwrap();
    for index in 1..10 {
        append(&log, index..index + 1);
    }
    home
}

#[test]
fn restart_keeps_everything_acknowledged() {
    let home = filled();
    for _ in 0..3 {
        let log = home.open().unwrap();
        assert_eq!(log.vote(), Some(Bytes::from("vote 1")));
        assert_eq!(log.span(), Some((1, 9)));
        assert_eq!(log.read(0..100).unwrap(), (1..10).map(entry).collect::<Vec<_>>());
    }
}

#[test]
fn markers_come_back() {
    let home = filled();
    let log = home.open().unwrap();
    log.purge(4, Bytes::from("purged 4")).unwrap();
    log.save_committed(8, Bytes::from("committed 8"));
    for (note, text) in
        [(Note::SyncLease, "lease 1"), (Note::Freshness, "stamp"), (Note::SyncLease, "lease 2")]
    {
        log.save_note_then(note, Bytes::from(text), Box::new(|fate| fate.unwrap())).unwrap();
    }
    drop(log);
    let log = home.open().unwrap();
    assert_eq!(log.note(Note::SyncLease), Some(Bytes::from("lease 2")));
    assert_eq!(log.note(Note::Freshness), Some(Bytes::from("stamp")));
    assert_eq!(log.purged(), Some((4, Bytes::from("purged 4"))));
    assert_eq!(log.committed(), Some((8, Bytes::from("committed 8"))));
    assert_eq!(log.span(), Some((5, 9)));
    assert_eq!(log.read(1..7).unwrap(), [entry(5), entry(6)]);
}

#[test]
fn entries_can_be_read_before_they_are_synced() {
    let home = Home::new();
    let log = home.open().unwrap();
    let (tell, hear) = mpsc::channel();
    for index in 1..=500 {
        let tell = tell.clone();
        log.append(
            vec![entry(index)],
            Box::new(move |fate| tell.send((index, fate.is_ok())).unwrap()),
        )
        .unwrap();
        assert_eq!(log.read(index..index + 1).unwrap(), [entry(index)]);
    }
    let answers: Vec<_> = hear.iter().take(500).collect();
    assert_eq!(answers, (1..=500).map(|index| (index, true)).collect::<Vec<_>>());
    assert_eq!(log.read(0..1000).unwrap().len(), 500);
}

#[test]
fn waiting_changes_share_a_sync() {
    let home = Home::new();
    let log = home.open().unwrap();
    for index in 1..=500 {
        log.append(vec![entry(index)], Box::new(|_| ())).unwrap();
    }
    append(&log, 501..502);
    drop(log);
    let batch = home.raw().get(keys::BATCH).unwrap().unwrap();
    let batch = record::unframe("write number", keys::BATCH, &batch).unwrap();
    let batches = u64::from_be_bytes(batch.try_into().unwrap());
    assert!(batches < 400, "{batches} batches for 501 appends");
}

#[test]
fn truncated_and_replaced_entries_stay_that_way() {
    let home = filled();
    let log = home.open().unwrap();
    log.truncate_after(Some(5)).unwrap();
    assert_eq!(log.span(), Some((1, 5)));
    assert_eq!(log.read(4..10).unwrap(), [entry(4), entry(5)]);
    wait(|done| log.append(vec![(6, Bytes::from("other"))], done)).unwrap();
    drop(log);
    let log = home.open().unwrap();
    assert_eq!(log.read(5..10).unwrap(), [entry(5), (6, Bytes::from("other"))]);
    log.truncate_after(None).unwrap();
    assert_eq!(log.span(), None);
}

#[test]
fn long_ranges_are_removed_like_short_ones() {
    let home = Home::new();
    let log = home.open().unwrap();
    append(&log, 1..1000);
    log.purge(400, Bytes::new()).unwrap();
    log.truncate_after(Some(600)).unwrap();
    append(&log, 601..650);
    drop(log);
    let log = home.open().unwrap();
    assert_eq!(log.read(0..2000).unwrap(), (401..650).map(entry).collect::<Vec<_>>());
}

#[test]
fn purge_beyond_the_end_leaves_an_empty_log_that_goes_on_there() {
    let home = filled();
    let log = home.open().unwrap();
    log.purge(50, Bytes::from("snapshot")).unwrap();
    drop(log);
    let log = home.open().unwrap();
    assert_eq!(log.span(), None);
    append(&log, 51..53);
    drop(log);
    assert_eq!(home.open().unwrap().span(), Some((51, 52)));
}

#[test]
fn reading_stops_at_the_limit_but_gives_one() {
    let home = filled();
    let log = home.open().unwrap();
    assert_eq!(log.read_limited(1..10, 1).unwrap(), [entry(1)]);
    assert_eq!(log.read_limited(1..10, 14).unwrap(), [entry(1), entry(2)]);
    append(&log, 10..12);
    assert_eq!(log.read_limited(9..12, 8).unwrap().len(), 2);
}

#[test]
fn log_of_another_node_or_cluster_is_refused() {
    let home = filled();
    let before = home.files();
    let elsewhere = Identity { cluster: ClusterId::from_bytes([2; 16]), ..identity(1) };
    for other in [identity(2), elsewhere] {
        let error = LogDb::open(&home.folder(), other).err().unwrap();
        assert!(matches!(error, OpenError::Foreign(_)), "{error}");
    }
    assert!(before == home.files());
    home.open().unwrap();
}

#[test]
fn log_in_use_is_refused() {
    let home = filled();
    let _log = home.open().unwrap();
    assert!(matches!(home.open(), Err(OpenError::InUse(_))));
}

#[test]
fn flipped_byte_before_the_last_record_is_refused_and_loses_nothing() {
    let home = filled();
    let (path, good) = home.wal();
    for at in (0..good.len() - 80).step_by(37) {
        let mut bad = good.clone();
        bad[at] ^= 0x04;
        fs::write(&path, &bad).unwrap();
        let error = home.refused();
        assert!(matches!(error, OpenError::Stranded { .. }), "byte {at}: {error}");
    }
    fs::write(&path, &good).unwrap();
    let log = home.open().unwrap();
    assert_eq!(log.vote(), Some(Bytes::from("vote 1")));
    assert_eq!(log.read(0..100).unwrap().len(), 9);
}

/// Point-in-time recovery cannot tell this from a torn write; the mark can.
#[test]
fn flipped_byte_in_the_last_acknowledged_record_is_refused() {
    let home = filled();
    let (path, good) = home.wal();
    let mut bad = good.clone();
    *bad.last_mut().unwrap() ^= 1;
    fs::write(&path, &bad).unwrap();
    let error = home.refused();
    assert!(matches!(error, OpenError::Behind { found: 10, acknowledged: 11 }), "{error}");
}

#[test]
fn log_cut_short_is_refused() {
    let home = filled();
    let (path, good) = home.wal();
    for len in [0, good.len() / 2, good.len() - 1] {
        fs::write(&path, &good[..len]).unwrap();
        let error = home.refused();
        assert!(matches!(error, OpenError::Behind { .. }), "{len} bytes: {error}");
    }
    fs::remove_file(&path).unwrap();
    home.refused();
}

#[test]
fn torn_write_that_was_never_acknowledged_is_dropped() {
    let home = filled();
    let (path, good) = home.wal();
    // Bytes that are no record: what a power cut leaves of a write.
    let torn = [&good[..], &good[good.len() - 60..good.len() - 20]].concat();
    fs::write(&path, torn).unwrap();
    for _ in 0..2 {
        let log = home.open().unwrap();
        assert_eq!(log.read(0..100).unwrap().len(), 9);
        let next = log.span().unwrap().1 + 1;
        assert_eq!(next, 10);
    }
}

#[test]
fn missing_files_are_refused() {
    for name in ["db/CURRENT", "acknowledged"] {
        let home = filled();
        fs::remove_file(home.folder().join(name)).unwrap();
        let error = home.refused();
        assert!(matches!(error, OpenError::Missing(_)), "{name}: {error}");
    }
}

/// Without `CURRENT` RocksDB begins an empty database and removes the files of the old one.
#[test]
fn database_without_its_entrance_is_refused_even_when_the_mark_is_gone() {
    let home = filled();
    drop(home.open().unwrap());
    fs::remove_file(home.folder().join("db/CURRENT")).unwrap();
    fs::remove_file(home.folder().join("acknowledged")).unwrap();
    let error = home.refused();
    assert!(matches!(error, OpenError::Missing(_)), "{error}");
}

#[test]
fn older_purge_leaves_a_log_that_opens() {
    let home = filled();
    let log = home.open().unwrap();
    log.purge(6, Bytes::from("6")).unwrap();
    log.purge(3, Bytes::from("3")).unwrap();
    drop(log);
    let log = home.open().unwrap();
    assert_eq!(log.purged(), Some((6, Bytes::from("6"))));
    assert_eq!(log.span(), Some((7, 9)));
}

#[test]
fn nobody_waits_for_a_writer_that_panicked() {
    let home = filled();
    let log = home.open().unwrap();
    log.append(vec![entry(10)], Box::new(|_| panic!("a callback of the test"))).unwrap();
    // It may wait in the batch of the one that panics, or behind it.
    let refused = (11..).find_map(|index| wait(|done| log.append(vec![entry(index)], done)).err());
    assert!(matches!(refused, Some(WriteError::Failed(_))));
    assert!(log.failure().is_some());
    drop(log);
    assert_eq!(home.open().unwrap().read(10..11).unwrap(), [entry(10)], "it was synced before");
}

#[test]
fn damaged_vote_is_refused() {
    let home = filled();
    let db = home.raw();
    let mut vote = db.get(keys::VOTE).unwrap().unwrap();
    vote[6] ^= 1;
    db.put(keys::VOTE, vote).unwrap();
    drop(db);
    let error = home.refused();
    assert!(matches!(error, OpenError::Damaged(_)), "{error}");
}

#[test]
fn damaged_entry_before_the_last_is_refused() {
    let home = filled();
    let db = home.raw();
    let mut found = db.get(keys::entry(4)).unwrap().unwrap();
    *found.last_mut().unwrap() ^= 0x80;
    db.put(keys::entry(4), found).unwrap();
    drop(db);
    let error = home.refused();
    assert!(matches!(error, OpenError::Damaged(_)), "{error}");
}

#[test]
fn missing_entry_is_refused() {
    let home = filled();
    home.raw().delete(keys::entry(4)).unwrap();
    let error = home.refused();
    assert!(matches!(error, OpenError::Gap { expected: 4, found: 5 }), "{error}");
}

#[test]
fn missing_first_entry_after_a_purge_is_refused() {
    let home = filled();
    home.open().unwrap().purge(3, Bytes::new()).unwrap();
    home.raw().delete(keys::entry(4)).unwrap();
    let error = home.refused();
    assert!(matches!(error, OpenError::Gap { expected: 4, found: 5 }), "{error}");
}

#[test]
fn log_that_ends_below_what_was_committed_is_refused() {
    let home = filled();
    home.open().unwrap().save_committed(9, Bytes::new());
    home.raw().delete(keys::entry(9)).unwrap();
    let error = home.refused();
    assert!(matches!(error, OpenError::EndsBelow { index: 9, last: Some(8), .. }), "{error}");
}

#[test]
fn log_that_ends_below_what_was_applied_is_refused() {
    let home = filled();
    let log = home.open().unwrap();
    log.check_applied(None).unwrap();
    log.check_applied(Some(9)).unwrap();
    let error = log.check_applied(Some(10)).unwrap_err();
    assert_eq!(error.to_string(), "the log ends at entry 9, and what was applied reaches 10");
}

#[test]
fn state_beyond_the_log_is_fine_when_a_snapshot_was_expected() {
    let home = filled();
    home.open().unwrap().expect_snapshot(20).unwrap();
    let log = home.open().unwrap();
    log.check_applied(Some(20)).unwrap();
    log.check_applied(Some(21)).unwrap_err();
}

#[test]
fn state_below_what_was_purged_is_refused() {
    let home = filled();
    let log = home.open().unwrap();
    log.purge(6, Bytes::new()).unwrap();
    log.check_applied(Some(6)).unwrap();
    for applied in [None, Some(5)] {
        let error = log.check_applied(applied).unwrap_err();
        assert!(matches!(error, OpenError::StateBelowPurged { purged: 6, .. }), "{error}");
    }
}

#[test]
fn folder_whose_creation_was_interrupted_begins_anew() {
    let home = Home::new();
    fs::create_dir_all(home.folder().join("db")).unwrap();
    home.open().unwrap();
    let home = Home::new();
    fs::create_dir_all(home.folder()).unwrap();
    Mark::create(&home.folder().join("acknowledged")).unwrap();
    home.open().unwrap();
}
