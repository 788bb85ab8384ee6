//! What a crash leaves is repaired; what a crash cannot leave is refused.

use std::fs;
use std::path::PathBuf;

use super::*;
use crate::frame::{self, Parsed};
use crate::segment;

/// A log that crashed: records 2 and 3 in commits of their own, 4 to 6 in the last commit.
struct Crashed {
    directory: tempfile::TempDir,
    bytes: Vec<u8>,
    /// Where each record's frame begins, by sequence from 1, and where the last ends.
    starts: Vec<usize>,
}

const LAST_COMMIT: usize = 4;

fn crashed() -> Crashed {
    let disk = Arc::new(Disk::default());
    let directory = directory();
    let log = open_on(&disk, directory.path()).unwrap();
    append_durably(&log, call(2));
    disk.set(Fault::Hang);
    let first = log.append(call(3)).unwrap();
    // The writer has taken record 3 alone once its bytes are in the file.
    let path = segment_path(directory.path());
    while starts(&fs::read(&path).unwrap()).len() < 4 {}
    let rest: Vec<_> = (4..7).map(|n| log.append(call(n)).unwrap()).collect();
    disk.set(Fault::None);
    block_on(first.durable()).unwrap();
    block_on(rest[2].durable()).unwrap();
    drop(log);
    let bytes = fs::read(&path).unwrap();
    let starts = starts(&bytes);
    Crashed { directory, bytes, starts }
}

fn segment_path(directory: &Path) -> PathBuf {
    directory.join(segment::file_name(1))
}

fn starts(bytes: &[u8]) -> Vec<usize> {
    let mut starts = vec![segment::HEADER_BYTES];
    while let Parsed::Frame(frame) = frame::parse(&bytes[starts[starts.len() - 1]..]) {
        starts.push(starts[starts.len() - 1] + frame.bytes());
    }
    starts
}

impl Crashed {
    fn start(&self, sequence: usize) -> usize {
        self.starts[sequence - 1]
    }

    /// Writes a record anew, with all its sums.
    fn forged(&self, n: usize, sequence: u64, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let frame = |n| match frame::parse(&self.bytes[self.start(n)..]) {
            Parsed::Frame(frame) => frame,
            other => panic!("{other:?}"),
        };
        let mut record = frame(n).record.to_vec();
        change(&mut record);
        let mut forged = Vec::new();
        frame::push(&mut forged, frame(n - 1).chain, sequence, 0, |out| {
            out.extend_from_slice(&record)
        });
        let mut bytes = self.bytes.clone();
        bytes.splice(self.start(n)..self.start(n + 1), forged);
        bytes
    }

    /// Opens the log with other bytes.
    fn open_with(&self, bytes: &[u8]) -> Result<Log, OpenError> {
        fs::write(segment_path(self.directory.path()), bytes).unwrap();
        open(self.directory.path())
    }

    fn refused_with(&self, bytes: &[u8]) -> OpenError {
        let refused = self.open_with(bytes).map(drop).unwrap_err();
        assert_eq!(fs::read(segment_path(self.directory.path())).unwrap(), bytes, "was changed");
        refused
    }
}

fn numbers(log: &Log) -> Vec<u64> {
    read_all(log).iter().filter_map(number).collect()
}

#[test]
fn last_commit_cut_anywhere_is_repaired_and_earlier_ones_stay() {
    let crashed = crashed();
    let end = crashed.start(7);
    for cut in crashed.start(LAST_COMMIT)..=end {
        let mut bytes = crashed.bytes.clone();
        bytes[cut..end].fill(0);
        let log = crashed.open_with(&bytes).unwrap();
        // A record may end in zeros, which no cut takes away.
        let is_whole = |n: &usize| bytes.starts_with(&crashed.bytes[..crashed.start(n + 1)]);
        let whole = (LAST_COMMIT..7).take_while(is_whole).count() as u64;
        assert_eq!(numbers(&log), (2..4 + whole).collect::<Vec<_>>(), "cut at {cut}");
        append_durably(&log, call(9));
        close(log);
        let report = verify(crashed.directory.path(), None).unwrap();
        assert!(report.is_intact(), "cut at {cut}: {:?}", report.findings);
        assert_eq!(report.losses.len(), 1);
    }
}

/// A power cut keeps any sectors of what was not synced.
#[test]
fn hole_in_the_last_commit_is_repaired() {
    let crashed = crashed();
    for lost in LAST_COMMIT..7 {
        let mut bytes = crashed.bytes.clone();
        bytes[crashed.start(lost)..crashed.start(lost + 1)].fill(0);
        let log = crashed.open_with(&bytes).unwrap();
        assert_eq!(numbers(&log), (2..lost as u64).collect::<Vec<_>>());
        // What stood behind the hole must not come back, now or after the next crash.
        close(log);
        assert!(verify(crashed.directory.path(), None).unwrap().is_intact());
        let log = open(crashed.directory.path()).unwrap();
        append_durably(&log, call(9));
        drop(log);
        let log = open(crashed.directory.path()).unwrap();
        assert_eq!(numbers(&log).last(), Some(&9));
    }
}

#[test]
fn damage_in_an_earlier_commit_is_refused_and_nothing_is_changed() {
    let crashed = crashed();
    for sequence in 1..LAST_COMMIT {
        for at in crashed.start(sequence)..crashed.start(sequence + 1) {
            let mut bytes = crashed.bytes.clone();
            bytes[at] ^= 1;
            let refused = crashed.refused_with(&bytes);
            let OpenError::Damaged { sequence: named, .. } = refused else { panic!("{refused}") };
            assert_eq!(named, sequence as u64, "byte {at}");
        }
        let mut bytes = crashed.bytes.clone();
        bytes[crashed.start(sequence)..crashed.start(sequence + 1)].fill(0);
        assert!(matches!(crashed.refused_with(&bytes), OpenError::Damaged { .. }));
    }
}

/// Whoever computes checksums anew still breaks the chain.
#[test]
fn records_swapped_or_removed_are_refused() {
    let crashed = crashed();
    let frame = |n: usize| crashed.bytes[crashed.start(n)..crashed.start(n + 1)].to_vec();
    let build = |order: &[usize]| {
        let mut bytes = crashed.bytes[..segment::HEADER_BYTES].to_vec();
        order.iter().for_each(|n| bytes.extend(frame(*n)));
        bytes.resize(crashed.bytes.len(), 0);
        bytes
    };
    for order in [&[1, 3, 2, 4, 5, 6][..], &[1, 3, 4, 5, 6], &[2, 3, 4, 5, 6], &[1, 2, 2, 3]] {
        let refused = crashed.refused_with(&build(order));
        assert!(matches!(refused, OpenError::Damaged { .. }), "{order:?}: {refused}");
    }
    crashed.open_with(&build(&[1, 2, 3, 4, 5, 6])).unwrap();
}

/// Its own checksum and chain are right; the chain of the next record is not.
#[test]
fn record_changed_with_all_its_sums_is_refused() {
    let crashed = crashed();
    let refused =
        crashed.refused_with(&crashed.forged(2, 2, |record| *record.last_mut().unwrap() ^= 1));
    assert!(matches!(refused, OpenError::Damaged { sequence: 3, .. }), "{refused}");
}

/// The chain alone would take a gap that its writer made.
#[test]
fn record_chained_with_another_sequence_is_refused() {
    let crashed = crashed();
    let refused = crashed.refused_with(&crashed.forged(3, 7, |_| ()));
    assert!(matches!(refused, OpenError::Damaged { sequence: 3, .. }), "{refused}");
}

#[test]
fn log_of_later_software_is_refused_as_such() {
    let crashed = crashed();
    // The version is the first value in the stamp.
    let later = crashed.forged(6, 6, |record| record[3] = 2);
    let refused = crashed.refused_with(&later);
    let OpenError::Record { sequence: 6, source } = refused else { panic!("{refused}") };
    assert_eq!(source.to_string(), "the record has version 2, this software reads version 1");
}

#[test]
fn damaged_header_is_refused() {
    let crashed = crashed();
    for at in 0..segment::HEADER_BYTES {
        let mut bytes = crashed.bytes.clone();
        bytes[at] ^= 0x80;
        let refused = crashed.refused_with(&bytes);
        assert!(matches!(refused, OpenError::Header { segment: 1, .. }), "byte {at}: {refused}");
    }
    assert!(matches!(crashed.refused_with(&[]), OpenError::Header { .. }));
}

/// Opens a log of several segments for a change of one of its files.
fn rotated() -> (tempfile::TempDir, Vec<PathBuf>) {
    let directory = directory();
    let log = open(directory.path()).unwrap();
    for n in 0..30 {
        append_durably(&log, large_call(n));
    }
    close(log);
    let segments = (1..=3).map(|n| directory.path().join(segment::file_name(n))).collect();
    (directory, segments)
}

#[test]
fn newest_segment_that_does_not_continue_the_one_before_is_refused() {
    let (directory, segments) = rotated();
    let whole = fs::read(&segments[1]).unwrap();
    fs::remove_file(&segments[1]).unwrap();
    let refused = open(directory.path()).map(drop).unwrap_err();
    assert!(matches!(refused, OpenError::Unlinked { segment: 3 }), "{refused}");

    let last = *starts(&whole).iter().rev().nth(1).unwrap();
    fs::write(&segments[1], &whole[..last]).unwrap();
    let refused = open(directory.path()).map(drop).unwrap_err();
    assert!(matches!(refused, OpenError::Unlinked { segment: 3 }), "{refused}");

    fs::write(&segments[1], &whole).unwrap();
    open(directory.path()).unwrap();
}

#[test]
fn segment_before_the_newest_with_a_forged_end_is_refused() {
    let (directory, segments) = rotated();
    let mut bytes = fs::read(&segments[1]).unwrap();
    let starts = starts(&bytes);
    let frame = |n: usize| match frame::parse(&bytes[starts[n]..]) {
        Parsed::Frame(frame) => frame,
        other => panic!("{other:?}"),
    };
    let last = starts.len() - 2;
    let mut record = frame(last).record.to_vec();
    *record.last_mut().unwrap() ^= 1;
    let mut forged = Vec::new();
    frame::push(&mut forged, frame(last - 1).chain, frame(last).sequence, 0, |out| {
        out.extend_from_slice(&record)
    });
    bytes.splice(starts[last].., forged);
    fs::write(&segments[1], bytes).unwrap();
    let refused = open(directory.path()).map(drop).unwrap_err();
    assert!(matches!(refused, OpenError::Unlinked { segment: 3 }), "{refused}");
}

/// A crash right after a new segment got its name, and before its first record.
#[test]
fn segment_without_a_record_is_gone_on_with() {
    let (directory, segments) = rotated();
    let last = fs::read(&segments[2]).unwrap();
    let mut empty = last[..segment::HEADER_BYTES].to_vec();
    empty.resize(last.len(), 0);
    fs::write(&segments[2], &empty).unwrap();
    let log = open(directory.path()).unwrap();
    append_durably(&log, call(1000));
    close(log);
    let report = verify(directory.path(), None).unwrap();
    assert!(report.is_intact(), "{:?}", report.findings);
    assert_eq!(report.losses.len(), 1);
}

/// The run before was closed, in another segment; this one was not.
#[test]
fn crash_of_a_run_that_began_with_a_segment_is_marked() {
    let directory = directory();
    close(open(directory.path()).unwrap());
    let path = segment_path(directory.path());
    let bytes = fs::read(&path).unwrap();
    // Without unused room the next run has to begin a segment.
    fs::write(&path, &bytes[..*starts(&bytes).last().unwrap()]).unwrap();
    drop(open(directory.path()).unwrap());
    let log = open(directory.path()).unwrap();
    use MarkEvent::{Closed, LossPossible, Opened};
    let loss = LossPossible { window_ms: 50, cut_bytes: 0 };
    assert_eq!(marks(&read_all(&log)), [Opened, Closed, Opened, loss, Opened]);
    close(log);
    assert_eq!(verify(directory.path(), None).unwrap().segments, 2);
}

#[test]
fn spare_file_that_a_crash_left_with_a_header_is_made_anew() {
    let (directory, segments) = rotated();
    let spares = || {
        let names = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().path());
        names.filter(|path| path.to_string_lossy().contains("spare-")).collect::<Vec<_>>()
    };
    let (used, short) = (spares()[0].clone(), spares()[1].clone());
    fs::write(&used, fs::read(&segments[2]).unwrap()).unwrap();
    fs::write(&short, [0; 100]).unwrap();
    let log = open(directory.path()).unwrap();
    assert_eq!(log.status().spare_segments, 2);
    for n in 0..50 {
        append_durably(&log, large_call(n));
    }
    close(log);
    let report = verify(directory.path(), None).unwrap();
    assert!(report.is_intact(), "{:?}", report.findings);
}
