//! A cluster of five with learners beside it, each node in a control group of its own.

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::Context;
use rustix::process::Pid;
use tempfile::TempDir;
use twinkeep_client::v1;
use twinkeep_tests::{Cluster, Node};

use super::clocks::Clocks;
use super::groups::{Group, Groups};
use super::records::Part;
use crate::servers::cluster::APP;
use crate::servers::whole::{Views, Whole};
use crate::servers::{Server, certificates};

/// The zones that learners join, in turn.
const ZONES: [&str; 2] = ["a", "b"];
/// Nodes before learners join: two in each zone, and the witness.
const VOTERS: usize = 5;

/// The cluster; it ends when this is dropped.
pub(crate) struct Site {
    cluster: Cluster,
    views: Views,
    members: Vec<Member>,
    /// The learners' folder, if they have a disk of their own; it goes after the cluster has ended.
    _disk: Option<TempDir>,
}

/// A node that runs.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) node: Node,
    /// As the cluster numbers it.
    pub(crate) id: u64,
    pub(crate) part: Part,
    pub(crate) process: Pid,
    pub(crate) group: Group,
}

impl Site {
    /// Makes a fresh cluster with so many learners, which keep their data in a folder of `disk` if there is one. No node
    /// has a quota yet.
    pub(crate) async fn start(
        learners: u32,
        groups: &Groups,
        disk: Option<&Path>,
    ) -> anyhow::Result<Self> {
        let folder = |disk| tempfile::Builder::new().prefix("twinkeep-learners-").tempdir_in(disk);
        let disk = disk.map(folder).transpose().context("--learners-disk")?;
        let mut cluster = Cluster::start().await?;
        for (number, zone) in (0..learners).zip(ZONES.into_iter().cycle()) {
            // a3, b3, a4, b4: the voters have the numbers before.
            let name = format!("{zone}{}", 3 + number / 2);
            if let Some(disk) = &disk {
                let folder = disk.path().join(&name);
                std::fs::create_dir(&folder)?;
                symlink(&folder, cluster.path(&name))?;
            }
            cluster.add_node(&name, zone)?;
        }
        let views = Views::of(&cluster)?;
        let ids = ids(&cluster).await?;
        let members = cluster.nodes().iter().enumerate().map(|(place, node)| {
            let process = cluster.pid(node).context("a node has ended")?;
            let group = groups.group(&node.name)?;
            group.add(process)?;
            // Learners join behind the five that began.
            let id = *ids.get(&node.peer_address.to_string()).context("a node is no member")?;
            let part = match (node.witness, place >= VOTERS) {
                (true, _) => Part::Witness,
                (false, true) => Part::Learner,
                (false, false) => Part::Voter,
            };
            Ok(Member { node: node.clone(), id, part, process, group })
        });
        let members = members.collect::<anyhow::Result<_>>()?;
        Ok(Self { cluster, views, members, _disk: disk })
    }

    /// Gives nodes so many percent of a core, or as much as there is.
    pub(crate) fn limit(
        &self,
        which: impl Fn(&Member) -> bool,
        percent: Option<u32>,
    ) -> anyhow::Result<()> {
        self.members.iter().filter(|m| which(m)).try_for_each(|m| m.group.limit(percent))
    }

    /// Lets the voters be as fast as the machine lets them, as if it were theirs alone: learners keep their shares and
    /// take no more than voters leave.
    pub(crate) fn stand_learners_back(&self) -> anyhow::Result<()> {
        self.limit(|member| member.part != Part::Learner, None)?;
        let learners = self.members.iter().filter(|member| member.part == Part::Learner);
        learners.map(|member| &member.group).try_for_each(Group::stand_back)
    }

    /// Waits until a data node leads and everybody has caught up.
    pub(crate) async fn until_whole(&self) -> anyhow::Result<Whole> {
        self.views.until_whole().await
    }

    /// Returns all nodes, the witness among them.
    pub(crate) fn members(&self) -> &[Member] {
        &self.members
    }

    /// Returns the nodes that serve callers.
    pub(crate) fn serving(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| member.part != Part::Witness)
    }

    /// Returns the member that a node is.
    pub(crate) fn member(&self, node: &Node) -> anyhow::Result<&Member> {
        let member = self.members.iter().find(|member| member.node.name == node.name);
        member.with_context(|| format!("no member is {}", node.name))
    }

    /// Returns a node as the caller with every role calls it.
    pub(crate) fn server(&self, member: &Member) -> anyhow::Result<Server> {
        Ok(Server {
            name: "twinkeepd",
            process: member.process,
            address: member.node.client_address,
            tls: Some(certificates::caller(&self.cluster.path("callers"), APP)?),
        })
    }

    /// Returns the cluster as tests see it.
    pub(crate) fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Reads what is counted of all nodes, and what the leader has sent, before something begins.
    pub(crate) fn at_begin(&self, leader: &Member) -> anyhow::Result<Clocks> {
        Clocks::at_begin(&self.members, leader)
    }

    /// Reads what is counted of all nodes, and what the leader has sent, when something has ended.
    pub(crate) fn at_end(&self, leader: &Member) -> anyhow::Result<Clocks> {
        Clocks::at_end(&self.members, leader)
    }
}

/// Returns the nodes' ids by where nodes reach them.
async fn ids(cluster: &Cluster) -> anyhow::Result<BTreeMap<String, u64>> {
    let request = v1::ListMembersRequest::default();
    let members = cluster.client("admin")?.list_members(request).await?.members;
    let placed = members.into_iter().filter_map(|member| {
        member.placement.map(|placement| (placement.peer_address, member.node_id))
    });
    Ok(placed.collect())
}
