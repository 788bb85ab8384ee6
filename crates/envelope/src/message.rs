//! A message under a data key, with the data key in wrapped form: format 1, suite 1.
//!
//! | offset  | size | field                                                              |
//! |--------:|-----:|--------------------------------------------------------------------|
//! | 0       | 1    | magic 0xCF                                                         |
//! | 1       | 1    | version 1                                                          |
//! | 2       | 1    | suite 1: KBKDF-HMAC-SHA-256, AES-256-GCM, 32-byte commitment       |
//! | 3       | 1    | flags, zero                                                        |
//! | 4       | 16   | the first 16 bytes of SHA-256 of the wrapped data key              |
//! | 20      | 4    | w, length of the wrapped data key, big-endian: 1 to 4096           |
//! | 24      | 76+n | salt, commitment, IV, ciphertext, tag: the frame of [`crate::ciphertext`] |
//! | 100 + n | w    | wrapped data key                                                   |
//!
//! Label `twinkeep-message-v1`. Each message has a key of its own, derived from the data key, a salt and what
//! the message is bound to, so no number of messages under one data key is too many, and no counter has to be
//! kept. What opens commits to data key, [`Context`] and the exact bytes of the wrapped data key.
//!
//! Opening goes in this order: [`Message::parse`] without any key, then the caller has the data key unwrapped,
//! then [`Message::open`], whose failures are all alike.

use ring::digest;
use zeroize::Zeroizing;

use crate::context::Context;
use crate::frame::{self, Cause, Draw, Malformed, OVERHEAD_BYTES, PREFIX_LEN, SealError};
use crate::secret::ExposeKey;

const MAGIC: u8 = 0xcf;
const FLAGS: u8 = 0;
const LABEL: &str = "twinkeep-message-v1";

/// Longest wrapped data key, in bytes.
pub const WRAPPED_BYTES_MAX: usize = 4096;

/// The message does not open, for whatever cause: a difference would tell tales.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the message does not open with this data key and context")]
pub struct InvalidMessage;

/// Why the bytes are no message. Tells nothing that the blob's owner cannot see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoMessage {
    /// The first bytes are those of something else.
    #[error("the first bytes")]
    Prefix(#[from] Malformed),
    /// The wrapped data key is missing, too long, or not the one that the message was made with.
    #[error("the wrapped data key is damaged")]
    WrappedKey,
}

/// A wrapped data key and what every message under it says of it, worked out once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrapped {
    bytes: Box<[u8]>,
    prefix: [u8; PREFIX_LEN],
}

impl Wrapped {
    /// Takes the ciphertext of a data key; `None` if it is empty or over [`WRAPPED_BYTES_MAX`].
    #[must_use]
    pub fn new(bytes: &[u8]) -> Option<Self> {
        prefix_of(bytes).map(|prefix| Self { bytes: Box::from(bytes), prefix })
    }

    /// The ciphertext of the data key.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

fn prefix_of(wrapped: &[u8]) -> Option<[u8; PREFIX_LEN]> {
    let len = u32::try_from(wrapped.len()).ok()?;
    let fits = (1..=WRAPPED_BYTES_MAX).contains(&wrapped.len());
    let id = frame::part(digest::digest(&digest::SHA256, wrapped).as_ref(), 0);
    fits.then(|| frame::prefix(MAGIC, FLAGS, &id, len))
}

/// Seals a message under a data key and puts the wrapped data key behind it.
///
/// # Errors
/// [`SealError`] when the generator fails or the plaintext is over
/// [`PLAINTEXT_BYTES_MAX`](crate::PLAINTEXT_BYTES_MAX).
pub fn seal(
    key: &impl ExposeKey,
    wrapped: &Wrapped,
    context: &Context<'_>,
    plaintext: &[u8],
) -> Result<Vec<u8>, SealError> {
    seal_with(key, wrapped, context, plaintext, Draw::fresh()?)
}

fn seal_with(
    key: &impl ExposeKey,
    wrapped: &Wrapped,
    context: &Context<'_>,
    plaintext: &[u8],
    draw: Draw,
) -> Result<Vec<u8>, SealError> {
    let mut blob = frame::seal(key, LABEL, &wrapped.prefix, &context.hash(), draw, plaintext)?;
    blob.extend_from_slice(&wrapped.bytes);
    Ok(blob)
}

/// A message whose form has been checked, borrowing from its blob.
#[derive(Clone, Copy)]
pub struct Message<'a> {
    frame: &'a [u8],
    wrapped: &'a [u8],
}

impl<'a> Message<'a> {
    /// Reads a blob, strictly; needs no key.
    ///
    /// # Errors
    /// [`NoMessage`] says what is wrong with its form.
    pub fn parse(blob: &'a [u8]) -> Result<Self, NoMessage> {
        let prefix = frame::parse_prefix(blob, MAGIC)?;
        if prefix[3] != FLAGS {
            return Err(Malformed::Fourth.into());
        }
        let len = u32::from_be_bytes(frame::part(&prefix, 20));
        let len = usize::try_from(len).map_err(|_| NoMessage::WrappedKey)?;
        let at = blob.len().checked_sub(len).filter(|at| *at >= OVERHEAD_BYTES);
        let (frame, wrapped) = blob.split_at(at.ok_or(NoMessage::WrappedKey)?);
        let named = prefix_of(wrapped).is_some_and(|known| known == prefix);
        if named { Ok(Self { frame, wrapped }) } else { Err(NoMessage::WrappedKey) }
    }

    /// Returns the data key in wrapped form.
    #[must_use]
    pub fn wrapped_key(&self) -> &'a [u8] {
        self.wrapped
    }

    /// Opens the message. The plaintext is wiped on drop; whoever hands it on may `std::mem::take` it.
    ///
    /// # Errors
    /// [`InvalidMessage`], whatever the cause.
    pub fn open(
        &self,
        key: &impl ExposeKey,
        context: &Context<'_>,
    ) -> Result<Zeroizing<Vec<u8>>, InvalidMessage> {
        frame::open(key, LABEL, &context.hash(), self.frame).map_err(|_: Cause| InvalidMessage)
    }
}

#[cfg(test)]
mod tests;
