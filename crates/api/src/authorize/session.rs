//! A stream of calls that a caller was let open.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use tracing::Instrument as _;
use twinkeep_audit::Text;
use twinkeep_audit::call::Surface;
use twinkeep_core::id::RequestId;
use twinkeep_proto::v1;

use super::draft::Origin;
use super::gate::{Asked, Gate, Handle};
use super::identity::Peer;
use super::places::Place;
use crate::error::{CallError, Unauthenticated};
use crate::limits::TRACE_BYTES_MAX;
use crate::operation::Operation;
use crate::{deadline, status, trace};

/// Who opened a stream, and the gate that each call on it has to pass.
pub(crate) struct Session {
    pub(super) gate: Arc<Gate>,
    pub(super) peer: Arc<Peer>,
    /// Given back when the stream ends.
    pub(super) _place: Place,
}

/// What a message of the stream says of the call in it.
pub(crate) struct Terms {
    /// Time for the call in milliseconds; 0 takes the default.
    pub(crate) timeout_ms: u32,
    /// What the caller calls its request; may be empty.
    pub(crate) trace: String,
}

impl Session {
    /// Answers one call. Its audit record is written when this returns.
    pub(crate) fn call<'a, O, H>(
        &'a self,
        handler: &'a H,
        terms: Terms,
        message: O::Request,
    ) -> impl Future<Output = (RequestId, Result<O::Answer, v1::CallError>)> + Send + 'a
    where
        O: Operation,
        H: Handle<O>,
    {
        let span = trace::on_stream(&terms.trace, O::METHOD.name);
        let trace = (!terms.trace.is_empty()).then(|| Text::<TRACE_BYTES_MAX>::new(terms.trace));
        let deadline = deadline::of_millis(terms.timeout_ms);
        let peer = Arc::clone(&self.peer);
        let from = Origin { peer, surface: Surface::GrpcStream, trace, waited: Duration::ZERO };
        let asked = Asked { from, deadline };
        // Not awaited here: the message would be copied once more.
        let calling = self.gate.call::<O, H>(handler, asked, message).instrument(span);
        let failed = |id, error| status::call_error(&error, id, O::METHOD);
        calling.map(move |(id, result)| (id, result.map_err(|error| failed(id, error))))
    }

    /// Returns how long the caller's certificate is still valid.
    ///
    /// # Errors
    /// [`Unauthenticated`] when it is not valid now.
    pub(crate) fn certificate_left(&self) -> Result<Duration, Unauthenticated> {
        let now_unix_s = self.gate.now_unix_s();
        self.peer.caller(self.gate.cluster(), now_unix_s)?;
        let facts = self.peer.certificate.as_ref().ok_or(Unauthenticated::NoCertificate)?;
        Ok(Duration::from_secs(facts.not_after_unix.saturating_sub(now_unix_s) + 1))
    }

    /// Returns the status that ends a stream whose caller is not known any more.
    pub(crate) fn expired(error: Unauthenticated) -> tonic::Status {
        use crate::status::Coded as _;
        let error = CallError::from(error);
        tonic::Status::new(error.code(), error.to_string())
    }
}
