//! The ciphertext that callers keep: format 1, suite 1.
//!
//! | offset | size | field                                                                 |
//! |-------:|-----:|-----------------------------------------------------------------------|
//! | 0      | 1    | magic 0xCB: not ASCII, not the first byte of UTF-8                    |
//! | 1      | 1    | version 1                                                             |
//! | 2      | 1    | suite 1: KBKDF-HMAC-SHA-256, AES-256-GCM, 32-byte commitment          |
//! | 3      | 1    | flags, zero                                                           |
//! | 4      | 16   | key id                                                                |
//! | 20     | 4    | key version, big-endian                                               |
//! | 24     | 76+n | salt, commitment, IV, ciphertext, tag                                 |
//!
//! Label `kms-ciphertext-v1`. The blob commits to key, key id, key version and [`Context`] at once.
//! Opening goes in this order: [`Header::parse`] without any key, then the caller authorises the key that
//! the header names, then [`open`], whose failures are all alike.

use twinkeep_core::id::{InvalidId, KeyId, KeyVersionNumber};
use zeroize::Zeroizing;

use crate::context::Context;
use crate::frame::{self, Cause, Draw, Malformed, PREFIX_LEN, SealError};
use crate::secret::ExposeKey;

const MAGIC: u8 = 0xcb;
const FLAGS: u8 = 0;
const LABEL: &str = "kms-ciphertext-v1";

/// The ciphertext does not open, for whatever cause: a difference would tell tales.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the ciphertext does not open with this key and encryption context")]
pub struct InvalidCiphertext;

/// Which key and version a ciphertext names; readable by anybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    key: KeyId,
    version: u32,
}

impl Header {
    /// Names the key version that a message is to be sealed under.
    #[must_use]
    pub fn new(key: KeyId, version: KeyVersionNumber) -> Self {
        Self { key, version: version.get() }
    }

    /// Reads the header of a blob, strictly; needs no key.
    pub fn parse(blob: &[u8]) -> Result<Self, Malformed> {
        let prefix = frame::parse_prefix(blob, MAGIC)?;
        if prefix[3] != FLAGS {
            return Err(Malformed::Fourth);
        }
        let version = u32::from_be_bytes(frame::part(&prefix, 20));
        Ok(Self { key: KeyId::from_bytes(frame::part(&prefix, 4)), version })
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> KeyId {
        self.key
    }

    /// The key version. The format carries a zero, the product has none: no key has such a version.
    pub fn version(&self) -> Result<KeyVersionNumber, InvalidId> {
        KeyVersionNumber::new(self.version)
    }

    /// Any number as version, for the published vectors.
    #[cfg(test)]
    pub(crate) fn with_raw_version(key: KeyId, version: u32) -> Self {
        Self { key, version }
    }

    fn prefix(&self) -> [u8; PREFIX_LEN] {
        frame::prefix(MAGIC, FLAGS, self.key.as_bytes(), self.version)
    }
}

/// Seals a message under a key version. Salt and IV come from the operating system, one call.
pub fn seal(
    key: &impl ExposeKey,
    header: &Header,
    context: &Context<'_>,
    plaintext: &[u8],
) -> Result<Vec<u8>, SealError> {
    seal_with(key, header, context, plaintext, Draw::fresh()?)
}

/// Opens a message. The plaintext is wiped on drop; whoever hands it on may `std::mem::take` it.
pub fn open(
    key: &impl ExposeKey,
    context: &Context<'_>,
    blob: &[u8],
) -> Result<Zeroizing<Vec<u8>>, InvalidCiphertext> {
    open_or_cause(key, context, blob).map_err(|_: Cause| InvalidCiphertext)
}

pub(crate) fn seal_with(
    key: &impl ExposeKey,
    header: &Header,
    context: &Context<'_>,
    plaintext: &[u8],
    draw: Draw,
) -> Result<Vec<u8>, SealError> {
    frame::seal(key, LABEL, &header.prefix(), &context.hash(), draw, plaintext)
}

pub(crate) fn open_or_cause(
    key: &impl ExposeKey,
    context: &Context<'_>,
    blob: &[u8],
) -> Result<Zeroizing<Vec<u8>>, Cause> {
    Header::parse(blob).map_err(|_| Cause::Format)?;
    frame::open(key, LABEL, &context.hash(), blob)
}
