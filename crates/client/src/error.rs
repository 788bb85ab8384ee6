//! Why a call failed, and whether to try it again.

use std::time::Duration;

use tonic::{Code, ConnectError, Status};
use twinkeep_proto::metadata;

use crate::refusal::Refusal;

/// Whether a call that failed may have happened all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It did not happen.
    NotDone,
    /// It may have happened: an answer was lost. Look before trying again.
    Unknown,
}

/// Why a call failed. The text says what to do; texts of the service are passed on.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A field of the request is wrong, or a ciphertext does not open.
    #[error("{0}")]
    Invalid(String),
    /// The service does not know the caller.
    #[error("{0}")]
    Unauthenticated(String),
    /// A certificate keeps the call from every node: the caller's, which they refuse, or theirs, which this client
    /// refuses. The call did not leave, and will not before somebody changes something. Nodes that could not be
    /// reached do not keep it waiting where all others refuse the caller's.
    #[error("{refusal}{}; {}", in_vain(*.others), .refusal.way_out())]
    CertificateRefused {
        /// At the last node with one: who refuses whose, why, and what to do.
        refusal: Refusal,
        /// How many other nodes were tried in vain: they ended alike, or could not be reached.
        others: usize,
    },
    /// The caller may not do this, or what it names does not exist.
    #[error("{0}")]
    Denied(String),
    /// What the call names does not exist.
    #[error("{0}")]
    NotFound(String),
    /// What the call would make exists.
    #[error("{0}")]
    Exists(String),
    /// The state of the key, node or cluster forbids the call.
    #[error("{0}")]
    Precondition(String),
    /// Another change came first.
    #[error("{0}")]
    Aborted(String),
    /// A limit or quota is reached.
    #[error("{message}")]
    Exhausted {
        /// Which one.
        message: String,
        /// When the same call may succeed, if waiting helps; otherwise make it smaller.
        retry_after: Option<Duration>,
    },
    /// No node could serve the call.
    #[error("{message} (after {attempts} attempts)")]
    Unavailable {
        /// What the last node said, or why it could not be reached.
        message: String,
        /// How often the call was tried.
        attempts: u32,
        /// Whether the call may have happened.
        outcome: Outcome,
    },
    /// There was no answer in time.
    #[error("no answer within {limit:?}: {message}")]
    DeadlineExceeded {
        /// The time that the call had.
        limit: Duration,
        /// What went wrong last, or that nothing was heard.
        message: String,
        /// Whether the call may have happened.
        outcome: Outcome,
    },
    /// A checksum did not match, on several nodes.
    #[error("{message}: the call was damaged on its way, again and again")]
    Damaged {
        /// What was damaged.
        message: String,
        /// Whether the call may have happened.
        outcome: Outcome,
    },
    /// The service failed; its text has the request's id for its operator.
    #[error("{message}")]
    Internal {
        /// What the service says.
        message: String,
        /// Whether the call may have happened.
        outcome: Outcome,
    },
    /// A code that the service does not use: a proxy, or something else, answered. Or a refusal of a change that an
    /// earlier attempt may have made all the same: then the outcome is unknown.
    #[error("{code:?}: {message}")]
    Other {
        /// The gRPC code.
        code: Code,
        /// What came with it.
        message: String,
        /// Whether the call may have happened.
        outcome: Outcome,
    },
}

impl Error {
    /// Tells whether the same call may succeed later without any change.
    ///
    /// For calls that make something see [`Self::outcome`] too: with the same idempotency token it is safe
    /// to send them again, without one it is not while the outcome is unknown.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Aborted(_)
            | Self::Unavailable { .. }
            | Self::DeadlineExceeded { .. }
            | Self::Damaged { .. } => true,
            // A size or a number over its limit: smaller, not later. A node that is busy says when.
            Self::Exhausted { retry_after, .. } => retry_after.is_some(),
            Self::Invalid(_)
            | Self::Unauthenticated(_)
            | Self::CertificateRefused { .. }
            | Self::Denied(_)
            | Self::NotFound(_)
            | Self::Exists(_)
            | Self::Precondition(_)
            | Self::Internal { .. }
            | Self::Other { .. } => false,
        }
    }

    /// Returns after which time the same call may succeed, if the service said so.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Exhausted { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Tells whether the call may have happened although it failed. Calls that use keys or read change
    /// nothing.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Unavailable { outcome, .. }
            | Self::DeadlineExceeded { outcome, .. }
            | Self::Damaged { outcome, .. }
            | Self::Internal { outcome, .. }
            | Self::Other { outcome, .. } => *outcome,
            Self::Invalid(_)
            | Self::Unauthenticated(_)
            | Self::CertificateRefused { .. }
            | Self::Denied(_)
            | Self::NotFound(_)
            | Self::Exists(_)
            | Self::Precondition(_)
            | Self::Aborted(_)
            | Self::Exhausted { .. } => Outcome::NotDone,
        }
    }

    /// Takes what a node answered, or what kept the answer away.
    pub(crate) fn of(status: &Status, attempts: u32, outcome: Outcome, limit: Duration) -> Self {
        let message = text(status);
        // A broken connection shows under several codes; what it means is one thing.
        if local(status) && status.code() != Code::DeadlineExceeded {
            return Self::Unavailable { message, attempts, outcome };
        }
        match status.code() {
            Code::InvalidArgument | Code::OutOfRange => Self::Invalid(message),
            Code::Unauthenticated => Self::Unauthenticated(message),
            Code::PermissionDenied => Self::Denied(message),
            Code::NotFound => Self::NotFound(message),
            Code::AlreadyExists => Self::Exists(message),
            Code::FailedPrecondition => Self::Precondition(message),
            Code::Aborted => Self::Aborted(message),
            Code::ResourceExhausted => {
                Self::Exhausted { message, retry_after: retry_after(status) }
            }
            Code::Unavailable => Self::Unavailable { message, attempts, outcome },
            Code::DeadlineExceeded => Self::DeadlineExceeded { limit, message, outcome },
            Code::DataLoss => Self::Damaged { message, outcome },
            Code::Internal => Self::Internal { message, outcome },
            code => Self::Other { code, message, outcome },
        }
    }
}

fn in_vain(others: usize) -> String {
    match others {
        0 => String::new(),
        1 => " (another node was tried in vain)".to_owned(),
        others => format!(" ({others} other nodes were tried in vain)"),
    }
}

/// Metadata with the milliseconds after which a refused call may be sent again, and a shorter name that
/// proxies may use for it.
const RETRY_METADATA: [&str; 2] = [metadata::PUSHBACK_MS, "retry-after-ms"];

/// Returns when the service wants to be asked again.
pub(crate) fn retry_after(status: &Status) -> Option<Duration> {
    let metadata = status.metadata();
    let text = RETRY_METADATA.iter().find_map(|name| metadata.get(*name))?;
    let ms = text.to_str().ok()?.parse().ok()?;
    Some(Duration::from_millis(ms)).filter(|after| !after.is_zero())
}

/// Notes when the service wants to be asked again; 0 is not known.
pub(crate) fn with_retry_after(mut status: Status, after_ms: u32) -> Status {
    if after_ms > 0 {
        status.metadata_mut().insert(metadata::PUSHBACK_MS, u64::from(after_ms).into());
    }
    status
}

/// Tells whether the service vouches that nothing was changed.
pub(crate) fn not_done(status: &Status) -> bool {
    status.metadata().contains_key(metadata::NOT_DONE)
}

/// Tells whether a request never left: there was no connection to send it over.
pub(crate) fn never_sent(status: &Status) -> bool {
    let mut source = std::error::Error::source(status);
    while let Some(cause) = source {
        if cause.is::<ConnectError>() {
            return true;
        }
        source = cause.source();
    }
    false
}

/// Tells whether a status was made on this side of the wire.
pub(crate) fn local(status: &Status) -> bool {
    std::error::Error::source(status).is_some()
}

/// Returns the message with the causes behind it, which tonic hides in the chain of sources.
fn text(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let mut source = std::error::Error::source(status);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
