//! How every value of both databases is framed, format 1.
//!
//! | offset | size | field                                                      |
//! |-------:|-----:|------------------------------------------------------------|
//! | 0      | 1    | format: 0x01                                               |
//! | 1      | 4    | CRC32C (RFC 3720, B.4) of key and payload, big-endian      |
//! | 5      | n    | payload                                                    |
//!
//! RocksDB has checksums of its own, per block and per WAL record. This one is checked above it: it
//! notices a value that was damaged in memory, or that stands under a key that is not its own.
//! An unknown format is refused, never skipped.

/// The only format so far.
const FORMAT: u8 = 1;
const HEADER_BYTES: usize = 5;

/// A record that nobody wrote this way. The node must not go on with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Damaged {
    /// The record is shorter than its header, or its checksum does not fit key and payload.
    #[error("the {what} under key {} is damaged", Hex(.key))]
    Checksum {
        /// What the record is, for a person.
        what: &'static str,
        /// The key it stands under.
        key: Vec<u8>,
    },
    /// The format byte is not one that this version writes.
    #[error("the {what} under key {} has the unknown format {format}", Hex(.key))]
    Format {
        /// What the record is, for a person.
        what: &'static str,
        /// The key it stands under.
        key: Vec<u8>,
        /// The format byte found.
        format: u8,
    },
    /// The frame is whole and its contents have not the shape of this record.
    #[error("the {what} under key {} has a shape that nobody writes", Hex(.key))]
    Shape {
        /// What the record is, for a person.
        what: &'static str,
        /// The key it stands under.
        key: Vec<u8>,
    },
}

/// Frames a payload for the key that it will stand under.
#[must_use]
pub fn frame(key: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER_BYTES + payload.len());
    out.push(FORMAT);
    out.extend_from_slice(&checksum(key, payload).to_be_bytes());
    out.extend_from_slice(payload);
    out
}

/// Returns the payload of a record that stands under `key`.
///
/// # Errors
/// [`Damaged`], with `what` to say which record it was.
pub fn unframe<'a>(what: &'static str, key: &[u8], record: &'a [u8]) -> Result<&'a [u8], Damaged> {
    let damaged = || Damaged::Checksum { what, key: key.to_vec() };
    let (header, payload) = record.split_first_chunk::<HEADER_BYTES>().ok_or_else(damaged)?;
    let [format, sum @ ..] = *header;
    if format != FORMAT {
        return Err(Damaged::Format { what, key: key.to_vec(), format });
    }
    if u32::from_be_bytes(sum) != checksum(key, payload) {
        return Err(damaged());
    }
    Ok(payload)
}

fn checksum(key: &[u8], payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(key), payload)
}

struct Hex<'a>(&'a [u8]);

impl std::fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn golden_bytes() {
        let framed = frame(b"key", b"payload");
        assert_eq!(framed, [&[1, 0x18, 0x11, 0x59, 0x97][..], b"payload"].concat());
    }

    #[test]
    fn unknown_format_is_refused() {
        let mut framed = frame(b"k", b"v");
        framed[0] = 2;
        assert_eq!(
            unframe("entry", b"k", &framed),
            Err(Damaged::Format { what: "entry", key: b"k".to_vec(), format: 2 })
        );
    }

    #[test]
    fn truncated_record_is_refused() {
        let framed = frame(b"k", b"value");
        for len in 0..framed.len() {
            unframe("entry", b"k", &framed[..len]).unwrap_err();
        }
    }

    #[test]
    fn record_under_another_key_is_refused() {
        unframe("entry", b"l", &frame(b"k", b"v")).unwrap_err();
    }

    #[test]
    fn message_names_record_and_key() {
        let told = unframe("vote", &[0xab, 1], &[1]).unwrap_err().to_string();
        assert_eq!(told, "the vote under key ab01 is damaged");
    }

    proptest! {
        #[test]
        fn framed_payload_comes_back(key: Vec<u8>, payload: Vec<u8>) {
            let framed = frame(&key, &payload);
            prop_assert_eq!(unframe("entry", &key, &framed).unwrap(), &payload[..]);
        }

        #[test]
        fn any_flipped_bit_is_noticed(payload: Vec<u8>, at: prop::sample::Index, bit in 0u8..8) {
            let mut framed = frame(b"key", &payload);
            let at = at.index(framed.len());
            framed[at] ^= 1 << bit;
            prop_assert!(unframe("entry", b"key", &framed).is_err());
        }
    }
}
