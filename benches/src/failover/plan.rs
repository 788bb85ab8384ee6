//! Which runs there are, in which order, and how long those take that are left.

use std::time::Duration;

use super::records::{Kind, Record};
use crate::ledger::Ledger;

/// A run that is to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) kind: Kind,
    pub(crate) number: u32,
}

/// Returns the runs that are not finished. Losses are made in turns, so that what drifts, drifts for all of them,
/// and the lead moves from zone to zone by itself.
pub(crate) fn left(runs: u32, only: Option<&str>, ledger: &Ledger<Record>) -> Vec<Step> {
    let steps = all(runs).into_iter();
    let chosen = steps.filter(|step| only.is_none_or(|only| is_chosen(step.kind, only)));
    let is_finished = |step: &Step| {
        let same = |record: &Record| (record.kind, record.number) == (step.kind, step.number);
        ledger.records().iter().any(same)
    };
    chosen.filter(|step| !is_finished(step)).collect()
}

/// Tells whether a kind has one of some words, set apart by commas, in its name.
pub(crate) fn is_chosen(kind: Kind, only: &str) -> bool {
    only.split(',').any(|word| kind.name().contains(word.trim()))
}

fn all(runs: u32) -> Vec<Step> {
    let in_turns = (1..=runs).flat_map(|number| Kind::LOSSES.map(|kind| Step { kind, number }));
    // Each has five restarts, of which one at least is the leader's.
    let rolling = (1..=runs.div_ceil(5)).map(|number| Step { kind: Kind::Rolling, number });
    let etcd = [Kind::EtcdDefault, Kind::EtcdTuned];
    let etcd =
        etcd.into_iter().flat_map(|kind| (1..=runs).map(move |number| Step { kind, number }));
    in_turns.chain(rolling).chain(etcd).collect()
}

/// Estimates how long runs will take, by those that are finished.
pub(crate) fn time_for(steps: &[Step], ledger: &Ledger<Record>) -> Duration {
    Duration::from_secs_f64(steps.iter().map(|step| usual_s(step.kind, ledger)).sum())
}

fn usual_s(kind: Kind, ledger: &Ledger<Record>) -> f64 {
    let took = ledger.records().iter().filter(|record| record.kind == kind);
    let took: Vec<_> = took.map(|record| record.took_s).collect();
    let guess = match kind {
        Kind::LeaderKilled | Kind::LeaderSilent | Kind::OtherKilled | Kind::OtherSilent => 6.0,
        Kind::WitnessNewest => 9.0,
        Kind::Rolling => 20.0,
        Kind::EtcdDefault | Kind::EtcdTuned => 4.0,
    };
    let count = f64::from(u32::try_from(took.len()).unwrap_or(u32::MAX));
    if took.is_empty() { guess } else { took.iter().sum::<f64>() / count }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_runs_and_losses_come_in_turns() {
        let steps = all(100);
        let count = |kind| steps.iter().filter(|step| step.kind == kind).count();
        for kind in Kind::ALL {
            assert_eq!(count(kind), if kind == Kind::Rolling { 20 } else { 100 }, "{kind}");
        }
        let first: Vec<_> = steps.iter().take(5).map(|step| step.kind).collect();
        assert_eq!(first, Kind::LOSSES);
    }

    #[test]
    fn only_takes_words_of_names() {
        assert!(is_chosen(Kind::LeaderSilent, "silent"));
        assert!(is_chosen(Kind::Rolling, "silent, rolling"));
        assert!(!is_chosen(Kind::EtcdTuned, "silent,rolling"));
    }
}
