//! A learner shows that it has opened the root key, before it becomes a voter.
//!
//! The proof is bound to the TLS connection that it is asked for on, so that nobody can pass another
//! node's proof on.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tonic::transport::Endpoint;
use twinkeep_api::ports::{ClusterError, ControlError};
use twinkeep_core::record::NodeRecord;
use twinkeep_pki::Connector;
use twinkeep_pki::tls::PeerTls;
use twinkeep_proto::peer::v1::join_service_client::JoinServiceClient;
use twinkeep_proto::peer::v1::{Header, ProvePossessionRequest};
use twinkeep_raft::Me;

use crate::ports::vault::NodeVault;

/// Longest wait for a proof, connection included.
const PROOF_MAX: Duration = Duration::from_secs(2);

/// Asks learners for proofs.
#[derive(Clone)]
pub(crate) struct Possession {
    tls: PeerTls,
    me: Me,
    vault: Arc<NodeVault>,
}

impl Possession {
    /// Takes how peers are reached and the keys that proofs are checked with.
    pub(crate) fn new(tls: PeerTls, me: Me, vault: Arc<NodeVault>) -> Self {
        Self { tls, me, vault }
    }

    /// Asks a data node to show that it is unsealed.
    pub(crate) async fn check(&self, record: &NodeRecord) -> Result<(), ClusterError> {
        let keyring = self.vault.keyring().map_err(|_| ControlError::Sealed)?;
        let (exporter, proof) = self.ask(record).await?;
        if keyring.is_possession(&exporter, &proof) {
            Ok(())
        } else {
            Err(ClusterError::NotReady {
                node: record.id,
                why: "it is sealed; unseal it first".into(),
            })
        }
    }

    async fn ask(&self, record: &NodeRecord) -> Result<([u8; 32], Vec<u8>), ClusterError> {
        let node = record.id;
        let unreachable = |why: &dyn std::fmt::Display| ClusterError::NotReady {
            node,
            why: format!("it cannot be asked for its proof: {why}"),
        };
        let tls = self.tls.client(Some(node)).map_err(|e| unreachable(&e))?;
        let exporter = Arc::new(OnceLock::new());
        let seen = Arc::clone(&exporter);
        let connector = Connector::new(tls, PROOF_MAX).on_connect(move |connection| {
            let _ = seen.set(*connection.exporter());
        });
        let channel = Endpoint::from_shared(format!("http://{}", record.placement.peer_address))
            .map_err(|e| unreachable(&e))?
            .timeout(PROOF_MAX)
            .connect_with_connector(connector)
            .await
            .map_err(|e| unreachable(&e))?;
        let header = Header {
            cluster_id: self.me.cluster.as_bytes().to_vec().into(),
            incarnation: self.me.incarnation.get(),
            from: self.me.node.get(),
            to: node.get(),
        };
        let request = ProvePossessionRequest { header: Some(header) };
        let answer = JoinServiceClient::new(channel)
            .prove_possession(request)
            .await
            .map_err(|status| unreachable(&status.message()))?;
        let exporter =
            *exporter.get().ok_or_else(|| unreachable(&"the connection has no exporter"))?;
        Ok((exporter, answer.into_inner().proof.to_vec()))
    }
}
