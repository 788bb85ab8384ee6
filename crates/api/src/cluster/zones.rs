//! DrainZone, UndrainZone, PreferZone: where the lead belongs.

use std::collections::BTreeSet;
use std::time::Duration;

use twinkeep_core::id::NodeId;
use twinkeep_core::leadership::{Leadership, Without};
use twinkeep_core::name::ZoneName;
use twinkeep_core::record::{LeadershipRecord, NodeRecord, Record as _};
use twinkeep_core::state::{Fault, Read};
use twinkeep_core::topology::{NodeRole, Standing};
use twinkeep_proto::v1;

use super::Cluster;
use crate::authorize::{Entered, Handle};
use crate::convert;
use crate::error::CallError;
use crate::field;
use crate::operation::{self as op, Operation};
use crate::ports::{Lead, LeadershipChange};

/// Silence after which a node is not counted on. Nodes say hello to each other once a second.
const SILENT_MAX: Duration = Duration::from_secs(2);

impl Handle<op::DrainZone> for Cluster {
    async fn handle(
        &self,
        call: &Entered<op::DrainZone>,
        request: &v1::DrainZoneRequest,
    ) -> Result<v1::DrainZoneResponse, CallError> {
        let zone: ZoneName = field::parse("zone", &request.zone)?;
        let change = LeadershipChange::Drain(zone.clone());
        let Lead { leader, moved, reached } = self.change_leadership(call, change).await?;
        let view = self.changes.control().view();
        let answering = self.answering();
        let answers = |node: &NodeRecord| answering.contains(&node.id);
        Ok(v1::DrainZoneResponse {
            leadership: Some(leadership(&*view)?),
            leader_node_id: leader.map_or(0, |leader| leader.get()),
            lead_moved: moved,
            at_risk: at_risk(&NodeRecord::all(&*view)?, &zone, answers),
            durability: convert::durability(reached),
            state_index: reached.index,
        })
    }
}

impl Handle<op::UndrainZone> for Cluster {
    async fn handle(
        &self,
        call: &Entered<op::UndrainZone>,
        request: &v1::UndrainZoneRequest,
    ) -> Result<v1::UndrainZoneResponse, CallError> {
        let change = LeadershipChange::Undrain(field::parse("zone", &request.zone)?);
        let Lead { reached, .. } = self.change_leadership(call, change).await?;
        let leadership = Some(leadership(&*self.changes.control().view())?);
        let durability = convert::durability(reached);
        Ok(v1::UndrainZoneResponse { leadership, durability, state_index: reached.index })
    }
}

impl Handle<op::PreferZone> for Cluster {
    async fn handle(
        &self,
        call: &Entered<op::PreferZone>,
        request: &v1::PreferZoneRequest,
    ) -> Result<v1::PreferZoneResponse, CallError> {
        let zone = (!request.zone.is_empty()).then(|| field::parse("zone", &request.zone));
        let change = LeadershipChange::Prefer(zone.transpose()?);
        let Lead { reached, .. } = self.change_leadership(call, change).await?;
        let leadership = Some(leadership(&*self.changes.control().view())?);
        let durability = convert::durability(reached);
        Ok(v1::PreferZoneResponse { leadership, durability, state_index: reached.index })
    }
}

impl Cluster {
    /// Returns the nodes that have lately answered this one, and this one.
    fn answering(&self) -> BTreeSet<NodeId> {
        let peers = self.cluster.diagnose().peers.into_iter();
        let heard = peers.filter(|peer| peer.read_ago <= SILENT_MAX).map(|peer| peer.node);
        heard.chain([self.cluster.status().node]).collect()
    }

    /// Makes a change, and waits until this node shows it too.
    async fn change_leadership<O: Operation>(
        &self,
        call: &Entered<O>,
        change: LeadershipChange,
    ) -> Result<Lead, CallError> {
        call.on_cluster()?;
        let lead = self.cluster.change_leadership(call.caller(), change, call.deadline()).await?;
        self.changes.caught_up(call, lead.reached).await?;
        Ok(lead)
    }
}

/// Returns which zone shall lead, and which shall not, as callers see it.
pub(super) fn leadership(view: &(impl Read + ?Sized)) -> Result<v1::Leadership, Fault> {
    let (Leadership { preferred, drained }, revision) = Leadership::read(view)?;
    let name = |zone: Option<ZoneName>| zone.map(|zone| zone.to_string()).unwrap_or_default();
    Ok(v1::Leadership {
        preferred_zone: name(preferred),
        drained_zone: name(drained),
        drained_unix_ms: LeadershipRecord::load(view, &())?.map_or(0, |record| record.drained_ms),
        revision: revision.map_or(0, |revision| revision.get()),
    })
}

/// Says what is at risk while the nodes of a zone are stopped, a sentence each. Who does not answer is no help then.
fn at_risk(
    nodes: &[NodeRecord],
    zone: &ZoneName,
    answers: impl Fn(&NodeRecord) -> bool,
) -> Vec<String> {
    let living = nodes.iter().filter(|node| node.standing != Standing::Removed);
    let others = living.filter(|node| node.placement.zone != *zone);
    let (others, silent): (Vec<_>, Vec<_>) = others.partition(|node| answers(node));
    let silent = silent.into_iter().filter(|node| node.standing == Standing::Voter);
    let silent: Vec<_> = silent.collect();
    let all = Without::zone(nodes, zone);
    let without = Without { left: all.left - silent.len(), ..all };
    let Without { voters, left, .. } = without;
    let mut risks: Vec<_> = silent
        .iter()
        .map(|node| {
            let place = &node.placement.zone;
            format!("node {} of zone {place} does not answer and is not counted on", node.id)
        })
        .collect();
    risks.push(match without.slack() {
        None => format!(
            "once zone {zone} is stopped, {left} of {voters} voters are left, which is no majority: changes stop \
             until it is back, and keys go on being used for as long as their grace"
        ),
        Some(0) => format!(
            "once zone {zone} is stopped, {left} of {voters} voters are left: losing one more, the witness included, \
             stops changes"
        ),
        Some(slack) => format!(
            "once zone {zone} is stopped, {left} of {voters} voters are left: losing more than {slack} of them stops \
             changes"
        ),
    });
    let serving: Vec<_> = others.iter().filter(|node| node.role == NodeRole::Data).collect();
    if let [only] = serving.as_slice() {
        risks.push(format!(
            "node {} of zone {} is then the only one that can use keys",
            only.id, only.placement.zone
        ));
    }
    risks.push(format!(
        "once zone {zone} is stopped, changes are kept in one zone (SINGLE_ZONE) until it is back and has caught up"
    ));
    risks
}

#[cfg(test)]
mod tests {
    use twinkeep_testkit::records::node_record;

    use super::*;

    fn voter(id: u64, zone: &str, role: NodeRole) -> NodeRecord {
        let mut node = NodeRecord { role, standing: Standing::Voter, ..node_record(id) };
        node.placement.zone = zone.parse().unwrap();
        node
    }

    fn risks(nodes: &[NodeRecord]) -> String {
        risks_when_silent(nodes, &[])
    }

    fn risks_when_silent(nodes: &[NodeRecord], silent: &[u64]) -> String {
        let answers = |node: &NodeRecord| !silent.contains(&node.id.get());
        at_risk(nodes, &"a".parse().unwrap(), answers).join("\n")
    }

    fn five() -> Vec<NodeRecord> {
        let (data, witness) = (NodeRole::Data, NodeRole::Witness);
        let of_a = [1, 2].map(|id| voter(id, "a", data));
        let others = [voter(5, "w", witness), voter(3, "b", data), voter(4, "b", data)];
        of_a.into_iter().chain(others).collect()
    }

    #[test]
    fn voters_that_do_not_answer_are_not_counted_on() {
        let text = risks_when_silent(&five(), &[4]);
        assert!(text.contains("node 4 of zone b does not answer"), "{text}");
        assert!(text.contains("2 of 5 voters are left, which is no majority"), "{text}");
        assert!(text.contains("node 3 of zone b is then the only one that can use"), "{text}");
        // What is to be stopped anyway may be silent already, and so may a learner.
        let learner = NodeRecord { standing: Standing::Learner, ..voter(6, "b", NodeRole::Data) };
        let six: Vec<_> = five().into_iter().chain([learner]).collect();
        let text = risks_when_silent(&six, &[1, 6]);
        assert!(text.contains("3 of 5 voters are left: losing one more"), "{text}");
        assert!(!text.contains("does not answer"), "{text}");
    }

    #[test]
    fn what_is_at_risk_is_said_by_what_is_left() {
        let (data, mut nodes) = (NodeRole::Data, five());
        let text = risks(&nodes);
        assert!(text.contains("3 of 5 voters are left: losing one more"), "{text}");
        assert!(text.contains("SINGLE_ZONE") && !text.contains("the only one"), "{text}");
        nodes.extend([voter(6, "b", data), voter(7, "b", data)]);
        assert!(
            risks(&nodes).contains("5 of 7 voters are left: losing more than 1"),
            "{}",
            risks(&nodes)
        );
        let three = [nodes[0].clone(), nodes[1].clone(), nodes[3].clone()];
        let text = risks(&three);
        assert!(text.contains("1 of 3 voters are left, which is no majority"), "{text}");
        assert!(text.contains("node 3 of zone b is then the only one"), "{text}");
    }
}
