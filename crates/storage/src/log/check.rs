//! What is looked at before the log database is opened for writing, while nothing can change.
//!
//! | damage                                                 | noticed by                       |
//! |--------------------------------------------------------|----------------------------------|
//! | a WAL record before the last                           | [`super::wal`]                   |
//! | the last WAL record, a WAL cut short or removed        | [`super::mark`]                  |
//! | an SST file, the MANIFEST, `CURRENT`                   | RocksDB's checksums, or the mark |
//! | a vote, an entry, another record                       | its own checksum                 |
//! | entries missing from the middle or the beginning       | the numbers have a gap           |
//! | entries missing at the end                             | committed or applied beyond them |
//! | the whole folder empty or rolled back                  | nothing here: the boot handshake |
//!
//! A power cut that comes before the kernel wrote the mark back (seconds) *and* damage to the last
//! synced record leave nothing to notice on this disk. The boot handshake with the peers does.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use rocksdb::{DB, Direction, IteratorMode, ReadOptions};

use super::mark::Mark;
use super::{Note, keys, wal};
use crate::disk::DiskError;
use crate::identity::{Foreign, Identity};
use crate::options;
use crate::record::{self, Damaged};

/// Why a log is not used. Nothing in its folder was changed, except where noted.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder belongs to another cluster or node.
    #[error("the log belongs to somebody else")]
    Foreign(#[from] Foreign),
    /// A record is damaged.
    #[error("the log is damaged")]
    Damaged(#[from] Damaged),
    /// A valid record stands behind a bad one, so what is bad had been synced.
    #[error(
        "the log is damaged: {} has a valid record at byte {offset} behind an unreadable place",
        .file.display()
    )]
    Stranded {
        /// The write-ahead log file.
        file: PathBuf,
        /// Where the valid record begins.
        offset: usize,
    },
    /// The database ends before a write that was acknowledged.
    #[error(
        "the log is damaged: it ends at write {found}, and write {acknowledged} was acknowledged"
    )]
    Behind {
        /// Number of the last write batch in the database.
        found: u64,
        /// Number of the last one known to be synced.
        acknowledged: u64,
    },
    /// Entries are missing before or between others.
    #[error("the log is damaged: entry {found} stands where entry {expected} belongs")]
    Gap {
        /// The entry that belongs there.
        expected: u64,
        /// The one found.
        found: u64,
    },
    /// A file without which the folder cannot be what it says it is.
    #[error("the log is damaged: {} is missing", .0.display())]
    Missing(PathBuf),
    /// The log ends below what was committed or applied.
    #[error("the log ends at {}, and {what} reaches {index}", End(*.last))]
    EndsBelow {
        /// What reaches further.
        what: &'static str,
        /// How far.
        index: u64,
        /// The last entry, or none.
        last: Option<u64>,
    },
    /// The state ends below what the log has thrown away, so the entries between are nowhere.
    #[error("the state ends at {}, and the log was purged up to {purged}", End(*.applied))]
    StateBelowPurged {
        /// The last entry in the state, or none.
        applied: Option<u64>,
        /// The last entry thrown away.
        purged: u64,
    },
    /// Another process has the folder open.
    #[error("{} is in use by another process", .0.display())]
    InUse(PathBuf),
    /// RocksDB does not open the database or cannot read it.
    #[error("rocksdb refuses the log")]
    Rocks(#[from] rocksdb::Error),
    /// A file operation failed.
    #[error("the folder of the log is not usable")]
    Disk(#[from] DiskError),
}

struct End(Option<u64>);

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(index) => write!(f, "entry {index}"),
            None => f.write_str("nothing"),
        }
    }
}

/// What a log holds besides its entries.
#[derive(Debug, Default)]
pub(super) struct Recovered {
    /// Number of the last write batch; 0 for a database that nobody wrote to.
    pub(super) batch: u64,
    pub(super) vote: Option<Bytes>,
    pub(super) committed: Option<(u64, Bytes)>,
    pub(super) purged: Option<(u64, Bytes)>,
    /// Index of a snapshot that may have been installed.
    pub(super) snapshot: Option<u64>,
    pub(super) notes: [Option<Bytes>; Note::ALL.len()],
    /// First and last entry.
    pub(super) entries: Option<(u64, u64)>,
}

impl Recovered {
    /// The last entry that the log accounts for, purged ones included.
    pub(super) fn last(&self) -> Option<u64> {
        let purged = self.purged.as_ref().map(|(index, _)| *index);
        self.entries.map(|(_, last)| last).max(purged)
    }
}

/// Reads and checks a database without changing it.
pub(super) fn check(db: &Path, mark: &Mark, identity: Identity) -> Result<Recovered, OpenError> {
    let mut options = options::common();
    options.create_if_missing(false);
    let read = DB::open_for_read_only(&options, db, false)?;
    let stamp = value(&read, keys::IDENTITY, "identity stamp")?;
    if let Some(stamp) = &stamp {
        identity.expect(Identity::decode(keys::IDENTITY, stamp)?)?;
    }
    if let Some(found) = wal::stranded(db, read.latest_sequence_number())? {
        return Err(OpenError::Stranded { file: found.file, offset: found.offset });
    }
    let recovered = recover(&read)?;
    if stamp.is_none() && recovered.batch > 0 {
        // The stamp is in the first batch of all.
        let key = keys::IDENTITY.to_vec();
        return Err(Damaged::Shape { what: "identity stamp", key }.into());
    }
    check_mark(recovered.batch, mark)?;
    check_committed(&recovered)?;
    Ok(recovered)
}

fn recover(db: &DB) -> Result<Recovered, OpenError> {
    let number = |key, what| -> Result<Option<u64>, OpenError> {
        let payload = value(db, key, what)?;
        Ok(payload.map(|bytes| keys::number(what, key, &bytes)).transpose()?)
    };
    let numbered = |key, what| -> Result<Option<(u64, Bytes)>, OpenError> {
        let payload = value(db, key, what)?;
        Ok(payload.map(|bytes| keys::split_numbered(what, key, &bytes)).transpose()?)
    };
    let purged = numbered(keys::PURGED, "purge marker")?;
    let expected = purged.as_ref().map(|(index, _)| index.saturating_add(1));
    Ok(Recovered {
        batch: number(keys::BATCH, "write number")?.unwrap_or(0),
        vote: value(db, keys::VOTE, "vote")?.map(Bytes::from),
        committed: numbered(keys::COMMITTED, "commit marker")?,
        snapshot: number(keys::SNAPSHOT, "snapshot marker")?,
        notes: notes(db)?,
        entries: check_entries(db, expected)?,
        purged,
    })
}

fn notes(db: &DB) -> Result<[Option<Bytes>; Note::ALL.len()], OpenError> {
    let mut notes = [const { None }; Note::ALL.len()];
    for (found, note) in notes.iter_mut().zip(Note::ALL) {
        *found = value(db, note.key(), "note")?.map(Bytes::from);
    }
    Ok(notes)
}

fn value(db: &DB, key: &[u8], what: &'static str) -> Result<Option<Vec<u8>>, OpenError> {
    let Some(found) = db.get_pinned(key)? else { return Ok(None) };
    Ok(Some(record::unframe(what, key, &found)?.to_vec()))
}

/// Reads every entry; returns the first and the last.
fn check_entries(db: &DB, mut expected: Option<u64>) -> Result<Option<(u64, u64)>, OpenError> {
    let mut reading = ReadOptions::default();
    reading.fill_cache(false);
    let mut span = None;
    for row in db.iterator_opt(IteratorMode::From(keys::ENTRIES, Direction::Forward), reading) {
        let (key, framed) = row?;
        let found = keys::entry_index(&key)?;
        if let Some(expected) = expected.filter(|index| *index != found) {
            return Err(OpenError::Gap { expected, found });
        }
        record::unframe("log entry", &key, &framed)?;
        span = Some((span.map_or(found, |(first, _)| first), found));
        expected = found.checked_add(1);
    }
    Ok(span)
}

fn check_mark(found: u64, mark: &Mark) -> Result<(), OpenError> {
    match mark.read()? {
        Some(acknowledged) if acknowledged > found => {
            Err(OpenError::Behind { found, acknowledged })
        }
        Some(_) => Ok(()),
        None => {
            tracing::warn!("both slots of the acknowledged mark are torn, as by a power cut");
            Ok(())
        }
    }
}

fn check_committed(log: &Recovered) -> Result<(), OpenError> {
    let Some((index, _)) = log.committed else { return Ok(()) };
    if log.last().max(log.snapshot) < Some(index) {
        let what = "what was committed";
        return Err(OpenError::EndsBelow { what, index, last: log.last() });
    }
    Ok(())
}
