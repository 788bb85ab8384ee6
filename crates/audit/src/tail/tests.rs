use std::time::Duration;

use super::*;
use crate::testing::{
    Disk, Fault, append_durably, block_on, call, close, directory, large_call, number, open,
    open_on,
};

#[test]
fn tail_begins_at_any_record_of_any_segment() {
    let directory = directory();
    let log = open(directory.path()).unwrap();
    for n in 2..60 {
        append_durably(&log, large_call(n));
    }
    let head = log.status().head.sequence;
    for from in 0..=head {
        let records = log.tail(from).read(3).unwrap();
        assert_eq!(records[0].stamp.sequence, from.max(1));
        assert!(records.len() <= 3);
    }
    assert!(log.tail(head + 1).read(3).unwrap().is_empty());
}

#[test]
fn tail_follows_over_segments_and_ends_with_the_log() {
    let directory = directory();
    let log = open(directory.path()).unwrap();
    let mut tail = log.tail(0);
    let reader = std::thread::spawn(move || {
        let mut numbers = Vec::new();
        while block_on(tail.ready()) {
            numbers.extend(tail.read(7).unwrap().iter().filter_map(number));
        }
        numbers
    });
    for n in 0..60 {
        let call = if n % 2 == 0 { large_call(n) } else { call(n) };
        drop(log.append(call).unwrap());
    }
    close(log);
    assert_eq!(reader.join().unwrap(), (0..60).collect::<Vec<_>>());
}

#[test]
fn tail_shows_nothing_that_a_crash_could_take_back() {
    let disk = std::sync::Arc::new(Disk::default());
    let directory = directory();
    let log = open_on(&disk, directory.path()).unwrap();
    append_durably(&log, call(1));
    let mut tail = log.tail(3);
    disk.set(Fault::Hang);
    let ticket = log.append(call(2)).unwrap();
    let soon = Duration::from_millis(50);
    block_on(async {
        assert!(tokio::time::timeout(soon, tail.ready()).await.is_err());
    });
    assert!(tail.read(10).unwrap().is_empty());
    disk.set(Fault::None);
    block_on(ticket.durable()).unwrap();
    assert!(block_on(tail.ready()));
    assert_eq!(number(&tail.read(10).unwrap()[0]), Some(2));
}

#[test]
fn tail_of_a_changed_file_says_so() {
    let directory = directory();
    let log = open(directory.path()).unwrap();
    append_durably(&log, call(1));
    let path = directory.path().join(segment::file_name(1));
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[segment::HEADER_BYTES + frame::HEADER_BYTES] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let refused = log.tail(2).read(10);
    assert!(matches!(refused, Err(TailError::Damaged { sequence: 2 })), "{refused:?}");
}

#[test]
fn read_is_bounded_whatever_is_asked() {
    let directory = directory();
    let log = open(directory.path()).unwrap();
    let tickets: Vec<_> = (0..900).map(|n| log.append(call(n)).unwrap()).collect();
    block_on(tickets[899].durable()).unwrap();
    let tickets: Vec<_> = (900..1500).map(|n| log.append(call(n)).unwrap()).collect();
    block_on(tickets[599].durable()).unwrap();
    let mut tail = log.tail(0);
    assert!(tail.read(usize::MAX).unwrap().len() <= TAIL_RECORDS_MAX);
    assert!(tail.read(0).unwrap().is_empty());
}
