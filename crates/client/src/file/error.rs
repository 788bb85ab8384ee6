//! Why a file was not encrypted or decrypted.

use std::io;

use twinkeep_envelope::file::{BadChunk, BadPreface, Malformed, SealError};

use super::pump::Broken;
use crate::error::Error;

/// Why a file was not encrypted. What has been written is no whole file and does not open.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EncryptError {
    /// The service gave no data key.
    #[error("no data key was made")]
    DataKey(#[source] Error),
    /// What the service gave is no data key for files: a node of another release, or something between.
    #[error("the service made a data key of {0} bytes; files take 32")]
    DataKeyLen(usize),
    /// The plaintext cannot be read.
    #[error("the plaintext cannot be read")]
    Read(#[source] io::Error),
    /// The encrypted file cannot be written.
    #[error("the encrypted file cannot be written")]
    Write(#[source] io::Error),
    /// A chunk was not sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The runtime shuts down.
    #[error("the runtime shuts down")]
    Stopped,
}

/// Why a file was not decrypted. What has been written is verified, and not all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecryptError {
    /// Not a file of this format, of a version that this release does not know, or cut short.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The file is under another key than the one that was asked for.
    #[error("the file is under the key {found}, not under {asked}")]
    WrongKey {
        /// The key that the options name.
        asked: String,
        /// The key that the file names.
        found: String,
    },
    /// The service did not open the data key: see the cause. If it says that the ciphertext does not open, the
    /// encryption context differs or the header is damaged.
    #[error("the file's data key was not opened")]
    DataKey(#[source] Error),
    /// What the service opened is no data key for files.
    #[error("the file's data key has {0} bytes; files take 32")]
    DataKeyLen(usize),
    /// The header is damaged.
    #[error(transparent)]
    Preface(#[from] BadPreface),
    /// A chunk is damaged, or missing, or does not belong there.
    #[error(transparent)]
    Chunk(#[from] BadChunk),
    /// The encrypted file cannot be read.
    #[error("the encrypted file cannot be read")]
    Read(#[source] io::Error),
    /// The plaintext cannot be written.
    #[error("the plaintext cannot be written")]
    Write(#[source] io::Error),
    /// The runtime shuts down.
    #[error("the runtime shuts down")]
    Stopped,
}

impl From<Broken<SealError>> for EncryptError {
    fn from(broken: Broken<SealError>) -> Self {
        match broken {
            Broken::Read(error) => Self::Read(error),
            Broken::Write(error) => Self::Write(error),
            Broken::Refused(error) => Self::Seal(error),
            Broken::Stopped => Self::Stopped,
        }
    }
}

impl From<Broken<BadChunk>> for DecryptError {
    fn from(broken: Broken<BadChunk>) -> Self {
        match broken {
            Broken::Read(error) => Self::Read(error),
            Broken::Write(error) => Self::Write(error),
            Broken::Refused(error) => Self::Chunk(error),
            Broken::Stopped => Self::Stopped,
        }
    }
}
