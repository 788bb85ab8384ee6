//! Proposals: a signed batch becomes a log entry, on the leader, once or with a known reason why not.
//!
//! A batch that was certainly not proposed is tried again until the deadline, at whichever node
//! leads then. A batch that may have been proposed is never tried again: its commands might take
//! effect twice in the eyes of their callers, so the answer is [`ProposeError::Timeout`].

use std::time::Duration;

use bytes::Bytes;
use openraft::errors::{ClientWriteError, ForwardToLeader, RaftError};
use tokio::time::{Instant, sleep_until, timeout_at};
use tonic::Code;
use twinkeep_core::command::SignedBatch;
use twinkeep_core::id::NodeId;
use twinkeep_core::outcome::Outcome;
use twinkeep_core::record::{ClusterRecord, Record};
use twinkeep_core::replication::Durability;
use twinkeep_core::topology::NodeRole;
use twinkeep_proto::peer::v1 as pb;

use super::{Reached, Shared, Ungated};
use crate::config::BATCH_BYTES_MAX;
use crate::trace;
use crate::transport::{Purpose, reached_in, reached_out};
use crate::types::{Outcomes, SignedBytes, TypeConfig};

/// Pause before a leader is looked for again. An election takes hundreds of milliseconds, but a hand-over ten, and few
/// batches of a node wait at a time.
const RETRY_PAUSE: Duration = Duration::from_millis(5);
/// Time that an attempt needs to have a known end: one that begins later than this before the deadline
/// would likely leave the caller in doubt, and is not made.
const ATTEMPT_TIME: Duration = Duration::from_millis(100);

/// A batch that is applied at the leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposed {
    /// A node that has applied this entry shows what the batch changed, and lets key versions that it
    /// created be used. The entry of the batch itself, or a later one.
    pub index: u64,
    /// The outcome of each command, in order; a single refusal when the batch as a whole was refused.
    pub outcomes: Vec<Outcome>,
    /// Where it is on disk; `None` in a cluster at a version without replication modes, which promises a
    /// majority.
    pub durability: Option<Durability>,
}

/// A batch that is applied at the leader, and may not be acknowledged yet.
pub(crate) struct Written {
    /// The entry that carries it.
    pub(crate) index: u64,
    pub(crate) outcomes: Vec<Outcome>,
    /// Whether it created key versions.
    pub(crate) needs_marker: bool,
    /// `None` when the leader lost the lead before it knew.
    pub(crate) reached: Option<Reached>,
}

/// Why a proposal has no outcome.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Another node leads, and it did not take the batch until the deadline. Nothing was changed.
    #[error("node {hint} leads and could not be asked in time")]
    NotLeader {
        /// The leader as this node knows it.
        hint: NodeId,
    },
    /// No node leads that this one knows of: an election is under way or there is no quorum.
    /// Nothing was changed.
    #[error("no node leads; writes need a majority of the voters")]
    NoLeader,
    /// The batch was proposed and its leader did not say in time what became of it, or leads no more: it may have
    /// been applied, or still be, or it is and was not durable in time.
    #[error("the leader did not say in time what became of the change")]
    Timeout,
    /// The bytes are no batch that the cluster would take. Nothing was changed.
    #[error("the batch was refused: {0}")]
    Refused(String),
}

/// Why a node did not apply a batch that it was handed.
pub(crate) enum Declined {
    /// It does not lead, or has no quorum; it certainly did not propose.
    NotLeader(Option<u64>),
    /// It proposed, and cannot say what became of it.
    Unknown,
    /// It will never propose this.
    Refused(String),
}

impl Shared {
    /// Proposes a signed batch through whichever node leads and returns the outcomes.
    pub(super) async fn propose(
        &self,
        batch: Bytes,
        deadline: Instant,
    ) -> Result<Proposed, ProposeError> {
        loop {
            let (error, leader) = match self.try_once(batch.clone(), deadline).await {
                Ok(written) => return self.settle(written, deadline).await,
                Err(Declined::Unknown) => return Err(ProposeError::Timeout),
                Err(Declined::Refused(why)) => return Err(ProposeError::Refused(why)),
                Err(Declined::NotLeader(leader)) => (no_leader(leader), leader),
            };
            let again = Instant::now() + RETRY_PAUSE;
            if again + ATTEMPT_TIME >= deadline {
                return Err(error);
            }
            tracing::debug!(?leader, "the proposal waits for a leader");
            sleep_until(again).await;
        }
    }

    /// Waits until a batch may be acknowledged, if its leader could not say.
    async fn settle(&self, written: Written, deadline: Instant) -> Result<Proposed, ProposeError> {
        let Written { index, outcomes, needs_marker, reached } = written;
        let reached = match reached {
            Some(reached) => reached,
            None => self
                .acknowledge(index, needs_marker, deadline)
                .await
                .map_err(|_| ProposeError::Timeout)?,
        };
        Ok(Proposed { index: reached.index, outcomes, durability: reached.durability })
    }

    async fn try_once(&self, batch: Bytes, deadline: Instant) -> Result<Written, Declined> {
        match self.answering_leader() {
            Some(leader) if leader != self.me.node.get() => {
                self.forward(leader, batch, deadline).await
            }
            // Without a known leader the local answer is certain and costs nothing.
            _ => self.propose_here(batch, deadline).await,
        }
    }

    /// Proposes a signed batch on this node, if it leads, and waits until it may be acknowledged.
    pub(crate) async fn propose_here(
        &self,
        batch: Bytes,
        deadline: Instant,
    ) -> Result<Written, Declined> {
        if self.role == NodeRole::Witness || self.draining() {
            return Err(Declined::NotLeader(self.leader().filter(|l| *l != self.me.node.get())));
        }
        if batch.len() > BATCH_BYTES_MAX {
            return Err(Declined::Refused(format!("{} bytes are too many", batch.len())));
        }
        self.stamp_clock_if_due().await;
        let write = self.raft.client_write(SignedBytes(batch));
        let done = match timeout_at(deadline, write).await {
            Ok(Ok(done)) => done,
            Ok(Err(error)) => return Err(declined(error)),
            Err(_) => return Err(Declined::Unknown),
        };
        let index = done.log_id.index;
        let Outcomes { outcomes, needs_marker } = done.data;
        let reached = match self.acknowledge_here(index, needs_marker, deadline).await {
            Ok(reached) => Some(reached),
            Err(Ungated::NotLeader) => None,
            Err(Ungated::Late) => return Err(Declined::Unknown),
        };
        Ok(Written { index, outcomes, needs_marker, reached })
    }

    /// Hands the batch to the leader.
    async fn forward(
        &self,
        leader: u64,
        batch: Bytes,
        deadline: Instant,
    ) -> Result<Written, Declined> {
        let not_taken = Declined::NotLeader(Some(leader));
        let Ok((mut client, header)) = self.peer(leader).client(Purpose::Entries) else {
            return Err(not_taken);
        };
        let mut request = tonic::Request::new(pb::ProposeRequest { header: Some(header), batch });
        request.set_timeout(deadline.saturating_duration_since(Instant::now()));
        trace::inject(request.metadata_mut());
        let answer = match self.ask_leader(leader, deadline, client.propose(request)).await {
            Some(Ok(answer)) => answer.into_inner().result,
            Some(Err(status)) if was_never_sent(&status) => return Err(not_taken),
            Some(Err(_)) | None => return Err(Declined::Unknown),
        };
        use pb::propose_response::Result as Answer;
        match answer {
            Some(Answer::Applied(applied)) => written(&applied).ok_or(Declined::Unknown),
            Some(Answer::NotLeader(other)) => {
                Err(Declined::NotLeader(Some(other.leader).filter(|leader| *leader != 0)))
            }
            Some(Answer::Refused(refused)) => Err(Declined::Refused(refused.why)),
            Some(Answer::Unknown(_)) | None => Err(Declined::Unknown),
        }
    }

    /// Checks a batch that a peer forwards: signed by that very data node, with a key that the
    /// cluster knows. `apply` checks again; this keeps forgeries out of the log.
    pub(crate) fn check_forwarded(&self, from: u64, batch: &[u8]) -> Result<(), String> {
        let signed = SignedBatch::from_bytes(batch).map_err(|_| "it is no signed batch")?;
        if signed.signer.get() != from || !self.roster.is_data(from) {
            return Err("its signer is not the data node that sent it".to_owned());
        }
        let cluster = self.state.view(|state| ClusterRecord::load(state, &()));
        let cluster = cluster.map_err(|e| e.to_string())?;
        let cluster = cluster.ok_or("this node has no cluster record yet")?;
        let key = cluster.command_key(signed.epoch).ok_or("its epoch is unknown")?;
        if !signed.is_signed_by(key, cluster.id, &*self.verifier) {
            return Err("its signature is not the cluster's".to_owned());
        }
        Ok(())
    }
}

fn no_leader(leader: Option<u64>) -> ProposeError {
    leader
        .and_then(|leader| NodeId::new(leader).ok())
        .map_or(ProposeError::NoLeader, |hint| ProposeError::NotLeader { hint })
}

fn declined(error: RaftError<TypeConfig, ClientWriteError<TypeConfig>>) -> Declined {
    match error {
        RaftError::APIError(ClientWriteError::ForwardToLeader(ForwardToLeader {
            leader_id,
            ..
        })) => Declined::NotLeader(leader_id),
        // The entry was in the log and a new leader may or may not have kept it.
        RaftError::APIError(_) => Declined::Unknown,
        // The entry may be in the log of a node that stops right now.
        RaftError::Fatal(_) => Declined::Unknown,
    }
}

fn written(applied: &pb::Applied) -> Option<Written> {
    Some(Written {
        index: applied.index,
        outcomes: minicbor::decode(&applied.outcomes).ok()?,
        needs_marker: applied.needs_marker,
        reached: applied.reached.as_ref().map(reached_in),
    })
}

/// Tells whether a call certainly never reached the handler: no connection could be made, or the peer
/// refused the message before it looked at the batch.
fn was_never_sent(status: &tonic::Status) -> bool {
    let first = std::error::Error::source(status);
    let mut causes = std::iter::successors(first, |error| error.source());
    matches!(status.code(), Code::PermissionDenied | Code::FailedPrecondition)
        || causes.any(|error| error.is::<tonic::ConnectError>())
}

/// Returns the answer to a peer that forwarded a batch.
pub(crate) fn answer(result: Result<Written, Declined>) -> pb::ProposeResponse {
    use pb::propose_response::Result as Answer;
    let answer = match result {
        Ok(done) => {
            let outcomes = minicbor::to_vec(&done.outcomes).expect("a Vec takes every byte");
            Answer::Applied(pb::Applied {
                index: done.index,
                outcomes: outcomes.into(),
                reached: done.reached.map(reached_out),
                needs_marker: done.needs_marker,
            })
        }
        Err(Declined::NotLeader(leader)) => {
            Answer::NotLeader(pb::NotLeader { leader: leader.unwrap_or(0) })
        }
        Err(Declined::Unknown) => Answer::Unknown(pb::Unknown {}),
        Err(Declined::Refused(why)) => Answer::Refused(pb::Refused { why }),
    };
    pb::ProposeResponse { result: Some(answer) }
}
