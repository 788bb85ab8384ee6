//! Sealing and opening records with the node's keyring.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use twinkeep_api::ports::{Vault, VaultError};
use twinkeep_core::command::Purpose;
use twinkeep_core::id::{
    Epoch, Incarnation, InstanceId, KeyId, KeyVersionNumber, NodeId, Revision,
};
use twinkeep_core::record::{Digest, InstanceRecord, SealedRecord};
use twinkeep_core::state::Read;
use twinkeep_envelope::SecretBytes;
use twinkeep_keyring::{Keyring, KeyringSlot, RecordError};
use twinkeep_raft::CommandSigner;

/// The node's keyring, empty while the node is sealed, with what signs and seals by it.
#[derive(Debug)]
pub(crate) struct NodeVault {
    slot: KeyringSlot,
    generation: AtomicU64,
    incarnation: Incarnation,
    node: NodeId,
}

impl NodeVault {
    /// Makes a sealed vault.
    pub(crate) fn new(incarnation: Incarnation, node: NodeId) -> Self {
        Self { slot: KeyringSlot::default(), generation: AtomicU64::new(0), incarnation, node }
    }

    /// Puts an open keyring in its place.
    pub(crate) fn unseal(&self, keyring: Keyring) {
        self.slot.unseal(keyring);
        self.generation.fetch_add(1, Ordering::SeqCst);
    }

    /// Drops the keyring; returns how many calls still use it.
    pub(crate) fn seal(&self) -> usize {
        self.slot.seal()
    }

    /// Tells whether the node holds no key.
    pub(crate) fn is_sealed(&self) -> bool {
        self.slot.is_sealed()
    }

    /// Returns the keyring for the length of one call.
    pub(crate) fn keyring(&self) -> Result<Arc<Keyring>, VaultError> {
        self.slot.keyring().map_err(|_| VaultError::Sealed)
    }
}

impl Vault for NodeVault {
    fn generation(&self) -> Option<u64> {
        (!self.is_sealed()).then(|| self.generation.load(Ordering::SeqCst))
    }

    fn seal_material(
        &self,
        state: &dyn Read,
        instance: &InstanceRecord,
        key: (&KeyId, KeyVersionNumber),
        material: &SecretBytes,
    ) -> Result<SealedRecord, VaultError> {
        let keyring = self.keyring()?;
        keyring.seal_material(state, instance, key, Revision::FIRST, material).map_err(vault_error)
    }

    fn open_material(
        &self,
        state: &dyn Read,
        record: &SealedRecord,
    ) -> Result<SecretBytes, VaultError> {
        self.keyring()?.open_material(state, record).map_err(vault_error)
    }

    fn seal_instance_key(
        &self,
        _: &dyn Read,
        instance: InstanceId,
    ) -> Result<SealedRecord, VaultError> {
        self.keyring()?.new_instance_key(&instance).map_err(vault_error)
    }

    fn request_digest(&self, _: &dyn Read, request: &[u8]) -> Result<Digest, VaultError> {
        Ok(self.keyring()?.request_digest(request))
    }
}

pub(crate) fn vault_error(error: RecordError) -> VaultError {
    match error {
        RecordError::State(fault) => VaultError::Fault(fault),
        damaged @ (RecordError::NoInstanceKey(..)
        | RecordError::NoEpochKey(_)
        | RecordError::Damaged(_)) => VaultError::Damaged(damaged.into()),
        failed @ (RecordError::Seal(_) | RecordError::Randomness(_) | RecordError::Memory(_)) => {
            VaultError::Failed(failed.into())
        }
    }
}

impl CommandSigner for NodeVault {
    fn sign(&self, purpose: Purpose, payload: &[u8]) -> Option<(Epoch, [u8; 64])> {
        let keyring = self.slot.keyring().ok()?;
        Some(keyring.sign(purpose, self.incarnation, self.node, payload))
    }

    fn is_sealed(&self) -> bool {
        self.slot.keyring().is_err()
    }
}
