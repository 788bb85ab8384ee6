//! A segment: one file of a log. Integers are big-endian.
//!
//! | offset | size | field                                                  |
//! |-------:|-----:|--------------------------------------------------------|
//! | 0      | 8    | `TWKAUDIT`                                             |
//! | 8      | 2    | format, 1                                              |
//! | 10     | 6    | zero                                                   |
//! | 16     | 16   | cluster id                                             |
//! | 32     | 8    | node id                                                |
//! | 40     | 8    | segment number, from 1 without gaps                    |
//! | 48     | 8    | sequence of the first record                           |
//! | 56     | 32   | chain at the end of the segment before; zeros in the first |
//! | 88     | 4    | CRC-32C of bytes 0 to 88                               |
//! | 92     |      | frames ([`crate::frame`]), then zeros                  |
//!
//! The chain of the first frame begins with SHA-256 of these 92 bytes, so that it covers the header
//! and, through it, all segments before.

use twinkeep_core::id::{ClusterId, NodeId};

use crate::frame::Chain;

/// Bytes in front of the first frame.
pub(crate) const HEADER_BYTES: usize = 92;
/// Smallest segment: two of the largest records and their frames fit.
pub const SEGMENT_BYTES_MIN: u64 = 96 * 1024;
/// Largest segment. A segment is read whole when a log is opened or verified.
pub const SEGMENT_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// No segment and no record has a higher number; a file that says so was not written by a log.
const NUMBER_MAX: u64 = u64::MAX / 2;

const MAGIC: &[u8; 8] = b"TWKAUDIT";
const FORMAT: u16 = 1;
const NAME_PREFIX: &str = "segment-";

/// The opening bytes of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) cluster: ClusterId,
    pub(crate) node: NodeId,
    pub(crate) number: u64,
    pub(crate) first_sequence: u64,
    /// The chain at the end of the segment before.
    pub(crate) previous: Chain,
}

/// Why bytes are not a segment's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidHeader {
    /// The file is shorter than a header, or its checksum does not hold.
    #[error("its header is damaged")]
    Damaged,
    /// A later version of this software wrote the file.
    #[error("its format is {0}, this software reads format {FORMAT}")]
    Format(u16),
}

impl Header {
    pub(crate) fn to_bytes(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        out[..8].copy_from_slice(MAGIC);
        out[8..10].copy_from_slice(&FORMAT.to_be_bytes());
        out[16..32].copy_from_slice(self.cluster.as_bytes());
        out[32..40].copy_from_slice(&self.node.get().to_be_bytes());
        out[40..48].copy_from_slice(&self.number.to_be_bytes());
        out[48..56].copy_from_slice(&self.first_sequence.to_be_bytes());
        out[56..88].copy_from_slice(self.previous.as_bytes());
        let checksum = crc32c::crc32c(&out[..88]);
        out[88..].copy_from_slice(&checksum.to_be_bytes());
        out
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, InvalidHeader> {
        let bytes: &[u8; HEADER_BYTES] = bytes.first_chunk().ok_or(InvalidHeader::Damaged)?;
        let u64_at = |at: usize| u64::from_be_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
        if bytes[..8] != *MAGIC || bytes[88..] != crc32c::crc32c(&bytes[..88]).to_be_bytes() {
            return Err(InvalidHeader::Damaged);
        }
        match u16::from_be_bytes([bytes[8], bytes[9]]) {
            FORMAT if bytes[10..16] == [0; 6] => {}
            FORMAT => return Err(InvalidHeader::Damaged),
            later => return Err(InvalidHeader::Format(later)),
        }
        let (number, first_sequence) = (u64_at(40), u64_at(48));
        if ![number, first_sequence].iter().all(|n| (1..=NUMBER_MAX).contains(n)) {
            return Err(InvalidHeader::Damaged);
        }
        Ok(Self {
            cluster: ClusterId::from_bytes(bytes[16..32].try_into().expect("16 bytes")),
            node: NodeId::new(u64_at(32)).map_err(|_| InvalidHeader::Damaged)?,
            number,
            first_sequence,
            previous: Chain::from_bytes(bytes[56..88].try_into().expect("32 bytes")),
        })
    }

    /// Returns the chain in front of the first frame.
    pub(crate) fn chain(&self) -> Chain {
        Chain::over(&[&self.to_bytes()])
    }
}

/// Returns the file name of a segment. Names sort as numbers do.
pub(crate) fn file_name(number: u64) -> String {
    format!("{NAME_PREFIX}{number:020}")
}

/// Returns the number in a file name, if it is the name of a segment.
pub(crate) fn number_of(name: &str) -> Option<u64> {
    let number = name.strip_prefix(NAME_PREFIX)?.parse().ok()?;
    ((1..=NUMBER_MAX).contains(&number) && file_name(number) == name).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            cluster: ClusterId::from_bytes([0x10; 16]),
            node: NodeId::new(3).unwrap(),
            number: 2,
            first_sequence: 700,
            previous: Chain::from_bytes([7; 32]),
        }
    }

    #[test]
    fn header_reads_back_and_every_flipped_bit_is_found() {
        let bytes = header().to_bytes();
        assert_eq!(Header::from_bytes(&bytes), Ok(header()));
        for bit in 0..HEADER_BYTES * 8 {
            let mut bytes = bytes;
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Header::from_bytes(&bytes), Err(InvalidHeader::Damaged), "bit {bit}");
        }
        assert_eq!(Header::from_bytes(&bytes[..91]), Err(InvalidHeader::Damaged));
    }

    #[test]
    fn header_of_a_later_format_is_named_as_such() {
        let mut bytes = header().to_bytes();
        bytes[9] = 2;
        let checksum = crc32c::crc32c(&bytes[..88]);
        bytes[88..].copy_from_slice(&checksum.to_be_bytes());
        assert_eq!(Header::from_bytes(&bytes), Err(InvalidHeader::Format(2)));
    }

    #[test]
    fn numbers_that_no_log_reaches_are_damage() {
        for (number, first_sequence) in [(0, 1), (1, 0), (u64::MAX, 1), (1, u64::MAX)] {
            let bytes = Header { number, first_sequence, ..header() }.to_bytes();
            assert_eq!(Header::from_bytes(&bytes), Err(InvalidHeader::Damaged));
        }
    }

    #[test]
    fn only_exact_names_are_segments() {
        assert_eq!(number_of(&file_name(17)), Some(17));
        assert_eq!(number_of(&file_name(NUMBER_MAX)), Some(NUMBER_MAX));
        assert_eq!(number_of(&file_name(u64::MAX)), None);
        let odd = [
            "segment-1",
            "segment-00000000000000000000",
            "spare-1",
            "segment-+0000000000000000001",
        ];
        assert!(odd.iter().all(|name| number_of(name).is_none()));
    }
}
