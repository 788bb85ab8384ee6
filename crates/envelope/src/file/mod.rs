//! Encrypted files of any size: file format 1, suite 1. No I/O: bytes go in, bytes come out.
//!
//! | offset  | size    | field                                                                   |
//! |--------:|--------:|-------------------------------------------------------------------------|
//! | 0       | 8       | magic: 0xCD, `TWKFILE`                                                  |
//! | 8       | 1       | version 1                                                               |
//! | 9       | 1       | suite 1: KBKDF-HMAC-SHA-256, AES-256-GCM, 32-byte commitment            |
//! | 10      | 1       | chunk size as a power of two, 16 to 22                                  |
//! | 11      | 1       | flags, zero                                                             |
//! | 12      | 2       | k, length of the wrapped data key, 1 to 1024                            |
//! | 14      | 32      | salt, random                                                            |
//! | 46      | k       | wrapped data key: the ciphertext of `GenerateDataKey`                   |
//! | 46 + k  | 32      | commitment                                                              |
//! | 78 + k  | 288     | [`Metadata`], encrypted; always as long, so that it tells nothing       |
//! | 366 + k | 16      | its tag                                                                 |
//! | 382 + k |         | chunks: each as long as the chunk size, the last 0 to that; tag 16 each |
//!
//! `file key || commitment = KDF(data key, "twinkeep-file-v1", SHA-256(file[0..46 + k]))`, 64 bytes. Each part is
//! AES-256-GCM under the file key without associated data, since the key itself follows from the header.
//! Its nonce, 12 bytes:
//!
//! | offset | size | field                                     |
//! |-------:|-----:|-------------------------------------------|
//! | 0      | 3    | zero                                      |
//! | 3      | 8    | number of the chunk, from 0               |
//! | 11     | 1    | 0 chunk, 1 last chunk, 2 metadata         |
//!
//! Data key and salt are drawn for one file, so a counter is a nonce that never repeats. A chunk opens in
//! its own place of its own file alone; the file ends where its last chunk says so. Only an empty file has an
//! empty last chunk: one plaintext has one division into chunks.
//!
//! Writing: [`Sealer::begin`] gives the bytes in front of the chunks, then [`Sealer::next`] for each full chunk
//! that is not the last and [`Sealer::last`]. Reading: [`rest_len`] of the first [`PRELUDE_LEN`] bytes,
//! [`Preface::parse`], the data key from [`Preface::wrapped_key`], [`Preface::open`], then [`Opener::next`] and
//! [`Opener::last`].

mod chunk;
mod header;
mod metadata;
mod open;
mod seal;

#[cfg(test)]
mod tests;

pub use chunk::{CHUNKS_MAX, ChunkSize, TAG_LEN};
pub use header::{
    MAGIC, Malformed, PREFACE_LEN_MAX, PRELUDE_LEN, Preface, WRAPPED_KEY_LEN_MAX, rest_len,
};
pub use metadata::{FileName, InvalidName, MODE_MAX, Metadata, Modified, NANOS_MAX};
pub use open::{BadChunk, BadPreface, Opener};
pub use seal::{SealError, Sealer};
