//! Identifiers and counters, each with one checked way in.
//!
//! Random ids are 16 bytes written as a prefix and 32 lower-case hex digits, so that an id pasted
//! into the wrong field is refused by its prefix. Counters start at 1: a zero is a field that
//! somebody forgot to set.

use std::fmt;
use std::num::{NonZeroU32, NonZeroU64};
use std::ops::Range;
use std::str::FromStr;

/// Why a text or number is not the id it was taken for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidId {
    /// The text lacks the prefix of its kind or has not 32 lower-case hex digits.
    #[error("{what} is written `{prefix}` and 32 lower-case hex digits")]
    Text {
        /// What was expected, for a person.
        what: &'static str,
        /// The prefix that texts of this kind open with.
        prefix: &'static str,
    },
    /// The text is not a 36-character lower-case UUID.
    #[error("a key version id is a lower-case UUID of 36 characters")]
    Uuid,
    /// The number is zero or not a number.
    #[error("{what} counts from 1")]
    Zero {
        /// What was expected, for a person.
        what: &'static str,
    },
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Writes bytes as lower-case hex digits, two for each byte.
fn hex_to(out: &mut [u8], bytes: &[u8]) {
    for (pair, byte) in out.chunks_exact_mut(2).zip(bytes) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
}

/// Appends bytes as lower-case hex digits.
pub(crate) fn hex_into(out: &mut String, bytes: &[u8]) {
    for byte in bytes {
        out.push(char::from(DIGITS[usize::from(byte >> 4)]));
        out.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

/// Reads exactly `N` bytes as lower-case hex digits.
pub(crate) fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut out = [0; N];
    unhex_to(&mut out, text.as_bytes())?;
    Some(out)
}

/// Reads lower-case hex digits, exactly two for each byte of `out`.
fn unhex_to(out: &mut [u8], digits: &[u8]) -> Option<()> {
    if digits.len() != 2 * out.len() {
        return None;
    }
    for (byte, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Some(())
}

macro_rules! random_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, minicbor::Encode, minicbor::Decode)]
        #[cbor(transparent)]
        pub struct $name(#[cbor(n(0), with = "minicbor::bytes")] [u8; 16]);

        impl $name {
            /// What the written form opens with.
            pub const PREFIX: &'static str = $prefix;

            /// Takes sixteen bytes, drawn by the node that proposes the id or read from a record.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }

            /// Returns the raw bytes, as they stand in records and ciphertexts.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 16] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                // On the stack: answers name their keys, and a call has no time for a heap block more.
                let mut text = [0; $prefix.len() + 32];
                let (prefix, digits) = text.split_at_mut($prefix.len());
                prefix.copy_from_slice($prefix.as_bytes());
                hex_to(digits, &self.0);
                f.write_str(std::str::from_utf8(&text).expect("hex digits are ASCII"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                text.strip_prefix($prefix)
                    .and_then(unhex)
                    .map(Self)
                    .ok_or(InvalidId::Text { what: $what, prefix: $prefix })
            }
        }
    };
}

random_id! {
    /// Identifies a cluster for its whole life, across incarnations. Written `clu-` and 32 hex digits.
    ClusterId, "clu-", "a cluster id"
}
random_id! {
    /// Identifies a key for its whole life, across versions. Written `key-` and 32 hex digits.
    KeyId, "key-", "a key id"
}
random_id! {
    /// Identifies an instance, one logical KMS inside a cluster. Written `kst-` and 32 hex digits.
    InstanceId, "kst-", "an instance id"
}
random_id! {
    /// Ties a caller's request to its audit records and log lines. Written `req-` and 32 hex digits.
    RequestId, "req-", "a request id"
}

impl InstanceId {
    /// Stands for "the cluster itself" where a record belongs to no instance.
    pub const CLUSTER: Self = Self([0; 16]);
}

/// Identifies one version of a key on the wire: a UUID, written with 36 lower-case characters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, minicbor::Encode, minicbor::Decode)]
#[cbor(transparent)]
pub struct KeyVersionId(#[cbor(n(0), with = "minicbor::bytes")] [u8; 16]);

impl KeyVersionId {
    /// Length of the written form.
    const LEN: usize = 36;
    /// Where the five parts stand in the written form, and which bytes they are; hyphens stand between them.
    const PARTS: [(Range<usize>, Range<usize>); 5] =
        [(0..8, 0..4), (9..13, 4..6), (14..18, 6..8), (19..23, 8..10), (24..36, 10..16)];

    /// Makes a random (version 4) UUID of sixteen random bytes (RFC 9562, section 5.4).
    #[must_use]
    pub const fn from_random(mut bytes: [u8; 16]) -> Self {
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        Self(bytes)
    }

    /// Returns the raw bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for KeyVersionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [b'-'; Self::LEN];
        for (digits, bytes) in Self::PARTS {
            hex_to(&mut text[digits], &self.0[bytes]);
        }
        f.write_str(std::str::from_utf8(&text).expect("hex digits are ASCII"))
    }
}

impl fmt::Debug for KeyVersionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for KeyVersionId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let text: &[u8; Self::LEN] = text.as_bytes().try_into().map_err(|_| InvalidId::Uuid)?;
        let mut id = [0; 16];
        for (digits, bytes) in Self::PARTS {
            let is_parted = digits.start == 0 || text[digits.start - 1] == b'-';
            let read = unhex_to(&mut id[bytes], &text[digits]);
            read.filter(|()| is_parted).ok_or(InvalidId::Uuid)?;
        }
        Ok(Self(id))
    }
}

macro_rules! counter {
    ($(#[$doc:meta])* $name:ident, $nonzero:ty, $raw:ty, $what:literal) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, minicbor::Encode, minicbor::Decode,
        )]
        #[cbor(transparent)]
        pub struct $name(#[n(0)] $nonzero);

        impl $name {
            /// The first of its kind.
            pub const FIRST: Self = Self(<$nonzero>::MIN);

            /// Takes a number from the wire or a record; zero is refused.
            pub fn new(number: $raw) -> Result<Self, InvalidId> {
                <$nonzero>::new(number).map(Self).ok_or(InvalidId::Zero { what: $what })
            }

            /// Returns the plain number.
            #[must_use]
            pub const fn get(self) -> $raw {
                self.0.get()
            }

            /// Returns the one after this, or `None` at the end of the range.
            #[must_use]
            pub fn next(self) -> Option<Self> {
                self.0.checked_add(1).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                text.parse().map(Self).map_err(|_| InvalidId::Zero { what: $what })
            }
        }
    };
}

counter! {
    /// Counts the versions of a key; stands in ciphertexts.
    KeyVersionNumber, NonZeroU32, u32, "a key version number"
}
counter! {
    /// Counts the epoch keys of the cluster's keyring.
    Epoch, NonZeroU32, u32, "an epoch"
}
counter! {
    /// Counts the keys of an instance, which wrap its records.
    InstanceKeyVersion, NonZeroU32, u32, "an instance key version"
}
counter! {
    /// Names a node for ever: an id is never given to a second disk.
    NodeId, NonZeroU64, u64, "a node id"
}
counter! {
    /// Counts the lives of a cluster: forced recovery begins a new one.
    Incarnation, NonZeroU64, u64, "an incarnation"
}
counter! {
    /// Counts the changes of one record; a command names the revision it expects to find.
    Revision, NonZeroU64, u64, "a revision"
}
