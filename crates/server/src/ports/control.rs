//! The replicated state and changes to it, over Raft.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use twinkeep_api::ports::{
    Committed, ControlError, ControlPlane, Freshness, Laggard, Leader, Reached, ReplicationStatus,
};
use twinkeep_core::command::Proposal;
use twinkeep_core::id::NodeId;
use twinkeep_core::state::{Fault, Read, RowMark};
use twinkeep_core::topology::NodeRole;
use twinkeep_raft::{Decided, Node, ProposalQueue, ProposeError, QueueError, WAITING_MAX};
use twinkeep_storage::StateDb;

/// The control plane of a data node.
pub(crate) struct Control {
    node: Node,
    queue: ProposalQueue,
    state: Arc<StateDb>,
    stopping: AtomicBool,
}

impl Control {
    /// Takes the node and the queue that its changes go through.
    pub(crate) fn new(node: Node, queue: ProposalQueue, state: Arc<StateDb>) -> Self {
        Self { node, queue, state, stopping: AtomicBool::new(false) }
    }

    /// Refuses changes from now on: the process is about to end.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Returns the queue of this node's changes.
    pub(crate) fn queue(&self) -> &ProposalQueue {
        &self.queue
    }

    /// Returns the node below.
    pub(crate) fn node(&self) -> &Node {
        &self.node
    }
}

#[tonic::async_trait]
impl ControlPlane for Control {
    fn view(&self) -> Box<dyn Read + Send + '_> {
        Box::new(self.state.latest())
    }

    fn applied_index(&self) -> u64 {
        self.node.applied_index().unwrap_or(0)
    }

    fn changed_at(&self, row: RowMark) -> u64 {
        self.node.changes().at(row)
    }

    fn usable_up_to(&self) -> u64 {
        self.node.replication().usable_up_to()
    }

    fn replication(&self) -> Option<ReplicationStatus> {
        let applied = self.node.replication().applied();
        let applied = applied.borrow();
        applied.has_modes.then(|| ReplicationStatus {
            mode: applied.mode.clone(),
            since_ms: applied.since_ms,
            revision: applied.revision.map_or(0, |revision| revision.get()),
            zone_complete_until_ms: self.node.sync_lease().map(|lease| lease.until_unix_ms),
        })
    }

    fn freshness(&self) -> Freshness {
        match self.node.freshness() {
            twinkeep_raft::Freshness::Fresh => Freshness::Fresh,
            twinkeep_raft::Freshness::Stale { age } => Freshness::Stale { age },
        }
    }

    async fn everywhere(
        &self,
        index: u64,
        deadline: Instant,
    ) -> Result<Vec<Laggard>, ControlError> {
        let laggards = self.node.everywhere(index, deadline.into()).await;
        let laggards = laggards.map_err(|_| ControlError::Unknown)?;
        let laggard = |laggard: twinkeep_raft::Laggard| Laggard {
            node: laggard.node,
            lease_left_ms: laggard.lease_left_ms,
        };
        Ok(laggards.into_iter().map(laggard).collect())
    }

    async fn acknowledged(&self, deadline: Instant) -> Result<Reached, ControlError> {
        let (index, durability) =
            self.node.acknowledged(deadline.into()).await.map_err(|_| ControlError::Unknown)?;
        Ok(Reached { index, durability })
    }

    fn leader(&self) -> Option<Leader> {
        let node = NodeId::new(self.node.leader()?).ok()?;
        let record = self.node.roster().living(node.get())?;
        // A witness that leads for a moment serves nobody.
        let serves = record.role == NodeRole::Data;
        serves.then_some(Leader { node, address: record.placement.client_address })
    }

    async fn wait_applied(&self, index: u64, deadline: Instant) -> Result<(), ControlError> {
        let waited = self.node.wait_applied(index, deadline.into()).await;
        waited.map_err(|_| ControlError::Lagging { wanted: index, applied: self.applied_index() })
    }

    async fn propose(
        &self,
        proposal: Proposal,
        deadline: Instant,
    ) -> Result<Committed, ControlError> {
        if self.stopping.load(Ordering::Relaxed) {
            return Err(ControlError::Stopping);
        }
        match self.queue.propose(proposal, deadline.into()).await {
            Ok(Decided { outcome, index, durability }) => {
                Ok(Committed { outcome, reached: Reached { index, durability } })
            }
            Err(error) => Err(control_error(error)),
        }
    }
}

fn control_error(error: QueueError) -> ControlError {
    match error {
        QueueError::Sealed => ControlError::Sealed,
        QueueError::Busy => ControlError::Busy { waiting: WAITING_MAX },
        QueueError::Propose(ProposeError::NotLeader { .. } | ProposeError::NoLeader) => {
            ControlError::NoLeader
        }
        QueueError::Propose(ProposeError::Timeout) => ControlError::Unknown,
        // Sizes are checked before and batches are ours: the cluster refusing one is our bug.
        error @ (QueueError::TooLarge { .. } | QueueError::Propose(ProposeError::Refused(_))) => {
            Fault::caused("a command of this node was refused", error).into()
        }
    }
}
