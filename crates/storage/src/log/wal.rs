//! Finds valid records that RocksDB would drop, by reading its write-ahead log (WAL) ourselves.
//!
//! Point-in-time recovery replays up to the first bad record and drops the rest without a word. For
//! a torn tail that is right, for a byte gone bad in the middle it loses votes and entries that were
//! acknowledged. The two can be told apart because [`super::writer`] syncs each batch before it
//! writes the next: **at most the last record was never synced**. So after a recovery that ended at
//! sequence number `L`,
//!
//! - fragments of one record that begins at `L + 1` are what a power cut left of the last write;
//! - the beginning of a record beyond `L + 1`, or a whole one at `L + 1`, was written after the bad
//!   place had been synced: data that counted is damaged.
//!
//! What cannot be told apart here is damage to the very last record, or a WAL cut off at a record's
//! edge; [`super::mark`] and [`super::LogDb::check_applied`] see to those.
//!
//! The format is RocksDB's (`db/log_format.h`, `db/write_batch.cc` of 11.8): blocks of 32 KiB;
//! fragments never cross a block's end:
//!
//! | offset | size | field                                                             |
//! |-------:|-----:|-------------------------------------------------------------------|
//! | 0      | 4    | CRC32C of type and payload, masked, little-endian                 |
//! | 4      | 2    | length of the payload, little-endian                              |
//! | 6      | 1    | type: 1 whole, 2 first, 3 middle, 4 last                          |
//! | 7      | n    | payload; a record opens with the sequence number of its first row, |
//! |        |      | 8, and the number of rows, 4, little-endian                       |

use std::fs;
use std::path::{Path, PathBuf};

use crate::disk::{self, At, DiskError};

const BLOCK_BYTES: usize = 32 << 10;
const HEADER_BYTES: usize = 7;
const WHOLE: u8 = 1;
const FIRST: u8 = 2;
const LAST: u8 = 4;

/// A record that was written after a place that is now unreadable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stranded {
    /// The file that holds it.
    pub(super) file: PathBuf,
    /// Where in the file, in bytes.
    pub(super) offset: usize,
    /// Its sequence number.
    pub(super) sequence: u64,
}

/// Looks for a record in the WALs of `db` that recovery up to sequence number `recovered` left out.
pub(super) fn stranded(db: &Path, recovered: u64) -> Result<Option<Stranded>, DiskError> {
    for name in disk::names(db)?.iter().filter(|name| name.ends_with(".log")) {
        let file = db.join(name);
        let bytes = fs::read(&file).at("read", &file)?;
        if let Some((offset, sequence)) = find(&bytes, recovered) {
            return Ok(Some(Stranded { file, offset, sequence }));
        }
    }
    Ok(None)
}

/// Returns offset and sequence number of the first record that recovery left out.
fn find(wal: &[u8], recovered: u64) -> Option<(usize, u64)> {
    let next = recovered.saturating_add(1);
    let mut offset = 0;
    while offset < wal.len() {
        let Some(fragment) = Fragment::at(wal, offset) else {
            // Lengths behind a bad place mean nothing, so every offset is tried from here on.
            offset += 1;
            continue;
        };
        if let Some(batch) = fragment.batch()
            && (batch.sequence > next || (batch.sequence == next && batch.is_whole))
        {
            return Some((offset, batch.sequence));
        }
        offset += HEADER_BYTES + fragment.payload.len();
    }
    None
}

struct BatchHead {
    sequence: u64,
    /// Is complete in its fragment and has something in it.
    is_whole: bool,
}

struct Fragment<'a> {
    kind: u8,
    payload: &'a [u8],
}

impl<'a> Fragment<'a> {
    /// Reads the fragment at an offset, if a valid one begins there.
    fn at(wal: &'a [u8], offset: usize) -> Option<Self> {
        let block_end = (offset / BLOCK_BYTES + 1) * BLOCK_BYTES;
        let block = &wal[offset..block_end.min(wal.len())];
        let (&[c0, c1, c2, c3, l0, l1, kind], rest) = block.split_first_chunk::<HEADER_BYTES>()?;
        if !(WHOLE..=LAST).contains(&kind) {
            return None;
        }
        let payload = rest.get(..usize::from(u16::from_le_bytes([l0, l1])))?;
        let sum = crc32c::crc32c_append(crc32c::crc32c(&[kind]), payload);
        (mask(sum) == u32::from_le_bytes([c0, c1, c2, c3])).then_some(Self { kind, payload })
    }

    /// Returns the head of the write batch that begins with this fragment, if one does.
    fn batch(&self) -> Option<BatchHead> {
        let (sequence, rest) = self.payload.split_first_chunk::<8>()?;
        let count = rest.first_chunk::<4>()?;
        let is_empty = u32::from_le_bytes(*count) == 0;
        matches!(self.kind, WHOLE | FIRST).then_some(BatchHead {
            sequence: u64::from_le_bytes(*sequence),
            // RocksDB writes an empty batch after it dropped a torn tail. It takes no number.
            is_whole: self.kind == WHOLE && !is_empty,
        })
    }
}

/// RocksDB stores checksums masked, since a CRC over data with CRCs in it is weak (`util/crc32c.h`).
fn mask(sum: u32) -> u32 {
    sum.rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fragment(kind: u8, payload: &[u8]) -> Vec<u8> {
        let sum = mask(crc32c::crc32c_append(crc32c::crc32c(&[kind]), payload));
        let len = u16::try_from(payload.len()).unwrap();
        [&sum.to_le_bytes()[..], &len.to_le_bytes(), &[kind], payload].concat()
    }

    fn whole(sequence: u64) -> Vec<u8> {
        fragment(WHOLE, &[&sequence.to_le_bytes()[..], &[1, 0, 0, 0], &[0xab; 40]].concat())
    }

    #[test]
    fn recovered_records_are_not_stranded() {
        assert_eq!(find(&[whole(1), whole(2), whole(3)].concat(), 3), None);
        assert_eq!(find(&[], 0), None);
    }

    #[test]
    fn record_behind_a_bad_one_is_stranded() {
        for damaged in 0..whole(2).len() {
            let mut bad = whole(2);
            bad[damaged] ^= 0x10;
            let wal = [whole(1), bad, whole(3)].concat();
            assert_eq!(find(&wal, 1), Some((2 * whole(1).len(), 3)), "byte {damaged}");
        }
    }

    #[test]
    fn torn_last_record_is_not_stranded() {
        for len in 0..whole(2).len() {
            let wal = [&whole(1)[..], &whole(2)[..len], &[0; 100]].concat();
            assert_eq!(find(&wal, 1), None);
        }
    }

    #[test]
    fn torn_last_record_of_many_fragments_is_not_stranded() {
        let first = fragment(FIRST, &[&2u64.to_le_bytes()[..], &[1; 500]].concat());
        let rest = [fragment(3, &[2; 500]), fragment(LAST, &[3; 500])];
        for lost in 0..rest.len() {
            let mut parts = rest.clone();
            parts[lost].fill(0);
            let wal = [whole(1), first.clone(), parts.concat()].concat();
            assert_eq!(find(&wal, 1), None);
        }
        let headless = [whole(1), vec![0; first.len()], rest.concat()].concat();
        assert_eq!(find(&headless, 1), None);
    }

    #[test]
    fn whole_record_next_in_line_that_was_not_recovered_is_stranded() {
        let wal = [&[0xff; 30][..], &whole(8)].concat();
        assert_eq!(find(&wal, 7), Some((30, 8)));
    }

    #[test]
    fn empty_batch_that_rocksdb_leaves_after_a_torn_tail_is_not_stranded() {
        let empty = fragment(WHOLE, &[&8u64.to_le_bytes()[..], &[0; 4]].concat());
        assert_eq!(find(&empty, 7), None);
        assert_eq!(find(&empty, 6), Some((0, 8)));
    }

    #[test]
    fn records_of_the_next_block_are_found_behind_the_padding() {
        let mut wal = fragment(WHOLE, &[&1u64.to_le_bytes()[..], &[1; BLOCK_BYTES - 20]].concat());
        wal.resize(BLOCK_BYTES, 0);
        wal.extend(whole(9));
        assert_eq!(find(&wal, 1), Some((BLOCK_BYTES, 9)));
    }
}
