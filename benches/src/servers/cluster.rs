//! A cluster of five processes, made as `twinkeep dev up` makes it, and what is asked of it.
//!
//! All of it starts on the load generator's core, so that each node's runtime finds one core and starts one
//! worker thread. The node whose turn it is then gets the server's core to itself; the others go on with
//! their heartbeats beside the load generator.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use prost::Message;
use rustix::process::Pid;
use tokio::time::sleep;
use twinkeep_client::{Client, v1};
use twinkeep_tests::{Cluster, Node};

use super::{Server, certificates};
use crate::load::wire::Connection;

/// The caller with every role.
pub(crate) const APP: &str = "app";
/// The caller who signs with RSA while others encrypt.
pub(crate) const SIGNER: &str = "signer";

/// Longest wait for a data node to lead: a witness that was elected hands over.
const LEADER_MAX: Duration = Duration::from_secs(10);
/// Pause between two looks.
const LEADER_PACE: Duration = Duration::from_millis(100);

/// A running cluster; it ends when this is dropped.
pub(crate) struct Nodes {
    cluster: Cluster,
}

impl Nodes {
    /// Starts a fresh cluster, with a second caller.
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let nodes = Self { cluster: Cluster::start().await? };
        let folder = nodes.callers().display().to_string();
        let access = |arguments: &[&str]| {
            nodes.cluster.twinkeep(&[&["--as", "admin", "access"], arguments].concat())
        };
        access(&["issue-certificate", SIGNER, "--out", &folder])?;
        access(&["grant", SIGNER, "--role", "KEY_USER"])?;
        Ok(nodes)
    }

    fn callers(&self) -> PathBuf {
        self.cluster.path("callers")
    }

    /// Returns the processes of all nodes.
    pub(crate) fn processes(&self) -> anyhow::Result<Vec<Pid>> {
        self.cluster.nodes().iter().map(|node| self.process(node)).collect()
    }

    fn process(&self, node: &Node) -> anyhow::Result<Pid> {
        self.cluster.pid(node).with_context(|| {
            format!("node {} has ended:\n{}", node.name, self.cluster.messages(node))
        })
    }

    /// Returns a node as a server that `caller` calls.
    pub(crate) fn server(&self, node: &Node, caller: &str) -> anyhow::Result<Server> {
        Ok(Server {
            name: "twinkeepd",
            process: self.process(node)?,
            address: node.client_address,
            tls: Some(certificates::caller(&self.callers(), caller)?),
        })
    }

    /// Waits until a data node leads; returns it, and one of another zone that follows.
    pub(crate) async fn leader_and_follower(&self) -> anyhow::Result<(Node, Node)> {
        let started = Instant::now();
        loop {
            match self.roles().await {
                Err(_) if started.elapsed() < LEADER_MAX => sleep(LEADER_PACE).await,
                roles => return roles,
            }
        }
    }

    async fn roles(&self) -> anyhow::Result<(Node, Node)> {
        let admin = self.cluster.client("admin")?;
        let id = admin.get_status(v1::GetStatusRequest::default()).await?.leader_node_id;
        let members = admin.list_members(v1::ListMembersRequest::default()).await?.members;
        let member = members.into_iter().find(|member| member.node_id == id);
        let address = member.and_then(|member| member.placement).map(|place| place.peer_address);
        let leader = self
            .cluster
            .data_nodes()
            .find(|node| Some(node.peer_address.to_string()) == address)
            .context("no data node leads")?;
        let follower = self.cluster.data_nodes().find(|node| node.zone != leader.zone);
        Ok((leader.clone(), follower.context("there is no follower")?.clone()))
    }

    /// Returns the client library's view of one node.
    pub(crate) fn client(&self, node: &Node) -> anyhow::Result<Client> {
        self.cluster.client_at(APP, node)
    }

    /// Returns the cluster as tests see it.
    pub(crate) fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Creates a key and waits until a node can use it; returns its id.
    pub(crate) async fn create_key(
        &self,
        node: &Node,
        spec: v1::KeySpec,
    ) -> anyhow::Result<String> {
        let usage = match spec {
            v1::KeySpec::Aes256 => v1::KeyUsage::EncryptDecrypt,
            _ => v1::KeyUsage::SignVerify,
        };
        let request = v1::CreateKeyRequest {
            spec: spec.into(),
            usage: usage.into(),
            ..self.cluster.new_key()?
        };
        let created = self.client(node)?.create_key(request).await?;
        Ok(created.key.context("the answer has no key")?.key_id)
    }
}

/// Asks a server one thing.
pub(crate) async fn ask<A>(
    server: &Server,
    method: &'static str,
    request: &impl Message,
) -> anyhow::Result<A>
where
    A: Message + Default,
{
    ensure!(method.starts_with('/'), "{method} is no method");
    let connection = Connection::open(server.address, server.tls.as_ref()).await?;
    connection.prepare(method)?.ask(request).await.with_context(|| format!("{method} failed"))
}
