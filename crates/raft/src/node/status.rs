//! How the group stands, as this node sees it.

use std::collections::BTreeMap;
use std::time::Duration;

use openraft::ServerState;
use openraft::metrics::RaftMetrics;

use super::Shared;
use crate::observe::observe;
use crate::transport::Reading;
use crate::types::TypeConfig;

/// What this node does in the group at present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// It leads.
    Leader,
    /// It votes and follows.
    Follower,
    /// It stands for election.
    Candidate,
    /// It follows and does not vote.
    Learner,
    /// Its Raft has stopped.
    Stopped,
}

/// How one member stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The node's id.
    pub node: u64,
    /// Whether it votes.
    pub is_voter: bool,
    /// Last entry of the leader's log that it is known to hold; only the leader knows.
    pub matched_index: Option<u64>,
    /// Time since it last answered the leader; only the leader knows.
    pub silent_for: Option<Duration>,
    /// Last entry that it said it has applied.
    pub applied_index: Option<u64>,
    /// How far its wall clock is ahead of this node's, in milliseconds, as last read.
    pub clock_ahead_ms: Option<i64>,
    /// Version of its software, as last read.
    pub version: Option<String>,
    /// What else was last read of it; `None` of this node itself, and before it has answered.
    pub read: Option<Read>,
}

/// What a peer last said of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Read {
    /// How long ago.
    pub ago: Duration,
    /// How long question and answer took.
    pub round_trip: Duration,
    /// Whether it held no keys.
    pub is_sealed: bool,
}

/// How the group stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// What this node does.
    pub part: Part,
    /// The term.
    pub term: u64,
    /// The leader that this node follows; `None` when it has heard of none for an election timeout.
    pub leader: Option<u64>,
    /// The last entry in this node's log.
    pub last_index: Option<u64>,
    /// The last entry that this node knows to be committed.
    pub committed_index: Option<u64>,
    /// The last entry that this node has applied.
    pub applied_index: Option<u64>,
    /// The last entry that this node's newest snapshot covers.
    pub snapshot_index: Option<u64>,
    /// Whether the membership has two voter sets: a change is under way.
    pub is_joint: bool,
    /// All members, by node id.
    pub members: Vec<Member>,
}

impl Shared {
    pub(super) fn status(&self) -> Status {
        let readings = self.links.readings();
        let leader = self.leader();
        observe(&self.raft, |metrics| shown(metrics, &readings, leader))
    }
}

fn shown(
    metrics: &RaftMetrics<TypeConfig>,
    readings: &BTreeMap<u64, Reading>,
    leader: Option<u64>,
) -> Status {
    let membership = metrics.membership_config.membership();
    let voters: Vec<u64> = membership.voter_ids().collect();
    let member = |node: &u64| Member {
        node: *node,
        is_voter: voters.contains(node),
        matched_index: metrics
            .replication
            .as_ref()
            .and_then(|matched| matched.get(node).copied().flatten())
            .map(|id| id.index),
        silent_for: metrics
            .heartbeat
            .as_ref()
            .and_then(|heard| heard.get(node).copied().flatten())
            .map(|at| openraft::Instant::elapsed(&*at)),
        applied_index: readings.get(node).and_then(|reading| reading.applied_index),
        clock_ahead_ms: readings.get(node).map(|reading| reading.clock_ahead_ms),
        version: readings.get(node).map(|reading| reading.version.clone()),
        read: readings.get(node).map(|reading| Read {
            ago: reading.at.elapsed(),
            round_trip: reading.round_trip,
            is_sealed: reading.is_sealed,
        }),
    };
    Status {
        part: part(metrics.state),
        term: metrics.current_term,
        leader,
        last_index: metrics.last_log_index,
        committed_index: metrics.local_committed.map(|id| id.index),
        applied_index: metrics.last_applied.map(|id| id.index),
        snapshot_index: metrics.snapshot.map(|id| id.index),
        is_joint: membership.get_joint_config().len() > 1,
        members: membership.nodes().map(|(node, _)| member(node)).collect(),
    }
}

fn part(state: ServerState) -> Part {
    match state {
        ServerState::Leader => Part::Leader,
        ServerState::Follower => Part::Follower,
        ServerState::Candidate => Part::Candidate,
        ServerState::Learner => Part::Learner,
        ServerState::Shutdown => Part::Stopped,
    }
}
