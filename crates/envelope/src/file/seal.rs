//! Sealing a file, chunk after chunk.

use std::fmt;

use ring::rand::{SecureRandom as _, SystemRandom};

use super::chunk::{CHUNKS_MAX, ChunkSize, FileKey, Part};
use super::header::{self, SALT_LEN, WRAPPED_KEY_LEN_MAX};
use super::metadata::Metadata;
use crate::secret::ExposeKey;

/// Why a file, or a chunk of it, was not sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The operating system's generator gave no bytes.
    #[error("the operating system's random generator failed")]
    Randomness,
    /// The wrapped data key does not fit the header.
    #[error("a wrapped data key takes 1 to {WRAPPED_KEY_LEN_MAX} bytes, not {0}")]
    WrappedKeyLen(usize),
    /// More chunks than a file may have.
    #[error("a file has at most {CHUNKS_MAX} chunks of {} KiB", .0.bytes() >> 10)]
    TooManyChunks(ChunkSize),
}

/// Seals the chunks of one file, in order. Consumed by the last one.
pub struct Sealer {
    key: FileKey,
    chunk_size: ChunkSize,
    chunks: u64,
}

impl Sealer {
    /// Begins a file under a fresh data key; returns also the bytes that go in front of the chunks.
    ///
    /// `wrapped_key` is the same data key encrypted, at most [`WRAPPED_KEY_LEN_MAX`] bytes. One data key serves
    /// one file; were it used for more, their salts would still give them different keys.
    pub fn begin(
        data_key: &impl ExposeKey,
        wrapped_key: &[u8],
        chunk_size: ChunkSize,
        metadata: &Metadata,
    ) -> Result<(Self, Vec<u8>), SealError> {
        let mut salt = [0; SALT_LEN];
        SystemRandom::new().fill(&mut salt).map_err(|_| SealError::Randomness)?;
        Self::begin_with(data_key, wrapped_key, chunk_size, metadata, &salt)
    }

    /// The same with a given salt; the caller vouches that it is fresh.
    pub(super) fn begin_with(
        data_key: &impl ExposeKey,
        wrapped_key: &[u8],
        chunk_size: ChunkSize,
        metadata: &Metadata,
        salt: &[u8; SALT_LEN],
    ) -> Result<(Self, Vec<u8>), SealError> {
        if !(1..=WRAPPED_KEY_LEN_MAX).contains(&wrapped_key.len()) {
            return Err(SealError::WrappedKeyLen(wrapped_key.len()));
        }
        let mut preface = header::encode(chunk_size, salt, wrapped_key);
        let key = FileKey::derive(data_key, &preface);
        preface.extend_from_slice(key.commitment());
        let mut sealed = metadata.encode();
        key.seal(Part::Metadata, &mut sealed);
        preface.extend_from_slice(&sealed);
        Ok((Self { key, chunk_size, chunks: 0 }, preface))
    }

    /// How the file is divided.
    #[must_use]
    pub fn chunk_size(&self) -> ChunkSize {
        self.chunk_size
    }

    /// Seals a full chunk that others follow, in place.
    ///
    /// # Panics
    /// If the chunk is not full.
    pub fn next(&mut self, chunk: &mut Vec<u8>) -> Result<(), SealError> {
        assert_eq!(chunk.len(), self.chunk_size.bytes(), "only the last chunk may be short");
        self.has_room()?;
        self.key.seal(Part::Next(self.chunks), chunk);
        self.chunks += 1;
        Ok(())
    }

    /// Seals the last chunk, in place.
    ///
    /// # Panics
    /// If the chunk is longer than a full one, or empty although others came before.
    pub fn last(self, chunk: &mut Vec<u8>) -> Result<(), SealError> {
        assert!(chunk.len() <= self.chunk_size.bytes(), "the chunk is too long");
        assert!(self.chunks == 0 || !chunk.is_empty(), "only an empty file has an empty chunk");
        self.has_room()?;
        self.key.seal(Part::Last(self.chunks), chunk);
        Ok(())
    }

    fn has_room(&self) -> Result<(), SealError> {
        if self.chunks < CHUNKS_MAX {
            return Ok(());
        }
        Err(SealError::TooManyChunks(self.chunk_size))
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").field("chunks", &self.chunks).finish_non_exhaustive()
    }
}
