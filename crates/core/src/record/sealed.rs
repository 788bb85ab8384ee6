//! Sealed records: everything secret, as the ciphertext that the proposer made.
//!
//! The envelope's additional data names cluster, kind, instance, record key, revision and schema, so
//! that a blob opens only where it belongs. This crate moves the bytes and cannot open them.

use std::fmt;

use crate::id::{InstanceId, Revision};
use crate::key::closed_set;
use crate::record::Record;
use crate::state::Table;

closed_set! {
    /// What a sealed record holds. The numbers stand in the envelope's additional data.
    RecordKind, "record kind", {
        /// Material of a key version.
        KeyMaterial = 1, "KEY_MATERIAL";
        /// A version of a secret.
        SecretVersion = 2, "SECRET_VERSION";
        /// A key of an instance.
        InstanceKey = 3, "INSTANCE_KEY";
        /// A key of an epoch.
        EpochKey = 4, "EPOCH_KEY";
        /// The root key, under a seal.
        RootKey = 5, "ROOT_KEY";
        /// A caller's shared secret.
        CallerSecret = 6, "CALLER_SECRET";
        /// The private key of a certificate authority.
        AuthorityKey = 7, "AUTHORITY_KEY";
        /// A key of the audit log.
        AuditKey = 8, "AUDIT_KEY";
        /// A credential for an HSM or a key proxy.
        BackendCredential = 9, "BACKEND_CREDENTIAL";
    }
}

/// Bytes of a stored-record envelope (record format 1): ciphertext, safe to store and to send.
#[derive(Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(transparent)]
pub struct SealedBlob(#[cbor(n(0), with = "minicbor::bytes")] Vec<u8>);

impl SealedBlob {
    /// Takes the bytes of an envelope.
    #[must_use]
    pub fn from_envelope(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// Returns the bytes of the envelope.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SealedBlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealedBlob({} bytes)", self.0.len())
    }
}

/// A sealed record. Row: kind u16, instance id, logical record key.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct SealedRecord {
    /// What it holds.
    #[n(0)]
    pub kind: RecordKind,
    /// The instance that it belongs to, or [`InstanceId::CLUSTER`].
    #[n(1)]
    pub instance: InstanceId,
    /// The logical key: key id and version number for material, the epoch for an epoch key, …
    #[cbor(n(2), with = "minicbor::bytes")]
    pub record_key: Vec<u8>,
    /// Counts re-sealings of this record; bound by the envelope.
    #[n(3)]
    pub revision: Revision,
    /// Layout of the plaintext; bound by the envelope.
    #[n(4)]
    pub schema: u16,
    /// The envelope.
    #[n(5)]
    pub blob: SealedBlob,
}

impl SealedRecord {
    /// Returns what all rows of a kind open with.
    #[must_use]
    pub fn kind_prefix(kind: RecordKind) -> [u8; 2] {
        (kind as u16).to_be_bytes()
    }
}

impl Record for SealedRecord {
    const TABLE: Table = Table::Sealed;
    type Id = (RecordKind, InstanceId, Vec<u8>);

    fn row((kind, instance, record_key): &Self::Id) -> Vec<u8> {
        [Self::kind_prefix(*kind).as_slice(), instance.as_bytes(), record_key].concat()
    }

    fn own_row(&self) -> Vec<u8> {
        [Self::kind_prefix(self.kind).as_slice(), self.instance.as_bytes(), &self.record_key]
            .concat()
    }
}
