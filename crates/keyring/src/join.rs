//! How a joining data node of a Shamir cluster gets the root key, and proves that it has it.
//!
//! 1. The joiner makes a [`Joiner`], a key for one message, and sends its public half over the mutual-TLS
//!    channel that its admission is bound to.
//! 2. The sponsor checks the admission, takes a [`DataNode`] from the joiner's record (a witness's record
//!    gives none), and answers [`Keyring::transfer_root`].
//! 3. The joiner opens it with [`Joiner::receive`]. Before it becomes a voter it proves possession:
//!    [`Keyring::possession`], checked by [`Keyring::is_possession`].
//!
//! Both steps are bound to cluster, node and the channel's TLS exporter, so that nothing said here is
//! of use on another channel.
//!
//! | message  | bytes                                                                              |
//! |----------|------------------------------------------------------------------------------------|
//! | request  | 0x01, hybrid public key 1216                                                       |
//! | answer   | 0x01, hybrid ciphertext 1120, root key 32 under AES-256-GCM with tag 16            |
//!
//! The GCM key is derived from the encapsulated secret and serves one message; its nonce is zero.

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use subtle::ConstantTimeEq as _;
use twinkeep_core::id::{ClusterId, NodeId};
use twinkeep_core::record::NodeRecord;
use twinkeep_core::topology::{NodeRole, Standing};
use twinkeep_envelope::kdf::derive;
use twinkeep_envelope::{ExposeKey as _, OpenKey};
use zeroize::Zeroizing;

use crate::kem::{self, CIPHERTEXT_LEN, KemFailed, PUBLIC_LEN, PrivateHalf};
use crate::keyring::Keyring;
use crate::label;

const FORMAT: u8 = 1;

/// Keying material that both ends of the TLS channel have exported (RFC 5705, RFC 8446 7.5); under which
/// label is the channel's matter.
pub type Exporter = [u8; 32];

/// The transfer did not work: bytes that are no message of ours, or of another channel, node or cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the root key could not be transferred over this channel")]
pub struct TransferError;

impl From<KemFailed> for TransferError {
    fn from(_: KemFailed) -> Self {
        Self
    }
}

/// A node that may have the root key: one recorded as a data node and not removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataNode(NodeId);

impl DataNode {
    /// Reads the role in a node's record; a witness is none, and neither is a node that was removed.
    #[must_use]
    pub fn of(record: &NodeRecord) -> Option<Self> {
        let may = record.role == NodeRole::Data && record.standing != Standing::Removed;
        may.then_some(Self(record.id))
    }
}

/// The joiner's side of one transfer.
#[derive(Debug)]
pub struct Joiner(PrivateHalf);

impl Joiner {
    /// Draws a key for one transfer.
    pub fn new() -> Result<Self, TransferError> {
        Ok(Self(PrivateHalf::generate()?))
    }

    /// Returns the request, 1217 bytes.
    #[must_use]
    pub fn request(&self) -> Vec<u8> {
        [&[FORMAT], self.0.public()].concat()
    }

    /// Takes the root key out of the answer.
    pub fn receive(
        self,
        cluster: ClusterId,
        node: NodeId,
        exporter: &Exporter,
        answer: &[u8],
    ) -> Result<OpenKey, TransferError> {
        let [FORMAT, message @ ..] = answer else { return Err(TransferError) };
        let (ciphertext, sealed) = message.split_at_checked(CIPHERTEXT_LEN).ok_or(TransferError)?;
        let secret = self.0.decapsulate(ciphertext)?;
        let (cipher, info) = cipher(&secret, cluster, node, exporter);
        let mut opened = Zeroizing::new(sealed.to_vec());
        let root = cipher
            .open_in_place(nonce(), Aad::from(info), &mut opened)
            .map_err(|_| TransferError)?;
        OpenKey::from_slice(root).ok_or(TransferError)
    }
}

impl Keyring {
    /// Seals the root key to a joining data node.
    pub fn transfer_root(
        &self,
        to: DataNode,
        exporter: &Exporter,
        request: &[u8],
    ) -> Result<Vec<u8>, TransferError> {
        let [FORMAT, public @ ..] = request else { return Err(TransferError) };
        if public.len() != PUBLIC_LEN {
            return Err(TransferError);
        }
        let (secret, ciphertext) = kem::encapsulate(public)?;
        let (cipher, info) = cipher(&secret, self.cluster, to.0, exporter);
        let mut answer = [&[FORMAT], ciphertext.as_slice()].concat();
        let mut root = Zeroizing::new(*self.root().danger_expose());
        let tag = cipher
            .seal_in_place_separate_tag(nonce(), Aad::from(info), root.as_mut_slice())
            .map_err(|_| TransferError)?;
        answer.extend_from_slice(root.as_slice());
        answer.extend_from_slice(tag.as_ref());
        Ok(answer)
    }

    /// Proves over a channel that this node has the current epoch key.
    #[must_use]
    pub fn possession(&self, exporter: &Exporter) -> [u8; 32] {
        *derive(self.current_key(), label::JOIN, exporter).danger_expose()
    }

    /// Checks the other side's proof, in constant time.
    #[must_use]
    pub fn is_possession(&self, exporter: &Exporter, proof: &[u8]) -> bool {
        self.possession(exporter).ct_eq(proof).into()
    }
}

/// Cluster, node and exporter: what a transfer is bound to.
const INFO_LEN: usize = 16 + 8 + 32;

fn cipher(
    secret: &OpenKey,
    cluster: ClusterId,
    node: NodeId,
    exporter: &Exporter,
) -> (LessSafeKey, [u8; INFO_LEN]) {
    let mut info = [0; INFO_LEN];
    info[..16].copy_from_slice(cluster.as_bytes());
    info[16..24].copy_from_slice(&node.get().to_be_bytes());
    info[24..].copy_from_slice(exporter);
    let key = derive(secret, label::TRANSFER, &info);
    let key = UnboundKey::new(&AES_256_GCM, key.danger_expose()).expect("the key has 32 bytes");
    (LessSafeKey::new(key), info)
}

/// The key serves one message.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}
