//! A node of the Raft group: the narrow handle that everything above uses.
//!
//! The rest of the product sees batches that are proposed, indexes that are applied, and a status;
//! it sees nothing of openraft. What later promises need has its place here: acknowledgement by zone
//! goes between `client_write` and the answer in [`propose`], leases ride in the peer header, and the
//! boot handshake comes between [`Node::open`] and [`Node::run`].

mod clock;
mod drain;
mod fatal;
mod follow;
mod open;
mod propose;
mod read;
mod status;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use twinkeep_core::clock::Clock;
use twinkeep_core::command::SignatureVerifier;
use twinkeep_core::topology::NodeRole;
use twinkeep_proto::peer::v1::peer_service_server::{PeerService, PeerServiceServer};
use twinkeep_storage::StateDb;

pub use drain::StillLeads;
pub use fatal::Fatal;
pub use follow::{InitializeError, NotFollowed};
pub use open::{OpenError, Parts};
pub(crate) use propose::answer as answer_proposal;
pub use propose::{ProposeError, Proposed};
pub use read::ReadError;
pub use status::{Member, Part, Status};

use crate::changes::Changes;
use crate::config::Config;
use crate::observe::observe;
use crate::roster::Roster;
use crate::signing::CommandSigner;
use crate::snapshot::Snapshots;
use crate::state_machine::Raft;
use crate::transport::{Links, Me, Peer, PeerServer, Wire};
use crate::witness::Refusals;

/// How long the leader works on a batch that a peer forwarded; the peer's own deadline is shorter.
pub(crate) const FORWARDED_PROPOSAL_TIMEOUT: Duration = Duration::from_secs(30);

/// A node of the group. Clones share it.
#[derive(Clone)]
pub struct Node {
    shared: Arc<Shared>,
    wire: Arc<dyn Wire>,
    /// What runs beside Raft.
    tasks: Arc<Mutex<JoinSet<()>>>,
}

/// What the parts of a node share.
pub(crate) struct Shared {
    pub(crate) me: Me,
    pub(crate) role: NodeRole,
    pub(crate) config: Config,
    pub(crate) raft: Raft,
    pub(crate) state: Arc<StateDb>,
    pub(crate) snapshots: Arc<Snapshots>,
    pub(crate) roster: Arc<Roster>,
    pub(crate) links: Arc<Links>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) signer: Arc<dyn CommandSigner>,
    pub(crate) verifier: Arc<dyn SignatureVerifier>,
    pub(crate) refusals: Arc<Refusals>,
    /// The last applied entry; closes when the state machine is gone.
    applied: watch::Receiver<Option<u64>>,
    changes: Arc<Changes>,
    stamp: clock::Stamp,
    heard: Mutex<Option<(u64, Instant)>>,
    draining: AtomicBool,
}

impl Shared {
    /// Notes that a node speaks as leader.
    pub(crate) fn note_leader(&self, node: u64) {
        *self.heard.lock() = Some((node, Instant::now()));
    }

    /// Returns the leader that this node follows now, itself included.
    ///
    /// openraft goes on naming a leader that has died, so the last time that it was heard counts.
    pub(crate) fn leader(&self) -> Option<u64> {
        let leader = observe(&self.raft, |metrics| metrics.current_leader)?;
        let heard = *self.heard.lock();
        let is_heard = heard.is_some_and(|(node, at)| {
            node == leader && at.elapsed() <= 2 * self.config.election_max
        });
        (leader == self.me.node.get() || is_heard).then_some(leader)
    }

    /// Returns the index of the last applied entry.
    pub(crate) fn applied_index(&self) -> Option<u64> {
        *self.applied.borrow()
    }

    fn peer(&self, node: u64) -> Arc<Peer> {
        self.links.peer(node, None)
    }

    fn draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }
}

impl Node {
    /// Begins to take part: elections, replication, and the tasks that this node's role asks for.
    ///
    /// Serve [`Node::peer_service`] before: a node that is silent to its peers delays them.
    pub fn run(&self) {
        self.shared.raft.run();
        self.spawn_tasks();
    }

    /// Returns the service for the peer port.
    #[must_use]
    pub fn peer_service(&self) -> PeerServiceServer<impl PeerService> {
        PeerServer::service(Arc::clone(&self.wire), Arc::clone(&self.shared))
    }

    /// Proposes a signed batch through whichever node leads, and returns the outcomes once they are
    /// applied there.
    ///
    /// # Errors
    /// [`ProposeError`]; only [`ProposeError::Timeout`] leaves open whether the batch took effect.
    pub async fn propose(&self, batch: Bytes, deadline: Instant) -> Result<Proposed, ProposeError> {
        self.shared.propose(batch, deadline).await
    }

    /// Returns an index that covers every write acknowledged before this call, at whichever node.
    ///
    /// # Errors
    /// [`ReadError::NoLeader`] when no leader confirmed in time that it leads.
    pub async fn read_index(&self, deadline: Instant) -> Result<u64, ReadError> {
        self.shared.read_index(deadline).await
    }

    /// Waits until this node has applied `index`.
    ///
    /// # Errors
    /// [`ReadError::Behind`] after the deadline, [`ReadError::Stopped`] when it never will.
    pub async fn wait_applied(&self, index: u64, deadline: Instant) -> Result<(), ReadError> {
        self.shared.wait_applied(index, deadline).await
    }

    /// Watches the index of the last applied entry; closed when this node has stopped applying.
    #[must_use]
    pub fn applied(&self) -> watch::Receiver<Option<u64>> {
        self.shared.applied.clone()
    }

    /// Returns the index of the newest entry that this node has applied.
    #[must_use]
    pub fn applied_index(&self) -> Option<u64> {
        self.shared.applied_index()
    }

    /// Returns which rows of the state have changed.
    #[must_use]
    pub fn changes(&self) -> &Changes {
        &self.shared.changes
    }

    /// Returns the leader that this node follows now, itself included.
    #[must_use]
    pub fn leader(&self) -> Option<u64> {
        self.shared.leader()
    }

    /// Returns this node's id.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.shared.me.node.get()
    }

    /// Returns how the group stands, as this node sees it.
    #[must_use]
    pub fn status(&self) -> Status {
        self.shared.status()
    }

    /// Returns the nodes that signed commands have recorded.
    #[must_use]
    pub fn roster(&self) -> &Arc<Roster> {
        &self.shared.roster
    }

    /// Takes no more proposals and hands over the lead, if this node has it.
    ///
    /// # Errors
    /// [`StillLeads`] when nobody took over before the deadline; the node may be stopped all the
    /// same, at the price of an election.
    pub async fn drain(&self, deadline: Instant) -> Result<(), StillLeads> {
        self.shared.drain(deadline).await
    }

    /// Stops Raft and what runs beside it. The databases are closed when the last handle and the last
    /// connection to the peer service are gone.
    pub async fn shutdown(&self) {
        if let Err(error) = self.shared.raft.shutdown().await {
            tracing::warn!(%error, "raft did not stop as it should");
        }
        let mut tasks = std::mem::take(&mut *self.tasks.lock());
        tasks.shutdown().await;
    }
}
