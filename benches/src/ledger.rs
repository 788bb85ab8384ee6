//! The file of finished runs, so that a measurement can be interrupted at any time and goes on where it stopped.
//!
//! Each line says what it rests on: commit, programs, machine and parameters. Lines that rest on something else
//! are kept and not looked at.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use twinkeep_report::Report;

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

impl Basis {
    /// Returns what runs of now rest on.
    pub(crate) fn now(parameters: String) -> anyhow::Result<Self> {
        let report = Report::new();
        let path = twinkeep_tests::program("twinkeepd")?;
        let program =
            std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Self {
            commit: report.commit().to_owned(),
            program: format!("{:08x}", crc32c::crc32c(&program)),
            machine: report.machine().to_owned(),
            parameters,
        })
    }
}

#[derive(Serialize, Deserialize)]
struct Line<R> {
    basis: Basis,
    #[serde(flatten)]
    record: R,
}

/// The finished runs on one basis.
#[derive(Debug)]
pub(crate) struct Ledger<R> {
    path: PathBuf,
    basis: Basis,
    records: Vec<R>,
}

impl<R: Serialize + DeserializeOwned> Ledger<R> {
    /// Reads what was measured before on the same basis, from `<bench>.runs.jsonl` in a folder.
    pub(crate) fn open(folder: &Path, bench: &str, basis: Basis) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make {}", folder.display()))?;
        let path = folder.join(format!("{bench}.runs.jsonl"));
        let text = if path.exists() {
            std::fs::read_to_string(&path)
                .with_context(|| format!("cannot read {}", path.display()))?
        } else {
            String::new()
        };
        // The last line may have been cut short; lines of other versions may have another form.
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Line<R>>(line).ok());
        let records = lines.filter(|line| line.basis == basis).map(|line| line.record).collect();
        Ok(Self { path, basis, records })
    }

    /// Returns the runs, oldest first.
    pub(crate) fn records(&self) -> &[R] {
        &self.records
    }

    /// Writes down a finished run, at once.
    pub(crate) fn add(&mut self, record: R) -> anyhow::Result<()> {
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

/// Says how long the rest takes, to a minute once it is longer than that.
pub(crate) fn left_in_words(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..90 => format!("{seconds} s"),
        seconds => format!("{} min", seconds.div_ceil(60)),
    }
}

/// Milliseconds since 1970, as the nodes' messages have them.
#[expect(
    clippy::disallowed_methods,
    reason = "tells where to look in messages; nothing is measured by it"
)]
pub(crate) fn unix_ms() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    struct Run {
        number: u32,
    }

    fn open(folder: &Path, commit: &str) -> Ledger<Run> {
        let basis = Basis {
            commit: commit.to_owned(),
            program: "00000000".to_owned(),
            machine: "a machine × 2".to_owned(),
            parameters: "none".to_owned(),
        };
        Ledger::open(folder, "bench-test", basis).unwrap()
    }

    #[test]
    fn runs_are_found_again_and_those_of_another_commit_are_not_mixed_in() {
        let folder = tempfile::tempdir().unwrap();
        let mut ledger = open(folder.path(), "one");
        ledger.add(Run { number: 1 }).unwrap();
        ledger.add(Run { number: 2 }).unwrap();
        let mut other = open(folder.path(), "two");
        assert!(other.records().is_empty());
        other.add(Run { number: 3 }).unwrap();
        assert_eq!(open(folder.path(), "one").records(), [Run { number: 1 }, Run { number: 2 }]);
    }

    #[test]
    fn line_that_was_cut_short_is_done_again() {
        let folder = tempfile::tempdir().unwrap();
        let mut ledger = open(folder.path(), "one");
        ledger.add(Run { number: 1 }).unwrap();
        ledger.add(Run { number: 2 }).unwrap();
        let path = folder.path().join("bench-test.runs.jsonl");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, &text[..text.len() - 5]).unwrap();
        let mut again = open(folder.path(), "one");
        assert_eq!(again.records().len(), 1);
        again.add(Run { number: 2 }).unwrap();
        assert_eq!(open(folder.path(), "one").records().len(), 2);
    }
}
