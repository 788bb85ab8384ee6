//! What a file was called and how it lay: encrypted, and of one length, so that it tells nothing.
//!
//! Fields in the order of their tags, each at most once; then zeros up to 288 bytes:
//!
//! | offset | size | field             |
//! |-------:|-----:|-------------------|
//! | 0      | 1    | tag               |
//! | 1      | 1    | n, length         |
//! | 2      | n    | value             |
//!
//! | tag | n        | value                                                             |
//! |----:|---------:|-------------------------------------------------------------------|
//! | 1   | 1 to 255 | name, without a folder                                            |
//! | 2   | 2        | mode: permission bits, at most 07777                              |
//! | 3   | 12       | modified: i64 seconds since 1970, u32 nanoseconds below 10^9      |
//!
//! It is for showing and for restoring mode and time. A name from here is never a path: whoever holds the
//! key may have written anything.

use std::fmt;

/// Bytes of the encoded form.
pub(super) const ENCODED_LEN: usize = 288;

/// Permission bits and the three above them.
pub const MODE_MAX: u16 = 0o7777;
/// Most nanoseconds beside whole seconds.
pub const NANOS_MAX: u32 = 999_999_999;

const NAME: u8 = 1;
const MODE: u8 = 2;
const MODIFIED: u8 = 3;

/// What is kept of a file beside its content.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metadata {
    /// What it was called.
    pub name: Option<FileName>,
    /// Its permission bits, at most [`MODE_MAX`]; what is above is not stored.
    pub mode: Option<u16>,
    /// When it was last modified.
    pub modified: Option<Modified>,
}

/// Why something is no file name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a file name has 1 to 255 bytes, no `/`, no zero byte, and is neither `.` nor `..`")]
pub struct InvalidName;

/// The last part of a path: 1 to 255 bytes, not necessarily UTF-8, without `/` or zero byte, neither `.` nor
/// `..`. To be shown; never to be opened.
#[derive(Clone, PartialEq, Eq)]
pub struct FileName(Vec<u8>);

impl FileName {
    /// Longest name, in bytes.
    pub const LEN_MAX: usize = 255;

    /// Takes a name.
    pub fn parse(bytes: &[u8]) -> Result<Self, InvalidName> {
        let fits = (1..=Self::LEN_MAX).contains(&bytes.len());
        let plain = !bytes.iter().any(|byte| matches!(byte, b'/' | 0));
        let names = bytes != b"." && bytes != b"..";
        if fits && plain && names { Ok(Self(bytes.to_vec())) } else { Err(InvalidName) }
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

/// A time of modification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Modified {
    /// Seconds since 1970, before it negative.
    pub seconds: i64,
    /// Nanoseconds after that, at most [`NANOS_MAX`]; more is stored as the most.
    pub nanos: u32,
}

impl Metadata {
    pub(super) fn encode(&self) -> Vec<u8> {
        // Room for the tag too: a buffer that grows leaves a copy behind.
        let mut bytes = Vec::with_capacity(ENCODED_LEN + super::TAG_LEN);
        let mut put = |tag: u8, value: &[u8]| {
            let len = u8::try_from(value.len()).expect("names are within 255 bytes");
            bytes.extend_from_slice(&[tag, len]);
            bytes.extend_from_slice(value);
        };
        if let Some(name) = &self.name {
            put(NAME, name.as_bytes());
        }
        if let Some(mode) = self.mode {
            put(MODE, &(mode & MODE_MAX).to_be_bytes());
        }
        if let Some(Modified { seconds, nanos }) = self.modified {
            let mut value = [0; 12];
            value[..8].copy_from_slice(&seconds.to_be_bytes());
            value[8..].copy_from_slice(&nanos.min(NANOS_MAX).to_be_bytes());
            put(MODIFIED, &value);
        }
        bytes.resize(ENCODED_LEN, 0);
        bytes
    }

    /// Reads the encoded form, strictly; `None` for anything else.
    pub(super) fn decode(mut bytes: &[u8]) -> Option<Self> {
        let mut metadata = Self::default();
        let mut before = 0;
        while let [tag @ 1..=u8::MAX, len, rest @ ..] = bytes {
            let (value, rest) = rest.split_at_checked(usize::from(*len))?;
            if *tag <= before {
                return None;
            }
            metadata.take(*tag, value)?;
            (before, bytes) = (*tag, rest);
        }
        bytes.iter().all(|byte| *byte == 0).then_some(metadata)
    }

    fn take(&mut self, tag: u8, value: &[u8]) -> Option<()> {
        match tag {
            NAME => self.name = Some(FileName::parse(value).ok()?),
            MODE => {
                let mode = u16::from_be_bytes(value.try_into().ok()?);
                self.mode = (mode <= MODE_MAX).then_some(mode);
                self.mode?;
            }
            MODIFIED => {
                let (seconds, nanos) = value.split_first_chunk()?;
                let seconds = i64::from_be_bytes(*seconds);
                let nanos = u32::from_be_bytes(nanos.try_into().ok()?);
                self.modified = (nanos <= NANOS_MAX).then_some(Modified { seconds, nanos });
                self.modified?;
            }
            _ => return None,
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Metadata {
        Metadata {
            name: Some(FileName::parse(b"report.pdf").unwrap()),
            mode: Some(0o640),
            modified: Some(Modified { seconds: -1, nanos: NANOS_MAX }),
        }
    }

    #[test]
    fn every_metadata_takes_the_same_room_and_comes_back() {
        let longest = Metadata { name: Some(FileName::parse(&[b'n'; 255]).unwrap()), ..full() };
        for metadata in [Metadata::default(), full(), longest] {
            let bytes = metadata.encode();
            assert_eq!(bytes.len(), ENCODED_LEN);
            assert_eq!(Metadata::decode(&bytes), Some(metadata));
        }
    }

    #[test]
    fn what_could_lead_out_of_a_folder_is_no_name() {
        for name in ["", ".", "..", "/", "a/b", "../etc/passwd", "a\0b", &"n".repeat(256)] {
            assert_eq!(FileName::parse(name.as_bytes()), Err(InvalidName), "{name:?}");
        }
        assert!(FileName::parse(b"\xff...").is_ok());
    }

    #[test]
    fn unknown_repeated_or_ill_formed_fields_are_refused() {
        let with = |fields: &[u8]| {
            let mut bytes = fields.to_vec();
            bytes.resize(ENCODED_LEN, 0);
            Metadata::decode(&bytes)
        };
        assert!(with(b"\x01\x01a\x02\x02\x01\xff").is_some());
        for wrong in [
            b"\x04\x01a".as_slice(),                   // unknown tag
            b"\x02\x02\0\0\x01\x01a",                  // out of order
            b"\x01\x01a\x01\x01b",                     // twice
            b"\x01\x02..",                             // no name
            b"\x02\x01\0",                             // wrong length
            b"\x02\x02\x10\0",                         // no mode
            b"\x03\x0c\0\0\0\0\0\0\0\0\x3b\x9a\xca\0", // a whole second of nanoseconds
            b"\x01\x01a\0\0a",                         // something behind the end
        ] {
            assert_eq!(with(wrong), None, "{}", wrong.escape_ascii());
        }
        assert_eq!(Metadata::decode(&[1; ENCODED_LEN]), None);
        assert_eq!(Metadata::decode(&[1, 9, 0]), None);
    }
}
