//! Signing, as this crate needs it: batches of commands and manifests of snapshots.

use minicbor::{Decode, Encode};
use twinkeep_core::command::{Batch, Purpose, SignatureVerifier, SignedBatch, Signer};
use twinkeep_core::id::{Epoch, Incarnation, NodeId};
use twinkeep_core::record::{ClusterRecord, NodeRecord, Record};
use twinkeep_core::state::{Fault, Read};
use twinkeep_core::topology::NodeRole;

use crate::transport::Me;

/// Signs with the command key of the newest epoch.
///
/// An implementation signs [`Signer::message`] for this node's own cluster, incarnation and id, and
/// signs nothing while it is sealed. It must not wait: it is called where proposals pass.
pub trait CommandSigner: Send + Sync + 'static {
    /// Returns the epoch and the Ed25519 signature, or `None` while this node is sealed.
    fn sign(&self, purpose: Purpose, payload: &[u8]) -> Option<(Epoch, [u8; 64])>;

    /// Tells whether this node is sealed now.
    fn is_sealed(&self) -> bool;
}

/// Signs a batch; `None` while this node is sealed.
pub(crate) fn sign_batch(me: Me, signer: &dyn CommandSigner, batch: &Batch) -> Option<SignedBatch> {
    let batch = batch.to_bytes();
    let (epoch, signature) = signer.sign(Purpose::Command, &batch)?;
    Some(SignedBatch { incarnation: me.incarnation, epoch, signer: me.node, batch, signature })
}

/// The signature beside a snapshot's manifest. Who signed stands in the manifest.
///
/// Stored and sent as CBOR `[incarnation, epoch, signature (64 bytes)]`.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct SnapshotSignature {
    /// Which life of the cluster it was signed in.
    #[n(0)]
    incarnation: Incarnation,
    /// The epoch whose key signed.
    #[n(1)]
    epoch: Epoch,
    /// Ed25519 over [`Signer::message`] with [`Purpose::Snapshot`].
    #[cbor(n(2), with = "minicbor::bytes")]
    signature: [u8; 64],
}

/// This node is sealed and cannot sign.
#[derive(Debug, thiserror::Error)]
#[error("this node is sealed")]
pub(crate) struct Sealed;

/// Why a snapshot is not believed.
#[derive(Debug, thiserror::Error)]
pub enum Disbelief {
    /// The bytes are no signature.
    #[error("the signature is malformed")]
    Malformed,
    /// No data node of this cluster and incarnation signed it with a key that this node knows.
    #[error("it is not signed by a data node of this cluster and incarnation")]
    NotSigned,
    /// The state could not be read.
    #[error(transparent)]
    State(#[from] Fault),
}

impl SnapshotSignature {
    /// Signs a manifest that names this node as its signer.
    pub(crate) fn sign(
        me: Me,
        signer: &dyn CommandSigner,
        manifest: &[u8],
    ) -> Result<Vec<u8>, Sealed> {
        let (epoch, signature) = signer.sign(Purpose::Snapshot, manifest).ok_or(Sealed)?;
        let signed = Self { incarnation: me.incarnation, epoch, signature };
        Ok(minicbor::to_vec(signed).expect("a Vec takes every byte that is written to it"))
    }

    /// Checks the signature over a manifest that names `by` as its signer.
    ///
    /// A node that has no cluster record yet believes the key that it was told of when it joined. A
    /// signer that this node has no record of may have joined after what it has applied; the key
    /// is known to unsealed data nodes alone.
    ///
    /// # Errors
    /// [`Disbelief`] when the snapshot is not to be used.
    pub(crate) fn verify(
        bytes: &[u8],
        by: NodeId,
        manifest: &[u8],
        judge: &Judge<'_, impl Read + ?Sized>,
    ) -> Result<(), Disbelief> {
        let signed: Self = minicbor::decode(bytes).map_err(|_| Disbelief::Malformed)?;
        let key = match ClusterRecord::load(judge.state, &())? {
            Some(cluster) => {
                let record = NodeRecord::load(judge.state, &by)?;
                if record.is_some_and(|node| node.role != NodeRole::Data) {
                    return Err(Disbelief::NotSigned);
                }
                *cluster.command_key(signed.epoch).ok_or(Disbelief::NotSigned)?
            }
            None => *judge.genesis_key,
        };
        let Me { cluster, incarnation, .. } = judge.me;
        let signer = Signer { cluster, incarnation, epoch: signed.epoch, node: by };
        let message = signer.message(Purpose::Snapshot, manifest);
        let believed = signed.incarnation == incarnation
            && judge.verifier.verify(&key, &message, &signed.signature);
        if believed { Ok(()) } else { Err(Disbelief::NotSigned) }
    }
}

/// What a signature is judged by.
pub(crate) struct Judge<'a, S: ?Sized> {
    pub(crate) me: Me,
    pub(crate) genesis_key: &'a [u8; 32],
    pub(crate) state: &'a S,
    pub(crate) verifier: &'a dyn SignatureVerifier,
}

#[cfg(test)]
mod tests;
