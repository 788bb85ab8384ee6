//! Why a backend did not give an answer, split by what the caller would do about it.
//!
//! | variant                      | the caller                                                    |
//! |------------------------------|---------------------------------------------------------------|
//! | [`Error::InvalidInput`]      | changes the request; sending it again gives the same          |
//! | [`Error::InvalidCiphertext`] | looks for the right ciphertext, key or context                |
//! | [`Error::Unsupported`]       | picks another algorithm or another kind of key                |
//! | [`Error::Unavailable`]       | tries again, here or through another node                     |
//! | [`Error::DeadlineExceeded`]  | tries again with more time; the work may have been done       |
//! | [`Error::Internal`]          | cannot do anything; a person has to look                      |

use std::time::Duration;

use twinkeep_core::key::{Algorithm, KeySpec, KeyUsage};

/// Why a backend did not give an answer.
///
/// Nothing in it is secret, and nothing in it tells why a ciphertext or a signature was refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request is wrong in a way that the caller can see and mend.
    #[error(transparent)]
    InvalidInput(#[from] InvalidInput),
    /// The ciphertext does not open under this key and context. One error for every cause.
    #[error("the ciphertext does not open under this key and encryption context")]
    InvalidCiphertext,
    /// The key cannot do what was asked.
    #[error("a {spec} key for {usage} does not do {wanted}; it does {offered}")]
    Unsupported {
        /// What kind of key it is.
        spec: KeySpec,
        /// What the key is for.
        usage: KeyUsage,
        /// What was asked of it.
        wanted: &'static str,
        /// What it could do instead.
        offered: String,
    },
    /// Nobody is there to do it, or too much is waiting already.
    #[error("the key backend is not available")]
    Unavailable(#[source] Unavailable),
    /// The deadline of the call is over. What was asked may have happened all the same.
    #[error("the deadline of the call is over")]
    DeadlineExceeded,
    /// A failure of ours, of a library or of a device that no caller can mend.
    #[error("the key backend failed")]
    Internal(#[source] Failure),
}

/// What is wrong with a request. Names the field, the limit and the way out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidInput {
    /// A field is longer than its limit.
    #[error("{field} of {len} bytes is over the limit of {max}; {way_out}")]
    TooLong {
        /// The field of the request.
        field: &'static str,
        /// Its length in bytes.
        len: usize,
        /// The limit in bytes.
        max: usize,
        /// What to do instead.
        way_out: &'static str,
    },
    /// A field has to have one length and has another.
    #[error("{field} has {len} bytes where {algorithm} takes {expected}")]
    WrongLength {
        /// The field of the request.
        field: &'static str,
        /// Its length in bytes.
        len: usize,
        /// What decides the length: the name of an algorithm or a key spec.
        algorithm: &'static str,
        /// The right length in bytes.
        expected: usize,
    },
    /// A field does not go with the rest of the request or is not what it should be.
    #[error("{field} {problem}")]
    Unfit {
        /// The field of the request.
        field: &'static str,
        /// What is wrong and what would be right.
        problem: &'static str,
    },
}

/// Why nobody does the work now.
#[derive(Debug, thiserror::Error)]
pub enum Unavailable {
    /// As much is waiting as may wait.
    #[error("{waiting} operations wait already")]
    Busy {
        /// How many wait.
        waiting: usize,
    },
    /// The holder of the key cannot be reached or does not answer.
    #[error("the holder of the key does not answer")]
    Unreachable {
        /// When it makes sense to try again, if that is known.
        retry_after: Option<Duration>,
        /// What the connection said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The holder of the key does not find it. Right after creation that passes by itself.
    #[error("the holder of the key does not find it")]
    KeyNotFound,
}

/// A failure that no caller can mend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The operating system's generator gave no bytes.
    #[error("the operating system's random generator failed")]
    Randomness,
    /// The library refused an operation that it has to be able to do.
    #[error("{operation} failed in the cryptographic library")]
    Library {
        /// What was being done.
        operation: &'static str,
    },
    /// A new pair did not verify what it had signed, or did not decrypt what it had encrypted.
    #[error("the new key pair failed its pairwise consistency test")]
    PairwiseTest,
    /// A known operation gave a wrong answer.
    #[error("the probe gave a wrong answer")]
    WrongAnswer,
    /// A worker stopped without an answer: it panicked, or the process is going down.
    #[error("the worker stopped without an answer")]
    WorkerLost,
    /// A handle was given to a backend that did not make it.
    #[error("the key handle belongs to another backend")]
    ForeignHandle,
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        Self::Internal(failure)
    }
}

impl From<twinkeep_envelope::RandomnessFailed> for Error {
    fn from(_: twinkeep_envelope::RandomnessFailed) -> Self {
        Failure::Randomness.into()
    }
}

impl Error {
    /// Tells whether the same call may be sent again, here or through another node.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Unavailable(_) | Self::DeadlineExceeded => true,
            Self::InvalidInput(_)
            | Self::InvalidCiphertext
            | Self::Unsupported { .. }
            | Self::Internal(_) => false,
        }
    }

    pub(crate) fn unsupported(spec: KeySpec, usage: KeyUsage, wanted: &'static str) -> Self {
        let names: Vec<_> = spec.algorithms(usage).iter().map(|a: &Algorithm| a.as_str()).collect();
        let offered = if names.is_empty() { "nothing".to_owned() } else { names.join(", ") };
        Self::Unsupported { spec, usage, wanted, offered }
    }
}
