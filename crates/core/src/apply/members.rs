//! Nodes: admission, joining, how they count.

use std::collections::BTreeMap;

use super::{Apply, Done, following, now_ms, refuse};
use crate::admission::{AdmissionOrder, Approval};
use crate::clock::UnixMs;
use crate::command::StandingChange;
use crate::id::{NodeId, Revision};
use crate::outcome::{Applied, Refusal};
use crate::record::{Admission, ClusterRecord, ClusterVersion, NodeRecord, Record, RecoveryRecord};
use crate::state::{Fault, Read, Write};
use crate::topology::{Standing, check_join, check_voters};

impl<S: Write> Apply<'_, S> {
    pub(super) fn admit_node(
        &mut self,
        order: AdmissionOrder,
        approvals: &[Approval],
        cluster: &ClusterRecord,
    ) -> Done {
        let now = now_ms(self.state)?;
        if let Err(refusal) = order.check(approvals, cluster, now, self.verifier) {
            return refuse(refusal);
        }
        let AdmissionOrder { spki_sha256, role, zone, expires_ms, .. } = order;
        let nodes = NodeRecord::all(self.state)?;
        if nodes.iter().any(|node| node.spki_sha256 == spki_sha256) {
            return refuse(Refusal::KeyJoined);
        }
        let open = self.drop_lapsed_admissions(now)?;
        if let Some(admission) = open.iter().find(|open| open.spki_sha256 == spki_sha256) {
            // The first answer may have been lost, and the pass with it. The key alone can use it, so
            // whoever asks again gets what is open, its end included, and no second node id.
            if admission.role != role || admission.zone != zone {
                return refuse(Refusal::KeyJoined);
            }
            return Ok(Ok(Applied::Admission(Box::new(admission.clone()))));
        }
        if open.len() >= Admission::OPEN_MAX {
            let what = "open admissions".to_owned();
            return refuse(Refusal::LimitReached { what, max: Admission::OPEN_MAX as u64 });
        }
        let node = self.next_node_id(&nodes)?;
        let expires_ms = expires_ms.min(now.saturating_add(Admission::LIFE_MAX_MS));
        let admission = Admission { spki_sha256, node, role, zone, expires_ms };
        admission.store(self.state);
        Ok(Ok(Applied::Admission(Box::new(admission))))
    }

    fn drop_lapsed_admissions(&mut self, now: UnixMs) -> Result<Vec<Admission>, Fault> {
        let (open, lapsed): (Vec<_>, Vec<_>) =
            Admission::all(self.state)?.into_iter().partition(|a| a.expires_ms > now);
        for admission in lapsed {
            self.state.delete(Admission::TABLE, &admission.own_row());
        }
        Ok(open)
    }

    /// Gives the next id and remembers it: an admission that lapses takes its id with it.
    fn next_node_id(&mut self, nodes: &[NodeRecord]) -> Result<NodeId, Fault> {
        let given = given_node_id(self.state)?;
        let recorded = nodes.iter().map(|node| node.id).max();
        let last = recorded.max(given).ok_or_else(|| Fault::new("the cluster has no node"))?;
        let next = last.next().ok_or_else(|| Fault::new("all node ids are used up"))?;
        self.state.put(ClusterRecord::TABLE, NODE_ID_ROW, next.get().to_be_bytes().to_vec());
        Ok(next)
    }

    pub(super) fn join_node(&mut self, node: NodeRecord, cluster: &ClusterRecord) -> Done {
        // Asked first: a node that comes with its old key and an empty disk has no admission either.
        if NodeRecord::load(self.state, &node.id)?.is_some() {
            return refuse(Refusal::NodeIdTaken(node.id));
        }
        let Some(admission) = Admission::load(self.state, &node.spki_sha256)? else {
            return refuse(Refusal::NotAdmitted);
        };
        let as_admitted = admission.node == node.id
            && admission.role == node.role
            && admission.zone == node.placement.zone
            && admission.expires_ms > now_ms(self.state)?
            && node.standing == Standing::Learner
            && node.incarnation == cluster.incarnation
            && node.revision == Revision::FIRST;
        if !as_admitted {
            return refuse(Refusal::NotAdmitted);
        }
        let recorded = NodeRecord::all(self.state)?;
        if let Err(misplaced) = check_join(&recorded, node.role, &node.placement) {
            return refuse(Refusal::Misplaced(misplaced));
        }
        self.state.delete(Admission::TABLE, &admission.own_row());
        node.store(self.state);
        Ok(Ok(Applied::Nodes(vec![node])))
    }

    pub(super) fn set_standings(
        &mut self,
        changes: &[StandingChange],
        cluster: &ClusterRecord,
    ) -> Done {
        let mut nodes: BTreeMap<NodeId, NodeRecord> =
            NodeRecord::all(self.state)?.into_iter().map(|node| (node.id, node)).collect();
        let now = now_ms(self.state)?;
        let keeps_times = cluster.version >= ClusterVersion::ZONE_GUARANTEES;
        for change in changes {
            let node = nodes.get_mut(&change.node);
            let Some(node) = node.filter(|node| node.standing != Standing::Removed) else {
                return refuse(Refusal::NoNode(change.node));
            };
            if node.revision != change.expected {
                let (expected, found) = (Some(change.expected), Some(node.revision));
                return refuse(Refusal::RevisionMismatch { expected, found });
            }
            node.standing = change.to;
            let is_removed = change.to == Standing::Removed;
            node.removed_ms = (is_removed && keeps_times).then_some(now);
            node.revision = following(node.revision)?;
        }
        let voters = nodes.values().filter(|node| node.standing == Standing::Voter);
        if voters.clone().next().is_none() {
            return refuse(Refusal::LastVoter);
        }
        if let Err(misplaced) = check_voters(voters.clone(), cluster.preferred_zone.as_ref()) {
            return refuse(Refusal::Misplaced(misplaced));
        }
        if voters.clone().count() > 1 && check_voters(voters, None).is_ok() {
            self.take_back_majority(cluster)?;
        }
        let changed: Vec<_> =
            changes.iter().filter_map(|change| nodes.remove(&change.node)).collect();
        changed.iter().for_each(|node| node.store(self.state));
        Ok(Ok(Applied::Nodes(changed)))
    }

    /// Takes the majority back from the zone that a recovery has lent it to, once no zone needs one.
    fn take_back_majority(&mut self, cluster: &ClusterRecord) -> Result<(), Fault> {
        let Some(recovery) = RecoveryRecord::load(self.state, &cluster.incarnation)? else {
            return Ok(());
        };
        if recovery.lends_majority {
            RecoveryRecord { lends_majority: false, ..recovery }.store(self.state);
            let revision = following(cluster.revision)?;
            ClusterRecord { preferred_zone: None, revision, ..cluster.clone() }.store(self.state);
        }
        Ok(())
    }
}

/// Where the highest node id that was ever given stands.
pub(crate) const NODE_ID_ROW: &[u8] = b"node-id";

/// Returns the highest node id that an admission was ever given.
pub(crate) fn given_node_id(state: &impl Read) -> Result<Option<NodeId>, Fault> {
    let Some(row) = state.get(ClusterRecord::TABLE, NODE_ID_ROW)? else { return Ok(None) };
    let bytes = row.try_into().map_err(|_| Fault::new("the last node id is not 8 bytes"))?;
    NodeId::new(u64::from_be_bytes(bytes))
        .map(Some)
        .map_err(|e| Fault::caused("the last node id is damaged", e))
}
