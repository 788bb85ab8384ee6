//! The replicated state, and changes to it.

use std::net::SocketAddr;
use std::time::Instant;

use twinkeep_core::command::Proposal;
use twinkeep_core::id::NodeId;
use twinkeep_core::outcome::Outcome;
use twinkeep_core::state::{Fault, Read, RowMark};

/// The replicated state as this node has applied it, and the way to change it.
///
/// # What an implementation must do
/// - Show a change in [`ControlPlane::view`] before [`ControlPlane::applied_index`] and
///   [`ControlPlane::changed_at`] tell of it, and let both tell of it before the change is reported to
///   anybody. Caches rest on this order.
/// - Return from [`ControlPlane::propose`] only when the outcome is committed and applied at the leader,
///   or say that it does not know.
///
/// # What a caller may rely on
/// - Calls are independent and may run concurrently.
/// - Dropping the future of `propose` gives up the answer, not the change.
#[async_trait::async_trait]
pub trait ControlPlane: Send + Sync {
    /// Returns a view of one point in time, at least as new as `applied_index` said before the call.
    fn view(&self) -> Box<dyn Read + Send + '_>;

    /// Returns the index of the last log entry that this node has applied.
    fn applied_index(&self) -> u64;

    /// Returns a number that moves whenever the row changes. The default moves with every applied entry,
    /// which is right and costs re-reading.
    fn changed_at(&self, row: RowMark) -> u64 {
        let _ = row;
        self.applied_index()
    }

    /// Returns the leader, if this node knows one that serves callers.
    fn leader(&self) -> Option<Leader>;

    /// Waits until this node has applied the index.
    ///
    /// # Errors
    /// [`ControlError::Lagging`] when it has not by the deadline.
    async fn wait_applied(&self, index: u64, deadline: Instant) -> Result<(), ControlError>;

    /// Signs a change, brings it to the leader and waits for what comes of it.
    ///
    /// # Errors
    /// [`ControlError::NoLeader`], [`ControlError::Sealed`] and [`ControlError::Busy`] when nothing was
    /// proposed; [`ControlError::Unknown`] when the change may or may not be made.
    async fn propose(
        &self,
        proposal: Proposal,
        deadline: Instant,
    ) -> Result<Committed, ControlError>;
}

/// What came of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The outcome, the same on every node.
    pub outcome: Outcome,
    /// The log entry that holds it.
    pub index: u64,
}

/// Who takes changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leader {
    /// The node.
    pub node: NodeId,
    /// Where callers reach it.
    pub address: SocketAddr,
}

/// Why there is no outcome.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Nobody takes changes now. Nothing was proposed.
    #[error("no leader takes changes now; nothing was changed, send the call again")]
    NoLeader,
    /// The change was proposed and no outcome came back in time.
    #[error(
        "the change may or may not have been made; send the call again, with the same idempotency token \
         where the call takes one"
    )]
    Unknown,
    /// The node holds no key to sign with. Nothing was proposed.
    #[error("this node is sealed; unseal it or call another node")]
    Sealed,
    /// As many changes wait as may wait. Nothing was proposed.
    #[error("{waiting} changes wait already; nothing was changed, send the call again later")]
    Busy {
        /// How many wait.
        waiting: usize,
    },
    /// The node has not applied what the call asks for.
    #[error(
        "this node has applied index {applied} and the call asks for {wanted}; call again or call another \
         node"
    )]
    Lagging {
        /// The index asked for.
        wanted: u64,
        /// The index applied.
        applied: u64,
    },
    /// The node is shutting down. Nothing was proposed.
    #[error("this node is shutting down; call another node")]
    Stopping,
    /// The state store failed.
    #[error(transparent)]
    Fault(#[from] Fault),
}
