//! The task of one stream.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::{Stream, StreamExt};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};
use twinkeep_proto::v1;
use twinkeep_proto::v1::crypto_service_client::CryptoServiceClient;

use super::board::Stranger;
use super::desk::{Desk, End, Swept};
use crate::error::local;

/// How often somebody looks at who has waited for long.
pub(super) const TICK: Duration = Duration::from_millis(2);
/// Answers that are handed out under one lock.
const BATCH_MAX: usize = 64;

/// Opens a stream and serves its desk until one of them ends. Calls that were placed meanwhile leave with
/// the opening.
pub(super) async fn run(desk: Arc<Desk>, channel: Channel) {
    // Also when the task is dropped: nobody may wait at a desk that is not served.
    let desk = EndOnDrop(desk);
    let end = tokio::select! {
        biased;
        end = read(&desk.0, channel) => end,
        end = sweep(&desk.0) => end,
    };
    tracing::debug!(?end, "crypto stream ended");
    desk.0.end(end);
}

struct EndOnDrop(Arc<Desk>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.end(End::Retired);
    }
}

/// Gives the desk's messages to the connection.
struct Outgoing(Arc<Desk>);

impl Stream for Outgoing {
    type Item = v1::CryptoStreamRequest;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_out(cx)
    }
}

async fn read(desk: &Arc<Desk>, channel: Channel) -> End {
    let opening = CryptoServiceClient::new(channel).crypto_stream(Outgoing(Arc::clone(desk))).await;
    let mut answers = match opening {
        Ok(answers) => answers.into_inner(),
        Err(status) => return ended(status, false),
    };
    let (mut batch, mut wakers) = (Vec::with_capacity(BATCH_MAX), Vec::with_capacity(BATCH_MAX));
    let mut answered = false;
    loop {
        let more = gather(&mut answers, &mut batch).await;
        answered |= !batch.is_empty();
        if desk.answer(&mut batch, &mut wakers) == Err(Stranger) {
            return End::Broke(Status::unavailable("the node answers calls that are not open"));
        }
        if let Err(status) = more {
            return ended(status, answered);
        }
    }
}

/// Waits for an answer and takes those that have come with it; an `Err` is the end of the stream.
async fn gather(
    answers: &mut Streaming<v1::CryptoStreamResponse>,
    batch: &mut Vec<v1::CryptoStreamResponse>,
) -> Result<(), Status> {
    std::future::poll_fn(|cx| {
        while batch.len() < BATCH_MAX {
            match answers.poll_next_unpin(cx) {
                Poll::Ready(Some(Ok(answer))) => batch.push(answer),
                Poll::Ready(Some(Err(status))) => return Poll::Ready(Err(status)),
                Poll::Ready(None) => return Poll::Ready(Err(Status::unavailable(""))),
                Poll::Pending if batch.is_empty() => return Poll::Pending,
                Poll::Pending => break,
            }
        }
        Poll::Ready(Ok(()))
    })
    .await
}

/// Tells a stream that is not taken, for now or at all, from one that broke.
///
/// Codes that a node uses for opening alone mean that it is not, and so do those that gRPC libraries put in
/// place of an HTTP error: there is a proxy.
fn ended(status: Status, answered: bool) -> End {
    if local(&status) {
        return End::Broke(status);
    }
    match status.code() {
        Code::ResourceExhausted if !answered => End::Busy(status),
        Code::Unimplemented
        | Code::PermissionDenied
        | Code::Unauthenticated
        | Code::Unknown
        | Code::Internal
        | Code::InvalidArgument
            if !answered =>
        {
            End::Refused(status)
        }
        // Whatever ended the stream, it was no answer to any of its calls.
        _ => End::Broke(Status::unavailable(format!("the stream ended: {}", status.message()))),
    }
}

async fn sweep(desk: &Desk) -> End {
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        match desk.sweep(Instant::now()) {
            Swept::Busy => {}
            Swept::Idle => desk.wanted().await,
            Swept::Over(end) => return end,
        }
    }
}
