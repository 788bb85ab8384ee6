//! Log ids (24 bytes) and votes (18 bytes).

use super::{Malformed, at_end, checked, take, take_format, take_u64};
use crate::types::{LeaderId, LogId, Vote};

/// Length of an encoded log id, in bytes.
pub const LOG_ID_LEN: usize = 24;

/// Returns the bytes of a log id.
#[must_use]
pub fn encode_log_id(id: &LogId) -> [u8; LOG_ID_LEN] {
    let mut out = [0; LOG_ID_LEN];
    out[..8].copy_from_slice(&id.leader_id.term.to_be_bytes());
    out[8..16].copy_from_slice(&id.leader_id.node_id.to_be_bytes());
    out[16..].copy_from_slice(&id.index.to_be_bytes());
    out
}

/// Reads a log id.
///
/// # Errors
/// [`Malformed`] when the bytes are not 24.
pub fn decode_log_id(mut bytes: &[u8]) -> Result<LogId, Malformed> {
    let id = take_log_id(&mut bytes)?;
    at_end(bytes, "log id")?;
    Ok(id)
}

/// Takes a log id off the front.
pub(super) fn take_log_id(bytes: &mut &[u8]) -> Result<LogId, Malformed> {
    let term = take_u64(bytes, "log id")?;
    let node_id = take_u64(bytes, "log id")?;
    let index = take_u64(bytes, "log id")?;
    Ok(LogId::new(LeaderId { term, node_id }, index))
}

/// Makes a log id of numbers from the wire.
pub(crate) fn checked_log_id(term: u64, node_id: u64, index: u64) -> Result<LogId, Malformed> {
    let term = checked(term, "log id")?;
    let node_id = checked(node_id, "log id")?;
    Ok(LogId::new(LeaderId { term, node_id }, checked(index, "log id")?))
}

/// Makes a vote of numbers from the wire.
pub(crate) fn checked_vote(term: u64, node_id: u64, committed: bool) -> Result<Vote, Malformed> {
    let term = checked(term, "vote")?;
    Ok(Vote { leader_id: LeaderId { term, node_id: checked(node_id, "vote")? }, committed })
}

/// Returns the bytes of a vote.
#[must_use]
pub fn encode_vote(vote: &Vote) -> Vec<u8> {
    let mut out = Vec::with_capacity(18);
    out.push(1);
    out.extend_from_slice(&vote.leader_id.term.to_be_bytes());
    out.extend_from_slice(&vote.leader_id.node_id.to_be_bytes());
    out.push(u8::from(vote.committed));
    out
}

/// Reads a vote.
///
/// # Errors
/// [`Malformed`] when the bytes are no vote of format 1.
pub fn decode_vote(mut bytes: &[u8]) -> Result<Vote, Malformed> {
    take_format(&mut bytes, "vote")?;
    let term = take_u64(&mut bytes, "vote")?;
    let node_id = take_u64(&mut bytes, "vote")?;
    let committed = match take::<1>(&mut bytes, "vote")? {
        [0] => false,
        [1] => true,
        _ => return Err(Malformed::new("vote", "its committed flag is neither 0 nor 1")),
    };
    at_end(bytes, "vote")?;
    Ok(Vote { leader_id: LeaderId { term, node_id }, committed })
}
