//! A real file system that runs full, in a mount namespace of its own.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop there")]

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use twinkeep_audit::{AppendError, Log, Options, Outage, SEGMENT_BYTES_MIN, verify};

mod support;

/// Where the child finds the small file system; without it the child's test has nothing to do.
const CHILD_DIRECTORY: &str = "TWINKEEP_AUDIT_TEST_FULL_DISK";
const CHILD: &str = "child_fills_its_disk";
/// Room for eight segments and the file system's own needs.
const DISK_BYTES: u64 = 8 * SEGMENT_BYTES_MIN + 16 * 1024;

#[test]
fn full_file_system_warns_then_refuses_and_heals() {
    let mount_point = tempfile::tempdir().unwrap();
    let namespace = ["--user", "--map-root-user", "--mount"];
    let allowed = Command::new("unshare").args(namespace).arg("true").output();
    if !allowed.is_ok_and(|output| output.status.success()) {
        println!("skipped: this machine allows no user namespaces; the same is tested on a seam");
        return;
    }
    let script = format!(
        "mount -t tmpfs -o size={DISK_BYTES} tmpfs \"$1\" && exec \"$2\" --exact {CHILD} --nocapture"
    );
    let output = Command::new("unshare")
        .args(namespace)
        .args(["sh", "-c", &script, "sh"])
        .arg(mount_point.path())
        .arg(std::env::current_exe().unwrap())
        .env(CHILD_DIRECTORY, mount_point.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}{text}", String::from_utf8_lossy(&output.stdout));
}

/// Not a test by itself: what the test above runs on a small file system.
#[test]
fn child_fills_its_disk() {
    let Some(disk) = std::env::var_os(CHILD_DIRECTORY) else { return };
    let disk = Path::new(&disk);
    let runtime = support::runtime();
    let options = Options {
        segment_bytes: SEGMENT_BYTES_MIN,
        reserve_bytes: 3 * SEGMENT_BYTES_MIN,
        ..Options::default()
    };
    let clock = Arc::new(support::SteadyClock::default());
    let log = Log::open(&disk.join("audit"), support::identity(), &options, clock).unwrap();
    let append = |n| match log.append(support::call(n)) {
        Ok(ticket) => runtime.block_on(ticket.durable()),
        Err(AppendError::Unavailable(outage)) => Err(outage),
        Err(refused) => panic!("{refused}"),
    };

    // Somebody else takes what the log leaves.
    let hog = disk.join("hog");
    std::fs::write(&hog, vec![1; usize::try_from(4 * SEGMENT_BYTES_MIN).unwrap()]).unwrap();
    let mut warned = None;
    let refused = (0..).find_map(|n| {
        let outcome = append(n);
        if log.status().spare_segments_missing > 0 {
            warned.get_or_insert(n);
        }
        outcome.err().map(|outage| (n, outage))
    });
    let (refused_at, outage) = refused.unwrap();
    assert_eq!(outage, Outage::Full);
    let records_a_segment = 250;
    assert!(refused_at > warned.unwrap() + 2 * records_a_segment, "{warned:?} to {refused_at}");

    std::fs::remove_file(hog).unwrap();
    let begun = std::time::Instant::now();
    while append(1_000_000).is_err() {
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", log.status());
        std::thread::sleep(Duration::from_millis(50));
    }
    log.close().unwrap();
    drop(log);
    let report = verify(&disk.join("audit"), None).unwrap();
    assert!(report.is_intact(), "{:?}", report.findings);
    assert!(report.records > refused_at);
}
