//! What all runs together say: the figures of the report.

use twinkeep_report::{Report, Target};

use super::load::spectrum::Spectrum;
use super::records::{Calls, EtcdRun, Kind, LossRun, Outcome, Record, RollingRun, Writes};
use crate::ledger::Ledger;

/// Longest time without control writes after the leader's zone is lost, in milliseconds: half of the losses, and
/// nearly all.
const LEADER_P50_MS: f64 = 600.0;
const LEADER_P99_MS: f64 = 1000.0;
/// The same after the other zone is lost, always.
const OTHER_MAX_MS: f64 = 1100.0;
/// 99.9 % of the crypto calls that are sent during an event.
const CALLS_P999_MS: f64 = 60.0;
/// Longest time without control writes when a node is restarted, in milliseconds.
const GAP_MAX_MS: f64 = 50.0;

/// Adds up all runs.
pub(crate) fn report(ledger: &Ledger<Record>) -> Report {
    let mut report = Report::new();
    for kind in Kind::LOSSES {
        losses(&mut report, kind, &results(ledger, kind, Outcome::loss));
    }
    rolling(&mut report, &results(ledger, Kind::Rolling, Outcome::rolling));
    for kind in [Kind::EtcdDefault, Kind::EtcdTuned] {
        etcd(&mut report, kind, &results(ledger, kind, Outcome::etcd));
    }
    let is_broken = |record: &&Record| matches!(record.result, Outcome::Broken(_));
    let broken = ledger.records().iter().filter(is_broken).count();
    report.add("runs that could not be finished", count(broken), "runs", Target::AtMost(0.0));
    report
}

fn results<R>(ledger: &Ledger<Record>, kind: Kind, of: fn(&Outcome) -> Option<&R>) -> Vec<&R> {
    let records = ledger.records().iter().filter(|record| record.kind == kind);
    records.filter_map(|record| of(&record.result)).collect()
}

fn losses(report: &mut Report, kind: Kind, runs: &[&LossRun]) {
    if runs.is_empty() {
        return;
    }
    report.add(format!("{kind}: runs"), count(runs.len()), "runs", Target::None);
    let again = Sorted::of(runs.iter().map(|run| run.writes_again_ms));
    let sent_after = Sorted::of(runs.iter().map(|run| run.sent_after_ms));
    let (p50, p99, max) = match kind {
        Kind::OtherKilled | Kind::OtherSilent => (None, None, Some(OTHER_MAX_MS)),
        Kind::WitnessNewest => (None, Some(LEADER_P99_MS), None),
        Kind::LeaderKilled
        | Kind::LeaderSilent
        | Kind::Rolling
        | Kind::EtcdDefault
        | Kind::EtcdTuned => (Some(LEADER_P50_MS), Some(LEADER_P99_MS), None),
    };
    times(report, &format!("{kind}: control writes again"), &again, [p50, p99, None, max]);
    let what = format!("{kind}: a write sent after it is acknowledged");
    times(report, &what, &sent_after, [None, p99, None, max]);
    calls(report, &kind.to_string(), runs.iter().map(|run| &run.calls));
    writes(report, &kind.to_string(), runs.iter().map(|run| &run.writes));
    let taken = Sorted::of(runs.iter().map(|run| Some(100.0 * (run.steal + run.foreign))));
    let name = format!("{kind}: of the machine taken by others during events, median");
    report.add(name, taken.at(500), "%", Target::None);
}

fn rolling(report: &mut Report, runs: &[&RollingRun]) {
    if runs.is_empty() {
        return;
    }
    let kind = Kind::Rolling;
    report.add(format!("{kind}: of five nodes"), count(runs.len()), "runs", Target::None);
    let restarts = || runs.iter().flat_map(|run| &run.restarts);
    let gap_max = [None, None, None, Some(GAP_MAX_MS)];
    let led = Sorted::of(restarts().filter(|r| r.led).map(|r| Some(r.stop_gap_ms)));
    times(report, &format!("{kind}: write gap, the leader stops"), &led, gap_max);
    let followed = Sorted::of(restarts().filter(|r| !r.led).map(|r| Some(r.stop_gap_ms)));
    times(report, &format!("{kind}: write gap, another node stops"), &followed, gap_max);
    let returned = Sorted::of(restarts().map(|r| Some(r.return_gap_ms)));
    times(report, &format!("{kind}: write gap, a node returns"), &returned, gap_max);
    let usual = Sorted::of(runs.iter().map(|run| Some(run.usual_gap_ms)));
    let name = format!("{kind}: usual time between two writes");
    report.add(name, usual.at(500), "ms", Target::None);
    calls(report, &kind.to_string(), runs.iter().map(|run| &run.calls));
    writes(report, &kind.to_string(), runs.iter().map(|run| &run.writes));
}

fn etcd(report: &mut Report, kind: Kind, runs: &[&EtcdRun]) {
    if runs.is_empty() {
        return;
    }
    report.add(format!("{kind}: runs"), count(runs.len()), "runs", Target::None);
    let recoveries = Sorted::of(runs.iter().map(|run| run.recovery_ms));
    times(report, &format!("{kind}: leader killed, puts again"), &recoveries, [None; 4]);
}

/// Adds a distribution of times with what its parts may be at most.
fn times(report: &mut Report, what: &str, sorted: &Sorted, limits: [Option<f64>; 4]) {
    let parts = [("p50", 500), ("p99", 990), ("p99.9", 999), ("max", 1000)];
    for ((part, per_mille), limit) in parts.into_iter().zip(limits) {
        let target = limit.map_or(Target::None, Target::AtMost);
        report.add(format!("{what}, {part}"), sorted.at(per_mille), "ms", target);
    }
}

fn calls<'a>(report: &mut Report, what: &str, runs: impl Iterator<Item = &'a Calls>) {
    let (mut sent, mut failed, mut during) = (0, 0, Spectrum::default());
    for run in runs {
        sent += run.sent;
        failed += run.failures.len();
        during.merge(&run.during);
    }
    report.add(format!("{what}: crypto calls"), count(sent), "calls", Target::None);
    report.add(format!("{what}: of these failed"), count(failed), "calls", Target::AtMost(0.0));
    let what = format!("{what}: calls during the event");
    report.add(format!("{what}, p50"), during.percentile_ms(50.0), "ms", Target::None);
    report.add(format!("{what}, p99"), during.percentile_ms(99.0), "ms", Target::None);
    let p999 = during.percentile_ms(99.9);
    report.add(format!("{what}, p99.9"), p999, "ms", Target::AtMost(CALLS_P999_MS));
    report.add(format!("{what}, max"), during.max_ms(), "ms", Target::None);
}

fn writes<'a>(report: &mut Report, what: &str, runs: impl Iterator<Item = &'a Writes>) {
    let (mut acknowledged, mut failed, mut lost) = (0, 0, 0);
    for run in runs {
        acknowledged += run.acknowledged;
        failed += run.failures.len();
        lost += run.lost.len();
    }
    report.add(format!("{what}: acknowledged writes"), count(acknowledged), "keys", Target::None);
    report.add(format!("{what}: of these lost"), count(lost), "keys", Target::AtMost(0.0));
    report.add(format!("{what}: failed writes"), count(failed), "keys", Target::None);
}

/// Times in order. One that never came is longer than all others.
struct Sorted(Vec<f64>);

impl Sorted {
    fn of(times: impl Iterator<Item = Option<f64>>) -> Self {
        let mut sorted: Vec<_> = times.map(|time| time.unwrap_or(f64::INFINITY)).collect();
        sorted.sort_unstable_by(f64::total_cmp);
        Self(sorted)
    }

    /// Returns the smallest time that so many in a thousand do not exceed; no number if there is none.
    fn at(&self, per_mille: usize) -> f64 {
        let rank = (per_mille * self.0.len()).div_ceil(1000).max(1);
        self.0.get(rank - 1).copied().filter(|time| time.is_finite()).unwrap_or(f64::NAN)
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn count(number: usize) -> f64 {
    number as f64
}

impl Outcome {
    fn loss(&self) -> Option<&LossRun> {
        match self {
            Self::Loss(run) => Some(run),
            Self::Rolling(_) | Self::Etcd(_) | Self::Broken(_) => None,
        }
    }

    fn rolling(&self) -> Option<&RollingRun> {
        match self {
            Self::Rolling(run) => Some(run),
            Self::Loss(_) | Self::Etcd(_) | Self::Broken(_) => None,
        }
    }

    fn etcd(&self) -> Option<&EtcdRun> {
        match self {
            Self::Etcd(run) => Some(run),
            Self::Loss(_) | Self::Rolling(_) | Self::Broken(_) => None,
        }
    }
}

/// What a run says in the line that tells of its end.
pub(crate) fn told(outcome: &Outcome) -> String {
    let again = |recovery: Option<f64>| {
        recovery.map_or_else(
            || "NO writes again".to_owned(),
            |ms| format!("writes again after {ms:.0} ms"),
        )
    };
    match outcome {
        Outcome::Loss(run) => format!(
            "{} led; {}; {} of {} calls failed, p99.9 {:.1} ms; {} of {} keys lost",
            run.leader,
            again(run.writes_again_ms),
            run.calls.failures.len(),
            run.calls.sent,
            run.calls.during.percentile_ms(99.9),
            run.writes.lost.len(),
            run.writes.acknowledged,
        ),
        Outcome::Rolling(run) => {
            let gaps = run.restarts.iter().map(|restart| {
                let led = if restart.led { "*" } else { "" };
                format!(
                    "{}{led} {:.0}/{:.0}",
                    restart.node, restart.stop_gap_ms, restart.return_gap_ms
                )
            });
            format!(
                "write gaps stopping/returning in ms: {}; {} of {} calls failed",
                gaps.collect::<Vec<_>>().join(", "),
                run.calls.failures.len(),
                run.calls.sent,
            )
        }
        Outcome::Etcd(run) => format!("{} led; {}", run.leader, again(run.recovery_ms)),
        Outcome::Broken(error) => format!("BROKEN: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_nearest_rank_and_what_never_came_is_no_number() {
        let sorted = Sorted::of((1..=100_u32).rev().map(|n| Some(f64::from(n))));
        assert_eq!(sorted.at(500), 50.0);
        assert_eq!(sorted.at(990), 99.0);
        assert_eq!(sorted.at(999), 100.0);
        let one_missing = Sorted::of([Some(1.0), None].into_iter());
        assert_eq!(one_missing.at(500), 1.0);
        assert!(one_missing.at(990).is_nan() && Sorted::of(std::iter::empty()).at(500).is_nan());
    }

    #[test]
    fn loss_without_recovery_is_a_miss() {
        let mut report = Report::new();
        let sorted = Sorted::of([Some(500.0), None].into_iter());
        times(&mut report, "writes", &sorted, [Some(600.0), Some(1000.0), None, None]);
        let holds: Vec<_> = report.figures().iter().map(twinkeep_report::Figure::holds).collect();
        assert_eq!(holds, [true, false, true, true]);
    }
}
