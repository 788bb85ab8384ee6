//! Replaces the node's certificates before they end: its own, which other nodes see, and its endpoint's.
//!
//! An unsealed data node issues both for itself. A witness and a sealed node ask the data nodes in turn for
//! their own. The key stays the same, since the node's record names it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use tokio::time::interval;
use twinkeep_core::record::NodeRecord;
use twinkeep_core::topology::NodeRole;
use twinkeep_pki::{Credential, pem};
use twinkeep_proto::peer::v1::RenewCertificateRequest;

use super::assembly::Assembly;
use super::desk_client::Desk;
use super::{endpoint, node_key};
use crate::config::Config;
use crate::identity::DataDir;

/// How often the remaining time is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(3600);
/// Longest wait for one data node.
const PEER_MAX: Duration = Duration::from_secs(5);

/// Tells whether a certificate is to be replaced now.
pub(crate) fn is_due(config: &Config, credential: &Credential, now_unix: u64) -> bool {
    let before_s = config.certificates.renew_before.as_secs();
    credential.facts().not_after_unix < now_unix.saturating_add(before_s)
}

/// What the renewal works on.
pub(crate) struct Renewal {
    pub(crate) config: Config,
    pub(crate) data: DataDir,
    pub(crate) assembly: Arc<Assembly>,
}

impl Renewal {
    /// Renews the certificate that other nodes see, for as long as the process lives.
    pub(crate) async fn of_node(self) {
        let mut tick = interval(LOOK_INTERVAL);
        loop {
            tick.tick().await;
            if self.is_due(&self.assembly.credential) {
                told("node", self.renew_node().await);
            }
        }
    }

    /// Renews the certificate that callers see, for as long as the process lives.
    pub(crate) async fn of_endpoint(self, credential: Arc<Credential>) {
        let mut tick = interval(LOOK_INTERVAL);
        loop {
            tick.tick().await;
            if self.is_due(&credential) {
                told("endpoint", self.renew_endpoint(&credential));
            }
        }
    }

    fn now_unix(&self) -> u64 {
        self.assembly.clock.unix_ms() / 1000
    }

    fn is_due(&self, credential: &Credential) -> bool {
        is_due(&self.config, credential, self.now_unix())
    }

    fn renew_endpoint(&self, credential: &Credential) -> anyhow::Result<()> {
        ensure!(!self.assembly.unsealer.is_sealed(), "the node is sealed; unseal it");
        endpoint::issue(&self.config, &self.data, &self.assembly)?;
        credential.reload(self.now_unix())?;
        Ok(())
    }

    async fn renew_node(&self) -> anyhow::Result<()> {
        let chain = if self.assembly.unsealer.is_sealed() {
            self.ask().await?
        } else {
            let (view, node) = (self.assembly.state.latest(), self.assembly.me.node);
            let key = node_key(&self.data)?.public_key();
            self.assembly.issuer.certify_node(&view, &key, node)?
        };
        self.data.write("node.pem", chain.as_bytes())?;
        self.assembly.credential.reload(self.now_unix())?;
        Ok(())
    }

    /// Asks the data nodes in turn.
    async fn ask(&self) -> anyhow::Result<String> {
        let me = self.assembly.me.node;
        let records = self.assembly.node().roster().records();
        let mut last = None;
        for peer in records.values().filter(|node| node.role == NodeRole::Data && node.id != me) {
            match self.ask_one(peer).await {
                Ok(chain) => return Ok(chain),
                Err(error) => last = Some(error.context(format!("node {}", peer.id))),
            }
        }
        match last {
            Some(error) => Err(error),
            None => bail!("there is no data node to ask"),
        }
    }

    async fn ask_one(&self, peer: &NodeRecord) -> anyhow::Result<String> {
        let (tls, address) = (&self.assembly.tls, peer.placement.peer_address);
        let mut desk = Desk::of(tls, peer.id, address, PEER_MAX).await?;
        let csr = node_key(&self.data)?.certificate_request()?;
        let request = RenewCertificateRequest { csr_pem: pem::certificate_request(&csr) };
        let answer = desk.client.renew_certificate(request).await;
        let answer = answer.map_err(|status| anyhow::anyhow!("{}", status.message()))?;
        Ok(answer.into_inner().certificate_chain_pem)
    }
}

fn told(what: &'static str, renewed: anyhow::Result<()>) {
    match renewed.with_context(|| format!("the {what}'s certificate is not renewed")) {
        Ok(()) => tracing::info!(what, "a certificate was renewed"),
        Err(error) => tracing::error!(error = format!("{error:#}"), "a certificate is due"),
    }
}
