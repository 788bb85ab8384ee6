use std::fs;
use std::path::PathBuf;

use super::*;
use crate::testing::{append_durably, call, close, directory, large_call, open};

/// A closed log of three segments.
struct Closed {
    directory: tempfile::TempDir,
    head: Head,
}

fn closed() -> Closed {
    let directory = directory();
    let log = open(directory.path()).unwrap();
    for n in 0..25 {
        append_durably(&log, large_call(n));
    }
    append_durably(&log, call(25));
    let head = close(log);
    Closed { directory, head }
}

impl Closed {
    fn path(&self, segment: u64) -> PathBuf {
        self.directory.path().join(segment::file_name(segment))
    }

    fn findings(&self) -> Vec<Finding> {
        verify(self.directory.path(), None).unwrap().findings
    }

    fn change(&self, segment: u64, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = fs::read(self.path(segment)).unwrap();
        change(&mut bytes);
        fs::write(self.path(segment), bytes).unwrap();
    }
}

/// Returns where frames begin, and where the last one ends.
fn starts(bytes: &[u8]) -> Vec<usize> {
    let mut starts = vec![segment::HEADER_BYTES];
    while let Parsed::Frame(frame) = frame::parse(&bytes[starts[starts.len() - 1]..]) {
        starts.push(starts[starts.len() - 1] + frame.bytes());
    }
    starts
}

#[test]
fn untouched_log_has_no_findings() {
    let closed = closed();
    let report = verify(closed.directory.path(), Some(closed.head)).unwrap();
    assert!(report.is_intact(), "{:?}", report.findings);
    assert_eq!((report.segments, report.records), (3, 28));
    assert_eq!(report.head, Some(closed.head));
    assert!(!report.in_use && report.losses.is_empty());
}

/// Every byte of the smallest log that has all kinds of bytes: header, marks, a call, unused room.
#[test]
fn every_flipped_byte_is_found() {
    let directory = directory();
    let log = open(directory.path()).unwrap();
    append_durably(&log, call(1));
    close(log);
    let path = directory.path().join(segment::file_name(1));
    let bytes = fs::read(&path).unwrap();
    let end = *starts(&bytes).last().unwrap();
    // Of the unused room, some bytes stand for the rest.
    let unused = (end..bytes.len()).step_by(997).chain([bytes.len() - 1]);
    for at in (0..end).chain(unused) {
        let mut bytes = bytes.clone();
        bytes[at] ^= 1 << (at % 8);
        fs::write(&path, bytes).unwrap();
        assert!(!verify(directory.path(), None).unwrap().is_intact(), "byte {at} of {end}");
    }
    fs::write(&path, bytes).unwrap();
    assert!(verify(directory.path(), None).unwrap().is_intact());
}

#[test]
fn flipped_bytes_in_older_segments_are_found() {
    let closed = closed();
    for segment in [1, 2] {
        let bytes = fs::read(closed.path(segment)).unwrap();
        for at in (0..bytes.len()).step_by(211) {
            closed.change(segment, |bytes| bytes[at] ^= 0x10);
            assert!(!closed.findings().is_empty(), "segment {segment}, byte {at}");
            fs::write(closed.path(segment), &bytes).unwrap();
        }
    }
    assert!(closed.findings().is_empty());
}

#[test]
fn removed_record_is_found() {
    let closed = closed();
    closed.change(2, |bytes| {
        let starts = starts(bytes);
        bytes.drain(starts[3]..starts[4]);
    });
    let findings = closed.findings();
    assert!(
        matches!(findings[0], Finding::Sequence { segment: 2, expected, found } if found == expected + 1)
    );
    assert!(matches!(findings[1], Finding::Chain { segment: 2, .. }));
}

#[test]
fn swapped_records_are_found() {
    let closed = closed();
    closed.change(2, |bytes| {
        let starts = starts(bytes);
        let swapped = [&bytes[starts[4]..starts[5]], &bytes[starts[3]..starts[4]]].concat();
        bytes.splice(starts[3]..starts[5], swapped);
    });
    let findings = closed.findings();
    assert!(findings.iter().any(|f| matches!(f, Finding::Sequence { segment: 2, .. })));
    assert!(findings.iter().any(|f| matches!(f, Finding::Chain { segment: 2, .. })));
}

/// The checksum is no secret: a forger computes it anew, and the record's own chain too.
#[test]
fn record_changed_with_all_its_sums_is_found_at_the_next_one() {
    let closed = closed();
    closed.change(1, |bytes| {
        let starts = starts(bytes);
        let Parsed::Frame(before) = frame::parse(&bytes[starts[2]..]) else { panic!() };
        let Parsed::Frame(frame) = frame::parse(&bytes[starts[3]..]) else { panic!() };
        let mut record = frame.record.to_vec();
        *record.last_mut().unwrap() ^= 1;
        let mut forged = Vec::new();
        frame::push(&mut forged, before.chain, frame.sequence, frame.place, |out| {
            out.extend_from_slice(&record);
        });
        bytes.splice(starts[3]..starts[4], forged);
    });
    let findings = closed.findings();
    assert!(matches!(findings[..], [Finding::Chain { segment: 1, sequence: 5 }]), "{findings:?}");
}

/// A record of another node's log, or of another place in this one, with all its sums.
#[test]
fn record_with_a_strange_stamp_is_found() {
    let strange: [fn(&mut crate::record::Stamp); 3] = [
        |stamp| stamp.sequence -= 1,
        |stamp| stamp.node = twinkeep_core::id::NodeId::new(4).unwrap(),
        |stamp| stamp.cluster = twinkeep_core::id::ClusterId::from_bytes([0x66; 16]),
    ];
    for change in strange {
        let closed = closed();
        closed.change(3, |bytes| {
            let starts = starts(bytes);
            let last = starts.len() - 2;
            let Parsed::Frame(before) = frame::parse(&bytes[starts[last - 1]..]) else { panic!() };
            let Parsed::Frame(frame) = frame::parse(&bytes[starts[last]..]) else { panic!() };
            let mut record = Record::from_bytes(frame.record).unwrap();
            change(&mut record.stamp);
            let record = minicbor::to_vec(record).unwrap();
            let mut forged = Vec::new();
            frame::push(&mut forged, before.chain, frame.sequence, frame.place, |out| {
                out.extend_from_slice(&record);
            });
            bytes.splice(starts[last]..starts[last + 1], forged);
        });
        let findings = closed.findings();
        assert!(matches!(findings[..], [Finding::Stamp { sequence: 28 }]), "{findings:?}");
    }
}

/// Whoever computes every sum anew is found by the head that was kept elsewhere, and by nothing else.
#[test]
fn log_written_anew_is_found_by_the_kept_head() {
    let closed = closed();
    let other = directory();
    let log = open(other.path()).unwrap();
    for n in 0..closed.head.sequence {
        append_durably(&log, call(n));
    }
    close(log);
    assert!(verify(other.path(), None).unwrap().is_intact());
    let findings = verify(other.path(), Some(closed.head)).unwrap().findings;
    assert!(
        matches!(findings[..], [Finding::Anchor { sequence }] if sequence == closed.head.sequence)
    );
}

#[test]
fn truncated_segments_are_found() {
    let closed = closed();
    for segment in 1..=3 {
        let bytes = fs::read(closed.path(segment)).unwrap();
        let starts = starts(&bytes);
        let last = starts.len() - 1;
        // At the end of a record, within one, within the header, to nothing.
        for len in [starts[last - 1], starts[last] - 1, starts[0], starts[0] - 1, 0] {
            fs::write(closed.path(segment), &bytes[..len]).unwrap();
            assert!(!closed.findings().is_empty(), "segment {segment} cut to {len}");
        }
        fs::write(closed.path(segment), &bytes).unwrap();
    }
    assert!(closed.findings().is_empty());
}

#[test]
fn log_cut_at_an_earlier_end_is_found_by_the_kept_head() {
    let closed = closed();
    let before = fs::read(closed.path(3)).unwrap();
    let log = open(closed.directory.path()).unwrap();
    append_durably(&log, call(1000));
    let head = close(log);
    assert!(verify(closed.directory.path(), Some(closed.head)).unwrap().is_intact());
    fs::write(closed.path(3), before).unwrap();
    let findings = verify(closed.directory.path(), Some(head)).unwrap().findings;
    assert!(matches!(findings[..], [Finding::Anchor { .. }]), "{findings:?}");
}

#[test]
fn missing_segments_are_found() {
    for missing in 1..=3 {
        let closed = closed();
        fs::remove_file(closed.path(missing)).unwrap();
        let findings = closed.findings();
        match missing {
            3 => assert!(matches!(findings[..], [Finding::NotClosed { .. }]), "{findings:?}"),
            _ => assert!(
                matches!(findings[..], [Finding::MissingSegments { from, to }] if (from, to) == (missing, missing)),
                "{findings:?}"
            ),
        }
    }
}

#[test]
fn swapped_and_foreign_segments_are_found() {
    let closed = closed();
    let aside = closed.directory.path().join("aside");
    fs::rename(closed.path(1), &aside).unwrap();
    fs::rename(closed.path(2), closed.path(1)).unwrap();
    fs::rename(&aside, closed.path(2)).unwrap();
    let findings = closed.findings();
    assert!(findings.iter().any(|f| matches!(f, Finding::Misnamed { segment: 1, header: 2 })));
    assert!(findings.iter().any(|f| matches!(f, Finding::Unlinked { .. })));

    let closed = self::closed();
    let header = Header {
        cluster: twinkeep_core::id::ClusterId::from_bytes([0x66; 16]),
        ..Header::from_bytes(&fs::read(closed.path(2)).unwrap()).unwrap()
    };
    closed.change(2, |bytes| bytes[..segment::HEADER_BYTES].copy_from_slice(&header.to_bytes()));
    let findings = closed.findings();
    assert!(findings.iter().any(|f| matches!(f, Finding::Foreign { segment: 2 })));
    assert!(findings.iter().any(|f| matches!(f, Finding::Chain { segment: 2, .. })));
}

#[test]
fn crashes_are_told_and_are_no_findings() {
    let directory = directory();
    for n in 0..3 {
        let log = open(directory.path()).unwrap();
        append_durably(&log, call(n));
        drop(log);
    }
    close(open(directory.path()).unwrap());
    let report = verify(directory.path(), None).unwrap();
    assert!(report.is_intact(), "{:?}", report.findings);
    let windows: Vec<_> = report.losses.iter().map(|loss| loss.window_ms).collect();
    assert_eq!(windows, [50, 50, 50]);
}

#[test]
fn log_that_was_not_closed_is_told_from_one_that_is_open() {
    let directory = directory();
    let log = open(directory.path()).unwrap();
    append_durably(&log, call(1));
    let report = verify(directory.path(), None).unwrap();
    assert!(report.is_intact() && report.in_use);
    drop(log);
    let report = verify(directory.path(), None).unwrap();
    assert!(matches!(report.findings[..], [Finding::NotClosed { sequence: 2 }]));
}

#[test]
fn runs_follow_one_table() {
    use crate::record::Mark;
    use MarkEvent::{Closed, LossPossible, Opened};
    let mark = |event| Entry::Mark(Mark { time_unix_ns: 0, event });
    let loss = LossPossible { window_ms: 50, cut_bytes: 0 };
    let entries = [Entry::Call(call(1)), mark(Opened), mark(Closed), mark(loss)];
    let matrix = |run: Run| entries.each_ref().map(|entry| run.after(entry));
    use Run::{Lost, Open, Unknown};
    //                                                call         opened      closed             loss
    assert_eq!(matrix(Run::Unknown), [Some(Open), Some(Open), Some(Run::Closed), Some(Lost)]);
    assert_eq!(matrix(Run::Closed), [None, Some(Open), None, None]);
    assert_eq!(matrix(Run::Lost), [None, Some(Open), None, Some(Lost)]);
    assert_eq!(matrix(Run::Open), [Some(Open), None, Some(Run::Closed), Some(Lost)]);
    assert_ne!(Unknown, Open);
}

#[test]
fn missing_crash_mark_is_found() {
    let directory = directory();
    let log = open(directory.path()).unwrap();
    append_durably(&log, call(1));
    drop(log);
    let path = directory.path().join(segment::file_name(1));
    let mut bytes = fs::read(&path).unwrap();
    // A forger hides the crash: the next run, with all its sums, and no mark.
    let starts = starts(&bytes);
    let Parsed::Frame(last) = frame::parse(&bytes[starts[1]..]) else { panic!() };
    let chain = last.chain;
    let Parsed::Frame(opened) = frame::parse(&bytes[starts[0]..]) else { panic!() };
    let mut record: Record = Record::from_bytes(opened.record).unwrap();
    record.stamp.sequence = 3;
    let mut forged = Vec::new();
    frame::push(&mut forged, chain, 3, 0, |out| minicbor::encode(record, out).unwrap());
    bytes[starts[2]..starts[2] + forged.len()].copy_from_slice(&forged);
    fs::write(&path, bytes).unwrap();
    let findings = verify(directory.path(), None).unwrap().findings;
    assert!(matches!(findings[0], Finding::Run { sequence: 3 }), "{findings:?}");
}

#[test]
fn strange_files_and_rubbish_are_findings_not_panics() {
    let closed = closed();
    fs::write(closed.directory.path().join("notes.txt"), "x").unwrap();
    let rubbish: Vec<u8> =
        (0..50_000u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    fs::write(closed.path(4), &rubbish).unwrap();
    fs::create_dir(closed.path(5)).unwrap();
    let findings = closed.findings();
    assert!(
        findings.iter().any(|f| matches!(f, Finding::Stranger { name } if name == "notes.txt"))
    );
    assert!(findings.iter().any(|f| matches!(f, Finding::Header { segment: 4, .. })));
    assert!(findings.iter().any(|f| matches!(f, Finding::Unreadable { segment: 5, .. })));

    closed.change(3, |bytes| bytes.splice(segment::HEADER_BYTES.., rubbish).for_each(drop));
    assert!(!closed.findings().is_empty());
}

#[test]
fn findings_are_bounded() {
    let closed = closed();
    for n in 0..FINDINGS_MAX + 10 {
        fs::write(closed.directory.path().join(format!("stranger-{n}")), "").unwrap();
    }
    assert_eq!(closed.findings().len(), FINDINGS_MAX);
}

#[test]
fn report_reads_as_lines_that_say_what_to_look_at() {
    let directory = directory();
    let log = open(directory.path()).unwrap();
    append_durably(&log, call(1));
    drop(log);
    let log = open(directory.path()).unwrap();
    let head = close(log);
    fs::write(directory.path().join("notes"), "").unwrap();
    let text = verify(directory.path(), None).unwrap().to_string();
    let lines = [
        "1 segments, 5 records",
        &format!("head {head}"),
        "crash before record 3, found 2023-11-14T22:13:20Z: records of at most 50 ms may be missing",
        "finding: file \"notes\" does not belong to the log",
        "not intact: 1 findings",
    ];
    assert_eq!(text.lines().collect::<Vec<_>>(), lines);
}

#[test]
fn directory_that_is_not_there_is_an_error() {
    assert!(verify(Path::new("/nonexistent/audit"), None).is_err());
}
