//! Role bindings: what a caller may do.

use crate::access::{Grant, Permission, Resource};
use crate::id::Revision;
use crate::name::CallerName;
use crate::record::Record;
use crate::state::Table;

/// All grants of a caller. Row: the caller's name.
///
/// A binding whose grants were all revoked stays as an empty record: without its revision, an old
/// grant could be replayed.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct Binding {
    /// The caller.
    #[n(0)]
    pub caller: CallerName,
    /// What it holds, sorted and without repetition.
    #[n(1)]
    pub grants: Vec<Grant>,
    /// Counts changes of this record.
    #[n(2)]
    pub revision: Revision,
}

impl Binding {
    /// Most grants of one caller.
    pub const GRANTS_MAX: usize = 256;

    /// Tells whether any grant allows the operation on the resource.
    #[must_use]
    pub fn allows(&self, permission: Permission, resource: Resource) -> bool {
        self.grants.iter().any(|grant| grant.allows(permission, resource))
    }
}

impl Record for Binding {
    const TABLE: Table = Table::Bindings;
    type Id = CallerName;

    fn row(id: &CallerName) -> Vec<u8> {
        id.as_str().as_bytes().to_vec()
    }

    fn own_row(&self) -> Vec<u8> {
        Self::row(&self.caller)
    }
}
