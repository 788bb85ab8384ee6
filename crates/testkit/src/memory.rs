//! The replicated state in a map: for tests of what runs on top of it.

use std::collections::BTreeMap;

use twinkeep_core::state::{Fault, Read, Rows, Table, Write};

/// A state without a disk below it. Two of them are equal when they hold the same rows.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Memory(BTreeMap<(Table, Vec<u8>), Vec<u8>>);

impl Read for Memory {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        Ok(self.0.get(&(table, key.to_vec())).cloned())
    }

    fn scan(&self, table: Table, prefix: &[u8], from: &[u8], limit: usize) -> Result<Rows, Fault> {
        let start = (table, from.max(prefix).to_vec());
        let rows = self.0.range(start..);
        let rows = rows.take_while(|((t, key), _)| *t == table && key.starts_with(prefix));
        Ok(rows.take(limit).map(|((_, key), value)| (key.clone(), value.clone())).collect())
    }
}

impl Write for Memory {
    fn put(&mut self, table: Table, key: &[u8], value: Vec<u8>) {
        self.0.insert((table, key.to_vec()), value);
    }

    fn delete(&mut self, table: Table, key: &[u8]) {
        self.0.remove(&(table, key.to_vec()));
    }
}
