//! Certificates for the echo server and its caller, of the same kinds and keys as a cluster's.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use rustls::{ClientConfig, ServerConfig};
use rustls_pki_types::CertificateDer;
use twinkeep_core::id::{ClusterId, Incarnation, NodeId};
use twinkeep_core::name::CallerName;
use twinkeep_pki::authority::{Authority, Callers, Endpoints, Hosts, Validity};
use twinkeep_pki::{Credential, PrivateKey, pem, tls};

/// How long they are good for: longer than any run.
const LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// The only cluster that they are good for.
const CLUSTER: [u8; 16] = [0xbe; 16];

/// Makes both authorities and a certificate of each, and writes them to a folder.
pub(crate) fn make(folder: &Path) -> anyhow::Result<()> {
    let (cluster, now) = (ClusterId::from_bytes(CLUSTER), now_unix());
    let root_validity = Validity::starting(now, LIFETIME * 2);
    let validity = Validity::starting(now, LIFETIME);
    let endpoints = Authority::<Endpoints>::create(cluster, root_validity)?;
    let callers = Authority::<Callers>::create(cluster, root_validity)?;
    let (endpoint_key, caller_key) = (PrivateKey::generate()?, PrivateKey::generate()?);
    let addresses = vec![IpAddr::V4(Ipv4Addr::LOCALHOST)];
    let endpoint = endpoints.issue_endpoint(
        &endpoint_key.public_key(),
        NodeId::new(1)?,
        Incarnation::new(1)?,
        &Hosts { dns: Vec::new(), addresses },
        validity,
    )?;
    let caller =
        callers.issue_caller(&caller_key.public_key(), CallerName::parse("bench")?, validity)?;
    for (name, certificate) in [
        ("endpoint-root.pem", endpoints.root().clone()),
        ("caller-root.pem", callers.root().clone()),
        ("endpoint.pem", endpoint),
        ("caller.pem", caller),
    ] {
        std::fs::write(folder.join(name), pem::certificates(&[certificate]))?;
    }
    write_key(&folder.join("endpoint.key"), &endpoint_key)?;
    write_key(&folder.join("caller.key"), &caller_key)?;
    Ok(())
}

fn write_key(path: &Path, key: &PrivateKey) -> anyhow::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    Ok(file.write_all(pem::danger_private_key(key).as_bytes())?)
}

/// The echo server's end, configured as a node's endpoint is.
pub(crate) fn server(folder: &Path) -> anyhow::Result<Arc<ServerConfig>> {
    let own = credential(folder, "endpoint")?;
    let roots = certificates(&folder.join("caller-root.pem"))?;
    Ok(tls::endpoint(own, &roots, ClusterId::from_bytes(CLUSTER))?)
}

/// A caller's end: `<caller>.pem`, `<caller>.key` and `endpoint-root.pem` lie in the folder.
pub(crate) fn caller(folder: &Path, caller: &str) -> anyhow::Result<Arc<ClientConfig>> {
    let own = credential(folder, caller)?;
    Ok(tls::caller(Some(own), &certificates(&folder.join("endpoint-root.pem"))?)?)
}

fn credential(folder: &Path, name: &str) -> anyhow::Result<Arc<Credential>> {
    let file = |ending: &str| folder.join(format!("{name}.{ending}"));
    let read = Credential::from_files(file("pem"), file("key"), now_unix());
    Ok(Arc::new(read.with_context(|| format!("the certificate of {name}"))?))
}

fn certificates(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let text = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(pem::read_certificates(&text)?)
}

#[expect(
    clippy::disallowed_methods,
    reason = "certificates of a run are valid around its real time"
)]
fn now_unix() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
