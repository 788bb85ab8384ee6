//! The cluster in its network: who leads, whether it is whole, and losing a zone of it.

use std::time::Duration;

use anyhow::{Context, ensure};
use futures::stream::{self, StreamExt as _};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{Instant, sleep};
use twinkeep_client::Client;
use twinkeep_client::v1;
use twinkeep_tests::{Cluster, Node};

use super::load::crypto::encrypt;
use super::load::writer::Write;
use super::network::{Fault, Network};
use crate::servers::whole::Views;

/// The caller with every role.
const APP: &str = "app";
/// Longest wait for a node to end by itself.
const EXIT_MAX: Duration = Duration::from_secs(30);
/// Keys that are looked at together.
const CHECKS: usize = 32;

/// When a fault was injected.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Injected {
    /// Before anything was done; all times count from here.
    pub(crate) began: Instant,
    /// When it was in force.
    pub(crate) ended: Instant,
}

/// How a zone is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// Its processes are killed; their connections break at once.
    Killed,
    /// No packet comes to it or from it; nobody is told.
    Silent,
}

/// A cluster of five nodes in a network; it ends when this is dropped.
pub(crate) struct Site<'n> {
    network: &'n Network,
    cluster: Cluster,
    views: Views,
}

impl<'n> Site<'n> {
    /// Makes a fresh cluster.
    pub(crate) async fn start(network: &'n Network, log_filter: &str) -> anyhow::Result<Self> {
        let cluster =
            Cluster::start_with(&["--namespaces", network.beginning(), "--log-filter", log_filter])
                .await?;
        let views = Views::of(&cluster)?;
        Ok(Self { network, cluster, views })
    }

    /// Returns a client of an application in a zone, as anybody would make it.
    pub(crate) fn client_in(&self, zone: &str) -> anyhow::Result<Client> {
        self.cluster.client_in(APP, zone)
    }

    /// Returns the key that everybody encrypts with.
    pub(crate) fn first_key(&self) -> anyhow::Result<String> {
        self.cluster.first_key()
    }

    /// Returns a request for a new key.
    pub(crate) fn new_key(&self) -> anyhow::Result<v1::CreateKeyRequest> {
        self.cluster.new_key()
    }

    /// Returns the nodes in the order of a rolling restart.
    pub(crate) fn nodes(&self) -> &[Node] {
        self.cluster.nodes()
    }

    /// Returns what every node has said.
    pub(crate) fn messages(&self) -> Vec<(String, String)> {
        let said = |node: &Node| (node.name.clone(), self.cluster.messages(node));
        self.cluster.nodes().iter().map(said).collect()
    }

    /// Returns the processes of all nodes outside a zone.
    pub(crate) fn processes_outside(&self, zone: Option<&str>) -> Vec<Pid> {
        let nodes = self.cluster.nodes().iter().filter(|node| Some(&*node.zone) != zone);
        nodes.filter_map(|node| self.cluster.pid(node)).collect()
    }

    /// Waits until a data node leads, all nodes have caught up, and every zone is counted on. Returns the leader.
    pub(crate) async fn until_whole(&self) -> anyhow::Result<Node> {
        Ok(self.views.until_whole().await?.leader)
    }

    /// Cuts the zones with data from each other.
    pub(crate) fn cut_zones(&self) -> anyhow::Result<()> {
        self.network.inject(Fault::Cut("a", "b"))
    }

    /// Loses a zone.
    pub(crate) fn lose(&self, zone: &str, way: Way) -> anyhow::Result<Injected> {
        let nodes: Vec<_> = self.cluster.nodes().iter().filter(|node| node.zone == zone).collect();
        let processes = nodes.iter().map(|node| {
            self.cluster.pid(node).with_context(|| format!("node {} does not run", node.name))
        });
        let processes = processes.collect::<anyhow::Result<Vec<_>>>()?;
        let began = Instant::now();
        match way {
            Way::Silent => self.network.inject(Fault::Silent(zone))?,
            Way::Killed => {
                for process in processes {
                    kill_process(process, Signal::KILL)?;
                }
            }
        }
        Ok(Injected { began, ended: Instant::now() })
    }

    /// Undoes whatever was done; returns how many packets were dropped.
    pub(crate) fn restore(&self, zone: &str, way: Way) -> anyhow::Result<u64> {
        let dropped = self.network.heal()?;
        if way == Way::Killed {
            self.cluster.kill(self.cluster.nodes().iter().filter(|node| node.zone == zone))?;
            self.cluster.twinkeep(&["dev", "start-zone", zone])?;
        }
        Ok(dropped)
    }

    /// Tells a node to stop and waits for its end.
    pub(crate) async fn stop(&self, node: &Node) -> anyhow::Result<()> {
        let process = self.cluster.pid(node).context("the node does not run")?;
        kill_process(process, Signal::TERM)?;
        let began = Instant::now();
        while self.cluster.pid(node).is_some() {
            ensure!(began.elapsed() < EXIT_MAX, "node {} does not end", node.name);
            sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// Starts a node that was stopped.
    pub(crate) fn start_node(&self, node: &Node) -> anyhow::Result<()> {
        self.cluster.twinkeep(&["dev", "start-node", &node.name]).map(drop)
    }

    /// Uses every key that was acknowledged, on a node of each zone; returns those that cannot be used.
    pub(crate) async fn lost(&self, writes: &[Write]) -> anyhow::Result<Vec<String>> {
        let keys: Vec<&str> =
            writes.iter().filter_map(|write| write.key_id.as_deref().ok()).collect();
        let mut lost = Vec::new();
        for zone in ["a", "b"] {
            let node = self.cluster.data_nodes().find(|node| node.zone == zone);
            let client = self.cluster.client_at(APP, node.context("a zone without nodes")?)?;
            // A node that has not applied all of it yet waits until it has.
            client.require_state_index(writes.iter().map(|w| w.state_index).max().unwrap_or(0));
            let checks = stream::iter(keys.iter().copied()).map(|key_id| {
                let client = &client;
                async move { (key_id, encrypt(client, key_id).await.err()) }
            });
            let mut checks = checks.buffer_unordered(CHECKS);
            while let Some((key_id, error)) = checks.next().await {
                lost.extend(error.map(|error| format!("{key_id} in zone {zone}: {error:#}")));
            }
        }
        Ok(lost)
    }
}

/// Returns the other zone with data.
pub(crate) fn other_than(zone: &str) -> &'static str {
    if zone == "a" { "b" } else { "a" }
}
