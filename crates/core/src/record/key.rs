//! Keys and their versions: metadata only. Material stands in a sealed record of its own, so that
//! enabling, disabling and describing a key never touches it.

use crate::clock::UnixMs;
use crate::freshness::WhenStale;
use crate::id::{InstanceId, KeyId, KeyVersionId, KeyVersionNumber, Revision};
use crate::key::{KeySpec, KeyState, KeyUsage, closed_set};
use crate::name::{CallerName, Description};
use crate::record::Record;
use crate::state::Table;

closed_set! {
    /// Where a key version's material lives and is used.
    BackendKind, "backend", {
        /// Sealed in a record, used in the node's memory.
        Software = 1, "SOFTWARE";
    }
}

/// A key. Row: key id, 16 bytes.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct KeyRecord {
    /// The key's id.
    #[n(0)]
    pub id: KeyId,
    /// The instance that it belongs to.
    #[n(1)]
    pub instance: InstanceId,
    /// Kind and size of its material.
    #[n(2)]
    pub spec: KeySpec,
    /// What it is for.
    #[n(3)]
    pub usage: KeyUsage,
    /// Where it stands in its life.
    #[n(4)]
    pub state: KeyState,
    /// The version that new ciphertexts and signatures are made with.
    #[n(5)]
    pub primary: KeyVersionNumber,
    /// For people.
    #[n(6)]
    pub description: Description,
    /// Who created it.
    #[n(7)]
    pub created_by: CallerName,
    /// When it was created, by the replicated clock.
    #[n(8)]
    pub created_ms: UnixMs,
    /// When it was last changed, by the replicated clock.
    #[n(9)]
    pub updated_ms: UnixMs,
    /// Counts changes of this record.
    #[n(10)]
    pub revision: Revision,
    /// Whether it is used on a node whose state may be old; `None` takes the instance's default.
    #[n(11)]
    pub when_stale: Option<WhenStale>,
}

impl Record for KeyRecord {
    const TABLE: Table = Table::Keys;
    type Id = KeyId;

    fn row(id: &KeyId) -> Vec<u8> {
        id.as_bytes().to_vec()
    }

    fn own_row(&self) -> Vec<u8> {
        Self::row(&self.id)
    }
}

/// One version of a key. Row: key id, 16 bytes; version number, u32 big-endian.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct KeyVersionRecord {
    /// The key.
    #[n(0)]
    pub key: KeyId,
    /// Which version of it.
    #[n(1)]
    pub number: KeyVersionNumber,
    /// The version's id on the wire.
    #[n(2)]
    pub id: KeyVersionId,
    /// Where its material lives.
    #[n(3)]
    pub backend: BackendKind,
    /// The public half as SPKI DER (RFC 5280, 4.1), for asymmetric keys.
    #[cbor(n(4), with = "minicbor::bytes")]
    pub public_key: Option<Vec<u8>>,
    /// When it was created, by the replicated clock.
    #[n(5)]
    pub created_ms: UnixMs,
    /// The log index of the command that created it.
    #[n(6)]
    pub created_index: u64,
}

impl KeyVersionRecord {
    /// Returns the logical record key of the version's sealed material: key id and version number.
    #[must_use]
    pub fn material_key(key: &KeyId, number: KeyVersionNumber) -> Vec<u8> {
        [key.as_bytes().as_slice(), &number.get().to_be_bytes()].concat()
    }
}

impl Record for KeyVersionRecord {
    const TABLE: Table = Table::KeyVersions;
    type Id = (KeyId, KeyVersionNumber);

    fn row((key, number): &Self::Id) -> Vec<u8> {
        Self::material_key(key, *number)
    }

    fn own_row(&self) -> Vec<u8> {
        Self::row(&(self.key, self.number))
    }
}
