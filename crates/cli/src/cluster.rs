//! `twinkeep cluster …`.

use std::io::{self, Write};
use std::time::Duration;

use anyhow::bail;
use futures::future::join_all;
use serde::Serialize;
use twinkeep_client::{Client, v1};

use crate::admission::{Admit, Order};
use crate::context::Context;
use crate::names::Named;
use crate::output::{Show, columns, show, time};

/// How long each node has for saying how it is.
const NODE_LIMIT: Duration = Duration::from_secs(1);

/// Shows and changes the cluster.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Cluster {
    /// Shows zones, nodes, the leader and who answers.
    Status,
    /// Lists the members.
    Members,
    /// Writes the order to admit a new node, for the operators to approve.
    Order(Order),
    /// Lets the node of an approved order join; prints the pass that it needs.
    Admit(Admit),
    /// Gives learners a vote. Name all that shall get one at the same time.
    Promote {
        /// The nodes' ids.
        #[arg(required = true)]
        nodes: Vec<u64>,
    },
    /// Takes a node out for ever.
    Remove {
        /// The node's id.
        node: u64,
        /// Says that it is meant: the id is never used again.
        #[arg(long)]
        yes: bool,
    },
}

impl Cluster {
    /// Does what was asked.
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<()> {
        let client = context.client()?;
        let format = context.format();
        match self {
            Self::Status => show(format, &Status::of(&client).await?),
            Self::Members => {
                let answer = client.list_members(v1::ListMembersRequest::default()).await?;
                show(format, &Members::of(&answer.members))
            }
            Self::Order(order) => order.run(&client).await,
            Self::Admit(admit) => admit.run(&client, format).await,
            Self::Promote { nodes: node_ids } => {
                let request = v1::PromoteNodesRequest { node_ids, ..Default::default() };
                show(format, &Members::of(&client.promote_nodes(request).await?.members))
            }
            Self::Remove { node: node_id, yes } => {
                if !yes {
                    bail!("a node is taken out for ever and its id never used again: add `--yes`");
                }
                let request = v1::RemoveNodeRequest { node_id, ..Default::default() };
                let answer = client.remove_node(request).await?;
                eprintln!(
                    "node {node_id} is out. It has seen the keys of software instances in clear: wipe its disk, and if it \
                     may have been read by others, make new keys and re-encrypt."
                );
                show(format, &Members::of(&answer.members))
            }
        }
    }
}

/// The cluster as one node sees it, and how each data node says it is.
#[derive(Debug, Serialize)]
pub(crate) struct Status {
    pub(crate) cluster_id: String,
    pub(crate) incarnation: u64,
    pub(crate) cluster_version: u32,
    pub(crate) cluster_time: String,
    pub(crate) asked_node_id: u64,
    pub(crate) leader_node_id: u64,
    pub(crate) term: u64,
    pub(crate) last_log_index: u64,
    pub(crate) committed_index: u64,
    pub(crate) applied_index: u64,
    pub(crate) zones: Vec<Zone>,
}

/// A zone and what stands in it.
#[derive(Debug, Serialize)]
pub(crate) struct Zone {
    pub(crate) zone: String,
    pub(crate) vpc: String,
    pub(crate) vswitch: String,
    pub(crate) cidr: String,
    pub(crate) nodes: Vec<Node>,
}

/// A member.
#[derive(Debug, Serialize)]
pub(crate) struct Node {
    pub(crate) node_id: u64,
    pub(crate) role: &'static str,
    pub(crate) standing: &'static str,
    pub(crate) leads: bool,
    pub(crate) client_address: String,
    pub(crate) peer_address: String,
    /// Whether the node that was asked has heard from it lately.
    pub(crate) reachable: bool,
    /// What the node says of itself; absent for a witness and when it does not answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) own: Option<Own>,
}

/// What a node says of itself.
#[derive(Debug, Serialize)]
pub(crate) struct Own {
    pub(crate) sealed: bool,
    pub(crate) applied_index: u64,
    pub(crate) software_version: String,
}

impl Status {
    async fn of(client: &Client) -> anyhow::Result<Self> {
        let client = client.any_state();
        let seen = client.get_status(v1::GetStatusRequest::default()).await?;
        let members = seen.members.iter().filter(|member| !removed(member));
        let nodes = join_all(members.map(|member| Node::of(&client, member, &seen))).await;
        Ok(Self {
            cluster_time: time(seen.cluster_time_unix_ms),
            zones: by_zone(nodes),
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
        let node = Self {
            node_id: member.node_id,
            role: v1::NodeRole::name(member.role),
            standing: v1::Standing::name(member.standing),
            leads: member.node_id == seen.leader_node_id,
            client_address: place.client_address.clone(),
            peer_address: place.peer_address.clone(),
            reachable: member.reachable || member.node_id == seen.node_id,
            own,
        };
        (place, node)
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
        })
    }
}

#[derive(Debug, Serialize)]
struct Members {
    members: Vec<Member>,
}

#[derive(Debug, Serialize)]
struct Member {
    node_id: u64,
    role: &'static str,
    standing: &'static str,
    zone: String,
    vpc: String,
    vswitch: String,
    client_address: String,
    peer_address: String,
    spki_sha256: String,
    reachable: bool,
    matched_index: u64,
    revision: u64,
}

impl Members {
    fn of(members: &[v1::Member]) -> Self {
        Self { members: members.iter().map(Member::of).collect() }
    }
}

impl Member {
    fn of(member: &v1::Member) -> Self {
        let place = member.placement.clone().unwrap_or_default();
        Self {
            node_id: member.node_id,
            role: v1::NodeRole::name(member.role),
            standing: v1::Standing::name(member.standing),
            zone: place.zone,
            vpc: place.vpc,
            vswitch: place.vswitch,
            client_address: place.client_address,
            peer_address: place.peer_address,
            spki_sha256: hex::encode(&member.spki_sha256),
            reachable: member.reachable,
            matched_index: member.matched_index,
            revision: member.revision,
        }
    }

    fn row(&self) -> [String; 7] {
        [
            self.node_id.to_string(),
            self.role.to_lowercase(),
            self.standing.to_lowercase(),
            self.zone.clone(),
            self.client_address.clone(),
            self.peer_address.clone(),
            if self.reachable { "yes" } else { "no" }.to_owned(),
        ]
    }
}

impl Show for Members {
    fn table(&self, out: &mut dyn Write) -> io::Result<()> {
        let rows: Vec<_> = self.members.iter().map(Member::row).collect();
        let head = ["NODE", "ROLE", "STANDING", "ZONE", "FOR CALLERS", "FOR PEERS", "HEARD"];
        columns(out, head, &rows)
    }
}
