//! What a recovery keeps and what it may lose, from what the survivors say. No I/O.
//!
//! A leader acknowledges nothing without a zone while that zone holds a sync lease. So up to the end of the last lease that
//! the zone which goes on has seen, everything acknowledged is on a data node of it; later changes can only have been
//! acknowledged by others who had given the zone up. If all its voters go on, that is all that can be missing. If one of
//! them does not, a change may have been on that one alone.

use std::cmp::Reverse;

use serde::Serialize;

use crate::output::time;

/// A data node of the zone that goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) node: u64,
    /// The end of its log: term, leader, index.
    pub(super) end: (u64, u64, u64),
    pub(super) is_voter: bool,
    /// Until when its zone is known to hold every acknowledged change; 0 if it does not know.
    pub(super) complete_until_ms: u64,
}

/// What would be kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Statement {
    /// The node that brings the state: the one with the newest log.
    pub(super) state_from: u64,
    /// Up to when nothing acknowledged is missing, milliseconds since 1970; 0 if nothing can be said.
    pub(super) complete_until_ms: u64,
    /// The same in words.
    pub(super) says: String,
}

impl Statement {
    /// Judges what the nodes that go on have. `missing` are the voters of their zone that do not go on.
    pub(super) fn of(candidates: &[Candidate], missing: &[u64], lost_zones: &str) -> Option<Self> {
        // Of equal ones the first, whatever the order in which they answered.
        let voters = candidates.iter().filter(|candidate| candidate.is_voter);
        let newest = voters.max_by_key(|candidate| (candidate.end, Reverse(candidate.node)))?;
        // Every lease is true, whoever holds it.
        let until = candidates.iter().map(|candidate| candidate.complete_until_ms).max()?;
        if !missing.is_empty() || until == 0 {
            let missing: Vec<_> = missing.iter().map(ToString::to_string).collect();
            let why = match missing.as_slice() {
                [] => "no node of the zone has heard that it was complete".to_owned(),
                missing => format!(
                    "node {} of the same zone does not go on, and acknowledged changes may be on it alone",
                    missing.join(", ")
                ),
            };
            let says = format!(
                "Acknowledged changes may be lost, and it is not known which: {why}. Kept is what is in the log of node {}.",
                newest.node
            );
            return Some(Self { state_from: newest.node, complete_until_ms: 0, says });
        }
        let at = time(until);
        let says = format!(
            "Every change that was acknowledged up to {at} is kept. If {lost_zones} was lost by then, nothing is lost. \
             Otherwise exactly those changes are lost that were acknowledged between {at} and the loss: {lost_zones} had \
             given this zone up then and gone on without it."
        );
        Some(Self { state_from: newest.node, complete_until_ms: until, says })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(node: u64, end: (u64, u64, u64), complete_until_ms: u64) -> Candidate {
        Candidate { node, end, is_voter: true, complete_until_ms }
    }

    #[test]
    fn newest_log_is_that_of_the_latest_leader_and_then_the_longest() {
        let longer = candidate(3, (4, 1, 90), 5);
        let later = candidate(4, (5, 1, 80), 5);
        let told = Statement::of(&[longer.clone(), later.clone()], &[], "zone a").unwrap();
        assert_eq!(told.state_from, 4);
        let learner = Candidate { is_voter: false, ..later };
        assert_eq!(Statement::of(&[longer, learner], &[], "zone a").unwrap().state_from, 3);
        assert_eq!(Statement::of(&[], &[], "zone a"), None);
    }

    #[test]
    fn whole_zone_keeps_everything_up_to_its_last_lease() {
        let both = [candidate(3, (4, 1, 90), 1_800_000_000_250), candidate(4, (4, 1, 90), 7)];
        let told = Statement::of(&both, &[], "zone a").unwrap();
        assert_eq!(told.complete_until_ms, 1_800_000_000_250);
        assert!(
            told.says.starts_with("Every change that was acknowledged up to 2027-01-15"),
            "{}",
            told.says
        );
        assert!(told.says.contains("between 2027-01-15"), "{}", told.says);
    }

    #[test]
    fn half_a_zone_promises_nothing() {
        let told = Statement::of(&[candidate(3, (4, 1, 90), 9)], &[4], "zone a").unwrap();
        assert_eq!(told.complete_until_ms, 0);
        assert!(told.says.contains("node 4 of the same zone does not go on"), "{}", told.says);
        let unknown = Statement::of(&[candidate(3, (4, 1, 90), 0)], &[], "zone a").unwrap();
        assert!(unknown.says.contains("no node of the zone has heard"), "{}", unknown.says);
    }
}
