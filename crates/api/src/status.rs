//! Errors as gRPC statuses: the only place that knows codes.
//!
//! | situation                                                        | code                        |
//! |------------------------------------------------------------------|-----------------------------|
//! | malformed request, bad ciphertext, token used for another request | `INVALID_ARGUMENT`          |
//! | unknown caller / not allowed                                     | `UNAUTHENTICATED` / `PERMISSION_DENIED` |
//! | no such thing, for who may see all / taken                       | `NOT_FOUND` / `ALREADY_EXISTS` |
//! | state forbids it                                                 | `FAILED_PRECONDITION`       |
//! | concurrent change lost the race                                  | `ABORTED`                   |
//! | no leader, sealed, backend or audit log away                     | `UNAVAILABLE`               |
//! | limit reached                                                    | `RESOURCE_EXHAUSTED`        |
//! | out of time                                                      | `DEADLINE_EXCEEDED`         |
//! | checksum mismatch / our bug                                      | `DATA_LOSS` / `INTERNAL`    |
//!
//! No `match` has a `_` arm: a new variant has to choose its code. What failed inside reaches the caller
//! as fixed text with the request's id; the chain of causes goes to the log.

use std::error::Error;
use std::time::Duration;

use tonic::metadata::MetadataValue;
use tonic::{Code, Response, Status};
use twinkeep_core::id::RequestId;
use twinkeep_core::outcome::Refusal;
use twinkeep_crypto::{Error as BackendError, InvalidInput, Unavailable};
use twinkeep_proto::metadata;
use twinkeep_proto::v1::method::Method;
use twinkeep_proto::v1::{CallError as CallFailure, ItemError};

use crate::error::CallError;
use crate::limits::{BUSY_RETRY, OVERLOADED_RETRY};
use crate::ports::{ClusterError, ControlError, IssueError, Leader, VaultError};

/// An error that knows its code.
pub(crate) trait Coded {
    /// Returns the code.
    fn code(&self) -> Code;
}

impl Coded for CallError {
    fn code(&self) -> Code {
        match self {
            Self::Unauthenticated(_) => Code::Unauthenticated,
            Self::Denied(_) => Code::PermissionDenied,
            Self::Invalid(_) | Self::WrongUsage { .. } | Self::InvalidCiphertext => {
                Code::InvalidArgument
            }
            Self::OverLimit(_) | Self::Busy | Self::Overloaded | Self::TooManyStreams => {
                Code::ResourceExhausted
            }
            Self::Checksum { .. } => Code::DataLoss,
            Self::NotFound { .. } => Code::NotFound,
            Self::KeyUnusable { .. } => Code::FailedPrecondition,
            Self::GroundMoved => Code::Aborted,
            Self::NotDurableYet { .. } | Self::StaleState { .. } => Code::Unavailable,
            Self::Refused(refusal) => refusal.code(),
            Self::Control(error) => error.code(),
            Self::Vault(error) => error.code(),
            Self::Backend(error) => error.code(),
            Self::Cluster(error) => error.code(),
            Self::Issue(error) => error.code(),
            Self::Audit(_) => Code::Unavailable,
            Self::BadMaterial(_)
            | Self::AuditTail(_)
            | Self::State(_)
            | Self::StrangeOutcome(_)
            | Self::Missing(_) => Code::Internal,
        }
    }
}

impl Coded for Refusal {
    fn code(&self) -> Code {
        match self {
            // A node of ours wrote these; the caller could not have.
            Self::Malformed
            | Self::Unsigned
            | Self::AlreadyBegun
            | Self::SealedElsewhere
            | Self::OperatorsUnfit
            | Self::IllegalMode { .. }
            | Self::MarkerAhead { .. }
            | Self::NoActor => Code::Internal,
            Self::Expired { .. } => Code::Unavailable,
            Self::RevisionMismatch { .. } | Self::NodeIdTaken(_) => Code::Aborted,
            Self::NoKey(_) | Self::NoInstance(_) | Self::NoNode(_) | Self::NoDataZone(_) => {
                Code::NotFound
            }
            Self::KeyExists(_) | Self::InstanceExists { .. } | Self::KeyJoined => {
                Code::AlreadyExists
            }
            Self::UsageMismatch { .. }
            | Self::TokenReused
            | Self::AdmissionTooLong { .. }
            | Self::NoOperator(_)
            | Self::ApprovedTwice(_)
            | Self::WrongApproval(_) => Code::InvalidArgument,
            Self::IllegalTransition(_)
            | Self::LastAdmin
            | Self::LastVoter
            | Self::NotAdmitted
            | Self::AdmissionLapsed { .. }
            | Self::TooFewApprovals { .. }
            | Self::Misplaced(_)
            | Self::LastDataZone(_)
            | Self::OtherZoneDrained { .. }
            | Self::ZoneNeeded { .. }
            | Self::VersionNotRaised { .. }
            | Self::VersionTooLow { .. } => Code::FailedPrecondition,
            Self::LimitReached { .. } => Code::ResourceExhausted,
        }
    }
}

impl Coded for ControlError {
    fn code(&self) -> Code {
        match self {
            Self::NoLeader
            | Self::Unknown
            | Self::Sealed
            | Self::Busy { .. }
            | Self::Lagging { .. }
            | Self::Stopping => Code::Unavailable,
            Self::Fault(_) => Code::Internal,
        }
    }
}

impl Coded for VaultError {
    fn code(&self) -> Code {
        match self {
            Self::Sealed => Code::Unavailable,
            Self::Damaged(_) | Self::Failed(_) | Self::Fault(_) => Code::Internal,
        }
    }
}

impl Coded for BackendError {
    fn code(&self) -> Code {
        match self {
            Self::InvalidInput(InvalidInput::TooLong { .. }) => Code::ResourceExhausted,
            Self::InvalidInput(InvalidInput::WrongLength { .. } | InvalidInput::Unfit { .. })
            | Self::InvalidCiphertext
            | Self::Unsupported { .. } => Code::InvalidArgument,
            Self::Unavailable(Unavailable::Busy { .. }) => Code::ResourceExhausted,
            Self::Unavailable(_) => Code::Unavailable,
            Self::DeadlineExceeded => Code::DeadlineExceeded,
            Self::Internal(_) => Code::Internal,
        }
    }
}

impl Coded for ClusterError {
    fn code(&self) -> Code {
        match self {
            Self::Refused(refusal) => refusal.code(),
            Self::Control(error) => error.code(),
            Self::NotReady { .. }
            | Self::NoSuchSeal { .. }
            | Self::NoSuccessor(_)
            | Self::NotDrained { .. } => Code::FailedPrecondition,
            Self::BadRequest(_) | Self::BadUnsealSecret(_) => Code::InvalidArgument,
            Self::Failed(_) => Code::Internal,
        }
    }
}

impl Coded for IssueError {
    fn code(&self) -> Code {
        match self {
            Self::Sealed => Code::Unavailable,
            Self::BadRequest(_) | Self::OutlivesAuthority { .. } => Code::InvalidArgument,
            Self::Failed(_) => Code::Internal,
        }
    }
}

/// Returns a code's name as the protocol writes it.
pub(crate) const fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

/// Returns the number of a code's name; 2, `UNKNOWN`, for a name that is none.
pub(crate) fn number(name_of: &str) -> i32 {
    let named = (0..=16).find(|number| name(Code::from_i32(*number)) == name_of);
    named.unwrap_or(Code::Unknown as i32)
}

/// Returns the status of an error, with the request's id and, where it helps, the leader.
pub(crate) fn status(
    error: &CallError,
    request: RequestId,
    method: Method,
    leader: Option<Leader>,
) -> Status {
    let code = error.code();
    let mut status = Status::new(code, text(error, request, method));
    status.metadata_mut().insert(metadata::REQUEST_ID, id_value(request));
    if let (Code::Unavailable, Some(leader)) = (code, leader) {
        let address = MetadataValue::try_from(leader.address.to_string());
        let address = address.expect("an address is written in visible ASCII");
        status.metadata_mut().insert(metadata::LEADER, address);
    }
    if let Some(after) = retry_after(error) {
        let value = MetadataValue::from(after.as_millis() as u64);
        status.metadata_mut().insert(metadata::PUSHBACK_MS, value);
    }
    if never_proposed(error) {
        status.metadata_mut().insert(metadata::NOT_DONE, MetadataValue::from_static("1"));
    }
    status
}

/// Tells whether a change was refused before it was proposed, as [`ControlError`] says of each variant. Calls
/// that change the cluster itself take several steps, so of them nothing is said.
fn never_proposed(error: &CallError) -> bool {
    let CallError::Control(error) = error else { return false };
    match error {
        ControlError::NoLeader
        | ControlError::Sealed
        | ControlError::Busy { .. }
        | ControlError::Stopping => true,
        ControlError::Unknown | ControlError::Lagging { .. } | ControlError::Fault(_) => false,
    }
}

/// Returns the error of one call of a stream.
pub(crate) fn call_error(error: &CallError, request: RequestId, method: Method) -> CallFailure {
    CallFailure {
        code: error.code() as i32,
        message: text(error, request, method),
        retry_after_ms: retry_after(error).map_or(0, |after| after.as_millis() as u32),
    }
}

/// Returns when the same call may succeed, where that is known.
fn retry_after(error: &CallError) -> Option<Duration> {
    let is_busy = matches!(
        error,
        CallError::Busy | CallError::Backend(BackendError::Unavailable(Unavailable::Busy { .. }))
    );
    if matches!(error, CallError::Overloaded) {
        return Some(OVERLOADED_RETRY);
    }
    is_busy.then_some(BUSY_RETRY)
}

/// Returns the error of one item of a batch.
pub(crate) fn item_error(error: &CallError, request: RequestId, method: Method) -> ItemError {
    ItemError { code: error.code() as i32, message: text(error, request, method) }
}

/// Puts the request's id on an answer.
pub(crate) fn tagged<T>(mut answer: Response<T>, request: RequestId) -> Response<T> {
    answer.metadata_mut().insert(metadata::REQUEST_ID, id_value(request));
    answer
}

fn id_value(request: RequestId) -> MetadataValue<tonic::metadata::Ascii> {
    let value = MetadataValue::try_from(request.to_string());
    let mut value = value.expect("an id is written in hex digits");
    // Not secret, but never the same again: HPACK is to waste no room of its table on it (RFC 7541, 7.1.3).
    value.set_sensitive(true);
    value
}

/// Returns what the caller reads, and logs what only the operator may read.
fn text(error: &CallError, request: RequestId, method: Method) -> String {
    let operation = method.name;
    match error.code() {
        Code::Internal => {
            tracing::error!(%request, operation, error = error as &dyn Error, "call failed inside");
            format!("the service failed; tell its operator the request id {request}")
        }
        // A caller may ask for a state that will never come, as often as it likes.
        Code::Unavailable if !matches!(error, CallError::Control(ControlError::Lagging { .. })) => {
            tracing::warn!(%request, operation, error = error as &dyn Error, "call not served");
            error.to_string()
        }
        _ => {
            tracing::debug!(%request, operation, error = error as &dyn Error, "call refused");
            error.to_string()
        }
    }
}

#[cfg(test)]
mod tests {
    use twinkeep_core::access::Permission;
    use twinkeep_core::state::Fault;
    use twinkeep_proto::v1::method;

    use super::*;

    const REQUEST: RequestId = RequestId::from_bytes([7; 16]);

    fn leader() -> Leader {
        let node = twinkeep_core::id::NodeId::FIRST;
        Leader { node, address: "127.0.1.11:7101".parse().unwrap() }
    }

    #[test]
    fn failure_inside_reaches_the_caller_as_fixed_text() {
        let error = CallError::State(Fault::new("row 7 of table `keys` is damaged"));
        let status = status(&error, REQUEST, method::ENCRYPT, Some(leader()));
        assert_eq!(status.code(), Code::Internal);
        let expected = format!("the service failed; tell its operator the request id {REQUEST}");
        assert_eq!(status.message(), expected);
        assert!(status.metadata().get(metadata::LEADER).is_none());
    }

    #[test]
    fn unavailable_names_the_leader_and_every_status_the_request() {
        let error = CallError::Control(ControlError::NoLeader);
        let status = status(&error, REQUEST, method::CREATE_KEY, Some(leader()));
        assert_eq!(status.code(), Code::Unavailable);
        assert_eq!(status.metadata().get(metadata::LEADER).unwrap(), "127.0.1.11:7101");
        assert_eq!(status.metadata().get(metadata::REQUEST_ID).unwrap(), &*REQUEST.to_string());
    }

    #[test]
    fn change_that_was_never_proposed_is_vouched_for_and_one_of_unknown_end_is_not() {
        let vouched = |error| {
            let status = status(&CallError::Control(error), REQUEST, method::CREATE_KEY, None);
            status.metadata().contains_key(metadata::NOT_DONE)
        };
        assert!(vouched(ControlError::NoLeader));
        assert!(vouched(ControlError::Sealed));
        assert!(vouched(ControlError::Busy { waiting: 1 }));
        assert!(vouched(ControlError::Stopping));
        assert!(!vouched(ControlError::Unknown));
        assert!(!vouched(ControlError::Lagging { wanted: 2, applied: 1 }));
    }

    #[test]
    fn item_of_a_batch_has_the_code_and_text_of_the_call_alone() {
        let error = CallError::Denied(Permission::Sign);
        let item = item_error(&error, REQUEST, method::SIGN_BATCH);
        let alone = status(&error, REQUEST, method::SIGN, None);
        assert_eq!((item.code, &*item.message), (alone.code() as i32, alone.message()));
    }

    #[test]
    fn names_of_codes_lead_back_to_their_numbers() {
        for code in (0..=16).map(Code::from_i32) {
            assert_eq!(number(name(code)), code as i32);
        }
        assert_eq!(number("NO_SUCH_CODE"), 2);
    }
}
