//! This node, the other nodes, membership, sealing.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use twinkeep_core::admission::Approval;
use twinkeep_core::clock::UnixMs;
use twinkeep_core::id::NodeId;
use twinkeep_core::name::{CallerName, ZoneName};
use twinkeep_core::outcome::Refusal;
use twinkeep_core::recovery::LastEntry;
use twinkeep_core::topology::NodeRole;
use zeroize::Zeroizing;

use super::{Committed, ControlError, Reached};

/// What a node knows of itself and the others, and what changes them.
#[async_trait::async_trait]
pub trait ClusterControl: Send + Sync {
    /// Returns how this node is.
    fn status(&self) -> NodeStatus;

    /// Returns what this node knows of each other node's health. Nodes that it does not list are unknown.
    fn peers(&self) -> BTreeMap<NodeId, PeerHealth>;

    /// Says what this node knows of its machine and its peers.
    fn diagnose(&self) -> Diagnosis;

    /// Returns where calls can be sent, and tells of every change.
    fn topology(&self) -> watch::Receiver<Topology>;

    /// Lets the node with the public key of a signing request join, and certifies that key.
    ///
    /// Checks the approvals before it proposes anything, as every node will when it applies the admission.
    ///
    /// # Errors
    /// [`ClusterError::BadRequest`] for a request that is none, and as [`ClusterControl::promote`].
    async fn admit(
        &self,
        actor: &CallerName,
        node: Admit,
        deadline: Instant,
    ) -> Result<Admitted, ClusterError>;

    /// Gives learners their votes, once they have caught up: the standing in the replicated state and the
    /// membership of the log.
    ///
    /// # Errors
    /// [`ClusterError`].
    async fn promote(
        &self,
        actor: &CallerName,
        nodes: &[NodeId],
        deadline: Instant,
    ) -> Result<Committed, ClusterError>;

    /// Takes a node out for ever.
    ///
    /// # Errors
    /// [`ClusterError`].
    async fn remove(
        &self,
        actor: &CallerName,
        node: NodeId,
        deadline: Instant,
    ) -> Result<Committed, ClusterError>;

    /// Says which zone shall lead, and which shall not. What is so already is a success too. After a drain, waits
    /// until the lead is elsewhere, or until the deadline.
    ///
    /// # Errors
    /// [`ClusterError::NoSuccessor`] and [`ClusterError::NotDrained`], and as [`ClusterControl::promote`].
    async fn change_leadership(
        &self,
        actor: &CallerName,
        change: LeadershipChange,
        deadline: Instant,
    ) -> Result<Lead, ClusterError>;

    /// Takes one share of the unseal key, or the passphrase; unseals when that suffices.
    ///
    /// # Errors
    /// [`ClusterError::BadUnsealSecret`] and [`ClusterError::NoSuchSeal`] for what the caller gave.
    async fn unseal(&self, secret: UnsealSecret) -> Result<UnsealProgress, ClusterError>;

    /// Forgets the shares that were given so far.
    fn forget_shares(&self) -> UnsealProgress;

    /// Forgets every key. When it returns, no open key is left in the node's own memory but those that
    /// running calls hold.
    async fn seal(&self) -> Result<(), ClusterError>;
}

/// A node that shall be let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admit {
    /// Its signing request, PEM.
    pub csr_pem: String,
    /// What it is for.
    pub role: NodeRole,
    /// Where it has to stand.
    pub zone: ZoneName,
    /// Until when the admission holds.
    pub expires_ms: UnixMs,
    /// The operators' signatures over exactly this.
    pub approvals: Vec<Approval>,
}

/// A node that may join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admitted {
    /// The id that it was given.
    pub node: NodeId,
    /// When the admission lapses, milliseconds since the Unix epoch.
    pub expires_ms: u64,
    /// What the node needs to knock at its peers, TOML.
    pub pass: String,
    /// What the admission has reached.
    pub reached: Reached,
}

/// What unseals. Wiped on drop; printed by its kind alone.
pub enum UnsealSecret {
    /// One share, as text: `tkshare1…`.
    Share(Zeroizing<String>),
    /// The passphrase of a development cluster.
    Passphrase(Zeroizing<String>),
}

impl std::fmt::Debug for UnsealSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Share(_) => "Share(…)",
            Self::Passphrase(_) => "Passphrase(…)",
        })
    }
}

/// How far unsealing has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnsealProgress {
    /// Whether the node is still sealed.
    pub sealed: bool,
    /// How many shares it holds.
    pub shares_given: u32,
    /// How many it needs.
    pub shares_needed: u32,
}

/// How a node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeStatus {
    /// The node.
    pub node: NodeId,
    /// The leader that it knows, serving callers or not.
    pub leader: Option<NodeId>,
    /// Its term.
    pub term: u64,
    /// The last index in its log.
    pub last_log_index: u64,
    /// The last index that it knows to be committed.
    pub committed_index: u64,
    /// Whether it is sealed.
    pub sealed: bool,
    /// The version of the program.
    pub software_version: &'static str,
}

/// How another node is, as seen from this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerHealth {
    /// Whether it was heard from within the last second.
    pub reachable: bool,
    /// The last index known to be stored there; known to the leader alone.
    pub matched_index: Option<u64>,
}

/// What a node knows of its machine and its peers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnosis {
    /// Its wall clock.
    pub unix_ms: UnixMs,
    /// Whether it runs on a hypervisor that may pause it without its clocks knowing.
    pub virtual_machine: bool,
    /// How often a leader shows that it lives.
    pub heartbeat: Duration,
    /// The shortest wait for an election.
    pub election_min: Duration,
    /// The longest wait for an election.
    pub election_max: Duration,
    /// How many syncs of the log the next field is about.
    pub log_syncs: usize,
    /// The time that 99 of 100 of them took at most.
    pub log_sync_p99: Duration,
    /// Size and free room of the file system under its data, in bytes.
    pub disk: Option<(u64, u64)>,
    /// What it has heard of the other members.
    pub peers: Vec<PeerDiagnosis>,
    /// Its own certificates.
    pub certificates: Vec<Certificate>,
    /// The last entry of its log; `None` while that is empty.
    pub log_end: Option<LastEntry>,
    /// Whether it takes part in votes and acknowledgements.
    pub takes_part: bool,
    /// Its public key, a DER-encoded `SubjectPublicKeyInfo`.
    pub public_key: Vec<u8>,
}

/// What a node has heard of another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerDiagnosis {
    /// The other one.
    pub node: NodeId,
    /// Time since it was last heard.
    pub read_ago: Duration,
    /// How long question and answer took then.
    pub round_trip: Duration,
    /// How far its wall clock was ahead, in milliseconds.
    pub clock_ahead_ms: i64,
    /// Whether it was sealed.
    pub sealed: bool,
    /// The version of its program.
    pub software_version: String,
}

/// When a certificate ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Certificate {
    /// Whose it is.
    pub kind: &'static str,
    /// Last second of its validity, unix seconds.
    pub not_after_unix: u64,
}

/// Where calls can be sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Topology {
    /// The data nodes.
    pub endpoints: Vec<TopologyEndpoint>,
    /// The leader.
    pub leader: Option<NodeId>,
}

/// One data node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopologyEndpoint {
    /// The node.
    pub node: NodeId,
    /// Its zone.
    pub zone: ZoneName,
    /// Where callers reach it.
    pub address: SocketAddr,
    /// Whether it was heard from within the last second.
    pub reachable: bool,
    /// Whether its zone is drained: callers had better call others first.
    pub draining: bool,
}

/// A change of which zone shall lead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeadershipChange {
    /// No node of the zone leads as long as others can.
    Drain(ZoneName),
    /// The zone may lead again.
    Undrain(ZoneName),
    /// The lead is kept in the zone; `None` for no zone in particular.
    Prefer(Option<ZoneName>),
}

/// Where the lead is after a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lead {
    /// The leader that this node knows.
    pub leader: Option<NodeId>,
    /// Whether the lead is where the change allows it to be.
    pub moved: bool,
    /// What the change has reached.
    pub reached: Reached,
}

/// Why the cluster was not changed.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The replicated state refused it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// There was no outcome.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The node is no voter yet: sealed, not reachable, or behind.
    #[error("node {node} cannot become a voter now: {why}")]
    NotReady {
        /// The learner.
        node: NodeId,
        /// What it lacks.
        why: String,
    },
    /// Nobody outside the zone could take over the lead.
    #[error(
        "zone {0} cannot be drained now: no data node of another zone answers and is unsealed, so nobody could take \
         over; `twinkeep zone list` shows who is missing"
    )]
    NoSuccessor(ZoneName),
    /// Another zone is drained.
    #[error(
        "zone {zone} is not drained: {drained} is, and is taken back with `twinkeep zone undrain {drained}`"
    )]
    NotDrained {
        /// The asked one.
        zone: ZoneName,
        /// The drained one.
        drained: ZoneName,
    },
    /// The signing request is not one, or its key is not of a kind that is certified.
    #[error("csr_pem: {0}")]
    BadRequest(String),
    /// The share or the passphrase is not of this cluster, damaged, or given already.
    #[error("{0}")]
    BadUnsealSecret(String),
    /// The cluster has no seal of this kind.
    #[error("the cluster has no seal that opens by {what}")]
    NoSuchSeal {
        /// `a share` or `a passphrase`.
        what: &'static str,
    },
    /// The node or a library failed.
    #[error("the node failed")]
    Failed(#[source] Box<dyn std::error::Error + Send + Sync>),
}
