//! The file of finished runs, so that a measurement can be interrupted at any time and goes on where it stopped.
//!
//! Each line says what it rests on: commit, programs, machine and parameters. Lines that rest on something else
//! are kept and not looked at.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::records::{Kind, Record};

/// Name of the file.
const NAME: &str = "bench-failover.runs.jsonl";

/// What runs have to have in common to be put together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Basis {
    /// The commit.
    pub(crate) commit: String,
    /// CRC-32C of the node's program: changes that are not committed count too.
    pub(crate) program: String,
    /// The processor and the number of its cores.
    pub(crate) machine: String,
    /// What was chosen.
    pub(crate) parameters: String,
}

#[derive(Serialize, Deserialize)]
struct Line<R> {
    basis: Basis,
    #[serde(flatten)]
    record: R,
}

/// The finished runs on one basis.
#[derive(Debug)]
pub(crate) struct Ledger {
    path: PathBuf,
    basis: Basis,
    records: Vec<Record>,
}

impl Ledger {
    /// Reads what was measured before on the same basis.
    pub(crate) fn open(folder: &Path, basis: Basis) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make {}", folder.display()))?;
        let path = folder.join(NAME);
        let text = if path.exists() {
            std::fs::read_to_string(&path)
                .with_context(|| format!("cannot read {}", path.display()))?
        } else {
            String::new()
        };
        // The last line may have been cut short; lines of other versions may have another form.
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Line<Record>>(line).ok());
        let records = lines.filter(|line| line.basis == basis).map(|line| line.record).collect();
        Ok(Self { path, basis, records })
    }

    /// Returns the runs, oldest first.
    pub(crate) fn records(&self) -> &[Record] {
        &self.records
    }

    /// Tells whether a run is finished.
    pub(crate) fn has(&self, kind: Kind, number: u32) -> bool {
        self.records.iter().any(|record| (record.kind, record.number) == (kind, number))
    }

    /// Writes down a finished run, at once.
    pub(crate) fn add(&mut self, record: Record) -> anyhow::Result<()> {
        let line = serde_json::to_string(&Line { basis: self.basis.clone(), record: &record })?;
        let mut file = OpenOptions::new().create(true).read(true).append(true).open(&self.path)?;
        if ends_within_a_line(&mut file)? {
            file.write_all(b"\n")?;
        }
        file.write_all((line + "\n").as_bytes())
            .and_then(|()| file.sync_data())
            .with_context(|| format!("cannot write {}", self.path.display()))?;
        self.records.push(record);
        Ok(())
    }
}

/// Tells whether a write before was cut short.
fn ends_within_a_line(file: &mut File) -> anyhow::Result<bool> {
    if file.metadata()?.len() == 0 {
        return Ok(false);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failover::records::Outcome;

    fn basis(commit: &str) -> Basis {
        Basis {
            commit: commit.to_owned(),
            program: "00000000".to_owned(),
            machine: "a machine × 2".to_owned(),
            parameters: "none".to_owned(),
        }
    }

    fn record(number: u32) -> Record {
        Record {
            kind: Kind::LeaderKilled,
            number,
            ended_unix_ms: 0,
            took_s: 1.0,
            result: Outcome::Broken("nothing came back".to_owned()),
        }
    }

    #[test]
    fn runs_are_found_again_and_those_of_another_commit_are_not_mixed_in() {
        let folder = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(folder.path(), basis("one")).unwrap();
        ledger.add(record(1)).unwrap();
        ledger.add(record(2)).unwrap();
        let mut other = Ledger::open(folder.path(), basis("two")).unwrap();
        assert!(other.records().is_empty());
        other.add(record(3)).unwrap();
        let again = Ledger::open(folder.path(), basis("one")).unwrap();
        assert!(again.has(Kind::LeaderKilled, 1) && again.has(Kind::LeaderKilled, 2));
        assert!(!again.has(Kind::LeaderKilled, 3) && !again.has(Kind::LeaderSilent, 1));
    }

    #[test]
    fn line_that_was_cut_short_is_done_again() {
        let folder = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(folder.path(), basis("one")).unwrap();
        ledger.add(record(1)).unwrap();
        ledger.add(record(2)).unwrap();
        let path = folder.path().join(NAME);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, &text[..text.len() - 20]).unwrap();
        let mut again = Ledger::open(folder.path(), basis("one")).unwrap();
        assert_eq!(again.records().len(), 1);
        again.add(record(2)).unwrap();
        assert_eq!(Ledger::open(folder.path(), basis("one")).unwrap().records().len(), 2);
    }
}
