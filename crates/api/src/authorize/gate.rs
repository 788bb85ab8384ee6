//! The way of every call: who calls, may they, the handler, the audit record, the answer.

use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use futures::{Stream, StreamExt as _, stream};
use tonic::metadata::MetadataMap;
use tonic::{Extensions, Request, Response, Status};
use twinkeep_audit::call::Surface;
use twinkeep_audit::{Log, Text};
use twinkeep_core::clock::Clock;
use twinkeep_core::id::{ClusterId, RequestId};
use twinkeep_proto::v1::ItemError;
use twinkeep_proto::v1::method::Method;

use super::draft::{Draft, Origin};
use super::entered::{Budget, Entered};
use super::identity::Peer;
use super::places::{Place, Places};
use super::session::Session;
use super::together;
use crate::error::{CallError, Invalid};
use crate::limits::{
    BATCH_BYTES_MAX, BATCH_ITEMS_MAX, CALLER_CALLS_MAX, CALLER_STREAMS_MAX, GROUND_ATTEMPTS_MAX,
    check,
};
use crate::message::{AnswerMessage as _, RequestMessage, Wiped};
use crate::meter::Meter;
use crate::operation::{AuditClass, Batched, Guarded, Operation};
use crate::ports::{ControlPlane, Ports};
use crate::records::{Caller, Kept, Records};
use crate::status;
use crate::{arrival, deadline};

/// Does one operation. It may be asked again with the same request when what it rested on changed
/// meanwhile ([`CallError::GroundMoved`]).
pub(crate) trait Handle<O: Operation>: Send + Sync {
    /// Answers a call that has entered.
    fn handle(
        &self,
        call: &Entered<O>,
        request: &O::Request,
    ) -> impl Future<Output = Result<O::Answer, CallError>> + Send;
}

/// Opens the stream of one operation.
pub(crate) trait HandleStream<O: Operation>: Send + Sync {
    /// Answers a call that has entered with a stream. The gate asks before each message whether the
    /// caller still may.
    fn open(
        &self,
        call: &Entered<O>,
        request: &O::Request,
    ) -> impl Future<Output = Result<Answers<O>, CallError>> + Send;
}

/// The messages of a stream.
pub(crate) type Answers<O> =
    Pin<Box<dyn Stream<Item = Result<<O as Operation>::Answer, CallError>> + Send>>;

/// The messages of a stream as tonic takes them.
pub(crate) type Outgoing<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// What carried a call here says of it.
pub(crate) struct Asked {
    /// Where the call comes from.
    pub(crate) from: Origin,
    /// By when the call has to be answered.
    pub(crate) deadline: Instant,
}

/// The one way in. Shared by all services of a node.
pub(crate) struct Gate {
    cluster: ClusterId,
    control: Arc<dyn ControlPlane>,
    records: Arc<Records>,
    audit: Arc<Log>,
    clock: Arc<dyn Clock>,
    places: Places,
    /// Of streams of calls.
    streams: Places,
    requests: RequestIds,
    meter: Meter,
}

impl Gate {
    pub(crate) fn new(cluster: ClusterId, ports: &Ports, records: Arc<Records>) -> Self {
        Self {
            cluster,
            control: Arc::clone(&ports.control),
            records,
            audit: Arc::clone(&ports.audit),
            clock: Arc::clone(&ports.clock),
            places: Places::new(CALLER_CALLS_MAX, || CallError::Busy),
            streams: Places::new(CALLER_STREAMS_MAX, || CallError::TooManyStreams),
            requests: RequestIds::default(),
            meter: Meter::default(),
        }
    }

    /// Answers a call with one message.
    pub(crate) async fn unary<O, H>(
        &self,
        handler: &H,
        request: Request<O::Request>,
    ) -> Result<Response<O::Answer>, Status>
    where
        O: Operation,
        H: Handle<O>,
    {
        let (metadata, extensions, message) = request.into_parts();
        let asked = Asked::alone(&extensions, &metadata);
        let (id, result) = self.call::<O, H>(handler, asked, message).await;
        match result {
            Ok(answer) => Ok(status::tagged(Response::new(answer), id)),
            Err(error) => Err(status::status(&error, id, O::METHOD, self.control.leader())),
        }
    }

    /// Answers one call, whatever carried it here. Its audit record is written when this returns.
    pub(crate) async fn call<O, H>(
        &self,
        handler: &H,
        asked: Asked,
        message: O::Request,
    ) -> (RequestId, Result<O::Answer, CallError>)
    where
        O: Operation,
        H: Handle<O>,
    {
        let message = Wiped(message);
        let draft = self.draft::<O>(O::METHOD, asked.from);
        draft.tell(|about| message.tell(about));
        let id = draft.request;
        let result = match self.enter::<O>(draft, asked.deadline, message.min_state_index()).await {
            Ok(entered) => {
                let result = self.work(handler, &entered, &message).await;
                self.finish(&entered, result).await
            }
            Err((draft, error)) => Err(recorded(&draft, error).await),
        };
        crate::trace::end(result.as_ref().err());
        (id, result)
    }

    /// Lets a caller open a stream of calls. The opening has an audit record of its own, and each call on
    /// the stream goes through [`Self::call`].
    pub(crate) async fn open<O: Guarded>(
        self: &Arc<Self>,
        metadata: &MetadataMap,
        extensions: &Extensions,
    ) -> Result<(Session, RequestId), Status> {
        let Asked { from, deadline } = Asked::alone(extensions, metadata);
        let peer = Arc::clone(&from.peer);
        let draft = self.draft::<O>(O::METHOD, from);
        let id = draft.request;
        match self.enter::<O>(draft, deadline, 0).await {
            Ok(entered) => {
                let place = self.streams.take(&entered.caller.name);
                let error = place.as_ref().err();
                if let Err(unrecorded) = entered.draft.answered(error, 0).await {
                    return Err(self.status(&entered.draft, &unrecorded));
                }
                match place {
                    Ok(place) => Ok((Session { gate: Arc::clone(self), peer, _place: place }, id)),
                    Err(error) => Err(self.status(&entered.draft, &error)),
                }
            }
            Err((draft, error)) => Err(self.refuse(&draft, error).await),
        }
    }

    /// Lets a call of one message in, or refuses it.
    async fn arrive<O: Operation>(
        &self,
        request: Request<O::Request>,
    ) -> Result<(Entered<O>, Wiped<O::Request>), Status> {
        let (metadata, extensions, message) = request.into_parts();
        let message = Wiped(message);
        let Asked { from, deadline } = Asked::alone(&extensions, &metadata);
        let draft = self.draft::<O>(O::METHOD, from);
        draft.tell(|about| message.tell(about));
        match self.enter::<O>(draft, deadline, message.min_state_index()).await {
            Ok(entered) => Ok((entered, message)),
            Err((draft, error)) => Err(self.refuse(&draft, error).await),
        }
    }

    /// Answers each item of a batch on its own.
    pub(crate) async fn batch<O, H>(
        &self,
        handler: &H,
        request: Request<O::Batch>,
    ) -> Result<Response<O::Results>, Status>
    where
        O: Batched,
        H: Handle<O>,
    {
        let (metadata, extensions, batch) = request.into_parts();
        let Asked { from, deadline } = Asked::alone(&extensions, &metadata);
        let draft = self.draft::<O>(O::BATCH, from);
        let id = draft.request;
        let (items, min_state_index) = O::items(batch);
        let min_state_index =
            items.iter().map(|item| item.min_state_index()).fold(min_state_index, u64::max);
        let entered = match self.enter::<O>(draft, deadline, min_state_index).await {
            Ok(entered) => entered,
            Err((draft, error)) => return Err(self.refuse(&draft, error).await),
        };
        if let Err(error) = check_batch(&items) {
            return Err(self.refuse(&entered.draft, error).await);
        }
        let budget = Budget::of_a_batch();
        // Each item leaves a record of its own; the batch as a whole leaves none beside them.
        entered.draft.forget(items.len());
        let calls =
            items.iter().map(|item| self.item(handler, entered.item(Arc::clone(&budget)), item));
        let results = together::answer_all(calls).await;
        let results = O::results(results, entered.state_index);
        crate::trace::end(None);
        Ok(status::tagged(Response::new(results), id))
    }

    async fn item<O, H>(
        &self,
        handler: &H,
        entered: Entered<O>,
        item: &O::Request,
    ) -> Result<O::Answer, ItemError>
    where
        O: Operation,
        H: Handle<O>,
    {
        entered.draft.tell(|about| item.tell(about));
        let result = match entered.draft.take_permit(&self.audit) {
            Ok(()) => self.work(handler, &entered, item).await,
            Err(error) => Err(error),
        };
        self.finish(&entered, result).await.map_err(|error| {
            status::item_error(&error, entered.draft.request, entered.draft.method)
        })
    }

    /// Answers a call with a stream. Its audit record is written before the first message.
    pub(crate) async fn stream<O, H>(
        self: &Arc<Self>,
        handler: &H,
        request: Request<O::Request>,
    ) -> Result<Response<Outgoing<O::Answer>>, Status>
    where
        O: Operation,
        H: HandleStream<O>,
    {
        let (entered, message) = self.arrive::<O>(request).await?;
        let id = entered.draft.request;
        let opened = handler.open(&entered, &message).await;
        let error = opened.as_ref().err();
        if let Err(unrecorded) = entered.draft.answered(error, 0).await {
            return Err(self.status(&entered.draft, &unrecorded));
        }
        crate::trace::end(error);
        match opened {
            Ok(answers) => {
                let outgoing = Arc::clone(self).watched(entered, answers);
                Ok(status::tagged(Response::new(outgoing), id))
            }
            Err(error) => Err(self.status(&entered.draft, &error)),
        }
    }

    /// Hands on the messages of a stream for as long as its caller may see them.
    fn watched<O: Operation>(
        self: Arc<Self>,
        entered: Entered<O>,
        answers: Answers<O>,
    ) -> Outgoing<O::Answer> {
        Box::pin(stream::unfold(Some((self, entered, answers)), |state| async move {
            let (gate, entered, mut answers) = state?;
            let message = match answers.next().await? {
                Ok(message) => gate.still_allowed(&entered).map(|()| message),
                Err(error) => Err(error),
            };
            Some(match message {
                Ok(message) => (Ok(message), Some((gate, entered, answers))),
                Err(error) => (Err(gate.status(&entered.draft, &error)), None),
            })
        }))
    }

    fn still_allowed<O: Operation>(&self, entered: &Entered<O>) -> Result<(), CallError> {
        entered.draft.peer.caller(self.cluster, self.now_unix_s())?;
        if entered.roles_unchanged()? { Ok(()) } else { Err(CallError::GroundMoved) }
    }

    fn draft<O: Guarded>(&self, method: Method, from: Origin) -> Draft {
        let (request, clock) = (self.requests.next(), Arc::clone(&self.clock));
        crate::trace::name(request);
        Draft::new(method, O::AUDIT, request, from, clock, self.meter.clone())
    }

    /// Finds out who calls and whether they hold the permission at all, before the request is looked at.
    async fn enter<O: Guarded>(
        &self,
        draft: Draft,
        deadline: Instant,
        min_state_index: u64,
    ) -> Result<Entered<O>, (Draft, CallError)> {
        let admitted = self.admit::<O>(&draft, deadline, min_state_index).await;
        let Admitted { caller, place, state_index } = match admitted {
            Ok(admitted) => admitted,
            Err(error) => return Err((draft, error)),
        };
        Ok(Entered {
            draft,
            caller,
            _place: place,
            records: Arc::clone(&self.records),
            deadline,
            state_index,
            budget: None,
            operation: PhantomData,
        })
    }

    async fn admit<O: Guarded>(
        &self,
        draft: &Draft,
        deadline: Instant,
        min_state_index: u64,
    ) -> Result<Admitted, CallError> {
        draft.take_permit(&self.audit)?;
        let name = draft.peer.caller(self.cluster, self.now_unix_s())?;
        draft.set_principal(draft.peer.principal(Some(&name)));
        if arrival::is_too_late::<O>(draft.waited) {
            return Err(CallError::Overloaded);
        }
        // Before the wait below, which is for anybody with a certificate.
        let is_counted = !O::METHOD.server_streaming && O::AUDIT != AuditClass::Attempted;
        let place = is_counted.then(|| self.places.take(&name)).transpose()?;
        if min_state_index > self.control.applied_index() {
            self.control.wait_applied(min_state_index, deadline).await?;
        }
        // Read before the state, so that the answer never claims more than it rests on.
        let state_index = self.control.applied_index();
        let denied = || CallError::Denied(O::PERMISSION);
        let caller = self.records.caller(&name)?.ok_or_else(denied)?;
        if caller.rights.hold(O::PERMISSION) {
            draft.admitted();
            Ok(Admitted { caller, place, state_index })
        } else {
            Err(denied())
        }
    }

    /// Lets the handler work, again if what it rested on moved.
    async fn work<O, H>(
        &self,
        handler: &H,
        entered: &Entered<O>,
        message: &O::Request,
    ) -> Result<O::Answer, CallError>
    where
        O: Operation,
        H: Handle<O>,
    {
        let mut attempt = 1;
        loop {
            match handler.handle(entered, message).await {
                Err(CallError::GroundMoved) if attempt < GROUND_ATTEMPTS_MAX => {
                    attempt += 1;
                    entered.draft.retried();
                    if !entered.roles_unchanged()? {
                        return Err(CallError::GroundMoved);
                    }
                }
                result => return result,
            }
        }
    }

    /// Writes the audit record; only then the result may leave.
    async fn finish<O: Operation>(
        &self,
        entered: &Entered<O>,
        result: Result<O::Answer, CallError>,
    ) -> Result<O::Answer, CallError> {
        let output_bytes = result.as_ref().map_or(0, |answer| answer.output_bytes());
        entered.draft.answered(result.as_ref().err(), output_bytes).await?;
        let mut answer = result?;
        let state_index = answer.state_index();
        *state_index = entered.state_index.max(*state_index);
        if let Some(state_age_ms) = answer.state_age_ms() {
            *state_age_ms = entered.draft.state_age_ms();
        }
        Ok(answer)
    }

    async fn refuse(&self, draft: &Draft, error: CallError) -> Status {
        let error = recorded(draft, error).await;
        crate::trace::end(Some(&error));
        self.status(draft, &error)
    }

    fn status(&self, draft: &Draft, error: &CallError) -> Status {
        status::status(error, draft.request, draft.method, self.control.leader())
    }

    pub(super) fn cluster(&self) -> ClusterId {
        self.cluster
    }

    pub(super) fn now_unix_s(&self) -> u64 {
        self.clock.unix_ms() / 1000
    }
}

/// Who was let in.
struct Admitted {
    caller: Kept<Caller>,
    place: Option<Place>,
    state_index: u64,
}

/// Writes the audit record of a refusal, and returns why the call fails.
async fn recorded(draft: &Draft, error: CallError) -> CallError {
    match draft.answered(Some(&error), 0).await {
        Ok(()) => error,
        Err(unrecorded) => unrecorded,
    }
}

impl Asked {
    /// Reads what is said of a call that is not a message of a stream of calls.
    fn alone(extensions: &Extensions, metadata: &MetadataMap) -> Self {
        let trace = metadata.get("traceparent").and_then(|value| value.to_str().ok());
        let waited = arrival::waited(extensions);
        let from = Origin {
            peer: Arc::new(Peer::of(extensions)),
            surface: Surface::Grpc,
            trace: trace.map(|text| Text::new(text.to_owned())),
            waited,
        };
        Self { from, deadline: deadline::of(metadata, waited) }
    }
}

fn check_batch<R: RequestMessage>(items: &[R]) -> Result<(), CallError> {
    if items.is_empty() {
        let way_out = "give at least one item";
        return Err(Invalid::Missing { field: "items", way_out }.into());
    }
    check("items", items.len(), BATCH_ITEMS_MAX, "split the batch")?;
    let bytes = items.iter().map(prost::Message::encoded_len).sum();
    Ok(check("bytes of all items", bytes, BATCH_BYTES_MAX, "split the batch")?)
}

/// Gives each request an id: eight random bytes of the process, then a counter.
struct RequestIds {
    process: u64,
    next: AtomicU64,
}

impl Default for RequestIds {
    fn default() -> Self {
        // The standard library seeds its hasher from the operating system; ids are names, not secrets.
        use std::hash::{BuildHasher as _, RandomState};
        Self { process: RandomState::new().hash_one(0_u8), next: AtomicU64::new(0) }
    }
}

impl RequestIds {
    fn next(&self) -> RequestId {
        let count = self.next.fetch_add(1, Ordering::Relaxed);
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.process.to_be_bytes());
        bytes[8..].copy_from_slice(&count.to_be_bytes());
        RequestId::from_bytes(bytes)
    }
}
