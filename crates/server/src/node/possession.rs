//! A learner shows that it has opened the root key, before it becomes a voter.
//!
//! The proof is bound to the TLS connection that it is asked for on, so that nobody can pass another
//! node's proof on.

use std::sync::Arc;
use std::time::Duration;

use twinkeep_api::ports::{ClusterError, ControlError};
use twinkeep_core::record::NodeRecord;
use twinkeep_keyring::join::Exporter;
use twinkeep_pki::tls::PeerTls;
use twinkeep_proto::peer::v1::{Header, ProvePossessionRequest};
use twinkeep_raft::Me;

use super::desk_client::Desk;
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

    async fn ask(&self, record: &NodeRecord) -> Result<(Exporter, Vec<u8>), ClusterError> {
        self.proof(record).await.map_err(|error| ClusterError::NotReady {
            node: record.id,
            why: format!("it cannot be asked for its proof: {error:#}"),
        })
    }

    async fn proof(&self, record: &NodeRecord) -> anyhow::Result<(Exporter, Vec<u8>)> {
        let address = record.placement.peer_address;
        let mut desk = Desk::of(&self.tls, record.id, address, PROOF_MAX).await?;
        let header = Header {
            cluster_id: self.me.cluster.as_bytes().to_vec().into(),
            incarnation: self.me.incarnation.get(),
            from: self.me.node.get(),
            to: record.id.get(),
            starts: bytes::Bytes::new(),
        };
        let request = ProvePossessionRequest { header: Some(header) };
        let answer = desk.client.prove_possession(request).await;
        let proof = answer.map_err(|status| anyhow::anyhow!("{}", status.message()))?.into_inner();
        Ok((desk.exporter()?, proof.proof.to_vec()))
    }
}
