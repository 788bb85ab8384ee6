//! Recoveries: one row for each life of the cluster that operators began by force.

use crate::admission::Approval;
use crate::id::Incarnation;
use crate::record::{Record, to_bytes};
use crate::recovery::RecoveryOrder;
use crate::state::{Fault, Read, Table};

/// What the rows open with; the incarnation that began follows, u64 big-endian.
const PREFIX: &[u8] = b"recovery";

/// A recovery, with what operators signed: a node of the life that ended believes it by that alone.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct RecoveryRecord {
    /// The life that began.
    #[n(0)]
    pub begins: Incarnation,
    /// What was signed.
    #[n(1)]
    pub order: RecoveryOrder,
    /// By whom.
    #[n(2)]
    pub approvals: Vec<Approval>,
    /// Whether the survivors' zone may hold a majority only until the voters need none: it was allowed so that there
    /// can be two copies at once.
    #[n(3)]
    pub lends_majority: bool,
}

impl RecoveryRecord {
    /// Returns the bytes that travel.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        to_bytes(self)
    }

    /// Reads the bytes that travelled; `None` when they are no recovery. Says nothing of the signatures.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        minicbor::decode(bytes).ok()
    }

    /// Reads all recoveries, the first one first.
    ///
    /// # Errors
    /// [`Fault`] when the store fails or a row is damaged.
    pub fn history(state: &(impl Read + ?Sized)) -> Result<Vec<Self>, Fault> {
        Self::list(state, PREFIX, &[], usize::MAX)
    }
}

impl Record for RecoveryRecord {
    const TABLE: Table = Table::Cluster;
    type Id = Incarnation;

    fn row(id: &Incarnation) -> Vec<u8> {
        [PREFIX, &id.get().to_be_bytes()].concat()
    }

    fn own_row(&self) -> Vec<u8> {
        Self::row(&self.begins)
    }
}
