//! Disks that refuse: calls are refused in time, nothing hangs, nothing that was promised is lost.

use std::time::Instant;

use super::*;

fn setup() -> (Arc<Disk>, tempfile::TempDir, Log) {
    let disk = Arc::new(Disk::default());
    let directory = directory();
    let log = open_on(&disk, directory.path()).unwrap();
    (disk, directory, log)
}

/// Opens a log whose disk hangs and whose clock the test turns.
fn hanging(options: &Options) -> (Arc<Disk>, Arc<HandClock>, tempfile::TempDir, Log) {
    let (disk, clock) = (Arc::new(Disk::default()), Arc::new(HandClock::default()));
    let directory = directory();
    let (device, of_log): (Arc<dyn Device>, Arc<dyn Clock>) = (disk.clone(), clock.clone());
    let log = Log::open_on(device, directory.path(), identity(), options, of_log).unwrap();
    disk.set(Fault::Hang);
    (disk, clock, directory, log)
}

fn is_ready(ticket: &Ticket, wait: impl AsyncFnOnce(&Ticket) -> Result<(), Outage>) -> bool {
    let soon = Duration::from_millis(50);
    block_on(async { tokio::time::timeout(soon, wait(ticket)).await.is_ok() })
}

#[test]
fn queued_answers_at_once_and_durable_only_after_the_sync() {
    let (disk, _clock, _directory, log) = hanging(&options());
    let ticket = log.append(call(1)).unwrap();
    assert!(is_ready(&ticket, Ticket::queued));
    assert!(!is_ready(&ticket, Ticket::durable));
    disk.set(Fault::None);
    block_on(ticket.durable()).unwrap();
}

/// The loss bound: once the oldest record has waited for the window, later calls wait for the disk,
/// so that those answered without it all came within the window.
#[test]
fn calls_after_the_loss_window_wait_for_the_disk() {
    let (disk, clock, _directory, log) = hanging(&options());
    let oldest = log.append(call(1)).unwrap();
    clock.turn(LOSS_WINDOW - Duration::from_millis(1));
    let inside = log.append(call(2)).unwrap();
    clock.turn(Duration::from_millis(1));
    let outside = log.append(call(3)).unwrap();
    assert!(is_ready(&oldest, Ticket::queued) && is_ready(&inside, Ticket::queued));
    assert!(!is_ready(&outside, Ticket::queued));
    disk.set(Fault::None);
    block_on(outside.queued()).unwrap();
    let after = log.append(call(4)).unwrap();
    assert!(is_ready(&after, Ticket::queued));
}

/// A burst is slowed down to the disk's pace before the queue is full and calls are refused.
#[test]
fn calls_wait_for_the_disk_while_half_of_the_queue_is_taken() {
    let options = Options { queue_records_max: 8, ..options() };
    let (disk, _clock, _directory, log) = hanging(&options);
    let early: Vec<_> = (1..4).map(|n| log.append(call(n)).unwrap()).collect();
    let crowded = log.append(call(4)).unwrap();
    assert!(early.iter().all(|ticket| is_ready(ticket, Ticket::queued)));
    assert!(!is_ready(&crowded, Ticket::queued));
    disk.set(Fault::None);
    block_on(crowded.queued()).unwrap();
    assert!(is_ready(&log.append(call(5)).unwrap(), Ticket::queued));
}

#[test]
fn full_queue_refuses_and_a_dropped_permit_gives_its_place_back() {
    let options = Options { queue_records_max: 3, ..options() };
    let (disk, _clock, _directory, log) = hanging(&options);
    let refused = Err(AppendError::QueueFull { records: 3 });
    let ticket = log.append(call(1)).unwrap();
    let kept = log.permit().unwrap();
    let dropped = log.permit().unwrap();
    assert_eq!(log.permit().map(drop), refused);
    drop(dropped);
    let last = log.append(call(2)).unwrap();
    assert_eq!(log.append(call(3)).map(drop), refused);
    // The promise holds although the queue is full by now.
    let promised = kept.append(&call(4)).unwrap();
    disk.set(Fault::None);
    for ticket in [ticket, last, promised] {
        block_on(ticket.durable()).unwrap();
    }
    append_durably(&log, call(5));
    assert_eq!(read_all(&log).iter().filter_map(number).collect::<Vec<_>>(), [1, 2, 4, 5]);
}

#[test]
fn disk_that_does_not_answer_refuses_calls_and_does_not_hold_them() {
    let options = Options { stall_limit: Duration::from_millis(200), ..options() };
    let (disk, clock, _directory, log) = hanging(&options);
    let begun = Instant::now();
    let ticket = log.append(call(1)).unwrap();
    assert_eq!(block_on(ticket.durable()), Err(Outage::Stalled));
    clock.turn(Duration::from_millis(201));
    assert_eq!(log.permit().map(drop), Err(AppendError::Unavailable(Outage::Stalled)));
    assert_eq!(log.status().outage, Some(Outage::Stalled));
    assert_eq!(log.close(), Err(Outage::Stalled));
    assert!(begun.elapsed() < Duration::from_secs(5));
    disk.set(Fault::None);
    block_on(ticket.durable()).unwrap();
}

#[test]
fn slow_disk_that_answers_again_takes_calls_again() {
    let options = Options { stall_limit: Duration::from_millis(200), ..options() };
    let (disk, clock, _directory, log) = hanging(&options);
    let ticket = log.append(call(1)).unwrap();
    clock.turn(Duration::from_secs(1));
    assert!(log.permit().is_err());
    disk.set(Fault::None);
    block_on(ticket.durable()).unwrap();
    append_durably(&log, call(2));
}

#[test]
fn failed_sync_refuses_every_later_call_until_restart() {
    let (disk, directory, log) = setup();
    append_durably(&log, call(1));
    disk.set(Fault::Sync);
    let outage = block_on(log.append(call(2)).unwrap().durable()).unwrap_err();
    assert!(matches!(outage, Outage::Io { .. }), "{outage}");
    // The disk looks well again; what reached it is unknown, so it is not trusted.
    disk.set(Fault::None);
    assert_eq!(log.append(call(3)).map(drop), Err(AppendError::Unavailable(outage)));
    assert_eq!(log.status().outage, Some(outage));
    assert_eq!(log.close(), Err(outage));
    drop(log);

    let log = open_on(&disk, directory.path()).unwrap();
    append_durably(&log, call(4));
    let numbers: Vec<_> = read_all(&log).iter().filter_map(number).collect();
    assert!(numbers == [1, 4] || numbers == [1, 2, 4], "{numbers:?}");
    assert!(matches!(marks(&read_all(&log))[1], MarkEvent::LossPossible { .. }));
}

#[test]
fn failed_write_refuses_every_later_call_until_restart() {
    let (disk, directory, log) = setup();
    disk.set(Fault::Write);
    let outage = block_on(log.append(call(1)).unwrap().durable()).unwrap_err();
    assert!(matches!(outage, Outage::Io { .. }), "{outage}");
    disk.set(Fault::None);
    assert!(log.permit().is_err());
    drop(log);
    append_durably(&open_on(&disk, directory.path()).unwrap(), call(2));
}

#[test]
fn fault_of_the_writer_refuses_calls_and_does_not_hold_them() {
    let (disk, directory, log) = setup();
    disk.set(Fault::Panic);
    assert_eq!(block_on(log.append(call(1)).unwrap().durable()), Err(Outage::Crashed));
    assert_eq!(log.permit().map(drop), Err(AppendError::Unavailable(Outage::Crashed)));
    assert_eq!(log.close(), Err(Outage::Crashed));
    drop(log);
    disk.set(Fault::None);
    append_durably(&open_on(&disk, directory.path()).unwrap(), call(2));
}

#[test]
fn full_disk_warns_first_then_refuses_and_goes_on_by_itself_when_there_is_room() {
    let (disk, directory, log) = setup();
    disk.set(Fault::NoRoom);
    let mut kept = Vec::new();
    let mut warned = false;
    let refused =
        (0..1000).find_map(|n| match block_on(log.append(large_call(n)).ok()?.durable()) {
            Ok(()) => {
                kept.push(n);
                warned |= log.status().spare_segments_missing > 0;
                None
            }
            Err(outage) => Some(outage),
        });
    assert_eq!(refused, Some(Outage::Full));
    // The open segment and both spares were used, and the warning came before the end.
    assert!(warned && kept.len() >= 30, "{} kept", kept.len());
    assert_eq!(log.permit().map(drop), Err(AppendError::Unavailable(Outage::Full)));

    disk.set(Fault::None);
    let begun = Instant::now();
    while log.permit().is_err() {
        assert!(begun.elapsed() < 5 * crate::writer::RETRY_PAUSE, "{:?}", log.status());
        thread::sleep(Duration::from_millis(20));
    }
    append_durably(&log, call(5000));
    let numbers: Vec<_> = read_all(&log).iter().filter_map(number).collect();
    assert!(kept.iter().all(|n| numbers.contains(n)) && numbers.contains(&5000));
    close(log);
    let report = verify(directory.path(), None).unwrap();
    assert!(report.is_intact(), "{:?}", report.findings);
}

/// A file system that allocates lazily can refuse inside a file. Half a commit is on the disk then.
#[test]
fn full_disk_in_the_middle_of_a_commit_leaves_a_whole_log() {
    let (disk, directory, log) = setup();
    append_durably(&log, call(1));
    disk.set(Fault::NoRoomInside);
    assert_eq!(block_on(log.append(call(2)).unwrap().durable()), Err(Outage::Full));
    // Ends while the disk is full: the next run finds half a record.
    drop(log);
    disk.set(Fault::None);
    let log = open_on(&disk, directory.path()).unwrap();
    append_durably(&log, call(3));
    let records = read_all(&log);
    assert_eq!(records.iter().filter_map(number).collect::<Vec<_>>(), [1, 3]);
    let loss = marks(&records)[1];
    assert!(matches!(loss, MarkEvent::LossPossible { cut_bytes: 1.., .. }), "{loss:?}");
    close(log);
    assert!(verify(directory.path(), None).unwrap().is_intact());
}

#[test]
fn closing_on_a_full_disk_says_so_and_does_not_hang() {
    let (disk, _directory, log) = setup();
    disk.set(Fault::NoRoomInside);
    assert_eq!(block_on(log.append(call(1)).unwrap().durable()), Err(Outage::Full));
    let begun = Instant::now();
    assert_eq!(log.close(), Err(Outage::Full));
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[test]
fn log_on_a_full_disk_does_not_open() {
    let disk = Arc::new(Disk::default());
    let directory = directory();
    disk.set(Fault::NoRoom);
    let refused = open_on(&disk, directory.path()).map(drop).unwrap_err();
    assert!(matches!(refused, OpenError::Outage(Outage::Full)), "{refused}");
    disk.set(Fault::None);
    append_durably(&open_on(&disk, directory.path()).unwrap(), call(1));
}
