//! The way of every call: who calls, may they, the handler, the audit record, the answer.

use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use futures::{Stream, StreamExt as _, stream};
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};
use twinkeep_audit::Log;
use twinkeep_core::clock::Clock;
use twinkeep_core::id::{ClusterId, RequestId};
use twinkeep_core::name::CallerName;
use twinkeep_core::record::Binding;
use twinkeep_proto::v1::ItemError;
use twinkeep_proto::v1::method::Method;

use super::draft::Draft;
use super::entered::{Budget, Entered};
use super::identity::Peer;
use crate::deadline;
use crate::error::{CallError, Invalid};
use crate::limits::{BATCH_BYTES_MAX, BATCH_ITEMS_MAX, BATCH_PARALLEL, GROUND_ATTEMPTS_MAX, check};
use crate::message::{AnswerMessage as _, RequestMessage, Wiped};
use crate::operation::{Batched, Operation};
use crate::ports::{ControlPlane, Ports};
use crate::records::Records;
use crate::status;

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

/// The one way in. Shared by all services of a node.
pub(crate) struct Gate {
    cluster: ClusterId,
    control: Arc<dyn ControlPlane>,
    records: Arc<Records>,
    audit: Arc<Log>,
    clock: Arc<dyn Clock>,
    requests: RequestIds,
}

impl Gate {
    pub(crate) fn new(cluster: ClusterId, ports: &Ports, records: Arc<Records>) -> Self {
        Self {
            cluster,
            control: Arc::clone(&ports.control),
            records,
            audit: Arc::clone(&ports.audit),
            clock: Arc::clone(&ports.clock),
            requests: RequestIds::default(),
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
        let (entered, message) = self.arrive::<O>(request).await?;
        let id = entered.draft.request;
        match self.finish(&entered, self.work(handler, &entered, &message).await).await {
            Ok(answer) => Ok(status::tagged(Response::new(answer), id)),
            Err(error) => Err(self.status(&entered.draft, &error)),
        }
    }

    /// Lets a call of one message in, or refuses it.
    async fn arrive<O: Operation>(
        &self,
        request: Request<O::Request>,
    ) -> Result<(Entered<O>, Wiped<O::Request>), Status> {
        let (metadata, extensions, message) = request.into_parts();
        let message = Wiped(message);
        let draft = self.draft::<O>(O::METHOD, &metadata, Peer::of(&extensions));
        draft.tell(|about| message.tell(about));
        let deadline = deadline::of(&metadata);
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
        let draft = self.draft::<O>(O::BATCH, &metadata, Peer::of(&extensions));
        let id = draft.request;
        let (items, min_state_index) = O::items(batch);
        let min_state_index =
            items.iter().map(|item| item.min_state_index()).fold(min_state_index, u64::max);
        let deadline = deadline::of(&metadata);
        let entered = match self.enter::<O>(draft, deadline, min_state_index).await {
            Ok(entered) => entered,
            Err((draft, error)) => return Err(self.refuse(&draft, error).await),
        };
        if let Err(error) = check_batch(&items) {
            return Err(self.refuse(&entered.draft, error).await);
        }
        let budget = Budget::of_a_batch();
        // Each item leaves a record of its own; the batch as a whole leaves none beside them.
        entered.draft.forget();
        let calls: Vec<_> = items
            .iter()
            .map(|item| self.item(handler, entered.item(Arc::clone(&budget)), item))
            .collect();
        let results = stream::iter(calls).buffered(BATCH_PARALLEL).collect().await;
        let results = O::results(results, entered.state_index);
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

    fn draft<O: Operation>(&self, method: Method, metadata: &MetadataMap, peer: Peer) -> Draft {
        let (request, clock) = (self.requests.next(), Arc::clone(&self.clock));
        Draft::new(method, O::AUDIT, request, peer, metadata, clock)
    }

    /// Finds out who calls and whether they hold the permission at all, before the request is looked at.
    async fn enter<O: Operation>(
        &self,
        draft: Draft,
        deadline: Instant,
        min_state_index: u64,
    ) -> Result<Entered<O>, (Draft, CallError)> {
        let admitted = self.admit::<O>(&draft, deadline, min_state_index).await;
        let (caller, binding, state_index) = match admitted {
            Ok(admitted) => admitted,
            Err(error) => return Err((draft, error)),
        };
        Ok(Entered {
            draft,
            caller,
            binding,
            records: Arc::clone(&self.records),
            deadline,
            state_index,
            budget: None,
            operation: PhantomData,
        })
    }

    async fn admit<O: Operation>(
        &self,
        draft: &Draft,
        deadline: Instant,
        min_state_index: u64,
    ) -> Result<Admitted, CallError> {
        draft.take_permit(&self.audit)?;
        let caller = draft.peer.caller(self.cluster, self.now_unix_s())?;
        draft.set_principal(draft.peer.principal(Some(&caller)));
        if min_state_index > self.control.applied_index() {
            self.control.wait_applied(min_state_index, deadline).await?;
        }
        // Read before the state, so that the answer never claims more than it rests on.
        let state_index = self.control.applied_index();
        let denied = || CallError::Denied(O::PERMISSION);
        let binding = self.records.binding(&caller)?.ok_or_else(denied)?;
        if binding.grants.iter().any(|grant| grant.role.permits(O::PERMISSION)) {
            Ok((caller, binding, state_index))
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
        Ok(answer)
    }

    async fn refuse(&self, draft: &Draft, error: CallError) -> Status {
        match draft.answered(Some(&error), 0).await {
            Ok(()) => self.status(draft, &error),
            Err(unrecorded) => self.status(draft, &unrecorded),
        }
    }

    fn status(&self, draft: &Draft, error: &CallError) -> Status {
        status::status(error, draft.request, draft.method, self.control.leader())
    }

    fn now_unix_s(&self) -> u64 {
        self.clock.unix_ms() / 1000
    }
}

type Admitted = (CallerName, Arc<Binding>, u64);

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
