//! `twinkeep cluster …`.

mod doctor;
mod health;
mod members;
mod picture;
mod replication;
mod status;
mod topology;
mod watch;
mod zones;

use anyhow::bail;
use twinkeep_client::{Client, v1};

use crate::admission::{Admit, Order};
use crate::context::Context;
use crate::output::show;
pub(crate) use doctor::Doctor;
use members::Members;
use status::Status;
pub(crate) use zones::Zones;

/// Shows and changes the cluster.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Cluster {
    /// Shows zones, nodes, the leader, who answers and who lags, as the leader sees it.
    Status,
    /// Shows the same again and again; in a pipe, a line for each look.
    Watch(watch::Watch),
    /// Lists the members.
    Members,
    /// Shows where calls can be sent, as clients are told.
    Topology(topology::Topology),
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
        let format = context.format();
        if let Self::Remove { node, yes: false } = self {
            bail!(
                "a node is taken out for ever and its id never used again: `twinkeep cluster remove {node} --yes`"
            );
        }
        let client = context.client()?;
        match self {
            Self::Status => show(format, &Status::of(&client, context.pinned().is_some()).await?),
            Self::Watch(watch) => watch.run(context, &client).await,
            Self::Members => show(format, &Members::of(&client, context.pinned().is_some()).await?),
            Self::Topology(topology) => topology.run(context, &client).await,
            Self::Order(order) => order.run(&client, format).await,
            Self::Admit(admit) => admit.run(&client, format).await,
            Self::Promote { nodes: node_ids } => {
                let request = v1::PromoteNodesRequest { node_ids, ..Default::default() };
                show(format, &Members::told(&client.promote_nodes(request).await?.members))
            }
            Self::Remove { node: node_id, .. } => {
                // Afterwards nobody lists it any more.
                let before = client.list_members(v1::ListMembersRequest::default()).await?.members;
                let request = v1::RemoveNodeRequest { node_id, ..Default::default() };
                let members = match client.remove_node(request).await {
                    Ok(answer) => answer.members,
                    // A try whose answer was lost may have taken it out, and a later one found it gone.
                    Err(error) => {
                        let listed = client.list_members(v1::ListMembersRequest::default()).await;
                        let members = listed.map_or_else(|_| before.clone(), |list| list.members);
                        if !is_member(node_id, &before) || is_member(node_id, &members) {
                            return Err(error.into());
                        }
                        members
                    }
                };
                eprintln!("{}", farewell(node_id, &before));
                show(format, &Members::told(&members))
            }
        }
    }
}

/// Returns what keeps the cluster from being healthy; `None` if every node is up and any one zone may be lost.
pub(crate) async fn trouble(client: &Client) -> Result<Option<String>, twinkeep_client::Error> {
    let status = Status::of(client, false).await?;
    let drained = status.leadership.drained_zone;
    let drained = drained.map(|zone| format!("zone {zone} is drained and would not lead"));
    Ok(match status.health.level {
        health::Level::Healthy => drained,
        health::Level::Degraded | health::Level::Down => Some(status.health.summary),
    })
}

/// Whether a node is listed and not as removed.
fn is_member(node_id: u64, members: &[v1::Member]) -> bool {
    let removed = i32::from(v1::Standing::Removed);
    members.iter().any(|member| member.node_id == node_id && member.standing != removed)
}

/// What is left to do when a node is out: it depends on what it has seen.
fn farewell(node_id: u64, members: &[v1::Member]) -> String {
    let witness = i32::from(v1::NodeRole::Witness);
    let role = members.iter().find(|member| member.node_id == node_id).map(|member| member.role);
    match role == Some(witness) {
        true => format!(
            "node {node_id} is out. A witness holds ciphertext and no key: wipe its disk all the same, and admit \
             another one, since without it the loss of a zone stops changes."
        ),
        false => format!(
            "node {node_id} is out. It has seen the keys of software instances in clear: wipe its disk, and if it may \
             have been read by others, make new keys and re-encrypt."
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removed_node_is_no_member() {
        let member = |standing: v1::Standing| v1::Member {
            node_id: 4,
            standing: standing.into(),
            ..Default::default()
        };
        assert!(is_member(4, &[member(v1::Standing::Voter)]));
        assert!(!is_member(4, &[member(v1::Standing::Removed)]));
        assert!(!is_member(5, &[member(v1::Standing::Learner)]));
    }

    #[test]
    fn witness_is_not_said_to_have_seen_keys() {
        let member = |node_id, role: v1::NodeRole| v1::Member {
            node_id,
            role: role.into(),
            ..Default::default()
        };
        let members = [member(1, v1::NodeRole::Data), member(5, v1::NodeRole::Witness)];
        assert!(farewell(1, &members).contains("has seen the keys"));
        assert!(farewell(5, &members).contains("no key"));
        assert!(farewell(9, &members).contains("has seen the keys"), "in doubt it has");
    }
}
