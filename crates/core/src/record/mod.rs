//! Records of the replicated state, one file per kind.
//!
//! A record is CBOR (RFC 8949) with numbered fields, under a key that opens with its id, big-endian,
//! so that byte order is id order. Fields may be added under new numbers, gated by the cluster
//! version; numbers are never reused. Nothing here is secret: secrets stand in [`SealedRecord`], as
//! ciphertext.

mod binding;
mod cluster;
mod instance;
mod key;
mod leadership;
mod node;
mod recovery;
mod replication;
mod seal;
mod sealed;
mod token;

pub use binding::Binding;
pub use cluster::{ClusterRecord, ClusterVersion, CommandKey, Operator, Roots};
pub use instance::{InstanceKind, InstanceRecord, InstanceStatus};
pub use key::{BackendKind, KeyRecord, KeyVersionRecord};
pub use leadership::LeadershipRecord;
pub use node::{Admission, NodeRecord};
pub use recovery::RecoveryRecord;
pub use replication::ReplicationRecord;
pub use seal::{SealId, SealKind, SealRecord};
pub use sealed::{RecordKind, SealedBlob, SealedRecord};
pub use token::{Digest, Token, TokenRecord};

use crate::state::{Fault, Read, Table, Write};

/// A row of a table: knows where it stands and how it is written.
pub trait Record: Sized + minicbor::Encode<()> + for<'b> minicbor::Decode<'b, ()> {
    /// The table that the record stands in.
    const TABLE: Table;
    /// What finds it there.
    type Id: ?Sized;

    /// Returns the row's key for an id.
    fn row(id: &Self::Id) -> Vec<u8>;

    /// Returns the row's key of this record.
    fn own_row(&self) -> Vec<u8>;

    /// Reads the record of an id.
    ///
    /// # Errors
    /// [`Fault`] when the store fails or the row is no record of this kind.
    fn load(state: &(impl Read + ?Sized), id: &Self::Id) -> Result<Option<Self>, Fault> {
        let row = state.get(Self::TABLE, &Self::row(id))?;
        row.map(|bytes| decode(Self::TABLE, &bytes)).transpose()
    }

    /// Writes the record into the running transaction.
    fn store(&self, state: &mut (impl Write + ?Sized)) {
        state.put(Self::TABLE, &self.own_row(), to_bytes(self));
    }

    /// Reads up to `limit` records whose rows open with `prefix`, from the row `from` on.
    ///
    /// # Errors
    /// [`Fault`] when the store fails or a row is no record of this kind.
    fn list(
        state: &(impl Read + ?Sized),
        prefix: &[u8],
        from: &[u8],
        limit: usize,
    ) -> Result<Vec<Self>, Fault> {
        let rows = state.scan(Self::TABLE, prefix, from, limit)?;
        rows.iter().map(|(_, value)| decode(Self::TABLE, value)).collect()
    }

    /// Reads all records of the kind: for kinds that a cluster has few of.
    ///
    /// # Errors
    /// [`Fault`] when the store fails or a row is no record of this kind.
    fn all(state: &(impl Read + ?Sized)) -> Result<Vec<Self>, Fault> {
        Self::list(state, &[], &[], usize::MAX)
    }
}

/// Encodes a value of ours; writing into memory cannot fail.
pub(crate) fn to_bytes<T: minicbor::Encode<()>>(value: &T) -> Vec<u8> {
    minicbor::to_vec(value).expect("a Vec takes every byte that is written to it")
}

fn decode<T: for<'b> minicbor::Decode<'b, ()>>(table: Table, bytes: &[u8]) -> Result<T, Fault> {
    minicbor::decode(bytes)
        .map_err(|e| Fault::caused(format!("a row of table `{}` does not decode", table.name()), e))
}
