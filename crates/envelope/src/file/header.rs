//! What stands in front of the chunks.

use super::chunk::{COMMITMENT_LEN, ChunkSize, TAG_LEN};
use super::metadata::ENCODED_LEN;

/// First bytes of every file of this format, whatever its version: no text begins so, and no ciphertext of
/// [`crate::ciphertext`].
pub const MAGIC: [u8; 8] = *b"\xcdTWKFILE";

/// Bytes that say how long the rest of the preface is.
pub const PRELUDE_LEN: usize = SALT_AT + SALT_LEN;

/// Longest wrapped data key, in bytes. A software key makes 132.
pub const WRAPPED_KEY_LEN_MAX: usize = 1024;

/// Longest preface, in bytes.
pub const PREFACE_LEN_MAX: usize = PRELUDE_LEN + WRAPPED_KEY_LEN_MAX + BEHIND_KEY_LEN;

pub(super) const SALT_LEN: usize = 32;
const VERSION: u8 = 1;
const SUITE: u8 = 1;
const FLAGS: u8 = 0;
const SALT_AT: usize = 14;
const METADATA_LEN: usize = ENCODED_LEN + TAG_LEN;
const BEHIND_KEY_LEN: usize = COMMITMENT_LEN + METADATA_LEN;

/// What is wrong with the first bytes of a file; seen without any key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The file begins as something else.
    #[error("this is not a file that Twinkeep encrypted")]
    Magic,
    /// The file ends before its first chunk.
    #[error("the file is cut short: it ends within its header")]
    TooShort,
    /// A format version that this release does not know.
    #[error("file format version {0} is not known to this release; a newer one may open it")]
    Version(u8),
    /// A cipher suite that this release does not know.
    #[error("file suite {0} is not known to this release; a newer one may open it")]
    Suite(u8),
    /// A chunk size outside the limits.
    #[error("the header is damaged: there are no chunks of 2^{0} bytes")]
    ChunkSize(u8),
    /// Flags without meaning.
    #[error("the header is damaged: flags {0:#04x} have no meaning")]
    Flags(u8),
    /// A length of the wrapped data key outside the limits.
    #[error("the header is damaged: a data key does not take {0} bytes")]
    WrappedKeyLen(usize),
}

/// Reads the first [`PRELUDE_LEN`] bytes, or less if the file has less: returns how many follow before the
/// first chunk, at most [`PREFACE_LEN_MAX`] in all.
pub fn rest_len(prelude: &[u8]) -> Result<usize, Malformed> {
    Ok(Prelude::parse(prelude)?.wrapped_len + BEHIND_KEY_LEN)
}

/// The prelude's fields but the salt.
struct Prelude {
    chunk_size: ChunkSize,
    wrapped_len: usize,
}

impl Prelude {
    fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        // What is something else is recognised as such even where it is short.
        if !bytes.iter().zip(&MAGIC).all(|(found, magic)| found == magic) || bytes.is_empty() {
            return Err(Malformed::Magic);
        }
        let Some(&[version, suite, exponent, flags, high, low]) = bytes.get(8..SALT_AT) else {
            return Err(Malformed::TooShort);
        };
        if version != VERSION {
            return Err(Malformed::Version(version));
        }
        if suite != SUITE {
            return Err(Malformed::Suite(suite));
        }
        let chunk_size =
            ChunkSize::from_exponent(exponent).ok_or(Malformed::ChunkSize(exponent))?;
        if flags != FLAGS {
            return Err(Malformed::Flags(flags));
        }
        let wrapped_len = usize::from(u16::from_be_bytes([high, low]));
        if !(1..=WRAPPED_KEY_LEN_MAX).contains(&wrapped_len) {
            return Err(Malformed::WrappedKeyLen(wrapped_len));
        }
        if bytes.len() < PRELUDE_LEN {
            return Err(Malformed::TooShort);
        }
        Ok(Self { chunk_size, wrapped_len })
    }
}

/// Writes prelude and wrapped key: what the file's key is derived from.
///
/// # Panics
/// If the wrapped key is empty or over its limit; the sealer has checked.
pub(super) fn encode(chunk_size: ChunkSize, salt: &[u8; SALT_LEN], wrapped_key: &[u8]) -> Vec<u8> {
    let wrapped_len = u16::try_from(wrapped_key.len()).expect("checked by the sealer");
    let mut bytes =
        Vec::with_capacity(PRELUDE_LEN + wrapped_key.len() + COMMITMENT_LEN + METADATA_LEN);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&[VERSION, SUITE, chunk_size.exponent(), FLAGS]);
    bytes.extend_from_slice(&wrapped_len.to_be_bytes());
    bytes.extend_from_slice(salt);
    bytes.extend_from_slice(wrapped_key);
    bytes
}

/// Everything in front of the chunks, taken apart and not yet believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preface {
    bytes: Vec<u8>,
    chunk_size: ChunkSize,
    wrapped_len: usize,
}

impl Preface {
    /// Takes exactly the bytes in front of the chunks.
    pub fn parse(bytes: Vec<u8>) -> Result<Self, Malformed> {
        let Prelude { chunk_size, wrapped_len } = Prelude::parse(&bytes)?;
        if bytes.len() != PRELUDE_LEN + wrapped_len + BEHIND_KEY_LEN {
            return Err(Malformed::TooShort);
        }
        Ok(Self { bytes, chunk_size, wrapped_len })
    }

    /// The encrypted data key, for `Decrypt`.
    #[must_use]
    pub fn wrapped_key(&self) -> &[u8] {
        &self.bytes[PRELUDE_LEN..self.commitment_at()]
    }

    /// How the file is divided.
    #[must_use]
    pub fn chunk_size(&self) -> ChunkSize {
        self.chunk_size
    }

    /// Where the first chunk begins, in bytes.
    #[must_use]
    pub fn chunks_at(&self) -> u64 {
        self.bytes.len() as u64
    }

    pub(super) fn derived_from(&self) -> &[u8] {
        &self.bytes[..self.commitment_at()]
    }

    pub(super) fn commitment(&self) -> &[u8] {
        &self.bytes[self.commitment_at()..][..COMMITMENT_LEN]
    }

    pub(super) fn sealed_metadata(&self) -> &[u8] {
        &self.bytes[self.commitment_at() + COMMITMENT_LEN..]
    }

    fn commitment_at(&self) -> usize {
        PRELUDE_LEN + self.wrapped_len
    }
}
