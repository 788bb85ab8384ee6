//! The promise: no vote and no entry that was acknowledged is lost when the power goes, at whatever
//! moment. A real log runs on a file system that loses and tears everything that was not synced.
//!
//! Oracle: changes go to disk in order, so after a crash the log must be what it was after *some*
//! change that is not before the last acknowledged one. A log that is refused is a violation too:
//! nothing here is damaged, only torn.
//!
//! `TWINKEEP_SEEDS` sets how many seeds run (default 200), `TWINKEEP_SEED` runs one alone.
//! `TWINKEEP_NO_FUSE=1` skips all of it on a machine without FUSE.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod workload;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use twinkeep_storage::LogDb;
use twinkeep_testkit::crashfs::CrashFs;

use workload::{Opened, Run, Violation};

const SEEDS: u64 = 200;
const CONTROL_SEEDS: u64 = 24;
/// Power cuts on one disk, each after the log was opened again and went on.
const CUTS_PER_SEED: usize = 4;
/// Tests run side by side.
const THREADS: u64 = 2;

#[test]
fn no_vote_and_no_acknowledged_entry_is_lost() {
    if !has_fuse() {
        return;
    }
    let outcome = run_all(SEEDS, LogDb::open);
    outcome.violations.iter().for_each(|violation| eprintln!("{violation}"));
    println!("{} power cuts, {} acknowledged changes", outcome.cuts, outcome.acknowledged);
    assert!(outcome.violations.is_empty(), "{} seeds lost something", outcome.violations.len());
    assert!(outcome.acknowledged > outcome.cuts, "the workload hardly got anywhere");
}

/// The control: the same test on a log that does not sync has to go red.
#[test]
fn log_without_sync_is_caught() {
    if !has_fuse() {
        return;
    }
    let Outcome { violations, .. } = run_all(CONTROL_SEEDS, LogDb::danger_open_unsynced);
    let lost = violations.iter().filter(|violation| violation.is_loss()).count();
    println!("without sync {lost} seeds lost something, {} were refused", violations.len() - lost);
    let example = violations.iter().find(|violation| violation.is_loss());
    println!("for example {}", example.expect("a log without sync lost nothing"));
}

/// Says whether power can be cut here. Fails where it cannot, unless told to skip: a proof that did not
/// run must not look like one that did.
fn has_fuse() -> bool {
    let Err(error) = CrashFs::mount() else { return true };
    let may_skip = std::env::var_os("TWINKEEP_NO_FUSE").is_some_and(|value| value == "1");
    assert!(
        may_skip,
        "no FUSE here: {error}. Install fuse3 and allow /dev/fuse, or skip with TWINKEEP_NO_FUSE=1"
    );
    println!("skipped, as TWINKEEP_NO_FUSE says: no FUSE here: {error}");
    false
}

#[derive(Default)]
struct Outcome {
    cuts: usize,
    acknowledged: usize,
    violations: Vec<Violation>,
}

/// Runs all seeds.
fn run_all(seeds: u64, open: Opened) -> Outcome {
    let number = |name| std::env::var(name).ok().map(|text| text.parse().expect("a number"));
    let (first, count) = match number("TWINKEEP_SEED") {
        Some(seed) => (seed, 1),
        None => (0, number("TWINKEEP_SEEDS").unwrap_or(seeds)),
    };
    let next = AtomicU64::new(first);
    let outcome = Mutex::new(Outcome::default());
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + count {
                return;
            }
            let result = Run::new(seed, open).cut_power(CUTS_PER_SEED);
            let mut outcome = outcome.lock().unwrap();
            outcome.cuts += CUTS_PER_SEED;
            match result {
                Ok(acknowledged) => outcome.acknowledged += acknowledged,
                Err(violation) => outcome.violations.push(violation),
            }
        }
    };
    std::thread::scope(|scope| (0..THREADS).for_each(|_| drop(scope.spawn(work))));
    outcome.into_inner().unwrap()
}
