//! Which core runs what, and how idle it is.
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
    let ticks = idle_ticks(&text, core);
    ticks.map(of_ticks).with_context(|| format!("/proc/stat does not say how idle core {core} is"))
}

fn idle_ticks(text: &str, core: usize) -> Option<u64> {
    let name = format!("cpu{core} ");
    let line = text.lines().find_map(|line| line.strip_prefix(&name))?;
    // The fourth is idle, the fifth idle while a disk works (proc(5)).
    let mut ticks = line.split_whitespace().skip(3).map(|ticks| ticks.parse::<u64>().ok());
    Some(ticks.next()?? + ticks.next()??)
}

fn set(cores: &[usize]) -> CpuSet {
    let mut set = CpuSet::new();
    for core in cores {
        set.set(*core);
    }
    set
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_ticks_are_those_of_the_core_and_damage_is_none() {
        let text = "cpu  9 9 9 9 9 9\ncpu1 1 2 3 40 5 6\ncpu10 1 1 1 1 1 1\ncpu2 1 2 3 40\n";
        assert_eq!(idle_ticks(text, 1), Some(45));
        assert_eq!(idle_ticks(text, 2), None);
        assert_eq!(idle_ticks(text, 3), None);
    }
}
