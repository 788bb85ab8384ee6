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
use twinkeep_audit::call::{Call, Decision, Principal, Resources, Surface};
use twinkeep_audit::{AppendError, Log, Permit, Text, Ticket, Wait};
use twinkeep_core::clock::Clock;
use twinkeep_core::id::{InstanceId, RequestId};
use twinkeep_proto::v1::method::Method;

use super::identity::Peer;
use crate::error::CallError;
use crate::limits::TRACE_BYTES_MAX;
use crate::message::About;
use crate::meter::{InstanceType, Meter};
use crate::operation::AuditClass;
use crate::status::{self, Coded as _};

/// The record of a call that is not answered yet.
pub(crate) struct Draft {
    pub(crate) method: Method,
    pub(crate) request: RequestId,
    pub(crate) peer: Arc<Peer>,
    surface: Surface,
    class: AuditClass,
    client_trace: Option<Text<64>>,
    clock: Arc<dyn Clock>,
    meter: Meter,
    /// When the call came in, by the node's steady clock.
    began: Duration,
    pub(super) waited: Duration,
    inner: Mutex<Inner>,
}

/// Where a call comes from.
pub(crate) struct Origin {
    /// The other end of the connection.
    pub(crate) peer: Arc<Peer>,
    /// What carried it.
    pub(crate) surface: Surface,
    /// What the caller calls it.
    pub(crate) trace: Option<Text<TRACE_BYTES_MAX>>,
    /// How long it waited to be begun.
    pub(crate) waited: Duration,
}

struct Inner {
    permit: Option<Permit>,
    principal: Principal,
    about: About,
    retries: u32,
    /// How old the state may be that the answer rests on; `None` while it is fresh.
    state_age: Option<Duration>,
    /// Whether the caller holds the permission.
    admitted: bool,
    /// Whether the private half of an asymmetric key is used: its record is synced first.
    private_key: bool,
    instance_type: InstanceType,
    end: End,
}

/// How a call ended, for whoever counts.
#[derive(Clone, Copy)]
enum End {
    /// It has not: dropped like that, the client went away.
    Open,
    /// When its record was where it has to be, by the node's steady clock, to the microsecond that queueing takes.
    /// The call may live on: it hands on a stream.
    Answered(Code, Duration),
    /// Its items are counted instead.
    Forgotten,
}

impl Inner {
    fn of(principal: Principal) -> Self {
        let about = About::default();
        Self {
            permit: None,
            principal,
            about,
            retries: 0,
            state_age: None,
            admitted: false,
            private_key: false,
            instance_type: InstanceType::None,
            end: End::Open,
        }
    }
}

impl Draft {
    pub(crate) fn new(
        method: Method,
        class: AuditClass,
        request: RequestId,
        from: Origin,
        clock: Arc<dyn Clock>,
        meter: Meter,
    ) -> Self {
        let Origin { peer, surface, trace, waited } = from;
        meter.began();
        let inner = Inner::of(peer.principal(None));
        Self {
            method,
            request,
            surface,
            class,
            client_trace: trace,
            began: clock.elapsed().saturating_sub(waited),
            waited,
            clock,
            meter,
            inner: Mutex::new(inner),
            peer,
        }
    }

    /// Makes the draft of one item of a batch.
    pub(crate) fn item(&self) -> Self {
        let mut inner = Inner::of(self.inner.lock().principal.clone());
        inner.admitted = true;
        self.meter.began();
        Self {
            method: self.method,
            request: self.request,
            surface: self.surface,
            class: self.class,
            client_trace: self.client_trace.clone(),
            began: self.began,
            waited: self.waited,
            clock: Arc::clone(&self.clock),
            meter: self.meter.clone(),
            inner: Mutex::new(inner),
            peer: Arc::clone(&self.peer),
        }
    }

    /// Gives the permit back: the items of a batch leave the records, and are counted.
    pub(crate) fn forget(&self, items: usize) {
        self.meter.batch(self.method, items);
        let mut inner = self.inner.lock();
        inner.end = End::Forgotten;
        drop(inner.permit.take());
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

    /// Notes that the caller holds the permission.
    pub(crate) fn admitted(&self) {
        self.inner.lock().admitted = true;
    }

    /// Notes that the call is worked on once more.
    pub(crate) fn retried(&self) {
        self.inner.lock().retries += 1;
    }

    /// Notes that the state which the answer rests on may be old.
    pub(crate) fn stale(&self, age: Duration) {
        self.inner.lock().state_age = Some(age);
    }

    /// Returns how old that state may be, in milliseconds; 0 while it is fresh.
    pub(crate) fn state_age_ms(&self) -> u64 {
        self.inner.lock().state_age.map_or(0, millis)
    }

    /// Notes what kind of instance the call works on, for its count.
    pub(crate) fn works_on(&self, instance_type: impl Into<InstanceType>) {
        self.inner.lock().instance_type = instance_type.into();
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
        let code = error.map_or(Code::Ok, |error| error.code());
        let now = self.clock.elapsed();
        let (permit, wait) = {
            let mut inner = self.inner.lock();
            let wait = match self.class {
                AuditClass::Synced => Wait::Durable,
                AuditClass::Queued if inner.private_key => Wait::Durable,
                AuditClass::Queued | AuditClass::Attempted => Wait::Queued,
            };
            inner.end = End::Answered(code, now);
            (inner.permit.take(), wait)
        };
        let Some(permit) = permit else { return Ok(()) };
        let denied = matches!(error, Some(CallError::Unauthenticated(_) | CallError::Denied(_)));
        let decision = if denied { Decision::Deny } else { Decision::Allow };
        // Queued before the first await, so that the call does not carry its record along.
        let record = self.record(status::name(code), decision, output_bytes, now);
        let queued = permit.append_at(&record, now);
        // Before the wait, so that the call does not carry it along.
        drop(record);
        let waits = queued.as_ref().is_ok_and(|ticket| ticket.waits(wait));
        let written = written(queued, wait).await;
        if waits {
            self.inner.lock().end = End::Answered(code, self.clock.elapsed());
        }
        match written {
            Ok(()) => Ok(()),
            Err(error) if self.class == AuditClass::Attempted => {
                self.lost(&error);
                Ok(())
            }
            Err(error) => {
                let error = CallError::from(error);
                self.inner.lock().end = End::Answered(error.code(), self.clock.elapsed());
                Err(error)
            }
        }
    }

    fn lost(&self, error: &AppendError) {
        tracing::error!(
            request = %self.request, operation = self.method.name, error = error as &dyn Error,
            "a call leaves no audit record"
        );
    }

    fn record(
        &self,
        outcome: &'static str,
        decision: Decision,
        output_bytes: usize,
        now: Duration,
    ) -> Call {
        let mut inner = self.inner.lock();
        let about = std::mem::take(&mut inner.about);
        let latency = now.saturating_sub(self.began);
        Call {
            time_unix_ns: self.clock.unix_ms().saturating_mul(1_000_000),
            request: self.request,
            client_trace: self.client_trace.clone(),
            instance: about.instance.unwrap_or(InstanceId::CLUSTER),
            principal: inner.principal.clone(),
            source: self.peer.remote,
            surface: self.surface,
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
            state_age_ms: inner.state_age.map(millis),
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Waits for what an answer has to wait for.
async fn written(queued: Result<Ticket, AppendError>, wait: Wait) -> Result<(), AppendError> {
    Ok(queued?.wait(wait).await?)
}

impl Draft {
    /// Counts how the call ended. Called once, when it has.
    fn count(&mut self) {
        let (end, instance_type) = {
            let inner = self.inner.get_mut();
            (inner.end, inner.instance_type)
        };
        let (code, at) = match end {
            End::Open => (Code::Cancelled, self.clock.elapsed()),
            End::Answered(code, at) => (code, at),
            End::Forgotten => return self.meter.forgotten(),
        };
        let elapsed = at.saturating_sub(self.began);
        self.meter.ended(self.method, code, instance_type, elapsed);
        tracing::debug!(
            request = %self.request, operation = self.method.name, outcome = status::name(code),
            latency_us = elapsed.as_micros(), "a call has ended"
        );
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        self.count();
        let Some(permit) = self.inner.get_mut().permit.take() else { return };
        // The client is gone, so nobody gets an answer; what was done was done all the same.
        // Who was not let in yet was not allowed anything either.
        let decision = if self.inner.get_mut().admitted { Decision::Allow } else { Decision::Deny };
        let now = self.clock.elapsed();
        let record = self.record(status::name(Code::Cancelled), decision, 0, now);
        if let Err(error) = permit.append_at(&record, now) {
            self.lost(&error);
        }
    }
}
