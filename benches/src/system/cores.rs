//! Which core runs what.
//!
//! The server under test has core 0 to itself. The load generator and whatever has to be alive, but is not
//! measured, share core 1.

use std::process::{Child, Command};

use anyhow::{Context, ensure};
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_setaffinity};

/// The core of what is measured.
pub(crate) const SERVER: usize = 0;
/// The core of the load generator, and of everything that waits for its turn.
pub(crate) const LOAD: usize = 1;

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

fn set(cores: &[usize]) -> CpuSet {
    let mut set = CpuSet::new();
    for core in cores {
        set.set(*core);
    }
    set
}
