//! A cluster of one node that says what it is asked.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use twinkeep_api::ports::{
    Admit, Admitted, Certificate, ClusterControl, ClusterError, Committed, ControlPlane as _,
    Diagnosis, Lead, LeadershipChange, NodeStatus, PeerDiagnosis, PeerHealth, Reached, Topology,
    TopologyEndpoint, UnsealProgress, UnsealSecret,
};
use twinkeep_core::command::Command;
use twinkeep_core::id::NodeId;
use twinkeep_core::leadership::Leadership;
use twinkeep_core::name::CallerName;
use twinkeep_core::outcome::{Applied, Outcome, Refusal};
use twinkeep_core::recovery::LastEntry;

use super::{MemoryControl, START_MS, TestVault};

pub(crate) struct FakeCluster {
    vault: Arc<TestVault>,
    control: Arc<MemoryControl>,
    pub(crate) topology: watch::Sender<Topology>,
}

impl FakeCluster {
    pub(crate) fn new(vault: Arc<TestVault>, control: Arc<MemoryControl>) -> Self {
        let endpoint = TopologyEndpoint {
            node: NodeId::FIRST,
            zone: "zone-a".parse().unwrap(),
            address: "127.0.1.11:7101".parse().unwrap(),
            reachable: true,
            draining: false,
        };
        let topology = Topology { endpoints: vec![endpoint], leader: Some(NodeId::FIRST) };
        Self { vault, control, topology: watch::Sender::new(topology) }
    }

    fn progress(&self) -> UnsealProgress {
        let sealed = self.vault.is_sealed();
        UnsealProgress { sealed, shares_given: 0, shares_needed: 1 }
    }

    fn no_node(&self, node: NodeId) -> Committed {
        let reached = Reached { index: self.control.applied_index(), durability: None };
        Committed { outcome: Outcome::Refused(Refusal::NoNode(node)), reached }
    }
}

#[tonic::async_trait]
impl ClusterControl for FakeCluster {
    fn status(&self) -> NodeStatus {
        let index = self.control.applied_index();
        NodeStatus {
            node: NodeId::FIRST,
            leader: Some(NodeId::FIRST),
            term: 1,
            last_log_index: index,
            committed_index: index,
            sealed: self.vault.is_sealed(),
            software_version: "0.0.0-test",
        }
    }

    fn peers(&self) -> BTreeMap<NodeId, PeerHealth> {
        BTreeMap::new()
    }

    fn diagnose(&self) -> Diagnosis {
        let ms = Duration::from_millis;
        Diagnosis {
            unix_ms: START_MS,
            virtual_machine: true,
            heartbeat: ms(50),
            election_min: ms(150),
            election_max: ms(300),
            log_syncs: 1024,
            log_sync_p99: ms(7),
            disk: Some((100, 40)),
            peers: vec![PeerDiagnosis {
                node: NodeId::new(2).unwrap(),
                read_ago: ms(900),
                round_trip: ms(1),
                clock_ahead_ms: -12,
                sealed: true,
                software_version: "0.0.0-test".to_owned(),
            }],
            certificates: vec![Certificate { kind: "node", not_after_unix: START_MS / 1000 }],
            log_end: Some(LastEntry { term: 3, leader: 1, index: 77 }),
            takes_part: true,
            public_key: vec![4; 91],
        }
    }

    fn topology(&self) -> watch::Receiver<Topology> {
        self.topology.subscribe()
    }

    async fn admit(
        &self,
        actor: &CallerName,
        node: Admit,
        _: Instant,
    ) -> Result<Admitted, ClusterError> {
        let command = Command::AdmitNode {
            spki_sha256: [6; 32],
            role: node.role,
            zone: node.zone,
            expires_ms: node.expires_ms,
            approvals: node.approvals,
        };
        let committed = self.control.apply(Some(actor.as_str()), command);
        match committed.outcome {
            Outcome::Applied(Applied::Admission(admission)) => Ok(Admitted {
                node: admission.node,
                expires_ms: admission.expires_ms,
                pass: "pass".to_owned(),
                reached: committed.reached,
            }),
            Outcome::Applied(other) => panic!("{other:?}"),
            Outcome::Refused(refusal) => Err(refusal.into()),
        }
    }

    async fn promote(
        &self,
        _: &CallerName,
        nodes: &[NodeId],
        _: Instant,
    ) -> Result<Committed, ClusterError> {
        Ok(self.no_node(nodes[0]))
    }

    async fn remove(
        &self,
        _: &CallerName,
        node: NodeId,
        _: Instant,
    ) -> Result<Committed, ClusterError> {
        Ok(self.no_node(node))
    }

    async fn change_leadership(
        &self,
        actor: &CallerName,
        change: LeadershipChange,
        _: Instant,
    ) -> Result<Lead, ClusterError> {
        let (mut to, expected) = Leadership::read(&*self.control.view()).unwrap();
        match change {
            LeadershipChange::Drain(zone) => to.drained = Some(zone),
            LeadershipChange::Undrain(_) => to.drained = None,
            LeadershipChange::Prefer(zone) => to.preferred = zone,
        }
        let command = Command::SetLeadership { to, expected };
        let Committed { outcome, reached } = self.control.apply(Some(actor.as_str()), command);
        match outcome {
            Outcome::Applied(_) => Ok(Lead { leader: Some(NodeId::FIRST), moved: true, reached }),
            Outcome::Refused(refusal) => Err(refusal.into()),
        }
    }

    async fn unseal(&self, secret: UnsealSecret) -> Result<UnsealProgress, ClusterError> {
        match secret {
            UnsealSecret::Share(text) if text.as_str() == "right" => self.vault.unseal(),
            UnsealSecret::Share(_) => {
                return Err(ClusterError::BadUnsealSecret(
                    "not a share of this cluster".to_owned(),
                ));
            }
            UnsealSecret::Passphrase(_) => {
                return Err(ClusterError::NoSuchSeal { what: "a passphrase" });
            }
        }
        Ok(self.progress())
    }

    fn forget_shares(&self) -> UnsealProgress {
        self.progress()
    }

    async fn seal(&self) -> Result<(), ClusterError> {
        self.vault.seal();
        Ok(())
    }
}
