//! Whether a message may be looked at, and whether an honest peer could have sent it.
//!
//! openraft asserts what its own peers guarantee. A peer that is not honest must not reach those
//! assertions, so [`append`] and [`vote`] check first.

use std::sync::Arc;

use openraft::LogIdOptionExt;
use openraft::raft::{AppendEntriesRequest, VoteRequest};
use tonic::{Extensions, Status};
use twinkeep_proto::peer::v1 as pb;

use super::{Me, Wire};
use crate::roster::Roster;
use crate::types::{LogId, TypeConfig, Vote};

/// Compares headers with certificates.
#[derive(Clone)]
pub(super) struct Admission {
    pub(super) me: Me,
    pub(super) wire: Arc<dyn Wire>,
    pub(super) roster: Arc<Roster>,
}

impl Admission {
    /// Returns the sender, if it is who it says and means this node.
    pub(super) fn admit(
        &self,
        connection: &Extensions,
        header: Option<&pb::Header>,
    ) -> Result<u64, Status> {
        let proven = self.proven(connection);
        let header = header.ok_or_else(|| malformed("the header is missing"))?;
        // A certificate is not enough: the port also lets in keys that may join and have not yet.
        if proven != Some(header.from) || !self.roster.knows(header.from) {
            return Err(Status::permission_denied(
                "the sender is not the node that the certificate names, or is no member",
            ));
        }
        self.check_receiver(header)?;
        Ok(header.from)
    }

    /// Returns the node that the certificate of a connection names.
    pub(super) fn proven(&self, connection: &Extensions) -> Option<u64> {
        self.wire.peer(connection).map(|node| node.get())
    }

    fn check_receiver(&self, header: &pb::Header) -> Result<(), Status> {
        let wrong = if header.cluster_id.as_ref() as &[u8] != self.me.cluster.as_bytes() {
            "this node belongs to another cluster"
        } else if header.incarnation != self.me.incarnation.get() {
            "this node lives in another incarnation of the cluster"
        } else if header.to != self.me.node.get() {
            "this is another node than the one addressed"
        } else {
            return Ok(());
        };
        Err(Status::failed_precondition(wrong))
    }
}

/// Refuses a message that no honest peer sends.
pub(super) fn malformed(why: impl Into<String>) -> Status {
    Status::invalid_argument(why)
}

/// Checks that a leadership is the sender's own.
pub(super) fn leadership(from: u64, vote: &Vote) -> Result<(), Status> {
    if !vote.committed || vote.leader_id.node_id != from {
        return Err(malformed("the leadership is not the sender's"));
    }
    Ok(())
}

/// Checks a run of entries: the sender's own leadership, indexes without a gap, and no entry of a
/// later leader.
pub(super) fn append(from: u64, request: &AppendEntriesRequest<TypeConfig>) -> Result<(), Status> {
    leadership(from, &request.vote)?;
    let leader = request.vote.leader_id;
    let later = |id: &LogId| id.leader_id > leader;
    if request.prev_log_id.iter().chain(&request.leader_commit).any(later) {
        return Err(malformed("the leader names an entry of a later leader"));
    }
    let mut prev = request.prev_log_id;
    for entry in &request.entries {
        let id = entry.log_id;
        if id.index != prev.next_index() {
            return Err(malformed("the entries have a gap"));
        }
        if later(&id) || prev.is_some_and(|prev| id.leader_id < prev.leader_id) {
            return Err(malformed("the entries' leaders are out of order"));
        }
        prev = Some(id);
    }
    Ok(())
}

/// Checks that a candidate stands for itself, with a log that its term allows.
pub(super) fn vote(from: u64, request: &VoteRequest<TypeConfig>) -> Result<(), Status> {
    if request.vote.committed || request.vote.leader_id.node_id != from {
        return Err(malformed("the vote is not for the sender"));
    }
    if request.last_log_id.is_some_and(|id| id.leader_id.term > request.vote.leader_id.term) {
        return Err(malformed("the candidate's log is ahead of its term"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::types::{Entry, LeaderId, Payload, SignedBytes};

    fn id(term: u64, node_id: u64, index: u64) -> LogId {
        LogId::new(LeaderId { term, node_id }, index)
    }

    fn entry(log_id: LogId) -> Entry {
        Entry { log_id, payload: Payload::Normal(SignedBytes(Bytes::from_static(b"x"))) }
    }

    fn request(prev: Option<LogId>, ids: &[LogId]) -> AppendEntriesRequest<TypeConfig> {
        AppendEntriesRequest {
            vote: Vote::new_committed(5, 2),
            prev_log_id: prev,
            entries: ids.iter().copied().map(entry).collect(),
            leader_commit: None,
        }
    }

    #[test]
    fn entries_without_a_gap_are_taken() {
        append(2, &request(None, &[id(0, 1, 0), id(1, 1, 1), id(5, 2, 2)])).unwrap();
        append(2, &request(Some(id(4, 3, 6)), &[id(4, 3, 7), id(5, 2, 8)])).unwrap();
        append(2, &request(Some(id(4, 3, 6)), &[])).unwrap();
    }

    #[test]
    fn another_nodes_leadership_is_refused() {
        append(3, &request(None, &[])).unwrap_err();
        let mut candidate = request(None, &[]);
        candidate.vote.committed = false;
        append(2, &candidate).unwrap_err();
    }

    #[test]
    fn gaps_and_leaders_out_of_order_are_refused() {
        for (prev, ids) in [
            (None, vec![id(1, 1, 1)]),
            (Some(id(1, 1, 3)), vec![id(1, 1, 5)]),
            (Some(id(1, 1, 3)), vec![id(1, 1, 4), id(1, 1, 4)]),
            (Some(id(4, 1, 3)), vec![id(3, 1, 4)]),
            (Some(id(4, 1, 3)), vec![id(6, 1, 4)]),
            (Some(id(6, 1, 3)), vec![]),
        ] {
            append(2, &request(prev, &ids)).unwrap_err();
        }
        let mut commit = request(None, &[]);
        commit.leader_commit = Some(id(6, 1, 1));
        append(2, &commit).unwrap_err();
    }

    #[test]
    fn a_candidate_stands_for_itself_alone() {
        let stand = |node, committed, last| VoteRequest::<TypeConfig> {
            vote: Vote { leader_id: LeaderId { term: 5, node_id: node }, committed },
            last_log_id: last,
            leadership_transfer: false,
        };
        vote(2, &stand(2, false, Some(id(5, 1, 9)))).unwrap();
        vote(2, &stand(2, false, None)).unwrap();
        vote(2, &stand(3, false, None)).unwrap_err();
        vote(2, &stand(2, true, None)).unwrap_err();
        vote(2, &stand(2, false, Some(id(6, 1, 9)))).unwrap_err();
    }
}
