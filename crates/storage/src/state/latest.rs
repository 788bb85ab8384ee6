//! Reading whatever is newest.

use std::sync::Arc;

use twinkeep_core::state::{Fault, Read, Rows, Table};

use super::{Store, View};

/// The state as it is at each read: two reads may see different points in time.
///
/// Costs no snapshot. Whoever rests a result on several reads looks at their revisions again before the
/// result is used; whoever cannot, takes [`super::StateDb::view`].
pub struct Latest {
    store: Arc<Store>,
}

impl Latest {
    pub(super) fn of(store: Arc<Store>) -> Self {
        Self { store }
    }
}

impl Read for Latest {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        self.store.get(table, key)
    }

    fn scan(&self, table: Table, prefix: &[u8], from: &[u8], limit: usize) -> Result<Rows, Fault> {
        View::of(&self.store).scan(table, prefix, from, limit)
    }
}
