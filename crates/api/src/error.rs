//! Why a call was not answered, built from facts. `status.rs` gives each its code.

use std::time::Duration;

use twinkeep_audit::{AppendError, Outage, TailError};
use twinkeep_core::access::Permission;
use twinkeep_core::id::{KeyId, KeyVersionNumber};
use twinkeep_core::key::{KeyState, KeyUsage};
use twinkeep_core::outcome::{Applied, Refusal};
use twinkeep_core::state::Fault;

use crate::limits::{BEGUN_WITHIN_MAX, CALLER_CALLS_MAX, CALLER_STREAMS_MAX};
use crate::ports::{ClusterError, ControlError, IssueError, VaultError};

/// Why a call was not answered.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// It cannot be told who calls.
    #[error(transparent)]
    Unauthenticated(#[from] Unauthenticated),
    /// The caller may not, or what it names does not exist: one text for both.
    #[error(
        "permission {0} is missing on what the call names, or that does not exist; an admin can grant a \
         role that has it"
    )]
    Denied(Permission),
    /// A field of the request is wrong.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// A field of the request is over its limit.
    #[error(transparent)]
    OverLimit(#[from] OverLimit),
    /// The caller has as many calls open as it may.
    #[error(
        "the caller has {CALLER_CALLS_MAX} calls open on this node already; send the call again when one is \
         answered"
    )]
    Busy,
    /// The call waited too long to be begun.
    #[error(
        "this node is overloaded: the call was not begun within {} ms; send it again later, or call another \
         node",
        BEGUN_WITHIN_MAX.as_millis()
    )]
    Overloaded,
    /// The caller has as many streams open as it may.
    #[error(
        "the caller has {CALLER_STREAMS_MAX} crypto streams open on this node already; send calls over those, or \
         call another node"
    )]
    TooManyStreams,
    /// A field was damaged on its way.
    #[error(
        "{field} does not match {field}_crc32c: it was damaged on its way, send the call again"
    )]
    Checksum {
        /// The field.
        field: &'static str,
    },
    /// What the call names does not exist. Only for callers who may see all of its kind.
    #[error("{what} {id} does not exist")]
    NotFound {
        /// `key`, `instance`, `node` or `key version`.
        what: &'static str,
        /// Its id as the caller wrote it, checked.
        id: String,
    },
    /// The key's state forbids its use.
    #[error("key {key} is {state}; {way_out}", way_out = way_out(*.state))]
    KeyUnusable {
        /// The key.
        key: KeyId,
        /// Its state.
        state: KeyState,
    },
    /// The key version was created a moment ago and may not survive the loss of a zone yet.
    #[error(
        "version {version} of key {key} is not durable in every zone yet and may not be used before; send the call \
         again"
    )]
    NotDurableYet {
        /// The key.
        key: KeyId,
        /// Its version.
        version: KeyVersionNumber,
    },
    /// The key is for something else.
    #[error("key {key} is for {usage}; this call takes a key for {wanted}")]
    WrongUsage {
        /// The key.
        key: KeyId,
        /// What it is for.
        usage: KeyUsage,
        /// What the call needs.
        wanted: KeyUsage,
    },
    /// The ciphertext does not open, for whatever cause.
    #[error("the ciphertext does not open under this key and encryption context")]
    InvalidCiphertext,
    /// What the call rested on changed while it was worked on.
    #[error("the key or the caller's roles changed during the call; send the call again")]
    GroundMoved,
    /// The node does not know what may have changed since, and the key is not to be used then.
    #[error(
        "this node has not heard from a leader {}, and the key is not used by a state that old; call another node",
        for_how_long(*.age)
    )]
    StaleState {
        /// Time since the state was last known to be new; `None` on a node that never knew.
        age: Option<Duration>,
    },
    /// The replicated state refused the change.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The replicated state could not be asked or changed.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// A record was neither sealed nor opened.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The key's backend gave no answer.
    #[error(transparent)]
    Backend(#[from] twinkeep_crypto::Error),
    /// The backend refuses material that the store holds.
    #[error("the key's backend refuses its stored material")]
    BadMaterial(#[source] twinkeep_crypto::Error),
    /// The cluster was not changed.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// There is no certificate.
    #[error(transparent)]
    Issue(#[from] IssueError),
    /// The audit log does not work.
    #[error("the audit log of this node takes no record; call another node")]
    Audit(#[from] AppendError),
    /// The audit log cannot be read.
    #[error("the audit log of this node cannot be read")]
    AuditTail(#[from] TailError),
    /// The state store failed.
    #[error(transparent)]
    State(#[from] Fault),
    /// A change came back as another kind of change.
    #[error("a change came back as {0:?}")]
    StrangeOutcome(Box<Applied>),
    /// The replicated state lacks a record that another one names.
    #[error("the replicated state lacks {0}")]
    Missing(String),
}

const fn way_out(state: KeyState) -> &'static str {
    match state {
        KeyState::Enabled => "it may be used",
        KeyState::Disabled => "a key admin can enable it again",
        KeyState::PendingDeletion => "a key admin can cancel its deletion",
        KeyState::Destroyed => "its material is gone for good",
    }
}

/// Why it cannot be told who calls.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unauthenticated {
    /// No certificate was shown.
    #[error(
        "the connection shows no client certificate; connect with one that the cluster's caller authority \
         issued (IssueCallerCertificate, `twinkeep access issue-certificate`)"
    )]
    NoCertificate,
    /// The certificate is a node's.
    #[error("the certificate is a node's; callers need one of the caller authority")]
    NotACaller,
    /// The certificate is of another cluster.
    #[error("the certificate is of another cluster")]
    OtherCluster,
    /// The certificate is not valid now.
    #[error("the certificate is not valid now; renew it, and check the clock on both sides")]
    NotValidNow,
}

/// What is wrong with a field of a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// The field is needed and empty.
    #[error("{field} is missing; {way_out}")]
    Missing {
        /// The field.
        field: &'static str,
        /// What to give.
        way_out: &'static str,
    },
    /// The field is not written as it should be.
    #[error("{field}: {problem}")]
    Text {
        /// The field.
        field: &'static str,
        /// What is wrong and how it is written.
        problem: String,
    },
    /// The number names no value of the field's enum.
    #[error("{field} has the value {number}, which this version does not know")]
    UnknownValue {
        /// The field.
        field: &'static str,
        /// The number on the wire.
        number: i32,
    },
    /// The number is outside the field's range.
    #[error("{field} is {number}; {range}")]
    OutOfRange {
        /// The field.
        field: &'static str,
        /// The number.
        number: u64,
        /// What is allowed.
        range: &'static str,
    },
    /// Two fields do not go together.
    #[error("{one} and {other} do not go together; {way_out}")]
    Both {
        /// One field.
        one: &'static str,
        /// The other.
        other: &'static str,
        /// What to do.
        way_out: &'static str,
    },
}

/// A field is over its limit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} of {len} is over the limit of {max}; {way_out}")]
pub struct OverLimit {
    /// The field.
    pub field: &'static str,
    /// How long or how many it is.
    pub len: usize,
    /// How long or how many it may be.
    pub max: usize,
    /// What to do instead.
    pub way_out: &'static str,
}

impl From<Outage> for CallError {
    fn from(outage: Outage) -> Self {
        Self::Audit(outage.into())
    }
}

fn for_how_long(age: Option<Duration>) -> String {
    age.map_or_else(|| "since it started".to_owned(), |age| format!("for {} s", age.as_secs()))
}
