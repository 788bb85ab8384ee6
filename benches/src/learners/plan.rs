//! Which samples there are, in which order, and how long those take that are left.

use std::time::Duration;

use super::records::{Outcome, Record};
use crate::ledger::Ledger;
use crate::load::sample::mean;

/// The numbers of learners that are compared.
pub(super) const LEARNERS: [u32; 3] = [0, 2, 4];
/// How long a sample takes, as long as none is known, in seconds.
const USUAL_S: f64 = 30.0;

/// A sample that is to be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) round: u32,
    pub(super) learners: u32,
}

/// Returns the samples that are not taken yet.
pub(super) fn left(rounds: u32, ledger: &Ledger<Record>) -> Vec<Step> {
    let is_taken = |step: &Step| {
        let is_it = |record: &&Record| {
            (record.round, record.learners) == (step.round, step.learners)
                && matches!(record.result, Outcome::Sample(_))
        };
        ledger.records().iter().any(|record| is_it(&record))
    };
    all(rounds).into_iter().filter(|step| !is_taken(step)).collect()
}

/// There and back: what drifts, drifts for all of them.
fn all(rounds: u32) -> Vec<Step> {
    let round = |round: u32| {
        let mut learners = LEARNERS;
        if round.is_multiple_of(2) {
            learners.reverse();
        }
        learners.map(|learners| Step { round, learners })
    };
    (1..=rounds).flat_map(round).collect()
}

/// Estimates how long so many samples will take, by those that are taken.
pub(super) fn time_for(steps: usize, ledger: &Ledger<Record>) -> Duration {
    let took: Vec<_> = ledger.records().iter().map(|record| record.took_s).collect();
    let each = if took.is_empty() { USUAL_S } else { mean(&took) };
    let steps = u32::try_from(steps).unwrap_or(u32::MAX);
    Duration::from_secs_f64(each * f64::from(steps))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_go_there_and_back() {
        let learners: Vec<_> = all(3).iter().map(|step| step.learners).collect();
        assert_eq!(learners, [0, 2, 4, 4, 2, 0, 0, 2, 4]);
        assert_eq!(all(3).last().map(|step| step.round), Some(3));
    }
}
