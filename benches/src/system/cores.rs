//! Which core runs what.
//!
//! The server under test has core 0 to itself. The load generator and whatever has to be alive, but is not
//! measured, share core 1.

use std::process::{Child, Command};
use std::time::Duration;

use anyhow::{Context, ensure};
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_setaffinity};

use super::process::of_ticks;

/// The core of what is measured.
pub(crate) const SERVER: usize = 0;
/// The core of the load generator, and of everything that waits for its turn.
pub(crate) const LOAD: usize = 1;

/// How far the load generator goes ahead of the nodes on its core, as niceness.
const AHEAD: i32 = 15;

/// Checks that there are two cores.
pub(crate) fn check() -> anyhow::Result<()> {
    let cores = std::thread::available_parallelism()?.get();
    ensure!(cores >= 2, "benchmarks need two cores, one for the server and one for the load");
    Ok(())
}

/// Moves every thread of a process to some cores. Threads that it starts later follow.
pub(crate) fn pin(process: Pid, cores: &[usize]) -> anyhow::Result<()> {
    let folder = format!("/proc/{}/task", process.as_raw_nonzero());
    for thread in std::fs::read_dir(&folder).with_context(|| format!("cannot read {folder}"))? {
        let thread = thread?.file_name().to_str().and_then(|id| id.parse().ok());
        let moved = sched_setaffinity(thread.and_then(Pid::from_raw), &set(cores));
        // A thread that has ended since needs no core.
        ensure!(
            matches!(moved, Ok(()) | Err(rustix::io::Errno::SRCH)),
            "cannot pin process {process:?} to cores {cores:?}"
        );
    }
    Ok(())
}

/// Moves the calling thread. Threads and processes that it starts later follow.
pub(crate) fn pin_self(cores: &[usize]) -> anyhow::Result<()> {
    sched_setaffinity(None, &set(cores)).with_context(|| format!("cannot use cores {cores:?}"))
}

/// Starts a process on some cores: runtimes choose their number of threads by what they find there.
pub(crate) fn spawn_on(cores: &[usize], command: &mut Command) -> anyhow::Result<Child> {
    pin_self(cores)?;
    let child = command.spawn().with_context(|| format!("cannot start {command:?}"));
    pin_self(&[LOAD])?;
    child
}

/// Returns how long a core has had nothing to do since the machine started, in steps of the kernel's tick, 10 ms.
pub(crate) fn idle(core: usize) -> anyhow::Result<Duration> {
    let text = std::fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
    let name = format!("cpu{core} ");
    let line = text.lines().find_map(|line| line.strip_prefix(&name));
    let line = line.with_context(|| format!("/proc/stat has no core {core}"))?;
    // The fourth is idle, the fifth idle while a disk works (proc(5)).
    let ticks: u64 =
        line.split_whitespace().skip(3).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    Ok(of_ticks(ticks))
}

/// The calling thread goes before all others on its core, children included that it starts, until this is dropped:
/// for a load generator whose own pauses would count as the server's.
#[derive(Debug)]
pub(crate) struct Ahead {
    moved: bool,
}

impl Ahead {
    /// Goes ahead where the kernel lets it, as it does root.
    pub(crate) fn go() -> Self {
        let moved = rustix::process::nice(-AHEAD).is_ok();
        if !moved {
            println!("not run as root: nodes beside the load generator may hold it up");
        }
        Self { moved }
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        if self.moved {
            // Going back is never refused.
            let _ = rustix::process::nice(AHEAD);
        }
    }
}

fn set(cores: &[usize]) -> CpuSet {
    let mut set = CpuSet::new();
    for core in cores {
        set.set(*core);
    }
    set
}
