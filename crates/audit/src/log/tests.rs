mod outage;
mod recovery;

use std::os::unix::fs::PermissionsExt as _;
use std::time::Instant;

use super::*;
use crate::testing::*;
use crate::verify::verify;

#[test]
fn records_are_kept_in_order_with_their_stamp() {
    let directory = directory();
    let log = open(directory.path()).unwrap();
    for n in 0..50 {
        append_durably(&log, call(n));
    }
    let records = read_all(&log);
    let numbers: Vec<_> = records.iter().filter_map(number).collect();
    assert_eq!(numbers, (0..50).collect::<Vec<_>>());
    for (sequence, record) in (1..).zip(&records) {
        assert_eq!(record.stamp.sequence, sequence);
        assert_eq!(record.stamp.zone.as_str(), "zone-a");
    }
    let mut events: Vec<_> = records.iter().map(|record| record.stamp.event).collect();
    events.sort_unstable();
    events.dedup();
    assert_eq!(events.len(), records.len());
}

#[test]
fn closed_log_goes_on_where_it_ended_without_a_loss_mark() {
    let directory = directory();
    for run in 0..3 {
        let log = open(directory.path()).unwrap();
        append_durably(&log, call(run));
        close(log);
    }
    let log = open(directory.path()).unwrap();
    let records = read_all(&log);
    use MarkEvent::{Closed, Opened};
    assert_eq!(marks(&records), [Opened, Closed, Opened, Closed, Opened, Closed, Opened]);
    assert_eq!(records.iter().filter_map(number).collect::<Vec<_>>(), [0, 1, 2]);
    close(log);
    assert!(verify(directory.path(), None).unwrap().is_intact());
}

#[test]
fn log_that_was_not_closed_gets_one_loss_mark() {
    let directory = directory();
    let log = open(directory.path()).unwrap();
    append_durably(&log, call(1));
    drop(log);
    close(open(directory.path()).unwrap());
    let log = open(directory.path()).unwrap();
    use MarkEvent::{Closed, LossPossible, Opened};
    let loss = LossPossible { window_ms: 50, cut_bytes: 0 };
    assert_eq!(marks(&read_all(&log)), [Opened, loss, Opened, Closed, Opened]);
}

#[test]
fn close_returns_the_head_that_verify_finds() {
    let directory = directory();
    let log = open(directory.path()).unwrap();
    append_durably(&log, call(1));
    let head = log.close().unwrap();
    assert_eq!(log.close(), Ok(head));
    drop(log);
    assert_eq!(verify(directory.path(), Some(head)).unwrap().head, Some(head));
}

#[test]
fn closed_log_takes_no_record_and_says_why() {
    let directory = directory();
    let log = open(directory.path()).unwrap();
    let permit = log.permit().unwrap();
    log.close().unwrap();
    let closed = Err(AppendError::Unavailable(Outage::Closed));
    assert_eq!(log.permit().map(drop), closed);
    assert_eq!(permit.append(&call(1)).map(drop), closed);
}

#[test]
fn log_of_many_segments_is_linked_and_gives_back_unused_room() {
    let directory = directory();
    let log = open(directory.path()).unwrap();
    for n in 0..100 {
        append_durably(&log, large_call(n));
    }
    assert_eq!(read_all(&log).iter().filter_map(number).count(), 100);
    log.close().unwrap();
    assert_eq!(log.status().spare_segments_missing, 0);
    drop(log);
    let report = verify(directory.path(), None).unwrap();
    assert!(report.is_intact(), "{:?}", report.findings);
    assert!(report.segments >= 9, "{} segments", report.segments);
    let first = std::fs::metadata(directory.path().join("segment-00000000000000000001")).unwrap();
    assert!(first.len() < SEGMENT_BYTES_MIN);
}

#[test]
fn records_gathered_during_a_sync_go_in_one_commit() {
    let disk = Arc::new(Disk::default());
    let directory = directory();
    let log = open_on(&disk, directory.path()).unwrap();
    disk.set(Fault::Hang);
    let first = log.append(call(0)).unwrap();
    while log.status().waiting_records == 0 {}
    let rest: Vec<_> = (1..100).map(|n| log.append(call(n)).unwrap()).collect();
    disk.set(Fault::None);
    block_on(async {
        first.durable().await.unwrap();
        for ticket in rest {
            ticket.durable().await.unwrap();
        }
    });
    // The writer may have taken the first record alone or with some that followed.
    assert!(log.status().commits <= 2 + 2, "{} commits", log.status().commits);
    assert_eq!(log.status().records, 101);
}

/// The first write to room that was only allocated changes the file's extents, which its sync has to write too.
#[test]
fn room_is_written_ahead_once_for_many_commits() {
    let disk = Arc::new(Disk::default());
    let directory = directory();
    let log = open_on(&disk, directory.path()).unwrap();
    for n in 0..50 {
        append_durably(&log, call(n));
    }
    assert_eq!(disk.zeros(), 1);
    drop(log);
    // What was there before is not relied on.
    let log = open_on(&disk, directory.path()).unwrap();
    append_durably(&log, call(50));
    assert_eq!(disk.zeros(), 2);
    assert_eq!(read_all(&log).iter().filter_map(number).count(), 51);
}

/// Records cross from one piece that was written ahead to the next, and what is behind the last one is no record.
#[test]
fn log_crosses_what_was_written_ahead_and_is_found_whole() {
    let piece = crate::device::ZEROS.len() as u64;
    let options = Options { segment_bytes: 4 * piece, ..options() };
    let disk = Arc::new(Disk::default());
    let directory = directory();
    let open = || {
        let clock = Arc::new(HandClock::default());
        Log::open_on(Arc::clone(&disk) as _, directory.path(), identity(), &options, clock)
    };
    let mut written = 0;
    for run in 1..=2 {
        let log = open().unwrap();
        while log.status().bytes < 5 * piece / 4 {
            append_durably(&log, large_call(written));
            written += 1;
        }
        assert!(disk.zeros() >= 2 * run, "{} pieces", disk.zeros());
        // As a crash would, this leaves no mark at the end.
        drop(log);
    }
    let log = open().unwrap();
    let numbers: Vec<_> = read_all(&log).iter().filter_map(number).collect();
    assert_eq!(numbers, (0..written).collect::<Vec<_>>());
    close(log);
    assert!(verify(directory.path(), None).unwrap().is_intact());
}

#[test]
fn disk_that_has_no_room_to_write_ahead_still_takes_records() {
    let disk = Arc::new(Disk::default());
    let directory = directory();
    disk.set(Fault::NoZeros);
    let log = open_on(&disk, directory.path()).unwrap();
    append_durably(&log, call(1));
    assert_eq!(read_all(&log).iter().filter_map(number).collect::<Vec<_>>(), [1]);
}

/// Each commit is a sync: records that nobody waits for are not worth one each, however slowly they come.
#[test]
fn records_that_no_answer_waits_for_share_commits() {
    const GATHER: Duration = Duration::from_millis(5);
    let directory = directory();
    let log = open(directory.path()).unwrap();
    let before = log.status().commits;
    let began = Instant::now();
    let mut records = 0;
    while began.elapsed() < 12 * GATHER {
        drop(log.append(call(records)).unwrap());
        records += 1;
        std::thread::sleep(GATHER / 20);
    }
    while log.status().waiting_records > 0 {}
    let commits = u128::from(log.status().commits - before);
    // A few more where a segment ends.
    let most = began.elapsed().as_millis() / GATHER.as_millis() + 4;
    assert!(commits <= most, "{commits} commits of {records} records, at most {most} wanted");
}

#[test]
fn directory_that_others_may_enter_is_refused() {
    let directory = directory();
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o750)).unwrap();
    let refused = open(directory.path()).map(drop).unwrap_err();
    assert!(matches!(refused, OpenError::Exposed { mode: 0o750, .. }), "{refused}");
    assert!(refused.to_string().contains("chmod 700"));
}

#[test]
fn log_open_elsewhere_is_refused() {
    let directory = directory();
    let log = open(directory.path()).unwrap();
    assert!(matches!(open(directory.path()).map(drop), Err(OpenError::Locked { .. })));
    // A tail that outlives the log does not hold the lock.
    let tail = log.tail(1);
    drop(log);
    open(directory.path()).unwrap();
    drop(tail);
}

#[test]
fn directory_of_another_node_or_cluster_is_refused() {
    let directory = directory();
    close(open(directory.path()).unwrap());
    let clock = || Arc::new(HandClock::default());
    let others = [
        Identity { node: NodeId::new(4).unwrap(), ..identity() },
        Identity { cluster: ClusterId::from_bytes([0x11; 16]), ..identity() },
    ];
    for other in others {
        let refused = Log::open(directory.path(), other, &options(), clock()).map(drop);
        assert!(matches!(refused, Err(OpenError::Foreign { segment: 1, .. })));
    }
}

#[test]
fn segments_of_a_senseless_size_are_refused() {
    let directory = directory();
    for segment_bytes in [0, SEGMENT_BYTES_MIN - 1, SEGMENT_BYTES_MAX + 1] {
        let options = Options { segment_bytes, ..options() };
        let clock = Arc::new(HandClock::default());
        let refused = Log::open(directory.path(), identity(), &options, clock).map(drop);
        assert!(matches!(refused, Err(OpenError::SegmentBytes(_))));
    }
}

#[test]
fn segment_size_may_change_between_runs() {
    let directory = directory();
    for factor in [2, 1, 3] {
        let options = Options { segment_bytes: factor * SEGMENT_BYTES_MIN, ..options() };
        let clock = Arc::new(HandClock::default());
        let log = Log::open(directory.path(), identity(), &options, clock).unwrap();
        for n in 0..30 {
            append_durably(&log, large_call(n));
        }
        close(log);
    }
    let report = verify(directory.path(), None).unwrap();
    assert!(report.is_intact(), "{:?}", report.findings);
    assert_eq!(report.records, 3 * 32);
}
