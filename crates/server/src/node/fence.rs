//! Keeping a life that has ended from going on.
//!
//! A node of a recovered cluster tells the nodes that the recovery gave up, for as long as it runs: they may come back
//! after weeks. Such a node believes what operators signed, whoever brings it; it writes down that it is lost before it
//! answers, stops, and never starts again. Both ends know each other by certificates of the same authority, which name
//! the life that they are for.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::interval;
use tokio_util::sync::CancellationToken;
use tonic::transport::Endpoint;
use tonic::{Request, Response, Status};
use twinkeep_core::id::{Incarnation, NodeId};
use twinkeep_core::record::{ClusterRecord, NodeRecord, Record, RecoveryRecord};
use twinkeep_core::topology::Standing;
use twinkeep_keyring::CommandVerifier;
use twinkeep_pki::certificate::SpkiSha256;
use twinkeep_pki::{Connector, PeerTrust};
use twinkeep_proto::peer::v1::fence_service_client::FenceServiceClient;
use twinkeep_proto::peer::v1::fence_service_server::FenceService;
use twinkeep_proto::peer::v1::{FenceRequest, FenceResponse};
use twinkeep_storage::StateDb;

use super::assembly::Assembly;
use crate::identity::DataDir;
use crate::lives::{Ended, Progress};

/// How often the lost nodes are told.
const TELL_INTERVAL: Duration = Duration::from_secs(2);
/// Longest wait for one of them.
const NODE_MAX: Duration = Duration::from_secs(1);

/// Answers `FenceService`.
pub(crate) struct FenceDesk {
    node: NodeId,
    data: DataDir,
    state: Arc<StateDb>,
    fenced: CancellationToken,
}

impl FenceDesk {
    /// Takes who the node is and where it writes down that it was given up.
    pub(crate) fn new(data: &DataDir, assembly: &Assembly) -> Self {
        Self {
            node: assembly.me.node,
            data: data.clone(),
            state: Arc::clone(&assembly.state),
            fenced: assembly.fenced.clone(),
        }
    }

    fn believe(&self, bytes: &[u8]) -> Result<RecoveryRecord, Status> {
        let recovery = RecoveryRecord::from_bytes(bytes)
            .ok_or_else(|| Status::invalid_argument("recovery: the bytes are no recovery"))?;
        let cluster = ClusterRecord::load(&self.state.latest(), &());
        let cluster = cluster.map_err(|error| Status::internal(error.to_string()))?;
        let cluster = cluster.ok_or_else(|| Status::failed_precondition("nothing was applied"))?;
        let signed = recovery.order.check_signed(&recovery.approvals, &cluster, &CommandVerifier);
        signed.map_err(|unfit| Status::failed_precondition(unfit.to_string()))?;
        Ok(recovery)
    }
}

#[tonic::async_trait]
impl FenceService for FenceDesk {
    async fn fence(
        &self,
        request: Request<FenceRequest>,
    ) -> Result<Response<FenceResponse>, Status> {
        let RecoveryRecord { order, .. } = self.believe(&request.into_inner().recovery)?;
        let fenced = order.lost.contains(&self.node);
        if fenced {
            let ended = Ended::new(Progress::Lost, &order);
            ended.save(&self.data).map_err(|error| {
                tracing::error!(
                    error = format!("{error:#}"),
                    "that this node was given up is not on disk"
                );
                Status::internal("it could not be written down")
            })?;
            tracing::error!(by = %order.ends, "the cluster was recovered without this node; it stops");
            self.fenced.cancel();
        } else {
            tracing::warn!("the cluster was recovered, and this node is to go on in its next life");
        }
        Ok(Response::new(FenceResponse { fenced }))
    }
}

/// A node that a recovery gave up.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Lost {
    node: NodeId,
    incarnation: Incarnation,
    spki_sha256: SpkiSha256,
    address: SocketAddr,
}

/// Trusts one lost node, so far as it may be told.
impl PeerTrust for Lost {
    fn trusts(&self, node: NodeId, incarnation: Incarnation, spki_sha256: &SpkiSha256) -> bool {
        (node, incarnation, spki_sha256) == (self.node, self.incarnation, &self.spki_sha256)
    }
}

/// Tells the nodes that recoveries gave up, for as long as the process lives.
pub(crate) async fn tell_the_lost(assembly: Arc<Assembly>) {
    let mut tick = interval(TELL_INTERVAL);
    let mut told = BTreeSet::new();
    loop {
        tick.tick().await;
        let lost = match lost(&assembly) {
            Ok(lost) => lost,
            Err(error) => {
                tracing::error!(error = format!("{error:#}"), "the recoveries cannot be read");
                continue;
            }
        };
        for (lost, recovery) in lost {
            if told.contains(&lost.node) {
                continue;
            }
            match tell(&assembly, &lost, recovery).await {
                Ok(true) => {
                    tracing::warn!(node = %lost.node, "a node that was given up has come back and was stopped");
                    told.insert(lost.node);
                }
                Ok(false) => {}
                Err(error) => tracing::debug!(node = %lost.node, %error, "a lost node is silent"),
            }
        }
    }
}

/// Returns the lost nodes at whose addresses nobody of this life stands, with what each is told.
fn lost(assembly: &Assembly) -> anyhow::Result<Vec<(Lost, Vec<u8>)>> {
    let state = assembly.state.latest();
    let nodes = NodeRecord::all(&state)?;
    let is_taken = |address: SocketAddr| {
        let living = nodes.iter().filter(|node| node.standing != Standing::Removed);
        living.into_iter().any(|node| node.placement.peer_address == address)
    };
    let mut all = Vec::new();
    for recovery in RecoveryRecord::history(&state)? {
        let bytes = recovery.to_bytes();
        for record in nodes.iter().filter(|node| recovery.order.lost.contains(&node.id)) {
            let NodeRecord { id: node, incarnation, spki_sha256, .. } = *record;
            let address = record.placement.peer_address;
            if !is_taken(address) {
                all.push((Lost { node, incarnation, spki_sha256, address }, bytes.clone()));
            }
        }
    }
    Ok(all)
}

/// Tells one lost node; says whether it has stopped itself.
async fn tell(assembly: &Assembly, lost: &Lost, recovery: Vec<u8>) -> anyhow::Result<bool> {
    let tls = assembly.tls.trusting(Arc::new(lost.clone())).client(Some(lost.node))?;
    let endpoint = Endpoint::from_shared(format!("http://{}", lost.address))?.timeout(NODE_MAX);
    let channel = endpoint.connect_with_connector(Connector::new(tls, NODE_MAX)).await?;
    let request = FenceRequest { recovery: recovery.into() };
    let answer = FenceServiceClient::new(channel).fence(request).await?;
    Ok(answer.into_inner().fenced)
}
