//! Reading from one point in time.

use rocksdb::{Direction, IteratorMode, ReadOptions, Snapshot};
use twinkeep_core::state::{Fault, Read, Rows, Table};

use super::{APPLIED, Applied, Store, damage_fault, decode_applied, read_fault, unframe};

/// The state as it was when the view was taken.
pub struct View<'a> {
    store: &'a Store,
    snapshot: Snapshot<'a>,
}

impl<'a> View<'a> {
    pub(super) fn of(store: &'a Store) -> Self {
        Self { store, snapshot: store.db.snapshot() }
    }

    /// Returns the last entry that this view holds.
    ///
    /// # Errors
    /// [`Fault`] when the store fails or the record is damaged.
    pub fn applied(&self) -> Result<Option<Applied>, Fault> {
        let found = self.snapshot.get_pinned(APPLIED).map_err(read_fault)?;
        found.map(|framed| decode_applied(&framed).map_err(damage_fault)).transpose()
    }
}

impl Read for View<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        let family = self.store.family(table);
        let found = self.snapshot.get_pinned_cf(family, key).map_err(read_fault)?;
        found.map(|framed| unframe(table, key, &framed)).transpose()
    }

    fn scan(&self, table: Table, prefix: &[u8], from: &[u8], limit: usize) -> Result<Rows, Fault> {
        let start = from.max(prefix);
        let mode = IteratorMode::From(start, Direction::Forward);
        let family = self.store.family(table);
        let rows = self.snapshot.iterator_cf_opt(family, reading(prefix), mode);
        let mut found = Vec::new();
        for row in rows.take(limit) {
            let (key, framed) = row.map_err(read_fault)?;
            let value = unframe(table, &key, &framed)?;
            found.push((key.into_vec(), value));
        }
        Ok(found)
    }
}

/// Options that end an iterator where the keys no longer open with `prefix`.
pub(super) fn reading(prefix: &[u8]) -> ReadOptions {
    let mut options = ReadOptions::default();
    if let Some(end) = after_prefix(prefix) {
        options.set_iterate_upper_bound(end);
    }
    options
}

/// Returns the first key behind all that open with `prefix`; none if there is no such key.
fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != u8::MAX)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn end_of_a_prefix_is_the_next_key_that_lacks_it() {
        assert_eq!(after_prefix(b"ab"), Some(b"ac".to_vec()));
        assert_eq!(after_prefix(&[1, 0xff, 0xff]), Some(vec![2]));
        assert_eq!(after_prefix(&[0xff]), None);
        assert_eq!(after_prefix(b""), None);
    }
}
