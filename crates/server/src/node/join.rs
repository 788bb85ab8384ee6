//! Joins a cluster with a pass: the node is recorded, and a data node receives the root key.

use std::time::Duration;

use anyhow::{Context, bail};
use tokio::time::sleep;
use tonic::{Code, Status};
use twinkeep_envelope::OpenKey;
use twinkeep_keyring::join::Joiner;
use twinkeep_pki::pem;
use twinkeep_pki::tls::PeerTls;
use twinkeep_proto::peer::v1::JoinRequest;
use twinkeep_raft::Roster;

use super::desk_client::Desk;
use super::{assembly, node_key};
use crate::clock::SystemClock;
use crate::config::{Config, Role};
use crate::identity::{DataDir, Pass, PinnedPeer};

/// Longest wait for one peer. Above the time that a peer gives the recording itself.
const PEER_MAX: Duration = Duration::from_secs(12);
/// How often all peers are asked before the node gives up; its supervisor starts it again.
const ROUNDS: usize = 20;
/// Pause between two rounds.
const ROUND_PAUSE: Duration = Duration::from_millis(500);

/// Joins the cluster of a pass. Returns the root key for a data node.
///
/// The identity is written last: a node without one has not joined.
pub(crate) async fn join(
    config: &Config,
    data: &DataDir,
    pass: &Pass,
) -> anyhow::Result<Option<OpenKey>> {
    node_key(data)?;
    data.write("node.pem", pass.certificate.as_bytes())?;
    data.write("node-root.pem", pass.node_root.as_bytes())?;
    data.write("pass.toml", pass.to_toml()?.as_bytes())?;
    let credential = assembly::credential(data, &pass.identity, &SystemClock)
        .context("the pass was written for another key; admit this node's own signing request")?;
    let pins = pass.peers.iter().map(PinnedPeer::pin).collect::<anyhow::Result<Vec<_>>>()?;
    let roster = Roster::new(pass.identity.genesis_node()?, pins);
    let roots =
        pem::read_certificates(pass.node_root.as_bytes()).context("the pass's node-root")?;
    let tls = PeerTls::new(credential, roots, pass.identity.cluster()?, roster);
    let root = knock(config, pass, &tls).await?;
    data.save_identity(&pass.identity)?;
    tracing::info!("the node has joined");
    Ok(root)
}

/// Asks the data nodes in turn until one has recorded this node.
async fn knock(config: &Config, pass: &Pass, tls: &PeerTls) -> anyhow::Result<Option<OpenKey>> {
    let mut last = None;
    for _ in 0..ROUNDS {
        for peer in pass.peers.iter().filter(|peer| !peer.witness) {
            match ask(config, pass, tls, peer).await {
                Ok(root) => return Ok(root),
                Err(Refused::ForGood(why)) => bail!("the cluster refuses this node: {why}"),
                Err(Refused::ForNow(why)) => {
                    tracing::info!(peer = %peer.address, why, "a peer could not take the node in");
                    last = Some(why);
                }
            }
        }
        sleep(ROUND_PAUSE).await;
    }
    bail!(
        "no peer could be asked to join: {}",
        last.unwrap_or_else(|| "the pass names no data node".into())
    )
}

/// Why one peer did not take the node in.
enum Refused {
    /// Asking again leads to the same.
    ForGood(String),
    /// Another peer, or the same one later, may do it.
    ForNow(String),
}

impl From<Status> for Refused {
    fn from(status: Status) -> Self {
        let why = status.message().to_owned();
        match status.code() {
            Code::FailedPrecondition | Code::InvalidArgument | Code::PermissionDenied => {
                Self::ForGood(why)
            }
            _ => Self::ForNow(why),
        }
    }
}

async fn ask(
    config: &Config,
    pass: &Pass,
    tls: &PeerTls,
    peer: &PinnedPeer,
) -> Result<Option<OpenKey>, Refused> {
    let for_now = |error: anyhow::Error| Refused::ForNow(format!("{error:#}"));
    let for_good = |error: &dyn std::fmt::Display| Refused::ForGood(error.to_string());
    let id = peer.id().map_err(|e| for_good(&e))?;
    let mut desk = Desk::of(tls, id, peer.address, PEER_MAX).await.map_err(for_now)?;
    let joiner = Joiner::new().map_err(|e| for_good(&e))?;
    let request = request(config, pass, &joiner).map_err(|e| for_good(&format!("{e:#}")))?;
    let answer = desk.client.join(request).await?.into_inner();
    if config.node.role == Role::Witness {
        return Ok(None);
    }
    let exporter = desk.exporter().map_err(|e| for_good(&e))?;
    let (cluster, node) = (pass.identity.cluster(), pass.identity.node());
    let (cluster, node) = (cluster.map_err(|e| for_good(&e))?, node.map_err(|e| for_good(&e))?);
    let root = joiner.receive(cluster, node, &exporter, &answer.sealed_root_key);
    root.map(Some).map_err(|e| for_good(&e))
}

fn request(config: &Config, pass: &Pass, joiner: &Joiner) -> anyhow::Result<JoinRequest> {
    let placement = config.placement()?;
    let witness = config.node.role == Role::Witness;
    let kem_public_key = if witness { Vec::new() } else { joiner.request() };
    Ok(JoinRequest {
        cluster_id: pass.identity.cluster()?.as_bytes().to_vec().into(),
        kem_public_key: kem_public_key.into(),
        witness,
        zone: placement.zone.to_string(),
        vpc: placement.vpc.to_string(),
        vswitch: placement.vswitch.to_string(),
        cidr: placement.cidr.to_string(),
        client_address: placement.client_address.to_string(),
        peer_address: placement.peer_address.to_string(),
    })
}
