//! The leadership: one row that says which zone shall lead and which shall not.

use crate::clock::UnixMs;
use crate::id::Revision;
use crate::leadership::Leadership;
use crate::record::Record;
use crate::state::Table;

/// What is wished of the lead. A cluster that was never told has no such row.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct LeadershipRecord {
    /// The zones.
    #[n(0)]
    pub leadership: Leadership,
    /// When the drained zone was last changed, by the replicated clock.
    #[n(1)]
    pub drained_ms: UnixMs,
    /// Counts changes of this record.
    #[n(2)]
    pub revision: Revision,
}

impl Record for LeadershipRecord {
    const TABLE: Table = Table::Cluster;
    type Id = ();

    fn row((): &()) -> Vec<u8> {
        b"leadership".to_vec()
    }

    fn own_row(&self) -> Vec<u8> {
        Self::row(&())
    }
}
