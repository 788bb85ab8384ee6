//! What the kernel says of a process: its processor time and its memory.

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
}
