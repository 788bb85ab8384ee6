//! Keys of the log database. Kinds are stored: numbers are not reused.
//!
//! | kind | key           | record                                                            |
//! |-----:|---------------|-------------------------------------------------------------------|
//! | 0x01 | –             | identity stamp ([`crate::identity`])                              |
//! | 0x02 | –             | vote, opaque                                                      |
//! | 0x03 | –             | committed: index (8, big-endian), then opaque bytes               |
//! | 0x04 | –             | purged: index (8, big-endian), then opaque bytes                  |
//! | 0x05 | –             | number of the last write batch (8, big-endian)                    |
//! | 0x06 | –             | snapshot that may be installed: index (8, big-endian)             |
//! | 0x07 | –             | sync lease, opaque                                                |
//! | 0x08 | –             | freshness stamp, opaque                                           |
//! | 0x09 | –             | what other nodes acknowledged, opaque                             |
//! | 0x10 | index (8, big-endian) | entry, opaque; big-endian, so that byte order is numeric order |

use bytes::Bytes;

use crate::record::Damaged;

pub(super) const IDENTITY: &[u8] = &[0x01];
pub(super) const VOTE: &[u8] = &[0x02];
pub(super) const COMMITTED: &[u8] = &[0x03];
pub(super) const PURGED: &[u8] = &[0x04];
pub(super) const BATCH: &[u8] = &[0x05];
pub(super) const SNAPSHOT: &[u8] = &[0x06];
pub(super) const SYNC_LEASE: &[u8] = &[0x07];
pub(super) const FRESHNESS: &[u8] = &[0x08];
pub(super) const ACKNOWLEDGED: &[u8] = &[0x09];

const ENTRY_KIND: u8 = 0x10;
const ENTRY_KEY_BYTES: usize = 9;

/// The first key that can be an entry's.
pub(super) const ENTRIES: &[u8] = &[ENTRY_KIND];

pub(super) fn entry(index: u64) -> [u8; ENTRY_KEY_BYTES] {
    let mut key = [ENTRY_KIND; ENTRY_KEY_BYTES];
    key[1..].copy_from_slice(&index.to_be_bytes());
    key
}

/// Returns the index that an entry's key stands for.
pub(super) fn entry_index(key: &[u8]) -> Result<u64, Damaged> {
    match key.split_first() {
        Some((&ENTRY_KIND, index)) => number("log entry", key, index),
        _ => Err(Damaged::Shape { what: "log entry", key: key.to_vec() }),
    }
}

/// Reads eight big-endian bytes.
pub(super) fn number(what: &'static str, key: &[u8], bytes: &[u8]) -> Result<u64, Damaged> {
    let bytes = bytes.try_into().map_err(|_| Damaged::Shape { what, key: key.to_vec() })?;
    Ok(u64::from_be_bytes(bytes))
}

/// Writes an index and the opaque bytes that go with it.
pub(super) fn numbered(index: u64, bytes: &[u8]) -> Vec<u8> {
    [&index.to_be_bytes(), bytes].concat()
}

/// Reads what [`numbered`] wrote.
pub(super) fn split_numbered(
    what: &'static str,
    key: &[u8],
    payload: &[u8],
) -> Result<(u64, Bytes), Damaged> {
    let shape = || Damaged::Shape { what, key: key.to_vec() };
    let (index, bytes) = payload.split_first_chunk::<8>().ok_or_else(shape)?;
    Ok((u64::from_be_bytes(*index), Bytes::copy_from_slice(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_sort_by_number_behind_everything_else() {
        assert!(entry(255) < entry(256) && entry(u64::MAX - 1) < entry(u64::MAX));
        for other in [IDENTITY, VOTE, COMMITTED, PURGED, BATCH, SNAPSHOT, SYNC_LEASE, FRESHNESS] {
            assert!(other < ENTRIES);
        }
    }

    #[test]
    fn entry_key_comes_back_and_others_are_refused() {
        assert_eq!(entry_index(&entry(77)), Ok(77));
        for key in [&[][..], VOTE, ENTRIES, &entry(1)[..8]] {
            entry_index(key).unwrap_err();
        }
    }
}
