//! The audit record of a call while the call is worked on.
//!
//! A [`Draft`] is made before anything else is known of a call and takes a permit from the log, so
//! that no key is used whose use cannot be recorded. It ends in exactly one record: by
//! [`Draft::answered`], or when it is dropped because the client went away.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tonic::Code;
use tonic::metadata::MetadataMap;
use twinkeep_audit::call::{Call, Decision, Principal, Resources, Surface};
use twinkeep_audit::{AppendError, Log, Permit, Text, Wait};
use twinkeep_core::clock::Clock;
use twinkeep_core::id::{InstanceId, RequestId};
use twinkeep_proto::v1::method::Method;

use super::identity::Peer;
use crate::error::CallError;
use crate::message::About;
use crate::operation::AuditClass;
use crate::status::{self, Coded as _};

/// The record of a call that is not answered yet.
pub(crate) struct Draft {
    pub(crate) method: Method,
    pub(crate) request: RequestId,
    pub(crate) peer: Peer,
    class: AuditClass,
    client_trace: Option<Text<64>>,
    clock: Arc<dyn Clock>,
    began: Duration,
    inner: Mutex<Inner>,
}

struct Inner {
    permit: Option<Permit>,
    principal: Principal,
    about: About,
    retries: u32,
    /// Whether the private half of an asymmetric key is used: its record is synced first.
    private_key: bool,
}

impl Inner {
    fn of(principal: Principal) -> Self {
        let about = About::default();
        Self { permit: None, principal, about, retries: 0, private_key: false }
    }
}

impl Draft {
    pub(crate) fn new(
        method: Method,
        class: AuditClass,
        request: RequestId,
        peer: Peer,
        metadata: &MetadataMap,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let trace = metadata.get("traceparent").and_then(|value| value.to_str().ok());
        let inner = Inner::of(peer.principal(None));
        Self {
            method,
            request,
            class,
            client_trace: trace.map(|text| Text::new(text.to_owned())),
            began: clock.elapsed(),
            clock,
            inner: Mutex::new(inner),
            peer,
        }
    }

    /// Makes the draft of one item of a batch.
    pub(crate) fn item(&self) -> Self {
        let principal = self.inner.lock().principal.clone();
        Self {
            method: self.method,
            request: self.request,
            class: self.class,
            client_trace: self.client_trace.clone(),
            began: self.began,
            clock: Arc::clone(&self.clock),
            inner: Mutex::new(Inner::of(principal)),
            peer: self.peer.clone(),
        }
    }

    /// Gives the permit back: the items of a batch leave the records.
    pub(crate) fn forget(&self) {
        drop(self.inner.lock().permit.take());
    }

    /// Asks the log to keep room for the record. Of calls that repair a node it is only tried.
    pub(crate) fn take_permit(&self, log: &Log) -> Result<(), CallError> {
        match log.permit() {
            Ok(permit) => self.inner.lock().permit = Some(permit),
            Err(error) if self.class == AuditClass::Attempted => self.lost(&error),
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    pub(crate) fn set_principal(&self, principal: Principal) {
        self.inner.lock().principal = principal;
    }

    /// Adds to what the record says.
    pub(crate) fn tell(&self, tell: impl FnOnce(&mut About)) {
        tell(&mut self.inner.lock().about);
    }

    /// Notes that the call is worked on once more.
    pub(crate) fn retried(&self) {
        self.inner.lock().retries += 1;
    }

    /// Notes that the private half of an asymmetric key is used.
    pub(crate) fn uses_private_key(&self) {
        self.inner.lock().private_key = true;
    }

    /// Writes the record and waits for what the answer has to wait for. When this fails the call must not
    /// be answered with its result.
    pub(crate) async fn answered(
        &self,
        error: Option<&CallError>,
        output_bytes: usize,
    ) -> Result<(), CallError> {
        let (permit, wait) = {
            let mut inner = self.inner.lock();
            let wait = match self.class {
                AuditClass::Synced => Wait::Durable,
                AuditClass::Queued if inner.private_key => Wait::Durable,
                AuditClass::Queued | AuditClass::Attempted => Wait::Queued,
            };
            (inner.permit.take(), wait)
        };
        let Some(permit) = permit else { return Ok(()) };
        let code = error.map_or(Code::Ok, |error| error.code());
        let denied = matches!(error, Some(CallError::Unauthenticated(_) | CallError::Denied(_)));
        let decision = if denied { Decision::Deny } else { Decision::Allow };
        let record = self.record(status::name(code), decision, output_bytes);
        match self.write(permit, record, wait).await {
            Err(error) if self.class == AuditClass::Attempted => self.lost(&error),
            written => written?,
        }
        Ok(())
    }

    async fn write(&self, permit: Permit, record: Call, wait: Wait) -> Result<(), AppendError> {
        Ok(permit.append(record)?.wait(wait).await?)
    }

    fn lost(&self, error: &AppendError) {
        tracing::error!(
            request = %self.request, operation = self.method.name, error = error as &dyn Error,
            "a call leaves no audit record"
        );
    }

    fn record(&self, outcome: &'static str, decision: Decision, output_bytes: usize) -> Call {
        let mut inner = self.inner.lock();
        let about = std::mem::take(&mut inner.about);
        let latency = self.clock.elapsed().saturating_sub(self.began);
        Call {
            time_unix_ns: self.clock.unix_ms().saturating_mul(1_000_000),
            request: self.request,
            client_trace: self.client_trace.clone(),
            instance: about.instance.unwrap_or(InstanceId::CLUSTER),
            principal: inner.principal.clone(),
            source: self.peer.remote,
            surface: Surface::Grpc,
            operation: Text::new(self.method.name),
            resources: Resources::new(about.resources),
            algorithm: about.algorithm.map(|algorithm| Text::new(algorithm.as_str())),
            context: about.context,
            input_bytes: about.input_bytes as u64,
            output_bytes: output_bytes as u64,
            decision,
            outcome: Text::new(outcome),
            backend: about.backend.map(Text::new),
            latency_us: u64::try_from(latency.as_micros()).unwrap_or(u64::MAX),
            retries: inner.retries,
        }
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        let Some(permit) = self.inner.get_mut().permit.take() else { return };
        // The client is gone, so nobody gets an answer; what was done was done all the same.
        let record = self.record(status::name(Code::Cancelled), Decision::Allow, 0);
        if let Err(error) = permit.append(record) {
            self.lost(&error);
        }
    }
}
