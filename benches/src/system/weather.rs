//! What others did to the machine while something was measured.
//!
//! A hypervisor may take a core away for a while (steal), and other programs may run beside ours (foreign).
//! A measurement in bad weather is taken again.

use std::time::Duration;

use anyhow::Context;
use rustix::process::Pid;

use super::process::{cpu_time, of_ticks};

/// Steal above this share of the time spoils a measurement.
const STEAL_MAX: f64 = 0.03;
/// Steal above this share of the time spoils a high percentile of a short measurement: a tick of the kernel's clock
/// in a quarter of a second of two cores is below, two are above.
const CALM_STEAL_MAX: f64 = 0.025;
/// Work of other programs above this share of the time spoils a measurement. The kernel's own threads
/// count as others, and writing to disk is some work for them.
const FOREIGN_MAX: f64 = 0.06;

/// The times of all cores, and of our processes, at a moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reading {
    steal: Duration,
    busy: Duration,
    total: Duration,
    ours: Duration,
}

/// Shares of the time of all cores, 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Weather {
    /// Taken by the hypervisor.
    pub(crate) steal: f64,
    /// Used by processes that are none of ours.
    pub(crate) foreign: f64,
}

impl Reading {
    /// Reads the clocks; `ours` are the processes that belong to the measurement, beside this one.
    pub(crate) fn take(ours: &[Pid]) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
        // user nice system idle iowait irq softirq steal guest guest_nice, in ticks (proc(5)).
        let line = text.lines().next().and_then(|line| line.strip_prefix("cpu "));
        let line = line.context("/proc/stat has another form than proc(5) says")?;
        let ticks: Vec<u64> =
            line.split_whitespace().filter_map(|ticks| ticks.parse().ok()).take(8).collect();
        let [user, nice, system, idle, iowait, irq, softirq, steal] = ticks[..] else {
            anyhow::bail!("/proc/stat has another form than proc(5) says");
        };
        let busy = user + nice + system + irq + softirq;
        let mut used = cpu_time(rustix::process::getpid())?;
        for process in ours {
            used += cpu_time(*process)?;
        }
        Ok(Self {
            steal: of_ticks(steal),
            busy: of_ticks(busy),
            total: of_ticks(busy + idle + iowait + steal),
            ours: used,
        })
    }
}

impl Weather {
    /// What it was like between two readings.
    pub(crate) fn between(start: &Reading, end: &Reading) -> Self {
        let passed = |clock: fn(&Reading) -> Duration| clock(end).saturating_sub(clock(start));
        let total = passed(|at| at.total).as_secs_f64().max(f64::MIN_POSITIVE);
        let foreign = passed(|at| at.busy).saturating_sub(passed(|at| at.ours));
        Self {
            steal: passed(|at| at.steal).as_secs_f64() / total,
            foreign: foreign.as_secs_f64() / total,
        }
    }

    /// Tells whether a measurement made in it can be believed.
    pub(crate) fn is_fair(self) -> bool {
        self.steal <= STEAL_MAX && self.foreign <= FOREIGN_MAX
    }

    /// Tells whether a high percentile taken in it can be believed.
    pub(crate) fn is_calm(self) -> bool {
        self.steal <= CALM_STEAL_MAX && self.foreign <= FOREIGN_MAX
    }

    /// How bad it was, to choose the best of several bad ones.
    pub(crate) fn badness(self) -> f64 {
        self.steal + self.foreign
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(steal_ms: u64, busy_ms: u64, ours_ms: u64, total_ms: u64) -> Reading {
        let ms = Duration::from_millis;
        Reading { steal: ms(steal_ms), busy: ms(busy_ms), total: ms(total_ms), ours: ms(ours_ms) }
    }

    #[test]
    fn stolen_and_foreign_time_spoil_a_measurement() {
        let start = reading(0, 1000, 1000, 2000);
        let fair = Weather::between(&start, &reading(20, 2000, 1990, 4000));
        assert_eq!(fair, Weather { steal: 0.01, foreign: 0.005 });
        assert!(fair.is_fair());
        assert!(!Weather::between(&start, &reading(100, 2000, 2000, 4000)).is_fair());
        assert!(!Weather::between(&start, &reading(0, 2000, 1500, 4000)).is_fair());
    }

    #[test]
    fn clocks_can_be_read() {
        let start = Reading::take(&[]).unwrap();
        let end = Reading::take(&[]).unwrap();
        assert!(end.total >= start.total);
    }
}
