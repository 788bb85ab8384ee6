//! One call that waits for its answer.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tonic::Status;
use twinkeep_proto::v1::crypto_stream_response::Result as Given;

use super::board::CallId;
use super::desk::{Desk, End};

/// What became of a call.
#[derive(Debug)]
pub(crate) enum Progress {
    /// The answer; `None` is one of a kind that this release does not know.
    Answered(Option<Given>),
    /// It has waited for long. The call goes on: wait again, or drop it.
    Late,
    /// The stream may not get through: make the call as a single one too, and wait for both ([`patiently`]).
    Doubted,
    /// The stream ended first.
    Ended(End),
}

/// A call that was placed. Dropped before its answer, it is given up: the node is told, without waiting.
pub(crate) struct Waiting {
    desk: Arc<Desk>,
    id: CallId,
    over: bool,
    doubted: bool,
}

impl Waiting {
    pub(super) fn new(desk: Arc<Desk>, id: CallId) -> Self {
        Self { desk, id, over: false, doubted: false }
    }
}

impl Future for Waiting {
    type Output = Progress;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Progress> {
        let progress = std::task::ready!(self.desk.poll_call(self.id, cx));
        self.over = matches!(progress, Progress::Answered(_));
        self.doubted |= matches!(progress, Progress::Doubted);
        Poll::Ready(progress)
    }
}

/// What a patient caller has heard.
pub(super) enum Heard<A> {
    /// The answer on the stream; `None` is one of a kind that this release does not know.
    Answer(Option<Given>),
    /// What the single call ended with that was made because the stream is in doubt.
    Single(Result<A, Status>),
    /// The stream ended first.
    End(End),
}

/// Waits for the answer however long it takes, for a caller with a clock of its own. Once the stream is in doubt,
/// the call is made as a single one besides, and the first answer counts.
pub(super) async fn patiently<A, F>(mut waiting: Waiting, single: impl FnOnce() -> F) -> Heard<A>
where
    F: Future<Output = Result<A, Status>>,
{
    let mut single = Some(single);
    let mut beside = None;
    loop {
        if waiting.doubted
            && let Some(single) = single.take()
        {
            beside = Some(Box::pin(single()));
        }
        let progress = tokio::select! {
            biased;
            progress = &mut waiting => progress,
            answer = async { beside.as_mut().expect("it was begun").await }, if beside.is_some() => {
                if answer.is_ok() {
                    waiting.desk.beaten();
                }
                return Heard::Single(answer);
            }
        };
        match progress {
            Progress::Answered(given) => return Heard::Answer(given),
            Progress::Ended(end) => return Heard::End(end),
            Progress::Late | Progress::Doubted => {}
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if !self.over {
            self.desk.give_up(self.id);
        }
    }
}
