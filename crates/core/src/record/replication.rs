//! The replication mode: one row that says what an acknowledgement means now.

use crate::clock::UnixMs;
use crate::id::Revision;
use crate::record::Record;
use crate::replication::Mode;
use crate::state::Table;

/// The replication mode. A cluster that never lost a zone has no such row and is in sync.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct ReplicationRecord {
    /// What is promised.
    #[n(0)]
    pub mode: Mode,
    /// Since when, by the replicated clock.
    #[n(1)]
    pub since_ms: UnixMs,
    /// Counts changes of the mode: what was judged under an earlier one does not count any more.
    #[n(2)]
    pub revision: Revision,
    /// The log entry that changed it.
    #[n(3)]
    pub index: u64,
}

impl Record for ReplicationRecord {
    const TABLE: Table = Table::Cluster;
    type Id = ();

    fn row((): &()) -> Vec<u8> {
        b"replication".to_vec()
    }

    fn own_row(&self) -> Vec<u8> {
        Self::row(&())
    }
}
