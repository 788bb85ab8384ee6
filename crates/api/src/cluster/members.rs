//! ListMembers, AdmitNode, PromoteNodes, RemoveNode.

use std::collections::BTreeMap;

use twinkeep_audit::call::Resource;
use twinkeep_core::admission::{AdmissionOrder, Approval};
use twinkeep_core::id::NodeId;
use twinkeep_core::outcome::Outcome;
use twinkeep_core::record::{NodeRecord, Record as _};
use twinkeep_core::topology::{NodeRole, Standing};
use twinkeep_proto::v1;

use super::Cluster;
use crate::authorize::{Entered, Handle};
use crate::convert::{self, Wire as _};
use crate::error::{CallError, Invalid};
use crate::field;
use crate::limits::{CSR_BYTES_MAX, PROMOTE_NODES_MAX, check};
use crate::operation::{self as op, Operation};
use crate::ports::{Admit, Committed, PeerHealth, Reached};

impl Handle<op::ListMembers> for Cluster {
    async fn handle(
        &self,
        call: &Entered<op::ListMembers>,
        _: &v1::ListMembersRequest,
    ) -> Result<v1::ListMembersResponse, CallError> {
        call.on_cluster()?;
        Ok(v1::ListMembersResponse { members: self.members()?, state_index: 0 })
    }
}

impl Handle<op::AdmitNode> for Cluster {
    async fn handle(
        &self,
        call: &Entered<op::AdmitNode>,
        request: &v1::AdmitNodeRequest,
    ) -> Result<v1::AdmitNodeResponse, CallError> {
        let way_out = "send one request with one key";
        check("csr_pem", request.csr_pem.len(), CSR_BYTES_MAX, way_out)?;
        let (given, max) = (request.approvals.len(), AdmissionOrder::APPROVALS_MAX);
        check("approvals", given, max, "give one approval of each operator")?;
        if request.expires_unix_ms == 0 {
            let way_out = "give the time that the operators signed";
            return Err(Invalid::Missing { field: "expires_unix_ms", way_out }.into());
        }
        let node = Admit {
            csr_pem: request.csr_pem.clone(),
            role: NodeRole::required("role", request.role)?,
            zone: field::parse("zone", &request.zone)?,
            expires_ms: request.expires_unix_ms,
            approvals: request.approvals.iter().map(approval).collect::<Result<_, _>>()?,
        };
        call.on_cluster()?;
        let admitted = self.cluster.admit(call.caller(), node, call.deadline()).await?;
        let resource = Resource::Node { id: admitted.node };
        call.draft().tell(|about| about.resources.push(resource));
        Ok(v1::AdmitNodeResponse {
            node_id: admitted.node.get(),
            expires_unix_ms: admitted.expires_ms,
            pass: admitted.pass,
            durability: convert::durability(admitted.reached),
            state_index: admitted.reached.index,
        })
    }
}

impl Handle<op::PromoteNodes> for Cluster {
    async fn handle(
        &self,
        call: &Entered<op::PromoteNodes>,
        request: &v1::PromoteNodesRequest,
    ) -> Result<v1::PromoteNodesResponse, CallError> {
        if request.node_ids.is_empty() {
            let way_out = "name at least one learner";
            return Err(Invalid::Missing { field: "node_ids", way_out }.into());
        }
        check("node_ids", request.node_ids.len(), PROMOTE_NODES_MAX, "promote in several calls")?;
        let nodes = request.node_ids.iter().map(|id| node("node_ids", *id));
        let nodes = nodes.collect::<Result<Vec<_>, _>>()?;
        call.on_cluster()?;
        let committed = self.cluster.promote(call.caller(), &nodes, call.deadline()).await?;
        let reached = self.settled(call, committed).await?;
        let (members, durability) = (self.members()?, convert::durability(reached));
        Ok(v1::PromoteNodesResponse { members, durability, state_index: reached.index })
    }
}

impl Handle<op::RemoveNode> for Cluster {
    async fn handle(
        &self,
        call: &Entered<op::RemoveNode>,
        request: &v1::RemoveNodeRequest,
    ) -> Result<v1::RemoveNodeResponse, CallError> {
        let node = node("node_id", request.node_id)?;
        call.on_cluster()?;
        let committed = self.cluster.remove(call.caller(), node, call.deadline()).await?;
        let reached = self.settled(call, committed).await?;
        let (members, durability) = (self.members()?, convert::durability(reached));
        Ok(v1::RemoveNodeResponse { members, durability, state_index: reached.index })
    }
}

impl Cluster {
    /// Returns the members that are not removed, in the order of their ids.
    pub(super) fn members(&self) -> Result<Vec<v1::Member>, CallError> {
        let (own, peers) = (self.cluster.status().node, self.cluster.peers());
        let nodes = NodeRecord::all(&*self.changes.control().view())?;
        let living = nodes.iter().filter(|node| node.standing != Standing::Removed);
        Ok(living.map(|node| member(node, own, &peers)).collect())
    }

    /// Waits until this node shows a change of the membership too.
    async fn settled<O: Operation>(
        &self,
        call: &Entered<O>,
        committed: Committed,
    ) -> Result<Reached, CallError> {
        match committed.outcome {
            Outcome::Applied(_) => {
                self.changes.caught_up(call, committed.reached).await?;
                Ok(committed.reached)
            }
            Outcome::Refused(refusal) => Err(refusal.into()),
        }
    }
}

fn member(node: &NodeRecord, own: NodeId, peers: &BTreeMap<NodeId, PeerHealth>) -> v1::Member {
    let health = peers.get(&node.id);
    let place = &node.placement;
    v1::Member {
        node_id: node.id.get(),
        role: node.role.to_wire(),
        standing: node.standing.to_wire(),
        placement: Some(v1::Placement {
            zone: place.zone.to_string(),
            vpc: place.vpc.to_string(),
            vswitch: place.vswitch.to_string(),
            cidr: place.cidr.to_string(),
            client_address: place.client_address.to_string(),
            peer_address: place.peer_address.to_string(),
        }),
        spki_sha256: node.spki_sha256.to_vec().into(),
        reachable: node.id == own || health.is_some_and(|health| health.reachable),
        matched_index: health.and_then(|health| health.matched_index).unwrap_or(0),
        revision: node.revision.get(),
    }
}

fn approval(approval: &v1::Approval) -> Result<Approval, Invalid> {
    let operator = field::parse("approvals.operator", &approval.operator)?;
    let signature = approval.signature.as_ref().try_into().map_err(|_| Invalid::Text {
        field: "approvals.signature",
        problem: format!(
            "an Ed25519 signature has 64 bytes, that of operator {operator} has {}",
            approval.signature.len()
        ),
    })?;
    Ok(Approval { operator, signature })
}

fn node(field: &'static str, number: u64) -> Result<NodeId, Invalid> {
    let range = "node ids count from 1; ListMembers shows them";
    NodeId::new(number).map_err(|_| Invalid::OutOfRange { field, number, range })
}
