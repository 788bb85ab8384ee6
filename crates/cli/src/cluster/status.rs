//! How the cluster is: what its leader sees, and what each data node says of itself.
//!
//! Only the leader hears from everybody. Whoever answers first is asked for the leader, and the leader is
//! asked then, unless the call is bound to one node. What the node that answered cannot know is unknown.

use std::time::Duration;

use futures::future::join_all;
use serde::Serialize;
use twinkeep_client::{Client, v1};

use super::health::Health;
use super::replication::Replication;
use super::zones::Leadership;
use crate::names::Named;
use crate::output::time;

/// How long each node has for saying how it is.
const NODE_LIMIT: Duration = Duration::from_secs(1);

/// The cluster as one node sees it, and how each data node says it is.
#[derive(Debug, Serialize)]
pub(super) struct Status {
    pub(super) cluster_id: String,
    pub(super) incarnation: u64,
    pub(super) cluster_version: u32,
    /// The time of the last change, as the nodes agreed on it. The picture leaves it out: in a cluster at rest it is
    /// old, and nothing is wrong.
    pub(super) cluster_time: String,
    pub(super) health: Health,
    /// What is promised of changes; absent in a cluster at a version without replication modes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) replication: Option<Replication>,
    /// Which zone shall lead, and which shall not.
    pub(super) leadership: Leadership,
    /// The node that answered.
    pub(super) asked_node_id: u64,
    /// The leader; 0 if the node that answered knows none.
    pub(super) leader_node_id: u64,
    pub(super) term: u64,
    pub(super) last_log_index: u64,
    pub(super) committed_index: u64,
    pub(super) applied_index: u64,
    pub(super) zones: Vec<Zone>,
}

/// A zone and what stands in it.
#[derive(Debug, Serialize)]
pub(super) struct Zone {
    pub(super) zone: String,
    pub(super) vpc: String,
    pub(super) vswitch: String,
    pub(super) cidr: String,
    pub(super) nodes: Vec<Node>,
}

/// A member.
#[derive(Debug, Serialize)]
pub(super) struct Node {
    pub(super) node_id: u64,
    pub(super) role: &'static str,
    pub(super) standing: &'static str,
    pub(super) leads: bool,
    pub(super) client_address: String,
    pub(super) peer_address: String,
    /// Whether the node that answered has heard from it lately; `null` if it cannot know.
    pub(super) reachable: Option<bool>,
    /// How many committed log entries it does not hold or has not applied; absent if that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) entries_behind: Option<u64>,
    /// What the node says of itself; absent for a witness and when it does not answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) own: Option<Own>,
}

/// What a node says of itself.
#[derive(Debug, Serialize)]
pub(super) struct Own {
    pub(super) sealed: bool,
    pub(super) applied_index: u64,
    pub(super) software_version: String,
    /// Until when the node's zone is known to hold every acknowledged change; absent if it does not know.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) zone_complete_until: Option<String>,
}

impl Status {
    /// Asks the cluster; a client that is bound to one node shows what that node knows.
    pub(super) async fn of(client: &Client, pinned: bool) -> Result<Self, twinkeep_client::Error> {
        let client = client.any_state();
        let seen = by_leader(&client, pinned).await?;
        let members = seen.members.iter().filter(|member| !removed(member));
        let nodes = join_all(members.map(|member| Node::of(&client, member, &seen))).await;
        let zones = by_zone(nodes);
        let replication = seen.replication.as_ref().map(Replication::of);
        Ok(Self {
            health: Health::of(&zones, seen.leader_node_id, replication.as_ref()),
            replication,
            leadership: Leadership::of(seen.leadership),
            cluster_time: time(seen.cluster_time_unix_ms),
            zones,
            cluster_id: seen.cluster_id,
            incarnation: seen.incarnation,
            cluster_version: seen.cluster_version,
            asked_node_id: seen.node_id,
            leader_node_id: seen.leader_node_id,
            term: seen.term,
            last_log_index: seen.last_log_index,
            committed_index: seen.committed_index,
            applied_index: seen.applied_index,
        })
    }
}

/// Returns the status as the leader sees it, else as the node sees it that answered.
pub(super) async fn by_leader(
    client: &Client,
    pinned: bool,
) -> Result<v1::GetStatusResponse, twinkeep_client::Error> {
    let seen = client.get_status(v1::GetStatusRequest::default()).await?;
    if pinned || seen.leader_node_id == seen.node_id || seen.leader_address.is_empty() {
        return Ok(seen);
    }
    let Some(leader) = client.at(&seen.leader_address) else { return Ok(seen) };
    let answer = leader.with_deadline(NODE_LIMIT).get_status(v1::GetStatusRequest::default()).await;
    // A leader that has just gone, or lost its lead, knows no better.
    Ok(answer.ok().filter(|answer| answer.leader_node_id == answer.node_id).unwrap_or(seen))
}

/// Whether a member is heard, as far as the node that answered can know: a leader hears everybody, the others
/// the leader and themselves.
pub(super) fn heard(member: &v1::Member, seen: &v1::GetStatusResponse) -> Option<bool> {
    let leads = seen.leader_node_id == seen.node_id && seen.node_id != 0;
    if member.reachable || [seen.node_id, seen.leader_node_id].contains(&member.node_id) {
        return Some(true);
    }
    leads.then_some(false)
}

fn removed(member: &v1::Member) -> bool {
    member.standing == i32::from(v1::Standing::Removed)
}

fn by_zone(nodes: Vec<(v1::Placement, Node)>) -> Vec<Zone> {
    let mut zones: Vec<Zone> = Vec::new();
    for (place, node) in nodes {
        match zones.iter_mut().find(|zone| zone.zone == place.zone) {
            Some(zone) => zone.nodes.push(node),
            None => zones.push(Zone {
                zone: place.zone,
                vpc: place.vpc,
                vswitch: place.vswitch,
                cidr: place.cidr,
                nodes: vec![node],
            }),
        }
    }
    zones.sort_by(|a, b| a.zone.cmp(&b.zone));
    zones
}

impl Node {
    async fn of(
        client: &Client,
        member: &v1::Member,
        seen: &v1::GetStatusResponse,
    ) -> (v1::Placement, Self) {
        let place = member.placement.clone().unwrap_or_default();
        let data = member.role == i32::from(v1::NodeRole::Data);
        let own = if data { Own::of(client, &place.client_address).await } else { None };
        let at = match &own {
            Some(own) => Some(own.applied_index),
            None => Some(member.matched_index).filter(|&index| index > 0),
        };
        let node = Self {
            node_id: member.node_id,
            role: v1::NodeRole::name(member.role),
            standing: v1::Standing::name(member.standing),
            leads: member.node_id == seen.leader_node_id,
            client_address: place.client_address.clone(),
            peer_address: place.peer_address.clone(),
            reachable: heard(member, seen),
            entries_behind: at.map(|index| seen.committed_index.saturating_sub(index)),
            own,
        };
        (place, node)
    }

    /// Whether it is a witness, which has no callers.
    pub(super) fn is_witness(&self) -> bool {
        self.role == "WITNESS"
    }

    /// Whether it is up: it answers, or others hear it. `None` if nobody who was asked can know.
    pub(super) fn is_up(&self) -> Option<bool> {
        if self.own.is_some() { Some(true) } else { self.reachable }
    }
}

impl Own {
    async fn of(client: &Client, address: &str) -> Option<Self> {
        let node = client.at(address)?.with_deadline(NODE_LIMIT);
        // A node that does not answer is shown as silent: that is what the picture is for.
        let status = node.get_status(v1::GetStatusRequest::default()).await.ok()?;
        Some(Self {
            sealed: status.sealed,
            applied_index: status.applied_index,
            software_version: status.software_version,
            zone_complete_until: status
                .replication
                .map(|replication| replication.zone_complete_until_unix_ms)
                .filter(|until| *until > 0)
                .map(time),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_leader_says_that_somebody_is_silent() {
        let seen = |node_id, leader_node_id| v1::GetStatusResponse {
            node_id,
            leader_node_id,
            ..Default::default()
        };
        let member = |node_id, reachable| v1::Member { node_id, reachable, ..Default::default() };
        assert_eq!(heard(&member(5, false), &seen(1, 1)), Some(false));
        assert_eq!(heard(&member(5, true), &seen(1, 1)), Some(true));
        assert_eq!(heard(&member(5, false), &seen(2, 1)), None);
        assert_eq!(heard(&member(1, false), &seen(2, 1)), Some(true), "it follows the leader");
        assert_eq!(heard(&member(2, false), &seen(2, 0)), Some(true), "it has answered");
        assert_eq!(heard(&member(5, false), &seen(0, 0)), None);
    }
}
