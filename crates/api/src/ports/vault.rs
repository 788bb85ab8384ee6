//! Sealing and opening records under the keys of the instances.

use twinkeep_core::id::{InstanceId, KeyId, KeyVersionNumber};
use twinkeep_core::record::{Digest, InstanceRecord, SealedRecord};
use twinkeep_core::state::{Fault, Read};
use twinkeep_envelope::SecretBytes;

/// The keys that records are sealed under: opens what is sealed, seals what is new.
///
/// # What an implementation must do
/// - Refuse everything with [`VaultError::Sealed`] while the node is sealed.
/// - Bind each sealed record to cluster, kind, instance, record key, revision and schema.
///
/// # What it may do
/// - Open the instance's key from `state` when it is first needed, and keep it.
pub trait Vault: Send + Sync {
    /// Returns a number that moves with each unsealing; `None` while the node is sealed. A key that was
    /// opened under another number is not used any more.
    fn generation(&self) -> Option<u64>;

    /// Seals the first revision of a key version's material under the instance's newest key.
    ///
    /// # Errors
    /// [`VaultError`].
    fn seal_material(
        &self,
        state: &dyn Read,
        instance: &InstanceRecord,
        version: (&KeyId, KeyVersionNumber),
        material: &SecretBytes,
    ) -> Result<SealedRecord, VaultError>;

    /// Opens a key version's material.
    ///
    /// # Errors
    /// [`VaultError`]; [`VaultError::Damaged`] for a record that does not open.
    fn open_material(
        &self,
        state: &dyn Read,
        record: &SealedRecord,
    ) -> Result<SecretBytes, VaultError>;

    /// Draws the first key of a new instance and seals it under the cluster's newest epoch key.
    ///
    /// # Errors
    /// [`VaultError`].
    fn seal_instance_key(
        &self,
        state: &dyn Read,
        instance: InstanceId,
    ) -> Result<SealedRecord, VaultError>;

    /// Returns the keyed digest of a request (`twinkeep-request-v1`), the same on every node.
    ///
    /// # Errors
    /// [`VaultError`].
    fn request_digest(&self, state: &dyn Read, request: &[u8]) -> Result<Digest, VaultError>;
}

/// Why a record was neither sealed nor opened.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The node holds no keys.
    #[error("this node is sealed; unseal it or call another node")]
    Sealed,
    /// The record or a key above it does not open: the store holds what nobody sealed.
    #[error("a sealed record does not open")]
    Damaged(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The library or the operating system failed.
    #[error("sealing failed")]
    Failed(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The state store failed.
    #[error(transparent)]
    Fault(#[from] Fault),
}
