//! Takes in admitted nodes: records them, and hands data nodes the root key.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tonic::{Request, Response, Status};
use twinkeep_api::ports::ControlPlane;
use twinkeep_core::command::{Command, Proposal};
use twinkeep_core::id::{NodeId, Revision};
use twinkeep_core::outcome::{Applied, Outcome};
use twinkeep_core::record::NodeRecord;
use twinkeep_core::topology::{NodeRole, Placement, Standing};
use twinkeep_keyring::join::DataNode;
use twinkeep_pki::{ConnectInfo, Facts, Identity};
use twinkeep_proto::peer::v1::join_service_server::JoinService;
use twinkeep_proto::peer::v1::{
    JoinRequest, JoinResponse, ProvePossessionRequest, ProvePossessionResponse,
    RenewCertificateRequest, RenewCertificateResponse,
};
use twinkeep_raft::Me;

use super::assembly::Assembly;
use crate::ports::control::Control;
use crate::ports::issuer::{Issuer, requested_key};
use crate::ports::vault::NodeVault;

/// Longest time for recording a node.
const RECORD_MAX: Duration = Duration::from_secs(10);

/// Answers `JoinService`.
pub(crate) struct JoinDesk {
    me: Me,
    control: Arc<Control>,
    vault: Arc<NodeVault>,
    issuer: Arc<Issuer>,
}

impl JoinDesk {
    /// Takes what recording and handing over needs.
    pub(crate) fn new(assembly: &Assembly) -> Self {
        Self {
            me: assembly.me,
            control: Arc::clone(&assembly.control),
            vault: Arc::clone(&assembly.vault),
            issuer: Arc::clone(&assembly.issuer),
        }
    }

    /// Records the node. The replicated state checks admission and placement.
    async fn record(&self, node: NodeRecord) -> Result<NodeRecord, Status> {
        let command = Command::JoinNode { node: Box::new(node) };
        let proposal = Proposal { actor: None, token: None, command };
        let committed = self.control.propose(proposal, Instant::now() + RECORD_MAX).await;
        match committed.map_err(|error| Status::unavailable(error.to_string()))?.outcome {
            Outcome::Applied(Applied::Nodes(mut nodes)) if nodes.len() == 1 => Ok(nodes.remove(0)),
            Outcome::Applied(_) => Err(Status::internal("joining led to something else")),
            Outcome::Refused(refusal) => Err(Status::failed_precondition(refusal.to_string())),
        }
    }
}

/// Returns what the certificate at the other end says, and the keying material of the connection.
fn peer<T>(request: &Request<T>) -> Result<(Facts, [u8; 32]), Status> {
    let connection = request.extensions().get::<ConnectInfo>();
    let facts = connection.and_then(|connection| connection.peer().cloned());
    match (facts, connection) {
        (Some(facts), Some(connection)) => Ok((facts, *connection.exporter())),
        _ => Err(Status::unauthenticated("the connection shows no node's certificate")),
    }
}

#[tonic::async_trait]
impl JoinService for JoinDesk {
    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinResponse>, Status> {
        let (facts, exporter) = peer(&request)?;
        let request = request.into_inner();
        let Identity::Node { cluster, node, incarnation } = facts.identity else {
            return Err(Status::permission_denied("only nodes join"));
        };
        if cluster != self.me.cluster || request.cluster_id.as_ref() as &[u8] != cluster.as_bytes()
        {
            return Err(Status::failed_precondition("this node belongs to another cluster"));
        }
        // Without keys nothing can be signed, so that this is asked first.
        let keyring =
            self.vault.keyring().map_err(|error| Status::unavailable(error.to_string()))?;
        let record = self
            .record(NodeRecord {
                id: node,
                role: if request.witness { NodeRole::Witness } else { NodeRole::Data },
                standing: Standing::Learner,
                placement: placement(&request)?,
                spki_sha256: facts.spki_sha256,
                incarnation,
                revision: Revision::FIRST,
                removed_ms: None,
            })
            .await?;
        tracing::info!(node = %record.id, zone = %record.placement.zone, "a node has joined");
        let sealed_root_key = match DataNode::of(&record) {
            Some(to) => keyring
                .transfer_root(to, &exporter, &request.kem_public_key)
                .map_err(|error| Status::invalid_argument(error.to_string()))?,
            None => Vec::new(),
        };
        Ok(Response::new(JoinResponse { sealed_root_key: sealed_root_key.into() }))
    }

    async fn prove_possession(
        &self,
        request: Request<ProvePossessionRequest>,
    ) -> Result<Response<ProvePossessionResponse>, Status> {
        let (facts, exporter) = peer(&request)?;
        let asker = |node: NodeId| self.control.node().roster().is_data(node.get());
        if !matches!(facts.identity, Identity::Node { node, .. } if asker(node)) {
            return Err(Status::permission_denied("only data nodes of the cluster ask for proofs"));
        }
        // No keys, no proof: the asker sees an empty one.
        let proof = self.vault.keyring().map(|keyring| keyring.possession(&exporter).to_vec());
        Ok(Response::new(ProvePossessionResponse { proof: proof.unwrap_or_default().into() }))
    }

    async fn renew_certificate(
        &self,
        request: Request<RenewCertificateRequest>,
    ) -> Result<Response<RenewCertificateResponse>, Status> {
        let (facts, _) = peer(&request)?;
        let Identity::Node { node, incarnation, .. } = facts.identity else {
            return Err(Status::permission_denied("only members renew their certificates"));
        };
        let member = self.control.node().roster().living(node.get());
        let is_own = |record: &NodeRecord| {
            record.spki_sha256 == facts.spki_sha256 && record.incarnation == incarnation
        };
        if !member.as_ref().is_some_and(is_own) {
            return Err(Status::permission_denied("only members renew their certificates"));
        }
        let key = requested_key(&request.get_ref().csr_pem)
            .map_err(|error| Status::invalid_argument(format!("csr_pem: {error}")))?;
        if key.sha256() != facts.spki_sha256 {
            return Err(Status::invalid_argument("csr_pem: a member keeps its key"));
        }
        let chain = self.issuer.certify_node(&*self.control.view(), &key, node);
        let certificate_chain_pem =
            chain.map_err(|error| Status::unavailable(error.to_string()))?;
        tracing::info!(%node, "a member has a new certificate");
        Ok(Response::new(RenewCertificateResponse { certificate_chain_pem }))
    }
}

fn placement(request: &JoinRequest) -> Result<Placement, Status> {
    fn field<T: std::str::FromStr>(name: &str, text: &str) -> Result<T, Status>
    where
        T::Err: std::fmt::Display,
    {
        text.parse().map_err(|error| Status::invalid_argument(format!("{name}: {error}")))
    }
    Ok(Placement {
        zone: field("zone", &request.zone)?,
        vpc: field("vpc", &request.vpc)?,
        vswitch: field("vswitch", &request.vswitch)?,
        cidr: field("cidr", &request.cidr)?,
        client_address: field("client_address", &request.client_address)?,
        peer_address: field("peer_address", &request.peer_address)?,
    })
}
