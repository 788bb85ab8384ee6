//! What is measured: nodes of a cluster, the echo service, etcd, and bare functions.

pub(crate) mod bare;
pub(crate) mod certificates;
pub(crate) mod cluster;
pub(crate) mod echo;
pub(crate) mod echo_service;
pub(crate) mod etcd;
pub(crate) mod softhsm;
pub(crate) mod whole;

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use futures::future::try_join_all;
use rustix::process::Pid;
use rustls::ClientConfig;

use crate::load::wire::Connection;

/// A process that answers calls.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    /// How it is called in the output.
    pub(crate) name: &'static str,
    /// The process that answers.
    pub(crate) process: Pid,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// How to speak TLS with it; without TLS otherwise.
    pub(crate) tls: Option<Arc<ClientConfig>>,
}

impl Server {
    /// Opens connections to it.
    pub(crate) async fn connect(&self, count: usize) -> anyhow::Result<Vec<Connection>> {
        let connections = (0..count).map(|_| Connection::open(self.address, self.tls.as_ref()));
        try_join_all(connections).await.with_context(|| format!("{} cannot be reached", self.name))
    }
}

/// Returns the id of a process as the kernel takes it.
pub(crate) fn pid(id: u32) -> anyhow::Result<Pid> {
    i32::try_from(id).ok().and_then(Pid::from_raw).context("a process has no id")
}
