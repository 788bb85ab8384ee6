//! What the kernel says of a process: its processor time and its memory.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context;
use rustix::process::Pid;

/// Returns the processor time that a process has used, all its threads together, those that have ended too.
pub(crate) fn cpu_time(process: Pid) -> anyhow::Result<Duration> {
    let path = format!("/proc/{}/stat", process.as_raw_nonzero());
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    // The second field is the program's name in brackets and may hold anything; fields 14 and 15 are
    // user and system time in ticks (proc(5)).
    let fields = text.rsplit_once(')').map(|(_, rest)| rest.split_whitespace());
    let ticks: u64 = fields
        .map(|fields| fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum())
        .with_context(|| format!("{path} has another form than proc(5) says"))?;
    Ok(of_ticks(ticks))
}

/// The processor time of each thread of a process, in nanoseconds by the thread's id. Finer than [`cpu_time`], whose
/// steps are those of the kernel's tick, and without the threads that have ended.
#[derive(Debug, Clone)]
pub(crate) struct ThreadTimes(BTreeMap<u32, u64>);

/// Reads the processor times of a process's threads.
pub(crate) fn thread_times(process: Pid) -> anyhow::Result<ThreadTimes> {
    let folder = format!("/proc/{}/task", process.as_raw_nonzero());
    let threads = std::fs::read_dir(&folder).with_context(|| format!("cannot read {folder}"))?;
    let mut times = BTreeMap::new();
    for thread in threads {
        let thread = thread?;
        // One that has just ended is not read any more.
        let Ok(text) = std::fs::read_to_string(thread.path().join("schedstat")) else { continue };
        let id = thread.file_name().to_str().and_then(|id| id.parse().ok());
        // Time on a processor, time in its queue, turns (kernel: Documentation/scheduler/sched-stats.rst).
        let on_processor = text.split_whitespace().next().and_then(|time| time.parse().ok());
        let (id, time) = id.zip(on_processor).context("schedstat has another form")?;
        times.insert(id, time);
    }
    Ok(ThreadTimes(times))
}

impl ThreadTimes {
    /// Returns the processor time since `before`, of threads that have not ended meanwhile.
    pub(crate) fn since(&self, before: &Self) -> Duration {
        let used = self.0.iter().map(|(id, time)| {
            let earlier = before.0.get(id).copied().unwrap_or(0);
            time.saturating_sub(earlier)
        });
        Duration::from_nanos(used.sum())
    }
}

/// Returns the memory of a process that lies in RAM, in bytes.
pub(crate) fn resident_bytes(process: Pid) -> anyhow::Result<u64> {
    let path = format!("/proc/{}/status", process.as_raw_nonzero());
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    Ok(kib.with_context(|| format!("{path} has no VmRSS"))? * 1024)
}

/// Returns the time that the kernel counts as so many ticks.
pub(super) fn of_ticks(ticks: u64) -> Duration {
    Duration::from_nanos(ticks * (1_000_000_000 / rustix::param::clock_ticks_per_second()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_seen_as_processor_time() {
        let own = rustix::process::getpid();
        let before = cpu_time(own).unwrap();
        let mut sum = 0_u64;
        while cpu_time(own).unwrap() < before + Duration::from_millis(50) {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(resident_bytes(own).unwrap() > 100_000);
    }

    #[test]
    fn work_of_threads_is_seen_and_what_was_before_is_not() {
        let own = rustix::process::getpid();
        let before = thread_times(own).unwrap();
        let began = std::time::Instant::now();
        let mut sum = 0_u64;
        while began.elapsed() < Duration::from_millis(50) {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        let after = thread_times(own).unwrap();
        assert!(after.since(&before) > Duration::from_millis(5));
        assert_eq!(after.since(&after), Duration::ZERO);
    }
}
