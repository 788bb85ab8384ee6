//! Linearizable reads from local state: an index that covers every acknowledged write, and waiting
//! until this node has applied it.

use openraft::ReadPolicy;
use openraft::errors::{LinearizableReadError, RaftError};
use tokio::time::{Instant, timeout_at};
use twinkeep_core::topology::NodeRole;
use twinkeep_proto::peer::v1 as pb;

use super::Shared;
use crate::transport::Purpose;

/// Why a read index cannot be had now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// No leader answered with the acknowledgement of a majority before the deadline.
    #[error("no leader could confirm in time that it leads")]
    NoLeader,
    /// The index was not applied here before the deadline.
    #[error("this node has applied entry {applied:?} and not yet {wanted}")]
    Behind {
        /// The last entry applied here.
        applied: Option<u64>,
        /// The entry asked for.
        wanted: u64,
    },
    /// This node has stopped applying entries.
    #[error("this node has stopped")]
    Stopped,
}

impl Shared {
    /// Returns an index that covers every write acknowledged before this call, at whichever node.
    pub(super) async fn read_index(&self, deadline: Instant) -> Result<u64, ReadError> {
        let me = self.me.node.get();
        let asked = async {
            match self.answering_leader() {
                Some(leader) if leader != me => self.ask_read_index(leader, deadline).await,
                _ => self.read_index_here().await,
            }
        };
        timeout_at(deadline, asked).await.ok().flatten().ok_or(ReadError::NoLeader)
    }

    /// Confirms with a majority that this node leads and returns its read index.
    pub(crate) async fn read_index_here(&self) -> Option<u64> {
        // A witness that leads serves nobody.
        if self.role == NodeRole::Witness {
            return None;
        }
        match self.raft.get_read_log_id(ReadPolicy::ReadIndex).await {
            Ok((read, _)) => Some(read.index()),
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(_))) => None,
            Err(error) => {
                tracing::debug!(%error, "leadership could not be confirmed");
                None
            }
        }
    }

    async fn ask_read_index(&self, leader: u64, deadline: Instant) -> Option<u64> {
        let (mut client, header) = self.peer(leader).client(Purpose::Votes).ok()?;
        let mut request = tonic::Request::new(pb::ReadIndexRequest { header: Some(header) });
        request.set_timeout(deadline.saturating_duration_since(Instant::now()));
        match client.read_index(request).await.ok()?.into_inner().result? {
            pb::read_index_response::Result::Index(index) => Some(index),
            pb::read_index_response::Result::NotLeader(_) => None,
        }
    }

    /// Waits until this node has applied `index`.
    pub(crate) async fn wait_applied(
        &self,
        index: u64,
        deadline: Instant,
    ) -> Result<(), ReadError> {
        let mut applied = self.applied.clone();
        let reached = applied.wait_for(|applied| applied.is_some_and(|applied| applied >= index));
        match timeout_at(deadline, reached).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(ReadError::Stopped),
            Err(_) => Err(ReadError::Behind { applied: *self.applied.borrow(), wanted: index }),
        }
    }
}
