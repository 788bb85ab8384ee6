//! A node of the Raft group: the narrow handle that everything above uses.
//!
//! The rest of the product sees batches that are proposed, indexes that are applied, and a status;
//! it sees nothing of openraft. Between `client_write` and the answer in [`propose`] stands the gate of the
//! zones, [`zone_gate`].

mod clock;
mod drain;
mod everywhere;
mod fatal;
mod follow;
mod leadership;
mod open;
mod propose;
mod read;
mod status;
mod zone_gate;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use twinkeep_core::clock::Clock;
use twinkeep_core::command::SignatureVerifier;
use twinkeep_core::name::ZoneName;
use twinkeep_core::replication::Durability;
use twinkeep_core::topology::NodeRole;
use twinkeep_proto::peer::v1 as pb;
use twinkeep_proto::peer::v1::peer_service_server::{PeerService, PeerServiceServer};
use twinkeep_storage::{LogDb, StateDb};

pub use drain::StillLeads;
pub use everywhere::{Laggard, NotEverywhere};
pub use fatal::Fatal;
pub use follow::{InitializeError, NotFollowed};
pub use open::{OpenError, Parts};
pub(crate) use propose::answer as answer_proposal;
pub use propose::{ProposeError, Proposed};
pub use read::ReadError;
pub use status::{Member, Part, Read, Status};
pub(crate) use zone_gate::{Reached, Ungated};

use crate::boot::Boot;
use crate::changes::Changes;
use crate::config::Config;
use crate::freshness::{self, Freshness, Granted};
use crate::lease::{Lease, Leases};
use crate::observe::observe;
use crate::rebirth::End;
use crate::replication::Replication;
use crate::roster::Roster;
use crate::signing::CommandSigner;
use crate::snapshot::Snapshots;
use crate::state_machine::Raft;
use crate::transport::{Links, Me, Peer, PeerServer, Wire, membership_out};
use crate::witness::Refusals;

/// How long the leader works on a batch that a peer forwarded; the peer's own deadline is shorter.
pub(crate) const FORWARDED_PROPOSAL_TIMEOUT: Duration = Duration::from_secs(30);
/// How often a node that waits for its leader's answer looks whether that still leads.
const LEADER_LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// How long the answer of a leader is waited for that does not lead any more: it says what became of a proposal
/// once it hears from the next one.
const DEPOSED_PATIENCE: Duration = Duration::from_millis(100);

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
    pub(crate) boot: Arc<Boot>,
    /// The last applied entry; closes when the state machine is gone.
    applied: watch::Receiver<Option<u64>>,
    changes: Arc<Changes>,
    replication: Arc<Replication>,
    gate: zone_gate::Gate,
    pub(crate) leases: Leases,
    fresh: freshness::Lease,
    granted: Granted,
    /// The log, as the node writes down what is not Raft's.
    disk: Arc<LogDb>,
    pub(crate) opened: Instant,
    stamp: clock::Stamp,
    heard: Mutex<Option<(u64, Instant)>>,
    draining: AtomicBool,
    /// Whether this node leaves elections to others, since its zone is drained.
    stands_back: AtomicBool,
    /// Held while it is decided whether this node stands for election.
    allowing: Mutex<()>,
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
        self.leader_heard_within(2 * self.config.election_max)
    }

    /// Returns the leader to ask for something: one that was silent for as long as its election lease lasts would
    /// not answer, and soon is not the leader.
    fn answering_leader(&self) -> Option<u64> {
        self.leader_heard_within(self.config.election_max)
    }

    fn leader_heard_within(&self, silence_max: Duration) -> Option<u64> {
        let leader = observe(&self.raft, |metrics| metrics.current_leader)?;
        let heard = *self.heard.lock();
        let is_heard =
            heard.is_some_and(|(node, at)| node == leader && at.elapsed() <= silence_max);
        (leader == self.me.node.get() || is_heard).then_some(leader)
    }

    /// Asks the leader for something, for as long as this node follows it and a while longer: a leader that was
    /// deposed, or stopped with its connections open, may never answer. `None` when the deadline passes or that
    /// while is over.
    async fn ask_leader<T>(
        &self,
        leader: u64,
        deadline: Instant,
        answer: impl Future<Output = T>,
    ) -> Option<T> {
        let left_behind = async {
            while self.answering_leader() == Some(leader) {
                sleep(LEADER_LOOK_INTERVAL).await;
            }
            sleep(DEPOSED_PATIENCE).await;
        };
        tokio::select! {
            biased;
            answer = answer => Some(answer),
            () = sleep_until(deadline) => None,
            () = left_behind => None,
        }
    }

    /// Returns the index of the last applied entry.
    pub(crate) fn applied_index(&self) -> Option<u64> {
        *self.applied.borrow()
    }

    /// Tells whether the cluster is at a version with the boot handshake, as far as this node has applied.
    pub(crate) fn has_handshake(&self) -> bool {
        self.replication.applied().borrow().has_handshake
    }

    /// Tells whether a node that starts needs company ([`crate::boot`]).
    pub(crate) fn needs_company(&self) -> bool {
        self.replication.applied().borrow().needs_company && !cfg!(twinkeep_break = "company")
    }

    /// Returns the membership that counts at this node, as it travels.
    pub(crate) fn counting_membership(&self) -> (Bytes, Option<pb::LogId>) {
        observe(&self.raft, |metrics| membership_out(&metrics.membership_config))
    }

    fn peer(&self, node: u64) -> Arc<Peer> {
        self.links.peer(node, None)
    }

    fn draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
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

    /// Returns the replication mode and the marker of durability, as this node has applied them.
    #[must_use]
    pub fn replication(&self) -> &Replication {
        &self.shared.replication
    }

    /// Returns how long this node has been open.
    #[must_use]
    pub fn running_for(&self) -> Duration {
        self.shared.opened.elapsed()
    }

    /// Tells how old the state of this node may be.
    #[must_use]
    pub fn freshness(&self) -> Freshness {
        let length = self.shared.replication.freshness_lease();
        self.shared.fresh.freshness(length, &*self.shared.clock)
    }

    /// Waits until every node that may use keys has applied an entry, or may use none by an older state any
    /// more, and returns those that are not known to have applied it. Ends before the deadline with what is
    /// known then.
    ///
    /// # Errors
    /// [`NotEverywhere`] when no leader answers.
    pub async fn everywhere(
        &self,
        index: u64,
        deadline: Instant,
    ) -> Result<Vec<Laggard>, NotEverywhere> {
        self.shared.everywhere(index, deadline).await
    }

    /// Returns until when this node's zone is known to hold every acknowledged change, from leases or, until it
    /// has heard of one, from what an earlier life has written down.
    #[must_use]
    pub fn sync_lease(&self) -> Option<Lease> {
        self.shared.leases.holder.held()
    }

    /// Waits until the newest entry that this node has applied may be acknowledged. Returns the entry that
    /// shows it and what was reached; `None` for that in a cluster that has no replication modes.
    ///
    /// # Errors
    /// [`ProposeError::Timeout`] when no leader said so before the deadline.
    pub async fn acknowledged(
        &self,
        deadline: Instant,
    ) -> Result<(u64, Option<Durability>), ProposeError> {
        let index = self.applied_index().unwrap_or(0);
        let reached = self.shared.acknowledge(index, true, deadline).await;
        reached
            .map(|reached| (reached.index, reached.durability))
            .map_err(|_| ProposeError::Timeout)
    }

    /// Returns the leader that this node follows now, itself included.
    #[must_use]
    pub fn leader(&self) -> Option<u64> {
        self.shared.leader()
    }

    /// Tells whether this node takes part in votes and acknowledgements: it has finished its boot handshake.
    #[must_use]
    pub fn takes_part(&self) -> bool {
        self.shared.boot.takes_part()
    }

    /// Lets this node take part, until it starts again, though it has met nobody who would know of a recovery: an
    /// operator says that there was none without this node.
    pub fn go_alone(&self) {
        self.shared.boot.go_alone();
        tracing::warn!("an operator lets this node take part without company");
    }

    /// Returns where this node's disk ends: its last vote and its last entry.
    ///
    /// # Errors
    /// [`std::io::Error`] when the log cannot be read.
    pub fn end(&self) -> std::io::Result<Option<End>> {
        Ok(End::of(&self.shared.boot.shown()?))
    }

    /// Returns the voting data nodes outside a zone that could lead: unsealed, and heard from within the last
    /// two seconds.
    #[must_use]
    pub fn fit_to_lead(&self, outside: &ZoneName) -> Vec<u64> {
        self.shared.fit_to_lead(outside)
    }

    /// Returns this node's id.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.shared.me.node.get()
    }

    /// Returns the timing and the limits that this node runs with.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.shared.config
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
