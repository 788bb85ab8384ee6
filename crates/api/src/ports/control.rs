//! The replicated state, and changes to it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use twinkeep_core::clock::UnixMs;
use twinkeep_core::command::Proposal;
use twinkeep_core::id::NodeId;
use twinkeep_core::outcome::Outcome;
use twinkeep_core::replication::{Durability, Mode};
use twinkeep_core::state::{Fault, Read, RowMark};

/// The replicated state as this node has applied it, and the way to change it.
///
/// # What an implementation must do
/// - Show a change in [`ControlPlane::view`] before [`ControlPlane::applied_index`] and
///   [`ControlPlane::changed_at`] tell of it, and let both tell of it before the change is reported to
///   anybody. Caches rest on this order.
/// - Return from [`ControlPlane::propose`] only when the outcome is committed, applied at the leader and as
///   durable as the replication mode asks for, or say that it does not know.
/// - Never let [`ControlPlane::usable_up_to`] run ahead of the view.
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

    /// Returns the index up to which created key versions may be used: later ones are not known to be durable
    /// in every zone.
    fn usable_up_to(&self) -> u64;

    /// Returns the replication mode as this node has applied it; `None` in a cluster that has none.
    fn replication(&self) -> Option<ReplicationStatus>;

    /// Tells how old this node's state may be. Called for each use of a key, after the result is there.
    fn freshness(&self) -> Freshness;

    /// Waits until every node that may use keys has applied an entry, or may use none by an older state any
    /// more, and returns those that are not known to have applied it. Ends before the deadline with what is
    /// known then.
    ///
    /// # Errors
    /// [`ControlError::Unknown`] when no leader answers.
    async fn everywhere(&self, index: u64, deadline: Instant)
    -> Result<Vec<Laggard>, ControlError>;

    /// Waits until everything that this node has applied may be acknowledged.
    ///
    /// # Errors
    /// [`ControlError::Unknown`] when no leader says so by the deadline.
    async fn acknowledged(&self, deadline: Instant) -> Result<Reached, ControlError>;

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
    /// What the change has reached.
    pub reached: Reached,
}

/// How far an acknowledged change reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reached {
    /// A node that has applied this log entry shows the change, and lets new key versions be used.
    pub index: u64,
    /// Where the change is on disk; `None` in a cluster that promises a majority and no more.
    pub durability: Option<Durability>,
}

/// How old a node's state may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// As new as a freshness lease allows.
    Fresh,
    /// Older: the lease is over.
    Stale {
        /// Time since the state was last known to be new; `None` on a node that never knew.
        age: Option<Duration>,
    },
}

/// A node that is not known to have applied a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Laggard {
    /// The node.
    pub node: NodeId,
    /// Time until its freshness lease is surely over, in milliseconds; below zero: time since then.
    pub lease_left_ms: i64,
}

/// What the cluster promises of changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicationStatus {
    /// The mode.
    pub mode: Mode,
    /// Since when, by the replicated clock; 0 before the first change.
    pub since_ms: UnixMs,
    /// Counts changes of the mode; 0 before the first.
    pub revision: u64,
    /// Until when this node's zone is known to hold every acknowledged change, by this node's clock.
    pub zone_complete_until_ms: Option<UnixMs>,
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
