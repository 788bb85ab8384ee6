//! Seals: the ways to the root key. The root key itself stands in a sealed record per seal.

use crate::record::Record;
use crate::state::Table;

/// Names a seal or a set of shares: 8 random bytes.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, minicbor::Encode, minicbor::Decode,
)]
#[cbor(transparent)]
pub struct SealId(#[cbor(n(0), with = "minicbor::bytes")] pub [u8; 8]);

/// What yields the key-encryption key of a seal.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub enum SealKind {
    /// A passphrase through Argon2id (RFC 9106); for trying things out.
    #[n(1)]
    Passphrase {
        /// Random salt.
        #[cbor(n(0), with = "minicbor::bytes")]
        salt: [u8; 16],
        /// Memory, in KiB.
        #[n(1)]
        memory_kib: u32,
        /// Passes over the memory.
        #[n(2)]
        passes: u32,
        /// Lanes.
        #[n(3)]
        lanes: u32,
    },
    /// `threshold` of `shares` shares (Shamir 1979).
    #[n(2)]
    Shamir {
        /// How many open the seal.
        #[n(0)]
        threshold: u8,
        /// How many there are.
        #[n(1)]
        shares: u8,
    },
}

/// A seal. Row: its id.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct SealRecord {
    /// The seal's id, for Shamir that of the share set.
    #[n(0)]
    pub id: SealId,
    /// How its key is come by.
    #[n(1)]
    pub kind: SealKind,
    /// Key check value of the key-encryption key: tells wrong shares from a damaged keyring.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub kcv: [u8; 8],
}

impl Record for SealRecord {
    const TABLE: Table = Table::Seals;
    type Id = SealId;

    fn row(id: &SealId) -> Vec<u8> {
        id.0.to_vec()
    }

    fn own_row(&self) -> Vec<u8> {
        Self::row(&self.id)
    }
}
