//! openraft's messages as the peer protocol carries them, and back.
//!
//! Everything that comes back is from a peer: a missing field is [`Malformed`], never a default
//! that means something else.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use openraft::raft::{
    AppendEntriesRequest, StreamAppendError, StreamAppendResult, TransferLeaderError,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use prost::Message as _;
use twinkeep_core::replication::Durability;
use twinkeep_proto::peer::v1 as pb;

use crate::boot::{Acknowledged, NODES_MAX, Shown, Start};
use crate::codec::{
    Malformed, checked_log_id, checked_vote, decode_entry, decode_membership, encode_entry,
    encode_membership,
};
use crate::config::ENTRIES_PER_MESSAGE_MAX;
use crate::lease::{Grant, millis};
use crate::node::Reached;
use crate::types::{LogId, StoredMembership, TypeConfig, Vote};

fn missing(what: &'static str) -> Malformed {
    Malformed { what, why: "a field is missing" }
}

pub(super) fn log_id_out(id: &LogId) -> pb::LogId {
    pb::LogId { term: id.leader_id.term, node_id: id.leader_id.node_id, index: id.index }
}

pub(super) fn log_id_in(id: pb::LogId) -> Result<LogId, Malformed> {
    checked_log_id(id.term, id.node_id, id.index)
}

pub(super) fn vote_out(vote: &Vote) -> pb::Vote {
    pb::Vote {
        term: vote.leader_id.term,
        node_id: vote.leader_id.node_id,
        committed: vote.committed,
    }
}

pub(super) fn vote_in(vote: Option<pb::Vote>) -> Result<Vote, Malformed> {
    let vote = vote.ok_or(missing("vote"))?;
    checked_vote(vote.term, vote.node_id, vote.committed)
}

pub(super) fn shown_out(shown: &Shown) -> pb::Shown {
    pb::Shown {
        vote: shown.vote.as_ref().map(vote_out),
        last_log_id: shown.last.as_ref().map(log_id_out),
    }
}

/// Reads what a disk shows. A message without it would be one of a disk that shows nothing.
pub(crate) fn shown_in(shown: Option<pb::Shown>) -> Result<Shown, Malformed> {
    let shown = shown.ok_or(missing("what a disk shows"))?;
    Ok(Shown {
        vote: shown.vote.map(|vote| vote_in(Some(vote))).transpose()?,
        last: shown.last_log_id.map(log_id_in).transpose()?,
    })
}

pub(crate) fn start_out(node_id: u64, start: &Start) -> pb::Start {
    pb::Start { node_id, number: start.number, shown: Some(shown_out(&start.shown)) }
}

pub(super) fn start_in(start: pb::Start) -> Result<(u64, Start), Malformed> {
    if start.node_id == 0 || start.number == 0 {
        return Err(Malformed { what: "start", why: "a field is missing" });
    }
    Ok((start.node_id, Start { number: start.number, shown: shown_in(start.shown)? }))
}

/// Writes the known starts as they travel in headers.
pub(crate) fn starts_out(starts: &BTreeMap<u64, Start>) -> Bytes {
    let starts = starts.iter().map(|(node, start)| start_out(*node, start)).collect();
    pb::Starts { starts }.encode_to_vec().into()
}

/// Reads starts. No bytes at all are of a sender that knows none.
pub(super) fn starts_in(bytes: &[u8]) -> Result<BTreeMap<u64, Start>, Malformed> {
    let malformed = |why| Malformed { what: "starts", why };
    let starts = pb::Starts::decode(bytes).map_err(|_| malformed("they are no message"))?.starts;
    if starts.len() > NODES_MAX {
        return Err(malformed("they are too many"));
    }
    starts.into_iter().map(start_in).collect()
}

pub(super) fn acknowledged_out(node_id: u64, known: &Acknowledged) -> pb::Acknowledged {
    pb::Acknowledged { node_id, start: known.start, held: Some(shown_out(&known.held)) }
}

pub(crate) fn acknowledged_in(known: pb::Acknowledged) -> Result<(u64, Acknowledged), Malformed> {
    let held = shown_in(known.held)?;
    Ok((known.node_id, Acknowledged { start: known.start, held }))
}

/// Writes the membership that counts at a node.
pub(crate) fn membership_out(members: &StoredMembership) -> (Bytes, Option<pb::LogId>) {
    let bytes = encode_membership(members.membership()).into();
    (bytes, members.log_id().as_ref().map(log_id_out))
}

/// Reads the membership that counts at a node.
pub(crate) fn membership_in(
    bytes: &[u8],
    log_id: Option<pb::LogId>,
) -> Result<StoredMembership, Malformed> {
    let log_id = log_id.map(log_id_in).transpose()?;
    Ok(StoredMembership::new(log_id, decode_membership(bytes)?))
}

pub(super) fn append_out(
    header: pb::Header,
    request: &AppendEntriesRequest<TypeConfig>,
    lease: Option<Grant>,
    acknowledged: Vec<pb::Acknowledged>,
) -> pb::AppendEntriesRequest {
    pb::AppendEntriesRequest {
        header: Some(header),
        vote: Some(vote_out(&request.vote)),
        prev_log_id: request.prev_log_id.as_ref().map(log_id_out),
        entries: request.entries.iter().map(|entry| encode_entry(entry).into()).collect(),
        leader_commit: request.leader_commit.as_ref().map(log_id_out),
        sync_lease: lease.map(|lease| pb::SyncLease {
            from_ms: millis(lease.from),
            remaining_ms: millis(lease.remaining),
        }),
        acknowledged,
    }
}

/// Reads a lease. Its times are checked where it is taken.
pub(super) fn lease_in(lease: pb::SyncLease) -> Grant {
    Grant {
        from: Duration::from_millis(lease.from_ms),
        remaining: Duration::from_millis(lease.remaining_ms),
    }
}

pub(super) fn append_in(
    request: pb::AppendEntriesRequest,
) -> Result<AppendEntriesRequest<TypeConfig>, Malformed> {
    if request.entries.len() as u64 > ENTRIES_PER_MESSAGE_MAX {
        return Err(Malformed { what: "append", why: "it has too many entries" });
    }
    let entries = request.entries.into_iter().map(decode_entry);
    Ok(AppendEntriesRequest {
        vote: vote_in(request.vote)?,
        prev_log_id: request.prev_log_id.map(log_id_in).transpose()?,
        entries: entries.collect::<Result<_, _>>()?,
        leader_commit: request.leader_commit.map(log_id_in).transpose()?,
    })
}

pub(super) fn append_answer_out(
    result: &StreamAppendResult<TypeConfig>,
    clock: Duration,
    start: u64,
) -> pb::AppendEntriesResponse {
    use pb::append_entries_response::Result as Answer;
    let answer = match result {
        Ok(id) => Answer::Matched(pb::Matched { log_id: id.as_ref().map(log_id_out) }),
        Err(StreamAppendError::Conflict(id)) => {
            Answer::Conflict(pb::Conflict { log_id: Some(log_id_out(id)) })
        }
        Err(StreamAppendError::HigherVote(vote)) => Answer::HigherVote(vote_out(vote)),
    };
    pb::AppendEntriesResponse { result: Some(answer), clock_ms: millis(clock), start }
}

pub(super) fn append_answer_in(
    answer: pb::AppendEntriesResponse,
) -> Result<StreamAppendResult<TypeConfig>, Malformed> {
    use pb::append_entries_response::Result as Answer;
    Ok(match answer.result.ok_or(missing("append answer"))? {
        Answer::Matched(matched) => Ok(matched.log_id.map(log_id_in).transpose()?),
        Answer::Conflict(conflict) => {
            let id = conflict.log_id.ok_or(missing("conflict"))?;
            Err(StreamAppendError::Conflict(log_id_in(id)?))
        }
        Answer::HigherVote(vote) => Err(StreamAppendError::HigherVote(vote_in(Some(vote))?)),
    })
}

pub(super) fn vote_request_out(
    header: pb::Header,
    kind: pb::VoteKind,
    request: &VoteRequest<TypeConfig>,
) -> pb::RequestVoteRequest {
    pb::RequestVoteRequest {
        header: Some(header),
        kind: kind.into(),
        vote: Some(vote_out(&request.vote)),
        last_log_id: request.last_log_id.as_ref().map(log_id_out),
        leadership_transfer: request.leadership_transfer,
    }
}

pub(super) fn vote_request_in(
    request: &pb::RequestVoteRequest,
) -> Result<VoteRequest<TypeConfig>, Malformed> {
    Ok(VoteRequest {
        vote: vote_in(request.vote)?,
        last_log_id: request.last_log_id.map(log_id_in).transpose()?,
        leadership_transfer: request.leadership_transfer,
    })
}

pub(super) fn vote_answer_out(
    answer: &VoteResponse<TypeConfig>,
    start: u64,
) -> pb::RequestVoteResponse {
    pb::RequestVoteResponse {
        start,
        vote: Some(vote_out(&answer.vote)),
        granted: answer.vote_granted,
        last_log_id: answer.last_log_id.as_ref().map(log_id_out),
    }
}

pub(super) fn vote_answer_in(
    answer: pb::RequestVoteResponse,
) -> Result<VoteResponse<TypeConfig>, Malformed> {
    Ok(VoteResponse {
        vote: vote_in(answer.vote)?,
        vote_granted: answer.granted,
        last_log_id: answer.last_log_id.map(log_id_in).transpose()?,
    })
}

pub(super) fn transfer_out(
    header: pb::Header,
    request: &TransferLeaderRequest<TypeConfig>,
) -> pb::TransferLeaderRequest {
    pb::TransferLeaderRequest {
        header: Some(header),
        vote: Some(vote_out(request.from_leader())),
        to_node_id: *request.to_node_id(),
        last_log_id: request.last_log_id().map(log_id_out),
    }
}

pub(super) fn transfer_in(
    request: pb::TransferLeaderRequest,
) -> Result<TransferLeaderRequest<TypeConfig>, Malformed> {
    let vote = vote_in(request.vote)?;
    let last_log_id = request.last_log_id.map(log_id_in).transpose()?;
    Ok(TransferLeaderRequest::new(vote, request.to_node_id, last_log_id))
}

pub(super) fn transfer_answer_out(
    answer: &TransferLeaderResponse<TypeConfig>,
) -> pb::TransferLeaderResponse {
    use pb::transfer_leader_response::Result as Answer;
    let answer = match answer {
        Ok(()) => Answer::Accepted(pb::TransferAccepted {}),
        Err(TransferLeaderError::VoteChanged { actual, .. }) => {
            Answer::VoteChanged(vote_out(actual))
        }
        Err(TransferLeaderError::LogNotFlushed { actual, .. }) => {
            Answer::LogNotFlushed(pb::Matched { log_id: actual.as_ref().map(log_id_out) })
        }
    };
    pb::TransferLeaderResponse { result: Some(answer) }
}

pub(super) fn transfer_answer_in(
    answer: pb::TransferLeaderResponse,
    request: &TransferLeaderRequest<TypeConfig>,
) -> Result<TransferLeaderResponse<TypeConfig>, Malformed> {
    use pb::transfer_leader_response::Result as Answer;
    Ok(match answer.result.ok_or(missing("transfer answer"))? {
        Answer::Accepted(_) => Ok(()),
        Answer::VoteChanged(vote) => Err(TransferLeaderError::VoteChanged {
            expected: *request.from_leader(),
            actual: vote_in(Some(vote))?,
        }),
        Answer::LogNotFlushed(matched) => Err(TransferLeaderError::LogNotFlushed {
            expected: request.last_log_id().copied(),
            actual: matched.log_id.map(log_id_in).transpose()?,
        }),
    })
}

/// Writes what an entry has reached.
pub(crate) fn reached_out(reached: Reached) -> pb::Reached {
    let durability = match reached.durability {
        None => pb::Durability::Unspecified,
        Some(Durability::EveryZone) => pb::Durability::EveryZone,
        Some(Durability::SingleCopyOutside) => pb::Durability::SingleCopyOutside,
        Some(Durability::SingleZone) => pb::Durability::SingleZone,
    };
    pb::Reached { index: reached.index, durability: durability.into() }
}

/// Reads what an entry has reached. A word of later software counts as the least promise that this one
/// knows.
pub(crate) fn reached_in(reached: &pb::Reached) -> Reached {
    let durability = match pb::Durability::try_from(reached.durability) {
        Ok(pb::Durability::Unspecified) => None,
        Ok(pb::Durability::EveryZone) => Some(Durability::EveryZone),
        Ok(pb::Durability::SingleCopyOutside) => Some(Durability::SingleCopyOutside),
        Ok(pb::Durability::SingleZone) | Err(_) => Some(Durability::SingleZone),
    };
    Reached { index: reached.index, durability }
}
