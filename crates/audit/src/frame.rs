//! One record in a segment file: framed, checked and chained. Integers are big-endian.
//!
//! | offset | size | field                                                             |
//! |-------:|-----:|-------------------------------------------------------------------|
//! | 0      | 4    | n, length of the record, 1 to [`RECORD_BYTES_MAX`]; zero ends a log |
//! | 4      | 8    | sequence                                                          |
//! | 12     | 4    | place in its commit, from 0                                       |
//! | 16     | 32   | chain = SHA-256(chain before \|\| bytes 0 to 16 \|\| record)      |
//! | 48     | 4    | CRC-32C of bytes 0 to 48 and the record                           |
//! | 52     | n    | the record's canonical bytes                                      |
//!
//! The checksum finds what the disk did, the chain what a person did.
//!
//! The place tells a power cut from a change. Records are written commit by commit, each synced before
//! the next one is written. A power cut may keep any sectors of the last commit, so a bad frame may
//! have good ones behind it, but only of its own commit: `sequence - place`, the commit's first
//! sequence, is then not beyond the bad one. A good frame of a *later* commit proves that the bad one
//! was on the disk whole.

use std::fmt;
use std::str::FromStr;

use ring::digest;

use crate::record::RECORD_BYTES_MAX;

/// Bytes in front of a record.
pub(crate) const HEADER_BYTES: usize = 52;

/// A point of the hash chain: stands for every record up to it and their order.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Chain([u8; 32]);

impl Chain {
    pub(crate) const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub(crate) fn over(parts: &[&[u8]]) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        for part in parts {
            context.update(part);
        }
        Self(context.finish().as_ref().try_into().expect("SHA-256 has 32 bytes"))
    }

    /// Returns the raw bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The newest record of a log and the chain up to it. Kept outside the node, it proves later that
/// the log still holds what it held. Written `<sequence>:<64 hex digits>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The record's sequence.
    pub sequence: u64,
    /// The chain behind the record.
    pub chain: Chain,
}

impl Head {
    /// Stands in front of a log's first record.
    pub(crate) const START: Self = Self { sequence: 0, chain: Chain([0; 32]) };
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.sequence, self.chain)
    }
}

/// A text that is not a [`Head`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a log's head is written `<sequence>:<64 hex digits>`")]
pub struct InvalidHead;

impl FromStr for Head {
    type Err = InvalidHead;

    fn from_str(text: &str) -> Result<Self, InvalidHead> {
        let (sequence, hex) = text.split_once(':').ok_or(InvalidHead)?;
        if hex.len() != 64 || !hex.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(InvalidHead);
        }
        let mut chain = [0; 32];
        for (byte, at) in chain.iter_mut().zip((0..64).step_by(2)) {
            *byte = u8::from_str_radix(&hex[at..at + 2], 16).map_err(|_| InvalidHead)?;
        }
        let sequence = sequence.parse().map_err(|_| InvalidHead)?;
        Ok(Self { sequence, chain: Chain(chain) })
    }
}

/// A frame whose checksum holds. The chain is the reader's to compare.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame<'a> {
    pub(crate) sequence: u64,
    pub(crate) place: u32,
    /// As stored.
    pub(crate) chain: Chain,
    pub(crate) record: &'a [u8],
    /// What the chain covers beside the record.
    covered: &'a [u8],
}

impl Frame<'_> {
    /// Returns the chain as it must be behind this frame.
    pub(crate) fn chain_after(&self, before: Chain) -> Chain {
        Chain::over(&[&before.0, self.covered, self.record])
    }

    /// Returns the first sequence of the commit that wrote the frame.
    pub(crate) fn commit_first(&self) -> u64 {
        self.sequence.saturating_sub(u64::from(self.place))
    }

    pub(crate) fn bytes(&self) -> usize {
        HEADER_BYTES + self.record.len()
    }
}

/// What stands at a place in a segment.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Parsed<'a> {
    /// A frame.
    Frame(Frame<'a>),
    /// Nothing any more: the file's end, or room that was never written.
    End,
    /// A frame that the bytes at hand end in.
    Partial,
    /// No frame.
    Damaged,
}

/// Appends a frame, whose record `write` appends, and returns the chain behind it.
pub(crate) fn push(
    out: &mut Vec<u8>,
    before: Chain,
    sequence: u64,
    place: u32,
    write: impl FnOnce(&mut Vec<u8>),
) -> Chain {
    let start = out.len();
    out.resize(start + HEADER_BYTES, 0);
    write(out);
    let (header, record) = out[start..].split_at_mut(HEADER_BYTES);
    assert!((1..=RECORD_BYTES_MAX).contains(&record.len()), "a record's fields are bounded");
    header[..4].copy_from_slice(&(record.len() as u32).to_be_bytes());
    header[4..12].copy_from_slice(&sequence.to_be_bytes());
    header[12..16].copy_from_slice(&place.to_be_bytes());
    let chain = Chain::over(&[&before.0, &header[..16], record]);
    header[16..48].copy_from_slice(&chain.0);
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&header[..48]), record);
    header[48..].copy_from_slice(&checksum.to_be_bytes());
    chain
}

/// Reads what stands at the beginning of `bytes`.
pub(crate) fn parse(bytes: &[u8]) -> Parsed<'_> {
    let Some((length, _)) = bytes.split_first_chunk::<4>() else {
        return if bytes.iter().all(|byte| *byte == 0) { Parsed::End } else { Parsed::Damaged };
    };
    let length = u32::from_be_bytes(*length) as usize;
    if length == 0 {
        // A frame's first four bytes alone may have been lost; then the rest of it is not zero.
        let header = &bytes[..bytes.len().min(HEADER_BYTES)];
        let empty = header.iter().all(|byte| *byte == 0);
        return if empty { Parsed::End } else { Parsed::Damaged };
    }
    if length > RECORD_BYTES_MAX {
        return Parsed::Damaged;
    }
    match bytes.split_at_checked(HEADER_BYTES) {
        Some((header, rest)) if rest.len() >= length => checked(header, &rest[..length]),
        _ => Parsed::Partial,
    }
}

fn checked<'a>(header: &'a [u8], record: &'a [u8]) -> Parsed<'a> {
    let (covered, rest) = header.split_at(16);
    let (chain, stored) = rest.split_at(32);
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&header[..48]), record);
    if stored != checksum.to_be_bytes() {
        return Parsed::Damaged;
    }
    Parsed::Frame(Frame {
        sequence: u64::from_be_bytes(covered[4..12].try_into().expect("8 bytes")),
        place: u32::from_be_bytes(covered[12..16].try_into().expect("4 bytes")),
        chain: Chain(chain.try_into().expect("32 bytes")),
        record,
        covered,
    })
}

/// Returns the first frame at or behind `from` whose sequence is at least `sequence`, and where.
pub(crate) fn find(bytes: &[u8], from: usize, sequence: u64) -> Option<(usize, Frame<'_>)> {
    // Most of what follows a log's end is room that was never written.
    let last = from + bytes.get(from..)?.iter().rposition(|byte| *byte != 0)?;
    (from..=last).find_map(|at| match parse(&bytes[at..]) {
        Parsed::Frame(frame) if frame.sequence >= sequence => Some((at, frame)),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two() -> (Vec<u8>, Chain) {
        let mut bytes = Vec::new();
        let chain =
            push(&mut bytes, Head::START.chain, 1, 0, |out| out.extend_from_slice(b"first"));
        let chain = push(&mut bytes, chain, 2, 1, |out| out.extend_from_slice(b"second"));
        (bytes, chain)
    }

    #[test]
    fn frames_read_back_with_their_chain() {
        let (bytes, chain) = two();
        let Parsed::Frame(first) = parse(&bytes) else { panic!() };
        let Parsed::Frame(second) = parse(&bytes[first.bytes()..]) else { panic!() };
        assert_eq!((first.sequence, first.record), (1, &b"first"[..]));
        assert_eq!((second.sequence, second.record, second.commit_first()), (2, &b"second"[..], 1));
        assert_eq!(second.chain_after(first.chain_after(Head::START.chain)), chain);
        assert_eq!(second.chain, chain);
    }

    /// The stored form: SHA-256 and CRC-32C computed apart from this code.
    #[test]
    fn stored_bytes_stay_as_they_are() {
        let mut bytes = Vec::new();
        push(&mut bytes, Head::START.chain, 1, 0, |out| out.extend_from_slice(b"first"));
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, include_str!("frame.golden").trim());
    }

    #[test]
    fn every_flipped_bit_of_a_frame_is_damage() {
        let (bytes, _) = two();
        let first = HEADER_BYTES + 5;
        for bit in 0..first * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(!matches!(parse(&bytes), Parsed::Frame(_) | Parsed::End), "bit {bit}");
        }
    }

    #[test]
    fn every_cut_of_a_frame_is_partial() {
        let (bytes, _) = two();
        for len in 4..HEADER_BYTES + 5 {
            assert!(matches!(parse(&bytes[..len]), Parsed::Partial), "{len} bytes");
        }
        assert!(matches!(parse(&bytes[..0]), Parsed::End));
        assert!(matches!(parse(&[0; 3]), Parsed::End));
        assert!(matches!(parse(&[0; 4096]), Parsed::End));
    }

    #[test]
    fn next_frame_is_found_behind_rubble() {
        let (bytes, _) = two();
        let (at, frame) = find(&bytes, 1, 2).unwrap();
        assert_eq!((at, frame.sequence), (HEADER_BYTES + 5, 2));
        assert!(find(&bytes, 1, 3).is_none());
    }

    #[test]
    fn heads_are_read_as_written() {
        let (_, chain) = two();
        let head = Head { sequence: 2, chain };
        assert_eq!(head.to_string().parse(), Ok(head));
        for bad in
            ["", "2", "2:", "x:00", "2:zz", &format!("{head}0"), &format!("2:+{}", "0".repeat(63))]
        {
            assert_eq!(bad.parse::<Head>(), Err(InvalidHead), "{bad}");
        }
    }
}
