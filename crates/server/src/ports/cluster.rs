//! This node and the others: status, admission, membership, sealing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::interval;
use tokio_util::sync::CancellationToken;
use twinkeep_api::ports::{
    Admit, Admitted, ClusterControl, ClusterError, Committed, ControlError, ControlPlane,
    Diagnosis, IssueError, Lead, LeadershipChange, NodeStatus, PeerHealth, Reached, Topology,
    TopologyEndpoint, UnsealProgress, UnsealSecret,
};
use twinkeep_core::apply::now_ms;
use twinkeep_core::clock::Clock;
use twinkeep_core::command::{Command, Proposal, StandingChange};
use twinkeep_core::id::NodeId;
use twinkeep_core::name::CallerName;
use twinkeep_core::outcome::{Applied, Outcome, Refusal};
use twinkeep_core::record::{ClusterRecord, NodeRecord, Record};
use twinkeep_core::topology::{NodeRole, Standing};
use twinkeep_keyring::CommandVerifier;
use twinkeep_pki::pem;
use twinkeep_raft::Node;
use twinkeep_storage::StateDb;

use super::control::Control;
use super::diagnosis::Diagnostics;
use super::issuer::{Issuer, requested_key};
use super::unseal::Unsealer;
use crate::identity::{Identity, Pass, PinnedPeer};
use crate::node::possession::Possession;

/// Silence after which a peer counts as not reachable.
const SILENT_MAX: Duration = Duration::from_secs(1);
/// How often the topology is looked at.
const TOPOLOGY_INTERVAL: Duration = Duration::from_millis(200);

/// Membership and sealing of a data node.
pub(crate) struct Cluster {
    pub(crate) me: NodeId,
    pub(crate) identity: Identity,
    pub(crate) control: Arc<Control>,
    pub(crate) state: Arc<StateDb>,
    pub(crate) issuer: Arc<Issuer>,
    pub(crate) unsealer: Arc<Unsealer>,
    pub(crate) possession: Possession,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) topology: watch::Receiver<Topology>,
    pub(crate) diagnostics: Diagnostics,
}

impl Cluster {
    pub(super) fn node(&self) -> &Node {
        self.control.node()
    }

    async fn command(
        &self,
        actor: &CallerName,
        command: Command,
        deadline: Instant,
    ) -> Result<(Applied, Reached), ClusterError> {
        let proposal = Proposal { actor: Some(actor.clone()), token: None, command };
        let committed = self.control.propose(proposal, deadline).await?;
        match committed.outcome {
            Outcome::Applied(applied) => Ok((applied, committed.reached)),
            Outcome::Refused(refusal) => Err(refusal.into()),
        }
    }

    /// Changes how nodes count, and waits until the log's membership follows.
    async fn set_standings(
        &self,
        actor: &CallerName,
        nodes: &[NodeId],
        to: Standing,
        deadline: Instant,
    ) -> Result<Committed, ClusterError> {
        let changes = nodes.iter().map(|node| {
            let record = self.record(*node)?;
            Ok(StandingChange { node: *node, to, expected: record.revision })
        });
        let changes = changes.collect::<Result<_, ClusterError>>()?;
        let (applied, reached) =
            self.command(actor, Command::SetStandings { changes }, deadline).await?;
        if to == Standing::Removed && nodes.contains(&self.me) {
            // A node that is taken out hears no more of the others: it cannot see the end of it.
            return Ok(Committed { outcome: Outcome::Applied(applied), reached });
        }
        self.control.wait_applied(reached.index, deadline).await?;
        let followed = self.node().membership_followed(deadline.into()).await;
        followed.map_err(|_| ControlError::Unknown)?;
        Ok(Committed { outcome: Outcome::Applied(applied), reached })
    }

    fn record(&self, node: NodeId) -> Result<NodeRecord, ClusterError> {
        let record = NodeRecord::load(&self.state.latest(), &node).map_err(ControlError::Fault)?;
        record
            .filter(|record| record.standing != Standing::Removed)
            .ok_or(ClusterError::Refused(Refusal::NoNode(node)))
    }

    /// Refuses at once what every node would refuse when it applies the admission.
    fn check_approvals(&self, spki_sha256: [u8; 32], admit: &Admit) -> Result<(), ClusterError> {
        let view = self.state.latest();
        let cluster = ClusterRecord::load(&view, &()).map_err(ControlError::Fault)?;
        let cluster = cluster.ok_or(ControlError::NoLeader)?;
        let (role, zone) = (admit.role, admit.zone.clone());
        let order = cluster.admission_order(spki_sha256, role, zone, admit.expires_ms);
        // The replicated clock stands still while nobody changes anything, and is moved before the admission.
        let now_ms = now_ms(&view).map_err(ControlError::Fault)?.max(self.clock.unix_ms());
        Ok(order.check(&admit.approvals, &cluster, now_ms, &CommandVerifier)?)
    }

    /// Writes the pass of an admitted node.
    fn pass(&self, node: NodeId, admit: &Admit) -> Result<String, ClusterError> {
        let view = self.state.latest();
        let key = requested_key(&admit.csr_pem).map_err(request_error)?;
        let cluster = ClusterRecord::load(&view, &()).map_err(ControlError::Fault)?;
        let cluster = cluster.ok_or(ControlError::NoLeader)?;
        let members = NodeRecord::all(&view).map_err(ControlError::Fault)?;
        let members = members.into_iter().filter(|node| node.standing != Standing::Removed);
        let pass = Pass {
            identity: self.identity.of_joiner(node),
            certificate: self.issuer.certify_node(&view, &key, node).map_err(request_error)?,
            node_root: pem::certificates(&[cluster.roots.node.into()]),
            peers: members.map(|node| PinnedPeer::of(&node)).collect(),
        };
        pass.to_toml().map_err(|error| ClusterError::Failed(error.into()))
    }
}

fn request_error(error: IssueError) -> ClusterError {
    match error {
        IssueError::Sealed => ControlError::Sealed.into(),
        IssueError::BadRequest(why) => ClusterError::BadRequest(why),
        error => ClusterError::Failed(error.into()),
    }
}

#[tonic::async_trait]
impl ClusterControl for Cluster {
    fn status(&self) -> NodeStatus {
        let status = self.node().status();
        NodeStatus {
            node: self.me,
            leader: status.leader.and_then(|id| NodeId::new(id).ok()),
            term: status.term,
            last_log_index: status.last_index.unwrap_or(0),
            committed_index: status.committed_index.unwrap_or(0),
            sealed: self.unsealer.is_sealed(),
            software_version: env!("CARGO_PKG_VERSION"),
        }
    }

    fn peers(&self) -> BTreeMap<NodeId, PeerHealth> {
        let status = self.node().status();
        let leader = status.leader;
        let health = status.members.into_iter().filter_map(|member| {
            let node = NodeId::new(member.node).ok()?;
            // A follower hears its leader, and forgets it after an election timeout of silence.
            let heard = node == self.me || leader == Some(member.node);
            let silent_for = if heard { Some(Duration::ZERO) } else { member.silent_for };
            let reachable = silent_for? <= SILENT_MAX;
            Some((node, PeerHealth { reachable, matched_index: member.matched_index }))
        });
        health.collect()
    }

    fn diagnose(&self) -> Diagnosis {
        self.diagnostics.diagnose(self.node())
    }

    fn topology(&self) -> watch::Receiver<Topology> {
        self.topology.clone()
    }

    async fn admit(
        &self,
        actor: &CallerName,
        node: Admit,
        deadline: Instant,
    ) -> Result<Admitted, ClusterError> {
        let key = requested_key(&node.csr_pem).map_err(request_error)?;
        // A sealed node could record the admission and then not certify it.
        self.issuer.nodes(&self.state.latest()).map_err(request_error)?;
        let spki_sha256 = key.sha256();
        self.check_approvals(spki_sha256, &node)?;
        let (role, zone, expires_ms) = (node.role, node.zone.clone(), node.expires_ms);
        let approvals = node.approvals.clone();
        let command = Command::AdmitNode { spki_sha256, role, zone, expires_ms, approvals };
        let (applied, reached) = self.command(actor, command, deadline).await?;
        let Applied::Admission(admission) = applied else {
            return Err(ClusterError::Failed("an admission led to something else".into()));
        };
        let pass = self.pass(admission.node, &node)?;
        Ok(Admitted { node: admission.node, expires_ms: admission.expires_ms, pass, reached })
    }

    async fn promote(
        &self,
        actor: &CallerName,
        nodes: &[NodeId],
        deadline: Instant,
    ) -> Result<Committed, ClusterError> {
        for node in nodes {
            let record = self.record(*node)?;
            // A voter that could not unseal would be counted on and could not take over.
            if record.role == NodeRole::Data && *node != self.me {
                self.possession.check(&record).await?;
            }
        }
        self.set_standings(actor, nodes, Standing::Voter, deadline).await
    }

    async fn remove(
        &self,
        actor: &CallerName,
        node: NodeId,
        deadline: Instant,
    ) -> Result<Committed, ClusterError> {
        let record = NodeRecord::load(&self.state.latest(), &node).map_err(ControlError::Fault)?;
        if record.is_some_and(|record| record.standing == Standing::Removed) {
            // Asked again because the answer was lost: it is as it was to be.
            let outcome = Outcome::Applied(Applied::Nodes(Vec::new()));
            let reached = self.control.acknowledged(deadline).await?;
            return Ok(Committed { outcome, reached });
        }
        self.set_standings(actor, &[node], Standing::Removed, deadline).await
    }

    async fn change_leadership(
        &self,
        actor: &CallerName,
        change: LeadershipChange,
        deadline: Instant,
    ) -> Result<Lead, ClusterError> {
        self.make_leadership_change(actor, &change, deadline).await
    }

    async fn unseal(&self, secret: UnsealSecret) -> Result<UnsealProgress, ClusterError> {
        let unsealer = Arc::clone(&self.unsealer);
        let offered = tokio::task::spawn_blocking(move || unsealer.offer(secret)).await;
        offered.unwrap_or_else(|_| Err(ClusterError::Failed("unsealing panicked".into())))
    }

    fn forget_shares(&self) -> UnsealProgress {
        self.unsealer.forget_shares()
    }

    async fn seal(&self) -> Result<(), ClusterError> {
        self.unsealer.seal();
        Ok(())
    }
}

/// Follows the topology until the node stops. The streams of those who watch end then: the endpoint waits
/// for every call before it closes.
pub(crate) fn watch_topology(
    node: Node,
    me: NodeId,
    stop: CancellationToken,
) -> watch::Receiver<Topology> {
    let (sender, receiver) = watch::channel(topology(&node, me));
    tokio::spawn(async move {
        let mut tick = interval(TOPOLOGY_INTERVAL);
        while !sender.is_closed() && stop.run_until_cancelled(tick.tick()).await.is_some() {
            let now = topology(&node, me);
            sender.send_if_modified(|shown| {
                let changed = *shown != now;
                *shown = now;
                changed
            });
        }
    });
    receiver
}

fn topology(node: &Node, me: NodeId) -> Topology {
    let status = node.status();
    // Only the leader hears from everybody; to the others a node counts as reachable.
    let silent: BTreeMap<u64, Duration> =
        status.members.iter().filter_map(|m| Some((m.node, m.silent_for?))).collect();
    let records = node.roster().records();
    let leadership = node.replication().applied().borrow().leadership.clone();
    let data_nodes = records
        .values()
        .filter(|record| record.role == NodeRole::Data && record.standing != Standing::Removed);
    let endpoints = data_nodes.map(|record| TopologyEndpoint {
        node: record.id,
        zone: record.placement.zone.clone(),
        address: record.placement.client_address,
        reachable: record.id == me
            || silent.get(&record.id.get()).is_none_or(|silence| *silence <= SILENT_MAX),
        draining: leadership.is_drained(&record.placement.zone),
    });
    Topology {
        endpoints: endpoints.collect(),
        leader: status.leader.and_then(|id| NodeId::new(id).ok()),
    }
}
