//! How a call leaves: alone, over the crypto stream, or to open a stream of answers.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use tokio::time::Instant;
use tonic::transport::Channel;
use tonic::{Request, Response, Status, Streaming};

use crate::call::{Begun, Terms, call, checked};
use crate::client::{Client, Shared};
use crate::error::{Error, Outcome};
use crate::message::{Answer, Ask};
use crate::node::{Node, OpenCall};
use crate::pool::{Avoid, Pick};
use crate::safety::Safety;
use crate::stream::{Parcel, Progress, Streamed, Waiting, answer_of, attempt, status_of};
use crate::trace::{Trace, timed};

impl Client {
    /// Makes a call with one answer.
    pub(crate) async fn exchange<R, F>(
        &self,
        safety: fn(&R) -> Safety,
        mut request: R,
        send: fn(Channel, Request<R>) -> F,
    ) -> Result<R::Answer, Error>
    where
        R: Ask,
        F: Future<Output = Result<Response<R::Answer>, Status>> + Send + 'static,
    {
        self.fill(&mut request);
        let trace = self.trace();
        let sending = |node: &Arc<Node>, left| {
            let answering = send(node.channel(), timed(request.clone(), left, Some(&trace)));
            async move { Ok(answering.await?.into_inner()) }.boxed()
        };
        let terms = self.terms(safety(&request));
        let check = |answer: &_| request.check(answer);
        call(&self.shared, &terms, Instant::now(), Begun::Nothing, &sending, &check).await
    }

    /// Makes a call over a node's crypto stream, or as [`Self::exchange`] does where there is none.
    ///
    /// Nearly every call is answered by the first node in time. For those the first attempt is made here,
    /// without what a second one would need.
    pub(crate) async fn streamed<R, F>(
        &self,
        safety: fn(&R) -> Safety,
        mut request: R,
        send: fn(Channel, Request<R>) -> F,
    ) -> Result<R::Answer, Error>
    where
        R: Streamed,
        F: Future<Output = Result<Response<R::Answer>, Status>> + Send + 'static,
    {
        self.fill(&mut request);
        let trace = self.trace();
        let terms = self.terms(safety(&request));
        let began = Instant::now();
        let sending = |node: &Arc<Node>, left| {
            attempt(Arc::clone(node), request.clone(), trace.clone(), left, send, None).boxed()
        };
        let begun = match First::begin(&self.shared, &terms, &request, &trace, began) {
            None => Begun::Nothing,
            Some(first) => match first.wait(&self.shared, &terms, &request, began).await {
                Ok(answer) => return Ok(answer),
                // It goes on beside other attempts.
                Err(Missed::Slow(First { open, waiting })) => {
                    let node = Arc::clone(open.node());
                    let (request, trace, begun) = (request.clone(), trace.clone(), Some(waiting));
                    let answer =
                        attempt(Arc::clone(&node), request, trace, terms.limit, send, begun);
                    Begun::Slow(node, answer.boxed())
                }
                Err(Missed::Failed(node, status)) => Begun::Failed(node, status),
                Err(Missed::NoStream) => Begun::Nothing,
            },
        };
        let check = |answer: &_| request.check(answer);
        // Boxed, so that the calls that do not come here have a small future.
        Box::pin(call(&self.shared, &terms, began, begun, &sending, &check)).await
    }

    /// Opens a stream of answers.
    pub(crate) async fn stream<R, F>(
        &self,
        mut request: R,
        send: fn(Channel, Request<R>) -> F,
    ) -> Result<Answers<R::Answer>, Error>
    where
        R: Ask,
        F: Future<Output = Result<Response<Streaming<R::Answer>>, Status>> + Send + 'static,
    {
        self.fill(&mut request);
        // A stream lives longer than the time that opening it may take, so it gets no timeout of its own.
        let sending = |node: &Arc<Node>, _| {
            let opening = send(node.channel(), Request::new(request.clone()));
            let node = Arc::clone(node);
            async move { Ok(Opened(opening.await?.into_inner(), node)) }.boxed()
        };
        let terms = self.terms(Safety::Read);
        let began = Instant::now();
        let opened =
            call(&self.shared, &terms, began, Begun::Nothing, &sending, &|_| Ok(())).await?;
        let Opened(stream, node) = opened;
        Ok(Answers { stream, node, shared: Arc::clone(&self.shared) })
    }
}

/// The first attempt of a call over a stream.
struct First {
    open: OpenCall,
    waiting: Waiting,
}

/// Why the first attempt was not enough.
enum Missed {
    /// There is no answer yet.
    Slow(First),
    /// It failed.
    Failed(Arc<Node>, Status),
    /// There turned out to be no stream: nothing has been tried.
    NoStream,
}

impl First {
    /// Begins it, if the best node has an open stream with a place.
    fn begin<R: Streamed>(
        shared: &Shared,
        terms: &Terms,
        request: &R,
        trace: &Trace,
        now: Instant,
    ) -> Option<Self> {
        let (node, picked) = match &terms.only {
            Some(only) => (Arc::clone(only), None),
            None => {
                let picked = shared.pool.pick(&Avoid::default(), now)?;
                (Arc::clone(&picked.node), Some(picked))
            }
        };
        let alone =
            if terms.only.is_some() { terms.limit } else { shared.hedge_after(terms.safety) };
        let late = now + alone.min(terms.limit);
        let parcel = || Parcel::new(request.clone(), trace, now, terms.limit, late);
        let waiting = node.lane()?.try_begin(|| node.channel(), parcel)?;
        picked.map(Pick::take);
        node.meter.attempts.add();
        Some(Self { open: node.enter(now), waiting })
    }

    /// Waits for the answer for as long as one node is asked alone.
    async fn wait<R: Streamed>(
        mut self,
        shared: &Shared,
        terms: &Terms,
        request: &R,
        began: Instant,
    ) -> Result<R::Answer, Missed> {
        let failed = |first: &Self, status| Missed::Failed(Arc::clone(first.open.node()), status);
        let given = match (&mut self.waiting).await {
            Progress::Answered(given) => given,
            Progress::Late | Progress::Doubted => return Err(Missed::Slow(self)),
            Progress::Ended(end) => {
                let missed = status_of(end).map(|status| failed(&self, status));
                return Err(missed.unwrap_or(Missed::NoStream));
            }
        };
        let answer = answer_of::<R>(given)
            .and_then(|answer| checked(answer, |answer| request.check(answer)))
            .map_err(|status| failed(&self, status))?;
        self.open.node().succeeded();
        shared.budget(terms.safety).earn();
        shared.took(terms.safety, began.elapsed());
        shared.saw(answer.state_index());
        Ok(answer)
    }
}

/// A stream that was opened; it rests on no state yet.
struct Opened<T>(Streaming<T>, Arc<Node>);

impl<T: Send + 'static> Answer for Opened<T> {
    fn state_index(&self) -> u64 {
        0
    }
}

/// A stream of answers from one node.
pub struct Answers<T> {
    stream: Streaming<T>,
    node: Arc<Node>,
    shared: Arc<Shared>,
}

impl<T> fmt::Debug for Answers<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Answers")
    }
}

#[expect(private_bounds, reason = "all answers of the service have it; nobody else implements it")]
impl<T: Answer> Answers<T> {
    /// Waits for the next answer; `None` at the end of the stream.
    ///
    /// # Errors
    /// [`Error`] when the node fails or the connection breaks. The stream is then over: open it again.
    pub async fn next(&mut self) -> Result<Option<T>, Error> {
        let next = self.stream.message().await;
        let next =
            next.map_err(|status| Error::of(&status, 1, Outcome::NotDone, Duration::ZERO))?;
        if let Some(answer) = &next {
            self.shared.saw(answer.state_index());
        }
        Ok(next)
    }

    /// The stream and its node alone, for who must not keep the client alive.
    pub(crate) fn into_inner(self) -> (Streaming<T>, Arc<Node>) {
        (self.stream, self.node)
    }
}
