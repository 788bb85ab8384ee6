//! The certificate that callers see. A data node issues its own while it is unsealed, and keeps it on
//! disk for the time when it is not.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use twinkeep_core::record::{ClusterRecord, Record};
use twinkeep_pki::authority::Hosts;
use twinkeep_pki::{Credential, pem};

use super::assembly::Assembly;
use super::own_key;
use super::renewal::is_due;
use crate::config::Config;
use crate::identity::DataDir;

/// How long an endpoint certificate is good: ninety days.
const LIFETIME: Duration = Duration::from_secs(90 * 24 * 3600);

fn files(data: &DataDir) -> (PathBuf, PathBuf) {
    (data.path("endpoint.pem"), data.path("endpoint.key"))
}

/// Returns the endpoint's certificate: the stored one, or a new one if the node can issue it.
pub(crate) fn credential(
    config: &Config,
    data: &DataDir,
    assembly: &Assembly,
) -> anyhow::Result<Arc<Credential>> {
    let (chain, key) = files(data);
    let now_unix = assembly.clock.unix_ms() / 1000;
    if let Ok(stored) = Credential::from_files(&chain, &key, now_unix)
        && !is_due(config, &stored, now_unix)
        && stored.serves(&hosts(config))
    {
        return Ok(Arc::new(stored));
    }
    if !assembly.unsealer.is_sealed() {
        issue(config, data, assembly)?;
    }
    Credential::from_files(chain, key, now_unix)
        .map(Arc::new)
        .context("the endpoint's certificate cannot be used; remove endpoint.pem and endpoint.key")
}

/// Tells whether the endpoint has no certificate that can be used, and the node cannot issue one before it
/// is unsealed: it was switched off for long, or died before it had its first.
pub(crate) fn needs_key(config: &Config, data: &DataDir, assembly: &Assembly) -> bool {
    let (chain, key) = files(data);
    let stored = Credential::from_files(chain, key, assembly.clock.unix_ms() / 1000);
    assembly.unsealer.is_sealed() && !stored.is_ok_and(|stored| stored.serves(&hosts(config)))
}

/// Where callers find this node.
fn hosts(config: &Config) -> Hosts {
    Hosts { dns: config.api.dns_names.clone(), addresses: vec![config.node.client_address.ip()] }
}

/// Issues the endpoint's certificate; the node must be unsealed.
pub(crate) fn issue(config: &Config, data: &DataDir, assembly: &Assembly) -> anyhow::Result<()> {
    let view = assembly.state.latest();
    let cluster = ClusterRecord::load(&view, &())?.context("the cluster has not begun")?;
    let authority = assembly.issuer.endpoints(&view)?;
    let certificate = authority.issue_endpoint(
        &own_key(data, "endpoint.key")?.public_key(),
        assembly.me.node,
        cluster.incarnation,
        &hosts(config),
        assembly.issuer.validity(LIFETIME),
    )?;
    data.write("endpoint.pem", pem::certificates(&[certificate]).as_bytes())?;
    tracing::info!("the endpoint has a new certificate");
    Ok(())
}
