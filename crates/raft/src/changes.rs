//! Which rows of the replicated state have changed: for those who keep decoded copies.
//!
//! A fixed number of counters, each shared by the rows whose mark falls on it. A counter moves after the
//! change shows in the state and before anybody is told of it, so whoever reads a counter, then the row,
//! and finds the counter unmoved later, holds the row as it still is.

use std::sync::atomic::{AtomicU64, Ordering};

use twinkeep_core::state::{RowMark, Table};

/// Counters. With a few thousand rows in use, a change makes one copy in a hundred be read again in vain.
const PLACES: usize = 1 << 14;

/// Counts the changes of rows.
pub struct Changes(Box<[AtomicU64]>);

impl Default for Changes {
    fn default() -> Self {
        Self((0..PLACES).map(|_| AtomicU64::new(0)).collect())
    }
}

impl Changes {
    /// Returns a number that moves whenever the row changes.
    #[must_use]
    pub fn at(&self, row: RowMark) -> u64 {
        self.0[row.place(PLACES)].load(Ordering::Acquire)
    }

    /// Notes that rows have changed. To be called when the change shows in the state.
    pub(crate) fn note(&self, rows: &[RowMark]) {
        for row in rows {
            self.0[row.place(PLACES)].fetch_add(1, Ordering::Release);
        }
    }

    /// Notes that any row may have changed: the state was replaced by a snapshot.
    pub(crate) fn note_all(&self) {
        for place in &self.0 {
            place.fetch_add(1, Ordering::Release);
        }
    }
}

/// Collects the rows that a transaction changes.
#[derive(Debug, Default)]
pub(crate) struct Touched {
    pub(crate) rows: Vec<RowMark>,
    /// Whether it changes who belongs to the cluster.
    pub(crate) roster: bool,
    /// Whether it changes what the cluster is and promises.
    pub(crate) cluster: bool,
    /// Whether it changes key versions.
    pub(crate) versions: bool,
}

impl Touched {
    pub(crate) fn touch(&mut self, table: Table, key: &[u8]) {
        self.rows.push(RowMark::of(table, key));
        self.roster |= table == Table::Nodes;
        self.cluster |= table == Table::Cluster;
        self.versions |= table == Table::KeyVersions;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counter_of_a_changed_row_moves_and_nearly_all_others_stay() {
        let changes = Changes::default();
        let rows: Vec<_> =
            (0..1000_u32).map(|n| RowMark::of(Table::Keys, &n.to_be_bytes())).collect();
        let before: Vec<_> = rows.iter().map(|row| changes.at(*row)).collect();
        changes.note(&rows[..1]);
        let moved = rows.iter().zip(before).filter(|(row, before)| changes.at(**row) != *before);
        let moved: Vec<_> = moved.map(|(row, _)| *row).collect();
        assert!(moved.contains(&rows[0]));
        assert!(moved.len() <= 2, "{} of 1000 rows share a counter", moved.len());
    }

    #[test]
    fn same_key_in_another_table_is_another_row() {
        let changes = Changes::default();
        let (key, version) =
            (RowMark::of(Table::Keys, b"k"), RowMark::of(Table::KeyVersions, b"k"));
        changes.note(&[key]);
        assert_eq!((changes.at(key), changes.at(version)), (1, 0));
    }

    #[test]
    fn new_state_moves_every_counter() {
        let changes = Changes::default();
        changes.note_all();
        assert!(changes.0.iter().all(|place| place.load(Ordering::Relaxed) == 1));
    }
}
