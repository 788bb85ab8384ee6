//! Writes of one log entry, or a few, that become visible together.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rocksdb::{Direction, IteratorMode, WriteBatch};
use twinkeep_core::state::{Fault, Read, Rows, Table, Write};

use super::view::reading;
use super::{Store, put, read_fault, unframe};

/// What was written to one table; `None` is a removed row.
type Changes = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// Writes on top of the state, kept in memory until [`super::StateDb::commit`].
pub struct Transaction {
    store: Arc<Store>,
    /// Commits that the store had seen when this began.
    base: u64,
    changes: BTreeMap<Table, Changes>,
}

impl Transaction {
    pub(super) fn on(store: Arc<Store>) -> Self {
        let base = store.commits.load(Ordering::Acquire);
        Self { store, base, changes: BTreeMap::new() }
    }

    /// Turns the writes into a batch for `store`, which must be the one they were made on.
    pub(super) fn into_batch(self, store: &Arc<Store>) -> Result<WriteBatch, Fault> {
        if !Arc::ptr_eq(&self.store, store) || !store.take_turn(self.base) {
            return Err(Fault::new("the state changed under a transaction"));
        }
        let mut batch = WriteBatch::default();
        for (table, rows) in self.changes {
            for (key, value) in rows {
                match value {
                    Some(value) => put(&mut batch, store, table, &key, &value),
                    None => batch.delete_cf(store.family(table), &key),
                }
            }
        }
        Ok(batch)
    }
}

impl Read for Transaction {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        match self.changes.get(&table).and_then(|rows| rows.get(key)) {
            Some(written) => Ok(written.clone()),
            None => self.store.get(table, key),
        }
    }

    fn scan(&self, table: Table, prefix: &[u8], from: &[u8], limit: usize) -> Result<Rows, Fault> {
        let start = from.max(prefix);
        let mode = IteratorMode::From(start, Direction::Forward);
        let family = self.store.family(table);
        let mut stored = self.store.db.iterator_cf_opt(family, reading(prefix), mode).peekable();
        let nothing = Changes::new();
        let changes = self.changes.get(&table).unwrap_or(&nothing);
        let mut written = changes
            .range::<[u8], _>((Bound::Included(start), Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix))
            .peekable();

        let mut found = Vec::new();
        while found.len() < limit {
            let stored_key = match stored.peek() {
                Some(Ok((key, _))) => Some(&**key),
                Some(Err(error)) => return Err(read_fault(error.clone())),
                None => None,
            };
            let written_key = written.peek().map(|(key, _)| key.as_slice());
            match (stored_key, written_key) {
                (None, None) => break,
                (Some(old), new) if new.is_none_or(|new| old < new) => {
                    let (key, framed) = stored.next().expect("just peeked").map_err(read_fault)?;
                    let value = unframe(table, &key, &framed)?;
                    found.push((key.into_vec(), value));
                }
                (old, _) => {
                    // What was written stands for the stored row under the same key.
                    if old == written_key {
                        stored.next();
                    }
                    let (key, value) = written.next().expect("just peeked");
                    found.extend(value.clone().map(|value| (key.clone(), value)));
                }
            }
        }
        Ok(found)
    }
}

impl Write for Transaction {
    fn put(&mut self, table: Table, key: &[u8], value: Vec<u8>) {
        self.changes.entry(table).or_default().insert(key.to_vec(), Some(value));
    }

    fn delete(&mut self, table: Table, key: &[u8]) {
        self.changes.entry(table).or_default().insert(key.to_vec(), None);
    }
}
