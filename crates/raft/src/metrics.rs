//! The metrics of the group, as this node sees it. `peer` is a node id; `origin` one of `built` and
//! `fetched`; `outcome` one of [`Outcome`]'s words.
//!
//! Indexes and lags are read when somebody asks: what only a leader knows is there while the node
//! leads, and absent otherwise.

use std::time::Duration;

use metrics::{
    Counter, Histogram, counter, describe_counter, describe_gauge, describe_histogram, gauge,
    histogram,
};

use twinkeep_core::id::NodeId;
use twinkeep_core::replication::Mode;

use crate::freshness::Freshness;
use crate::node::{Node, Part, ProposeError};
use crate::proposal_queue::{ProposalQueue, QueueError};

/// Whether this node leads.
pub const IS_LEADER: &str = "twinkeep_raft_is_leader";
/// Whether this node follows a leader that it hears, or leads.
pub const HAS_LEADER: &str = "twinkeep_raft_has_leader";
/// The term.
pub const TERM: &str = "twinkeep_raft_term";
/// The last entry in the node's log.
pub const LAST_LOG_INDEX: &str = "twinkeep_raft_last_log_index";
/// The last entry that the node knows to be committed.
pub const COMMITTED_INDEX: &str = "twinkeep_raft_committed_index";
/// The last entry that the node has applied.
pub const APPLIED_INDEX: &str = "twinkeep_raft_applied_index";
/// The last entry that the node's newest snapshot covers.
pub const SNAPSHOT_INDEX: &str = "twinkeep_raft_snapshot_index";
/// Members of the group.
pub const MEMBERS: &str = "twinkeep_raft_member_nodes";
/// Entries that a peer is behind the leader's log.
pub const PEER_LAG_ENTRIES: &str = "twinkeep_raft_peer_lag_entries";
/// Time since a peer last answered the leader.
pub const PEER_SILENT_SECONDS: &str = "twinkeep_raft_peer_silent_seconds";
/// Bytes that this node sent to a peer.
pub const SENT_BYTES_TOTAL: &str = "twinkeep_raft_sent_bytes_total";
/// Terms that began.
pub const ELECTIONS_TOTAL: &str = "twinkeep_raft_elections_total";
/// Changes of the leader.
pub const LEADER_CHANGES_TOTAL: &str = "twinkeep_raft_leader_changes_total";
/// Commands that wait for their batch.
pub const WAITING_PROPOSALS: &str = "twinkeep_raft_waiting_proposals";
/// Time of a command from the queue to its outcome.
pub const PROPOSAL_SECONDS: &str = "twinkeep_raft_proposal_seconds";
/// Whether acknowledged changes are in every zone.
pub const IS_IN_SYNC: &str = "twinkeep_raft_is_in_sync";
/// How old the state may be.
pub const STATE_AGE_SECONDS: &str = "twinkeep_raft_state_age_seconds";
/// Changes of the replication mode.
pub const MODE_CHANGES_TOTAL: &str = "twinkeep_raft_mode_changes_total";
/// Time that an applied change waits for the zones.
pub const ZONE_WAIT_SECONDS: &str = "twinkeep_raft_zone_wait_seconds";
/// Snapshots that this node got.
pub const SNAPSHOTS_TOTAL: &str = "twinkeep_raft_snapshots_total";

/// Tells the process's recorder what the metrics of this crate mean.
pub fn describe() {
    describe_gauge!(IS_LEADER, "1 on the node that leads");
    describe_gauge!(HAS_LEADER, "1 on a node that leads, or hears the leader it follows");
    describe_gauge!(TERM, "The term that the node is in");
    describe_gauge!(LAST_LOG_INDEX, "The last entry in the node's log");
    describe_gauge!(COMMITTED_INDEX, "The last entry that the node knows to be committed");
    describe_gauge!(APPLIED_INDEX, "The last entry that the node has applied");
    describe_gauge!(SNAPSHOT_INDEX, "The last entry that the node's newest snapshot covers");
    describe_gauge!(MEMBERS, "Members of the group as the node has it, learners included");
    describe_gauge!(
        PEER_LAG_ENTRIES,
        "Entries that a peer is behind the leader's log, by `peer`; on the leader alone"
    );
    describe_gauge!(
        PEER_SILENT_SECONDS,
        "Time since a peer answered the leader, by `peer`; on the leader alone"
    );
    describe_counter!(
        SENT_BYTES_TOTAL,
        "Bytes that the node sent to a peer over the connections that it opened, TLS included, by `peer`"
    );
    describe_counter!(ELECTIONS_TOTAL, "Terms that began while the node ran, won or not");
    describe_counter!(LEADER_CHANGES_TOTAL, "Times that the node began to follow another leader");
    describe_gauge!(WAITING_PROPOSALS, "Commands of the node that wait for their batch");
    describe_histogram!(
        PROPOSAL_SECONDS,
        "Time of a command from the node's queue to its outcome at the leader, by `outcome`"
    );
    describe_gauge!(
        IS_IN_SYNC,
        "1 while every zone holds what is acknowledged, as the node has applied the replication mode"
    );
    describe_gauge!(
        STATE_AGE_SECONDS,
        "How old the state of a data node may be once its freshness lease is over; 0 while that holds"
    );
    describe_counter!(
        MODE_CHANGES_TOTAL,
        "Changes of the replication mode that the node proposed as leader, by `mode` (`sync`, `degraded`, \
         `recovering`)"
    );
    describe_histogram!(
        ZONE_WAIT_SECONDS,
        "Time from a batch's commit at the leader until it was durable enough to be acknowledged"
    );
    describe_counter!(
        SNAPSHOTS_TOTAL,
        "Snapshots that the node took or got, by `origin` (`built`, `fetched`)"
    );
}

/// Shows how the group and the queue stand now.
pub fn sample(node: &Node, queue: &ProposalQueue) {
    let status = node.status();
    flag(IS_LEADER, status.part == Part::Leader);
    flag(HAS_LEADER, status.leader.is_some());
    let replication = node.replication().applied();
    let age = match node.freshness() {
        Freshness::Fresh => Duration::ZERO,
        Freshness::Stale { age } => age.unwrap_or_else(|| node.running_for()),
    };
    gauge!(STATE_AGE_SECONDS).set(age);
    flag(IS_IN_SYNC, replication.borrow().mode == Mode::Sync);
    show(TERM, status.term);
    show(MEMBERS, status.members.len() as u64);
    let indexes = [
        (LAST_LOG_INDEX, status.last_index),
        (COMMITTED_INDEX, status.committed_index),
        (APPLIED_INDEX, status.applied_index),
        (SNAPSHOT_INDEX, status.snapshot_index),
    ];
    for (name, index) in indexes {
        show(name, index.unwrap_or(0));
    }
    if status.part == Part::Leader {
        let last = status.last_index.unwrap_or(0);
        for peer in status.members.iter().filter(|peer| peer.node != node.id()) {
            let id = peer.node.to_string();
            let lag = last.saturating_sub(peer.matched_index.unwrap_or(0));
            gauge!(PEER_LAG_ENTRIES, "peer" => id.clone()).set(float(lag));
            if let Some(silent) = peer.silent_for {
                gauge!(PEER_SILENT_SECONDS, "peer" => id).set(silent);
            }
        }
    }
    show(WAITING_PROPOSALS, queue.waiting() as u64);
}

fn flag(name: &'static str, is_set: bool) {
    show(name, u64::from(is_set));
}

fn show(name: &'static str, value: u64) {
    gauge!(name).set(float(value));
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a float; an index beyond 2^52 rounds")]
fn float(value: u64) -> f64 {
    value as f64
}

/// Counts what is sent to a peer, whatever connections it takes.
pub(crate) fn sent_bytes(peer: NodeId) -> Counter {
    counter!(SENT_BYTES_TOTAL, "peer" => peer.to_string())
}

/// Begins to count changes of the replication mode: all of them are shown from then on.
pub(crate) fn count_mode_changes() {
    for mode in ["sync", "degraded", "recovering"] {
        counter!(MODE_CHANGES_TOTAL, "mode" => mode).increment(0);
    }
}

/// Counts a change of the replication mode.
pub(crate) fn mode_changed(to: &Mode) {
    let mode = match to {
        Mode::Sync => "sync",
        Mode::Degraded { .. } => "degraded",
        Mode::Recovering { .. } => "recovering",
    };
    counter!(MODE_CHANGES_TOTAL, "mode" => mode).increment(1);
}

/// Where a snapshot came from.
#[derive(Clone, Copy)]
pub(crate) enum Origin {
    Built,
    Fetched,
}

/// Counts a snapshot.
pub(crate) fn snapshot(origin: Origin) {
    let origin = match origin {
        Origin::Built => "built",
        Origin::Fetched => "fetched",
    };
    counter!(SNAPSHOTS_TOTAL, "origin" => origin).increment(1);
}

/// Follows terms and leaders by looking again and again: an election takes longer than a look, and one
/// that is missed shows in the next term.
#[derive(Default)]
pub(crate) struct Elections {
    seen: Option<(u64, Option<u64>)>,
}

impl Elections {
    /// Counts what has changed since the last look.
    pub(crate) fn look(&mut self, term: u64, leader: Option<u64>) {
        let Some((term_before, leader_before)) = self.seen else {
            // A start is no change; both counters are there from then on.
            counter!(ELECTIONS_TOTAL).increment(0);
            counter!(LEADER_CHANGES_TOTAL).increment(0);
            self.seen = Some((term, leader));
            return;
        };
        counter!(ELECTIONS_TOTAL).increment(term.saturating_sub(term_before));
        if leader.is_some() && leader != leader_before {
            counter!(LEADER_CHANGES_TOTAL).increment(1);
        }
        // While nobody leads, the last leader is remembered: its return is no change.
        self.seen = Some((term, leader.or(leader_before)));
    }
}

/// What came of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Outcome {
    Decided,
    Sealed,
    TooLarge,
    Busy,
    NoLeader,
    Unknown,
    Refused,
}

impl Outcome {
    const ALL: [(Self, &'static str); 7] = [
        (Self::Decided, "decided"),
        (Self::Sealed, "sealed"),
        (Self::TooLarge, "too_large"),
        (Self::Busy, "busy"),
        (Self::NoLeader, "no_leader"),
        (Self::Unknown, "unknown"),
        (Self::Refused, "refused"),
    ];

    fn of<T>(result: &Result<T, QueueError>) -> Self {
        match result {
            Ok(_) => Self::Decided,
            Err(QueueError::Sealed) => Self::Sealed,
            Err(QueueError::TooLarge { .. }) => Self::TooLarge,
            Err(QueueError::Busy) => Self::Busy,
            Err(QueueError::Propose(ProposeError::NotLeader { .. } | ProposeError::NoLeader)) => {
                Self::NoLeader
            }
            Err(QueueError::Propose(ProposeError::Timeout)) => Self::Unknown,
            Err(QueueError::Propose(ProposeError::Refused(_))) => Self::Refused,
        }
    }
}

/// Times commands. Clones count together.
#[derive(Clone)]
pub(crate) struct ProposalMeter([Histogram; Outcome::ALL.len()]);

impl Default for ProposalMeter {
    fn default() -> Self {
        Self(Outcome::ALL.map(|(_, name)| histogram!(PROPOSAL_SECONDS, "outcome" => name)))
    }
}

impl ProposalMeter {
    pub(crate) fn ended<T>(&self, result: &Result<T, QueueError>, elapsed: Duration) {
        self.0[Outcome::of(result) as usize].record(elapsed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_stand_at_their_numbers() {
        assert!(Outcome::ALL.iter().enumerate().all(|(place, (of, _))| *of as usize == place));
    }
}
