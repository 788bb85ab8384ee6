//! One node's stream, and when its calls go one by one instead.
//!
//! | how the stream ended                              | what follows at this node                      |
//! |---------------------------------------------------|------------------------------------------------|
//! | not taken: `UNIMPLEMENTED`, `PERMISSION_DENIED`, an HTTP error | single calls for [`SINGLE_FOR`]    |
//! | not taken now: `RESOURCE_EXHAUSTED`               | single calls for the time that the node names, else [`BUSY_FOR`] |
//! | opened, but silent for 1 s and until after a single call was answered | single calls for [`SINGLE_FOR`] |
//! | broke without any answer, [`FRUITLESS_MAX`] times in a row | the same, if a single call succeeds   |
//! | no connection                                     | the next call tries again                      |
//! | broke after answers, or the node ended it         | the next call opens it again                   |
//!
//! A stream that is silent is compared with a single call, since the node may be slow: after 1 s without any
//! answer one of the stream's calls is made as a single one besides. If that is answered and the stream stays
//! silent, streams are to blame, and its other calls go on as single ones; a node that answers neither
//! keeps its stream. One call is made twice for it, however many wait.
//!
//! After streams that broke, a single call that fails shows that streams were not to blame: the next call tries a
//! stream again.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};
use twinkeep_proto::v1;

use super::board::Times;
use super::desk::{Desk, End};
use super::kind::{Streamed, answer_of};
use super::reader;
use super::waiting::{Heard, Waiting, patiently};
use crate::error::{never_sent, retry_after};
use crate::node::Node;
use crate::trace::{Trace, timed};

/// How long calls go one by one before a stream is tried again.
const SINGLE_FOR: Duration = Duration::from_secs(60);
/// The same where a node takes no stream now and names no time: streams of this caller have to end first.
const BUSY_FOR: Duration = Duration::from_secs(5);
/// Streams in a row that broke without any answer, after which calls go one by one.
const FRUITLESS_MAX: u32 = 2;
/// Longest time that a node gives to a call.
const TIME_MAX: Duration = Duration::from_secs(60);
/// What an answer may take beyond the time of its call.
const ANSWER_GRACE: Duration = Duration::from_secs(5);

/// The stream of one node.
#[derive(Default)]
pub(crate) struct Lane(RwLock<Current>);

#[derive(Default)]
struct Current {
    line: Option<Line>,
    single_until: Option<Instant>,
    /// Whether the next single call tells if streams were to blame.
    trial: bool,
    fruitless: u32,
}

/// A stream that was opened.
struct Line {
    desk: Arc<Desk>,
    task: AbortHandle,
}

/// A call as it travels, and when to look after it.
pub(crate) struct Parcel {
    pub(crate) message: v1::CryptoStreamRequest,
    pub(crate) times: Times,
}

impl Parcel {
    /// Wraps a call that has `left` from `now` on; its caller wants to hear of it at `late`.
    pub(crate) fn new<R: Streamed>(
        request: R,
        trace: &Trace,
        now: Instant,
        left: Duration,
        late: Instant,
    ) -> Self {
        let left = left.min(TIME_MAX);
        let message = v1::CryptoStreamRequest {
            call_id: 0,
            // Zero would stand for the node's default.
            timeout_ms: u32::try_from(left.as_millis()).expect("at most a minute").max(1),
            traceparent: trace.text(),
            body: Some(request.into_body()),
        };
        Self { message, times: Times { late, overdue: now + left + ANSWER_GRACE } }
    }
}

impl Lane {
    /// Begins a call if the stream is there and has a place. It is opened if need be.
    pub(crate) fn try_begin(
        &self,
        channel: impl FnOnce() -> Channel,
        parcel: impl FnOnce() -> Parcel,
    ) -> Option<Waiting> {
        let desk = self.desk(channel)?;
        let Parcel { message, times } = parcel();
        desk.try_begin(message, times)
    }

    /// Opens the stream again at the next call; open calls end on the old one.
    pub(crate) fn renew(&self) {
        let mut current = self.0.write();
        if let Some(line) = current.line.take() {
            line.desk.retire();
        }
        *current = Current::default();
    }

    /// Returns the desk of the stream; `None` while calls go one by one.
    fn desk(&self, channel: impl FnOnce() -> Channel) -> Option<Arc<Desk>> {
        if let Some(line) = &self.0.read().line
            && line.desk.is_open()
        {
            return Some(Arc::clone(&line.desk));
        }
        self.0.write().open(channel)
    }

    /// Learns from a single call whether streams were to blame.
    fn single_ended(&self, well: bool) {
        if self.0.read().trial {
            let mut current = self.0.write();
            current.trial = false;
            if !well {
                current.single_until = None;
                current.fruitless = 0;
            }
        }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        if let Some(line) = self.0.get_mut().line.take() {
            line.task.abort();
        }
    }
}

impl Current {
    fn open(&mut self, channel: impl FnOnce() -> Channel) -> Option<Arc<Desk>> {
        if let Some(line) = self.line.take_if(|line| !line.desk.is_open()) {
            self.learn(&line.desk);
        }
        // Another caller may have been faster.
        if self.line.is_none() {
            if self.single_until.is_some_and(|until| Instant::now() < until) {
                return None;
            }
            let desk = Arc::new(Desk::new());
            let task = tokio::spawn(reader::run(Arc::clone(&desk), channel())).abort_handle();
            self.line = Some(Line { desk, task });
        }
        self.line.as_ref().map(|line| Arc::clone(&line.desk))
    }

    fn learn(&mut self, desk: &Desk) {
        let (end, answered) = desk.ended();
        if answered {
            self.fruitless = 0;
        }
        match end {
            Some(End::Refused(status)) => self.single(SINGLE_FOR, false, status.message()),
            Some(End::Busy(status)) => {
                let after = retry_after(&status).unwrap_or(BUSY_FOR).min(SINGLE_FOR);
                self.single(after, false, status.message());
            }
            Some(End::Mute) => self.single(SINGLE_FOR, false, "no answer comes back on it"),
            Some(End::Broke(status)) if !answered && !never_sent(&status) => {
                self.fruitless += 1;
                if self.fruitless >= FRUITLESS_MAX {
                    self.single(SINGLE_FOR, true, status.message());
                }
            }
            Some(End::Broke(_) | End::Retired) | None => {}
        }
    }

    fn single(&mut self, time: Duration, trial: bool, why: &str) {
        tracing::debug!(?time, why, "no crypto stream to this node for now: calls go one by one");
        self.single_until = Some(Instant::now() + time);
        self.trial = trial;
    }
}

/// Returns what a call failed with when its stream ended; `None` if it is to go on as a single call.
pub(crate) fn status_of(end: End) -> Option<Status> {
    match end {
        End::Broke(status) => Some(status),
        End::Refused(_) | End::Busy(_) | End::Mute | End::Retired => None,
    }
}

/// Makes a call at one node: over its stream, or as a single call while there is none. It goes on with what has
/// `begun` on the stream, if anything.
pub(crate) async fn attempt<R, F>(
    node: Arc<Node>,
    request: R,
    trace: Trace,
    left: Duration,
    single: fn(Channel, Request<R>) -> F,
    mut begun: Option<Waiting>,
) -> Result<R::Answer, Status>
where
    R: Streamed,
    F: Future<Output = Result<Response<R::Answer>, Status>> + Send + 'static,
{
    let deadline = Instant::now() + left;
    let single = || {
        let left = deadline.saturating_duration_since(Instant::now());
        let answering = single(node.channel(), timed(request.clone(), left, Some(&trace)));
        async move { answering.await.map(Response::into_inner) }
    };
    // A second look is for the stream that turns out to be over, or not to be taken, at the first one.
    for _ in 0..2 {
        let waiting = match begun.take() {
            Some(waiting) => waiting,
            None => {
                let Some(lane) = node.lane() else { break };
                let Some(desk) = lane.desk(|| node.channel()) else { break };
                let now = Instant::now();
                let left = deadline.saturating_duration_since(now);
                let Parcel { message, times } =
                    Parcel::new(request.clone(), &trace, now, left, deadline);
                let Some(waiting) = desk.begin(message, times).await else { continue };
                waiting
            }
        };
        match patiently(waiting, single).await {
            Heard::Answer(given) => return answer_of::<R>(given),
            Heard::Single(answer) => return answer,
            Heard::End(end) => {
                if let Some(status) = status_of(end) {
                    return Err(status);
                }
            }
        }
    }
    let answer = single().await;
    if let Some(lane) = node.lane() {
        lane.single_ended(answer.is_ok());
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::with_retry_after;

    fn learnt(end: End) -> Current {
        let (mut current, desk) = (Current::default(), Desk::new());
        desk.end(end);
        current.learn(&desk);
        current
    }

    fn single_for(current: &Current) -> Duration {
        current.single_until.map_or(Duration::ZERO, |until| until - Instant::now())
    }

    #[tokio::test(start_paused = true)]
    async fn busy_node_says_for_how_long_and_no_longer_than_one_without_streams() {
        let busy = |after_ms| {
            let status = Status::resource_exhausted("too many streams");
            single_for(&learnt(End::Busy(with_retry_after(status, after_ms))))
        };
        assert_eq!(busy(250), Duration::from_millis(250));
        assert_eq!(busy(0), BUSY_FOR);
        assert_eq!(busy(u32::MAX), SINGLE_FOR);
        assert_eq!(single_for(&learnt(End::Refused(Status::unimplemented("")))), SINGLE_FOR);
    }

    #[tokio::test(start_paused = true)]
    async fn busy_node_is_no_broken_stream() {
        let current = learnt(End::Busy(Status::resource_exhausted("too many streams")));
        assert_eq!((current.fruitless, current.trial), (0, false));
        let current = learnt(End::Broke(Status::unavailable("the stream ended")));
        assert_eq!((current.fruitless, single_for(&current)), (1, Duration::ZERO));
    }
}
