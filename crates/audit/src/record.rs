//! A record of the log: a stamp by the log itself and what happened.
//!
//! Canonical bytes are CBOR, `[stamp, entry]`, maps with ascending numbers, shortest integers, no
//! indefinite lengths. They are hashed as they stand in the file and never written anew, so that a
//! reader needs no canonicaliser. A record names its cluster and node, though the file does too: it
//! is delivered, quoted and proven apart from the file.

use std::convert::Infallible;
use std::fmt;

use twinkeep_core::id::{ClusterId, NodeId};
use twinkeep_core::name::ZoneName;

use crate::call::Call;

/// Largest record, in canonical bytes. All fields are bounded, so none can be larger.
pub const RECORD_BYTES_MAX: usize = 32 * 1024;
/// The version that this crate writes and the only one that it reads.
pub const VERSION: u16 = 1;

/// One record.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct Record {
    /// Where and as which the log took the record.
    #[n(0)]
    pub stamp: Stamp,
    /// What happened.
    #[n(1)]
    pub entry: Entry,
}

/// What the log adds to every record.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
pub struct Stamp {
    /// Version of the record's fields, [`VERSION`].
    #[n(0)]
    pub version: u16,
    /// Position in the node's log, from 1 without gaps.
    #[n(1)]
    pub sequence: u64,
    /// Names the record among all nodes.
    #[n(2)]
    pub event: EventId,
    /// The cluster.
    #[n(3)]
    pub cluster: ClusterId,
    /// The node that answered.
    #[n(4)]
    pub node: NodeId,
    /// The zone that the node stood in.
    #[n(5)]
    pub zone: ZoneName,
}

/// What a record tells.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[expect(clippy::large_enum_variant, reason = "nearly all entries are calls")]
pub enum Entry {
    /// A call was answered.
    #[n(1)]
    Call(#[n(0)] Call),
    /// The log tells of itself.
    #[n(2)]
    Mark(#[n(0)] Mark),
}

/// What the log tells of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
pub struct Mark {
    /// When, in nanoseconds since the Unix epoch, UTC.
    #[n(0)]
    pub time_unix_ns: u64,
    /// What.
    #[n(1)]
    pub event: MarkEvent,
}

/// What may happen to a log.
///
/// A run of the log is `Opened`, calls, `Closed`. A run that does not end in `Closed` was ended by a
/// crash, and then the next one begins with `LossPossible` and `Opened`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub enum MarkEvent {
    /// The log was opened and takes calls.
    #[n(1)]
    Opened,
    /// The log was closed with everything in it synced.
    #[n(2)]
    Closed,
    /// The run before ended without being closed: answers that did not wait for the disk may have
    /// left no record.
    #[n(3)]
    LossPossible {
        /// The span of time whose records may be missing, at its longest, in milliseconds.
        #[n(0)]
        window_ms: u32,
        /// Bytes of an unfinished write that were cut from the end.
        #[n(1)]
        cut_bytes: u64,
    },
}

/// Names a record among all nodes: 48 bits of milliseconds since the Unix epoch and 80 random bits, so
/// that ids sort by time, as a ULID's do. Written `evt-` and 32 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, minicbor::Encode, minicbor::Decode)]
#[cbor(transparent)]
pub struct EventId(#[cbor(n(0), with = "minicbor::bytes")] [u8; 16]);

impl EventId {
    /// Makes the id of a moment; of `random` the lower 80 bits count.
    #[must_use]
    pub fn new(time_unix_ns: u64, random: u128) -> Self {
        let time_ms = u128::from(time_unix_ns / 1_000_000);
        Self((time_ms << 80 | random & ((1 << 80) - 1)).to_be_bytes())
    }

    /// Returns the raw bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "evt-{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why bytes are not a record.
#[derive(Debug, thiserror::Error)]
pub enum InvalidRecord {
    /// The bytes are not those of a record.
    #[error("the bytes are not an audit record")]
    Malformed(#[source] minicbor::decode::Error),
    /// A later version of this software wrote the record.
    #[error("the record has version {0}, this software reads version {VERSION}")]
    Version(u16),
    /// Bytes follow the record.
    #[error("{0} bytes follow the record")]
    Trailing(usize),
}

impl Record {
    /// Reads canonical bytes.
    ///
    /// # Errors
    /// [`InvalidRecord`] if they are no record of a version that is known, whole and alone.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, InvalidRecord> {
        let mut decoder = minicbor::Decoder::new(bytes);
        let record: Self = decoder.decode().map_err(InvalidRecord::Malformed)?;
        if record.stamp.version != VERSION {
            return Err(InvalidRecord::Version(record.stamp.version));
        }
        match bytes.len() - decoder.position() {
            0 => Ok(record),
            trailing => Err(InvalidRecord::Trailing(trailing)),
        }
    }
}

impl Entry {
    /// Returns the entry's part of a record's canonical bytes. The caller of the log does this, so
    /// that the one thread behind the log only hashes and writes.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(ENTRY_BYTES_USUAL);
        write(self, &mut bytes);
        bytes
    }
}

/// Returns what [`Entry::to_bytes`] returns of a call, without moving it into an [`Entry`].
pub(crate) fn call_entry(call: &Call) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(ENTRY_BYTES_USUAL);
    bytes.extend_from_slice(&ENTRY_OF_CALL);
    write(call, &mut bytes);
    bytes
}

impl Stamp {
    /// Writes a record's canonical bytes in front of and with its entry's.
    pub(crate) fn write_record(&self, entry: &[u8], out: &mut Vec<u8>) {
        out.push(ARRAY_OF_TWO);
        write(self, out);
        out.extend_from_slice(entry);
    }
}

fn write(value: &impl minicbor::Encode<()>, out: &mut Vec<u8>) {
    minicbor::encode(value, Inlined(out)).expect("a vector takes all bytes");
}

/// A vector that is written to piece by piece. A record has some sixty pieces, most of a byte or two: the
/// vector's own way in belongs to another crate and costs a call for each, a tenth of what a small call costs.
struct Inlined<'a>(&'a mut Vec<u8>);

impl minicbor::encode::Write for Inlined<'_> {
    type Error = Infallible;

    #[inline]
    fn write_all(&mut self, piece: &[u8]) -> Result<(), Infallible> {
        self.0.extend_from_slice(piece);
        Ok(())
    }
}

/// Room for the entry of a call without an encryption context: grown once or never.
const ENTRY_BYTES_USUAL: usize = 384;
/// CBOR: an array of two follows (RFC 8949, section 3.1).
const ARRAY_OF_TWO: u8 = 0x82;
/// CBOR: the first variant of [`Entry`], with one field, which follows.
const ENTRY_OF_CALL: [u8; 3] = [ARRAY_OF_TWO, 0x01, 0x81];

#[cfg(test)]
mod tests;
