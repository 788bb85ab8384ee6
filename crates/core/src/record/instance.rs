//! Instances: one logical KMS each, with a root of keys of its own.

use crate::clock::UnixMs;
use crate::freshness::WhenStale;
use crate::id::{InstanceId, InstanceKeyVersion, Revision};
use crate::key::closed_set;
use crate::name::{CallerName, InstanceName};
use crate::record::Record;
use crate::state::Table;

closed_set! {
    /// Where an instance's keys live.
    InstanceKind, "instance type", {
        /// In sealed records, used in the nodes' memory.
        Software = 1, "SOFTWARE";
    }
}

closed_set! {
    /// Where an instance stands in its life.
    InstanceStatus, "instance status", {
        /// Answers.
        Connected = 1, "CONNECTED";
    }
}

/// An instance. Row: instance id, 16 bytes.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct InstanceRecord {
    /// The instance's id.
    #[n(0)]
    pub id: InstanceId,
    /// For people; unique in the cluster.
    #[n(1)]
    pub name: InstanceName,
    /// Where its keys live.
    #[n(2)]
    pub kind: InstanceKind,
    /// Where it stands in its life.
    #[n(3)]
    pub status: InstanceStatus,
    /// The instance key that seals new records.
    #[n(4)]
    pub key_version: InstanceKeyVersion,
    /// Who created it.
    #[n(5)]
    pub created_by: CallerName,
    /// When it was created, by the replicated clock.
    #[n(6)]
    pub created_ms: UnixMs,
    /// Counts changes of this record.
    #[n(7)]
    pub revision: Revision,
    /// Whether its keys are used on a node whose state may be old, unless they say otherwise; `None` for
    /// [`WhenStale::DEFAULT`].
    #[n(8)]
    pub when_stale: Option<WhenStale>,
}

impl InstanceRecord {
    /// Returns the logical record key of a sealed instance key: instance id and key version.
    #[must_use]
    pub fn instance_key(id: &InstanceId, version: InstanceKeyVersion) -> Vec<u8> {
        [id.as_bytes().as_slice(), &version.get().to_be_bytes()].concat()
    }
}

impl Record for InstanceRecord {
    const TABLE: Table = Table::Instances;
    type Id = InstanceId;

    fn row(id: &InstanceId) -> Vec<u8> {
        id.as_bytes().to_vec()
    }

    fn own_row(&self) -> Vec<u8> {
        Self::row(&self.id)
    }
}
