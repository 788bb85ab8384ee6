//! Membership follows the node records.
//!
//! Who belongs to the cluster and how it counts is decided by signed commands
//! (`JoinNode`, `SetStandings`), whose `apply` checks zones and majorities. The leader, if it is a data
//! node, then brings Raft's membership to what the records say, one change at a time: nodes that are
//! recorded become learners, learners with the standing of a voter are promoted once they hold the
//! log, removed nodes leave. So a change that was begun is finished by whichever node leads next,
//! and a witness that leads cannot invent a member: followers refuse a membership that names a node
//! without a record.

use std::collections::{BTreeMap, BTreeSet};

use openraft::ChangeMembers;
use twinkeep_core::record::NodeRecord;
use twinkeep_core::topology::Standing;

use crate::types::{Contact, Membership};

/// Entries that a node may lack and still be promoted.
const PROMOTION_LAG_MAX: u64 = 1_000;

/// The next step from a membership to what the records say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Replicate to a node that has joined.
    AddLearner(u64, Contact),
    /// Let exactly these nodes vote. Additions and removals that the records ask for together are
    /// made together, through a joint membership.
    SetVoters(BTreeSet<u64>),
    /// Stop replicating to learners that were removed.
    RemoveLearners(BTreeSet<u64>),
    /// A node that shall vote does not hold the log yet.
    AwaitCatchUp(u64),
}

impl Step {
    /// Returns the change as openraft takes it; `None` while there is something to wait for.
    pub(crate) fn change(self) -> Option<ChangeMembers<u64, Contact>> {
        match self {
            Self::AddLearner(node, contact) => {
                Some(ChangeMembers::AddNodes(BTreeMap::from([(node, contact)])))
            }
            Self::SetVoters(voters) => Some(ChangeMembers::ReplaceAllVoters(voters)),
            Self::RemoveLearners(nodes) => Some(ChangeMembers::RemoveNodes(nodes)),
            Self::AwaitCatchUp(_) => None,
        }
    }
}

/// Returns the next step, or `None` when the membership is what the records say.
///
/// `matched` says up to which index each node's log holds what the leader's does, and `last_index`
/// where that ends.
pub(crate) fn next_step(
    records: &BTreeMap<u64, NodeRecord>,
    membership: &Membership,
    matched: impl Fn(u64) -> Option<u64>,
    last_index: u64,
) -> Option<Step> {
    let with = |standing: Standing| {
        records.values().filter(move |r| r.standing == standing).map(|r| r.id.get())
    };
    let members: BTreeSet<u64> = membership.nodes().map(|(node, _)| *node).collect();
    let new = records
        .values()
        .find(|record| record.standing != Standing::Removed && !members.contains(&record.id.get()));
    if let Some(record) = new {
        let contact = Contact::new(record.placement.peer_address.to_string());
        return Some(Step::AddLearner(record.id.get(), contact));
    }
    let wanted: BTreeSet<u64> = with(Standing::Voter).collect();
    // A joint membership that a lost leader left behind is finished like any other difference.
    let is_wanted = membership.get_joint_config().as_slice() == [wanted.clone()];
    if !is_wanted && !wanted.is_empty() {
        let voters: BTreeSet<u64> = membership.voter_ids().collect();
        let holds_log = |node: &u64| {
            matched(*node).is_some_and(|index| index + PROMOTION_LAG_MAX >= last_index)
        };
        let behind = wanted.difference(&voters).find(|node| !holds_log(node));
        return Some(behind.map_or(Step::SetVoters(wanted.clone()), |n| Step::AwaitCatchUp(*n)));
    }
    let gone: BTreeSet<u64> = with(Standing::Removed).filter(|n| members.contains(n)).collect();
    (!gone.is_empty()).then_some(Step::RemoveLearners(gone))
}

#[cfg(test)]
mod tests;
