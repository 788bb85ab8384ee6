//! A process killed in the middle of its commits loses nothing that it was promised.
//!
//! Alone in its file: a process that is being started holds its parent's locks for an instant.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop there")]

use std::collections::HashSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;

use twinkeep_audit::record::{Entry, MarkEvent};
use twinkeep_audit::{Log, Options, Record, SEGMENT_BYTES_MIN, verify};

mod support;

/// Tells the child where to write; without it the child's test has nothing to do.
const CHILD_DIRECTORY: &str = "TWINKEEP_AUDIT_TEST_DIRECTORY";
const CHILD_BASE: &str = "TWINKEEP_AUDIT_TEST_BASE";
const CHILD: &str = "child_appends_until_it_is_killed";
const ROUNDS: u64 = 20;
const WRITERS: u64 = 8;
/// Keeps the numbers of rounds and of writers apart.
const STRIDE: u64 = 1_000_000;

fn open(path: &Path) -> Log {
    // Small segments, so that some kills come in the middle of a rotation.
    let options = Options {
        segment_bytes: SEGMENT_BYTES_MIN,
        reserve_bytes: 2 * SEGMENT_BYTES_MIN,
        ..Options::default()
    };
    let clock = Arc::new(support::SteadyClock::default());
    Log::open(path, support::identity(), &options, clock).unwrap()
}

fn number(record: &Record) -> Option<u64> {
    let Entry::Call(call) = &record.entry else { return None };
    Some(u64::from_be_bytes(call.request.as_bytes()[8..].try_into().unwrap()))
}

fn is_loss(record: &Record) -> bool {
    matches!(record.entry, Entry::Mark(mark) if matches!(mark.event, MarkEvent::LossPossible { .. }))
}

/// Not a test by itself: the process that the test below kills.
#[test]
fn child_appends_until_it_is_killed() {
    let Some(path) = std::env::var_os(CHILD_DIRECTORY) else { return };
    let base: u64 = std::env::var(CHILD_BASE).unwrap().parse().unwrap();
    let log = Arc::new(open(Path::new(&path)));
    let writer = |writer: u64| {
        let log = Arc::clone(&log);
        move || {
            let runtime = support::runtime();
            for n in (base + writer * STRIDE).. {
                runtime.block_on(log.append(support::call(n)).unwrap().durable()).unwrap();
                // One write a line: whole in the pipe, or not there.
                std::io::stdout().write_all(format!("durable {n}\n").as_bytes()).unwrap();
            }
        }
    };
    let threads: Vec<_> = (0..WRITERS).map(|n| thread::spawn(writer(n))).collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn no_durable_record_is_missing_after_kill_9() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit");
    let mut promised = Vec::new();
    for round in 0..ROUNDS {
        let before = promised.len();
        promised.extend(run_and_kill(&path, round));
        assert!(promised.len() >= before + 100, "round {round} promised too little");
    }
    let log = open(&path);
    let mut tail = log.tail(1);
    let (mut found, mut losses) = (HashSet::new(), 0);
    loop {
        let records = tail.read(usize::MAX).unwrap();
        if records.is_empty() {
            break;
        }
        losses += records.iter().filter(|record| is_loss(record)).count() as u64;
        found.extend(records.iter().filter_map(number));
    }
    let missing = promised.iter().filter(|n| !found.contains(n)).count();
    assert_eq!(missing, 0, "of {} promised", promised.len());
    assert_eq!(losses, ROUNDS);
    log.close().unwrap();
    drop(log);
    let report = verify(&path, None).unwrap();
    assert!(report.is_intact(), "{:?}", report.findings);
    println!("{} durable records over {ROUNDS} kills, none missing", promised.len());
}

/// Runs a child until a moment that differs from round to round; returns what it was promised.
fn run_and_kill(directory: &Path, round: u64) -> Vec<u64> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", CHILD, "--nocapture", "--test-threads=1"])
        .env(CHILD_DIRECTORY, directory)
        .env(CHILD_BASE, (round * WRITERS * STRIDE).to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut durable =
        lines.filter_map(|line| line.strip_prefix("durable ").and_then(|n| n.parse().ok()));
    let before = usize::try_from(100 + round * 37).unwrap();
    let mut promised: Vec<u64> = durable.by_ref().take(before).collect();
    child.kill().unwrap();
    child.wait().unwrap();
    // What it was promised before the kill and nobody had read yet.
    promised.extend(durable);
    promised
}
