//! Files and streams of any size, under a data key of their own (`docs/formats.md`, "Encrypted files").
//!
//! ```no_run
//! # async fn example(client: twinkeep_client::Client) -> Result<(), Box<dyn std::error::Error>> {
//! use tokio::fs::File;
//! use twinkeep_client::file::{DecryptOptions, EncryptOptions};
//!
//! let key_id = "key-00112233445566778899aabbccddeeff";
//! let (plain, sealed) = (File::open("backup.tar").await?, File::create("backup.sealed").await?);
//! client.encrypt_file(key_id, plain, sealed, EncryptOptions::default()).await?;
//!
//! let (sealed, plain) = (File::open("backup.sealed").await?, File::create("backup.new").await?);
//! let decrypted = client.decrypt_file(sealed, plain, DecryptOptions::default()).await?;
//! println!("{} bytes", decrypted.bytes);
//! # Ok(())
//! # }
//! ```
//!
//! - **One call** of the service for each file, whatever its size; the content never leaves the machine.
//! - **Constant memory**: three chunks, 256 KiB each unless [`EncryptOptions::chunk_size`] says otherwise, at
//!   most 4 MiB each whatever a file claims.
//! - **Verified first.** A byte of plaintext reaches the writer only when its chunk has been verified. A file
//!   that is damaged later on gives the whole chunks before the damage and then an error; what was written is
//!   complete only if the call returns `Ok`. Write beside the final name and rename.
//! - **The runtime goes on**: chunks are encrypted on threads for blocking work, while the next one is
//!   read and the one before is written.
//! - **Cancellation** is safe: a dropped call has written whole chunks of an unfinished file, which does not
//!   open, or verified plaintext up to some point. Its buffers are wiped.

mod decrypt;
mod encrypt;
mod error;
mod pump;

#[cfg(test)]
mod tests;

use std::fmt;

use twinkeep_proto::v1;

pub use error::{DecryptError, EncryptError};
pub use twinkeep_envelope::file::{
    BadChunk, BadPreface, ChunkSize, FileName, InvalidName, Malformed, Metadata, Modified,
    SealError,
};

/// Told how many bytes of plaintext are done, after each chunk.
pub type Progress<'a> = Box<dyn FnMut(u64) + Send + 'a>;

/// How to encrypt a file.
#[derive(Default)]
pub struct EncryptOptions<'a> {
    /// Public words that the data key is bound to; the same must be given to decrypt. They appear in the audit
    /// log, not in the file.
    pub context: Vec<v1::ContextPair>,
    /// What is kept, encrypted, beside the content.
    pub metadata: Metadata,
    /// How the file is divided. Larger chunks take more memory on both sides.
    pub chunk_size: ChunkSize,
    /// Told how far it is.
    pub progress: Option<Progress<'a>>,
}

/// How to decrypt a file.
#[derive(Default)]
pub struct DecryptOptions<'a> {
    /// The words that the data key was bound to.
    pub context: Vec<v1::ContextPair>,
    /// Refuses files that are under another key than this. Empty takes the key that the file names.
    pub key_id: String,
    /// Told how far it is.
    pub progress: Option<Progress<'a>>,
}

/// A file was encrypted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encrypted {
    /// Bytes of plaintext.
    pub bytes: u64,
    /// The key that the file's data key is under.
    pub key_id: String,
    /// The version of it.
    pub key_version_id: String,
}

/// A file was decrypted, to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decrypted {
    /// Bytes of plaintext.
    pub bytes: u64,
    /// What was kept beside the content: written by whoever encrypted the file. A name from here is for
    /// showing, never for opening.
    pub metadata: Metadata,
    /// The key that the file's data key is under.
    pub key_id: String,
    /// The version of it.
    pub key_version_id: String,
}

/// Tells whether bytes begin as a file that [`Client::encrypt_file`](crate::Client::encrypt_file) made; eight
/// are enough.
#[must_use]
pub fn begins_file(bytes: &[u8]) -> bool {
    bytes.starts_with(&twinkeep_envelope::file::MAGIC)
}

impl fmt::Debug for EncryptOptions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EncryptOptions")
            .field("metadata", &self.metadata)
            .field("chunk_size", &self.chunk_size)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for DecryptOptions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DecryptOptions").field("key_id", &self.key_id).finish_non_exhaustive()
    }
}
