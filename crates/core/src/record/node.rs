//! Nodes and admissions. A peer connection and a membership entry count only for nodes that stand
//! here, and only signed commands write here: a witness that leads cannot invent a member.

use crate::clock::UnixMs;
use crate::id::{Incarnation, NodeId, Revision};
use crate::name::ZoneName;
use crate::record::Record;
use crate::state::Table;
use crate::topology::{NodeRole, Placement, Standing};

/// A node. Row: node id, u64 big-endian. Removed nodes stay, so that no id is given twice.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct NodeRecord {
    /// The node's id.
    #[n(0)]
    pub id: NodeId,
    /// What it does.
    #[n(1)]
    pub role: NodeRole,
    /// How it counts.
    #[n(2)]
    pub standing: Standing,
    /// Where it stands and is reached.
    #[n(3)]
    pub placement: Placement,
    /// SHA-256 of its certificate's public key (SPKI DER).
    #[cbor(n(4), with = "minicbor::bytes")]
    pub spki_sha256: [u8; 32],
    /// The incarnation that its certificate names.
    #[n(5)]
    pub incarnation: Incarnation,
    /// Counts changes of this record.
    #[n(6)]
    pub revision: Revision,
    /// When it was taken out, by the replicated clock; `None` while it is in, and for those that were taken out
    /// before this was recorded.
    #[n(7)]
    pub removed_ms: Option<UnixMs>,
}

impl Record for NodeRecord {
    const TABLE: Table = Table::Nodes;
    type Id = NodeId;

    fn row(id: &NodeId) -> Vec<u8> {
        id.get().to_be_bytes().to_vec()
    }

    fn own_row(&self) -> Vec<u8> {
        Self::row(&self.id)
    }
}

/// A node that may join until `expires_ms`. Row: SHA-256 of its public key.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct Admission {
    /// SHA-256 of the joiner's public key (SPKI DER).
    #[cbor(n(0), with = "minicbor::bytes")]
    pub spki_sha256: [u8; 32],
    /// The id that it will have.
    #[n(1)]
    pub node: NodeId,
    /// What it will do.
    #[n(2)]
    pub role: NodeRole,
    /// The zone that it has to stand in.
    #[n(3)]
    pub zone: ZoneName,
    /// When the admission lapses, by the replicated clock.
    #[n(4)]
    pub expires_ms: UnixMs,
}

impl Admission {
    /// Longest life of an admission, in milliseconds: ten minutes.
    pub const LIFE_MAX_MS: u64 = 10 * 60 * 1000;
    /// Most admissions that are open at one time.
    pub const OPEN_MAX: usize = 64;
}

impl Record for Admission {
    const TABLE: Table = Table::Admissions;
    type Id = [u8; 32];

    fn row(id: &[u8; 32]) -> Vec<u8> {
        id.to_vec()
    }

    fn own_row(&self) -> Vec<u8> {
        Self::row(&self.spki_sha256)
    }
}
