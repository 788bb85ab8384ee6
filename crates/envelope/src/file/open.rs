//! Opening a file, chunk after chunk: what comes out has been verified.

use std::fmt;

use zeroize::{Zeroize as _, Zeroizing};

use super::chunk::{CHUNKS_MAX, ChunkSize, FileKey, Part, TAG_LEN};
use super::header::Preface;
use super::metadata::Metadata;
use crate::secret::ExposeKey;

/// Why a file does not open with its data key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadPreface {
    /// The header was changed, or the data key belongs to another file.
    #[error("the header is damaged")]
    Damaged,
    /// The metadata is authentic and has a field without meaning here.
    #[error("the metadata is not understood by this release; a newer one may open the file")]
    UnknownMetadata,
}

/// Why a chunk is refused. Nothing of it has come out, nor will anything behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadChunk {
    /// It was changed, or belongs into another place or file.
    #[error("chunk {chunk} at byte {offset} is damaged, or does not belong there")]
    Damaged {
        /// Its number, from 0.
        chunk: u64,
        /// Where it begins in the file, in bytes.
        offset: u64,
    },
    /// The file ends with it, and it is not a last chunk: either changed or cut.
    #[error("the file's end, chunk {chunk} at byte {offset}, is damaged or cut short")]
    End {
        /// Its number, from 0.
        chunk: u64,
        /// Where it begins in the file, in bytes.
        offset: u64,
    },
    /// The file ends between two chunks.
    #[error("the file is cut short: it ends before chunk {chunk} at byte {offset}")]
    Truncated {
        /// Number of the chunk that is missing, from 0.
        chunk: u64,
        /// Where it should begin, in bytes.
        offset: u64,
    },
    /// More chunks than a file has.
    #[error("the file has more than 2^32 chunks")]
    TooMany,
}

impl Preface {
    /// Opens the metadata with the data key and gets ready for the chunks.
    pub fn open(&self, data_key: &impl ExposeKey) -> Result<(Opener, Metadata), BadPreface> {
        let key = FileKey::derive(data_key, self.derived_from());
        if !key.commits_to(self.commitment()) {
            return Err(BadPreface::Damaged);
        }
        let mut encoded = Zeroizing::new(self.sealed_metadata().to_vec());
        key.open(Part::Metadata, &mut encoded).map_err(|_| BadPreface::Damaged)?;
        let metadata = Metadata::decode(&encoded).ok_or(BadPreface::UnknownMetadata)?;
        let chunks_at = self.chunks_at();
        Ok((Opener { key, chunk_size: self.chunk_size(), chunks: 0, chunks_at }, metadata))
    }
}

/// Opens the chunks of one file, in order. Consumed by the last one.
pub struct Opener {
    key: FileKey,
    chunk_size: ChunkSize,
    chunks: u64,
    chunks_at: u64,
}

impl Opener {
    /// How the file is divided.
    #[must_use]
    pub fn chunk_size(&self) -> ChunkSize {
        self.chunk_size
    }

    /// Opens a chunk behind which the file goes on, in place. A chunk that is refused is wiped.
    pub fn next(&mut self, chunk: &mut Vec<u8>) -> Result<(), BadChunk> {
        let here = BadChunk::Damaged { chunk: self.chunks, offset: self.offset() };
        if self.chunks >= CHUNKS_MAX {
            chunk.zeroize();
            return Err(BadChunk::TooMany);
        }
        if chunk.len() != self.chunk_size.sealed_bytes() {
            chunk.zeroize();
            return Err(here);
        }
        self.key.open(Part::Next(self.chunks), chunk).map_err(|_| here)?;
        self.chunks += 1;
        Ok(())
    }

    /// Opens the chunk that the file ends with, in place. A chunk that is refused is wiped.
    pub fn last(self, chunk: &mut Vec<u8>) -> Result<(), BadChunk> {
        let here = BadChunk::End { chunk: self.chunks, offset: self.offset() };
        if chunk.is_empty() {
            return Err(self.cut_after(self.chunks));
        }
        if chunk.len() > self.chunk_size.sealed_bytes() || self.chunks >= CHUNKS_MAX {
            chunk.zeroize();
            return Err(here);
        }
        // Only a full chunk can be one that others followed, and a refused one is gone: so it is kept.
        let full = chunk.len() == self.chunk_size.sealed_bytes();
        let mut kept = Zeroizing::new(if full { chunk.clone() } else { Vec::new() });
        if self.key.open(Part::Last(self.chunks), chunk).is_err() {
            let followed = full && self.key.open(Part::Next(self.chunks), &mut kept).is_ok();
            return Err(if followed { self.cut_after(self.chunks + 1) } else { here });
        }
        // Not what the sealer makes: one plaintext would have two forms.
        if chunk.is_empty() && self.chunks > 0 {
            return Err(here);
        }
        Ok(())
    }

    fn cut_after(&self, chunk: u64) -> BadChunk {
        BadChunk::Truncated { chunk, offset: self.offset_of(chunk) }
    }

    fn offset(&self) -> u64 {
        self.offset_of(self.chunks)
    }

    fn offset_of(&self, chunk: u64) -> u64 {
        self.chunks_at + chunk * ((1 << self.chunk_size.exponent()) + TAG_LEN as u64)
    }
}

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opener").field("chunks", &self.chunks).finish_non_exhaustive()
    }
}
