//! Drives one stream: reads calls, hands their answers on, and decides when the stream ends.
//!
//! The driver is the stream of answers itself. The transport polls it while the caller has room for more,
//! so a caller who does not read holds up its own calls and nobody's else. A turn lasts at most
//! [`STREAM_TURN`]; then the other streams of the thread have theirs. Answers that are there at once are
//! handed on in one go, and the transport writes them together.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures::{FutureExt as _, Stream};
use tokio::time::{Sleep, sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::{Code, Status, Streaming};
use twinkeep_proto::v1::crypto_stream_request::Body;
use twinkeep_proto::v1::crypto_stream_response::Result as Answer;
use twinkeep_proto::v1::{CryptoStreamRequest, CryptoStreamResponse};

use super::open::Open;
use super::{Shared, dispatch};
use crate::authorize::{Session, Terms};
use crate::limits::{STREAM_CALLS_MAX, STREAM_TURN};
use crate::metrics::Present;

/// How long the certificate is taken for valid without another look: the wall clock may be set.
const CERTIFICATE_LOOK: Duration = Duration::from_secs(10);

/// The stream of answers.
pub(crate) struct Driver {
    shared: Arc<Shared>,
    incoming: Streaming<CryptoStreamRequest>,
    open: Open,
    /// A call that was read while as many were open as may be. What is behind it, cancellations too, waits for a
    /// place with it.
    held: Option<CryptoStreamRequest>,
    _counted: Present,
    turn: Option<Instant>,
    look: Pin<Box<Sleep>>,
    stop: Pin<Box<WaitForCancellationFutureOwned>>,
    ending: Option<Ending>,
}

/// Why no more calls are read.
enum Ending {
    /// The caller has no more, or has gone.
    Done,
    /// With this status, once the open calls are answered.
    With(Status),
}

impl Driver {
    pub(super) fn new(
        shared: Arc<Shared>,
        incoming: Streaming<CryptoStreamRequest>,
        stop: CancellationToken,
    ) -> Self {
        Self {
            _counted: shared.meter.stream(),
            shared,
            incoming,
            open: Open::default(),
            held: None,
            turn: None,
            // The first poll looks.
            look: Box::pin(sleep(Duration::ZERO)),
            stop: Box::pin(stop.cancelled_owned()),
            ending: None,
        }
    }

    /// Looks, once in a turn, whether the stream has to end.
    fn look(&mut self, context: &mut Context<'_>) {
        if self.stop.as_mut().poll(context).is_ready() {
            let status = Status::unavailable("this node is shutting down; call another node");
            self.ending = Some(Ending::With(status));
            return;
        }
        while self.look.as_mut().poll(context).is_ready() {
            match self.shared.session.certificate_left() {
                Ok(left) => self.look.set(sleep(left.min(CERTIFICATE_LOOK))),
                Err(error) => {
                    self.ending = Some(Ending::With(Session::expired(error)));
                    return;
                }
            }
        }
    }

    /// Takes one message; returns the answer if it is there at once.
    fn take(
        &mut self,
        message: CryptoStreamRequest,
        context: &mut Context<'_>,
    ) -> Option<CryptoStreamResponse> {
        let CryptoStreamRequest { call_id, timeout_ms, traceparent, body } = message;
        if let Some(Body::Cancel(_)) = body {
            self.open.cancel(call_id);
            return None;
        }
        if self.open.contains(call_id) {
            // Two answers under one name would tell the caller nothing.
            let status = Status::new(
                Code::InvalidArgument,
                format!("call_id {call_id} is still open; give each call of a stream its own"),
            );
            self.ending = Some(Ending::With(status));
            return None;
        }
        let terms = Terms { timeout_ms, trace: traceparent };
        let mut call = dispatch::begin(&self.shared, call_id, terms, body);
        match call.poll_unpin(context) {
            Poll::Ready(answer) => {
                self.end_with_the_certificate(&answer);
                Some(answer)
            }
            Poll::Pending => {
                self.open.spawn(call_id, call, self.shared.meter.message());
                None
            }
        }
    }

    /// Ends the stream when a call was refused because its caller is not known any more.
    fn end_with_the_certificate(&mut self, answer: &CryptoStreamResponse) {
        if let Some(Answer::Error(error)) = &answer.result
            && error.code == Code::Unauthenticated as i32
        {
            self.ending = Some(Ending::With(Status::unauthenticated(error.message.clone())));
        }
    }

    /// Ends when no call is open any more.
    fn end(&mut self) -> Poll<Option<Result<CryptoStreamResponse, Status>>> {
        if self.open.len() > 0 || self.held.is_some() {
            return Poll::Pending;
        }
        match self.ending.replace(Ending::Done) {
            Some(Ending::With(status)) => Poll::Ready(Some(Err(status))),
            Some(Ending::Done) | None => Poll::Ready(None),
        }
    }

    fn advance(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<CryptoStreamResponse, Status>>> {
        let began = match self.turn {
            Some(began) => began,
            None => {
                self.look(context);
                *self.turn.insert(Instant::now())
            }
        };
        loop {
            if let Poll::Ready(answer) = self.open.poll_answer(context) {
                return Poll::Ready(Some(Ok(answer)));
            }
            let is_full = self.open.len() >= STREAM_CALLS_MAX;
            if !is_full && let Some(held) = self.held.take() {
                match self.take(held, context) {
                    Some(answer) => return Poll::Ready(Some(Ok(answer))),
                    None => continue,
                }
            }
            if self.ending.is_some() {
                return self.end();
            }
            if self.held.is_some() {
                return Poll::Pending;
            }
            if began.elapsed() >= STREAM_TURN {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            match Pin::new(&mut self.incoming).poll_next(context) {
                Poll::Ready(Some(Ok(message))) if is_full && !is_cancel(&message) => {
                    self.held = Some(message);
                }
                Poll::Ready(Some(Ok(message))) => {
                    if let Some(answer) = self.take(message, context) {
                        return Poll::Ready(Some(Ok(answer)));
                    }
                }
                // What is wrong with a message that cannot be read is known to the transport alone.
                Poll::Ready(Some(Err(status))) => self.ending = Some(Ending::With(status)),
                Poll::Ready(None) => self.ending = Some(Ending::Done),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

fn is_cancel(message: &CryptoStreamRequest) -> bool {
    matches!(message.body, Some(Body::Cancel(_)))
}

impl Stream for Driver {
    type Item = Result<CryptoStreamResponse, Status>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let polled = this.advance(context);
        if polled.is_pending() {
            this.turn = None;
        }
        polled
    }
}
