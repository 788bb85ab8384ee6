//! The open calls of one stream, shared by callers, writer and reader.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore, SemaphorePermit};
use tokio::time::Instant;
use tonic::Status;
use twinkeep_proto::v1;

use super::board::{Board, CallId, Look, OPEN_MAX, Stranger, Times};
use super::waiting::{Progress, Waiting};

/// Answers to calls that are not open, after which a stream counts as broken.
const STRANGERS_MAX: u32 = 16;
/// Ticks without an open call after which nobody looks any more, until a call comes.
const IDLE_TICKS: u32 = 50;
/// Silence of a stream that has never answered, from the first message that left, after which one of its calls is
/// made as a single one besides.
const DOUBT_AFTER: Duration = Duration::from_secs(1);
/// Silence that goes on for so long after that single call was answered: streams do not get through. Both answers of
/// a node that stood still for a while come together, in any order.
const MUTE_AFTER: Duration = Duration::from_millis(100);

/// How a stream ended.
#[derive(Debug, Clone)]
pub(crate) enum End {
    /// The node, or something before it, takes no stream.
    Refused(Status),
    /// The node takes no stream now: it is overloaded, or this caller has as many as it may.
    Busy(Status),
    /// It was opened, and nothing ever came back, while a single call was answered.
    Mute,
    /// The connection broke, or the node ended the stream.
    Broke(Status),
    /// This side needs it no longer.
    Retired,
}

/// What the reader does after a look at the board.
#[derive(Debug)]
pub(super) enum Swept {
    /// Calls are open: look again.
    Busy,
    /// Nobody has called for a while: wait for [`Desk::wanted`].
    Idle,
    /// The stream is over.
    Over(End),
}

/// The desk of one stream.
pub(crate) struct Desk {
    inner: Mutex<Inner>,
    /// The free places; closed when the stream takes no further calls.
    places: Semaphore,
    wanted: Notify,
    /// Whether further calls are taken; a hint, the lock decides.
    open: AtomicBool,
}

#[derive(Default)]
struct Inner {
    board: Board,
    writer: Option<Waker>,
    end: Option<End>,
    retired: bool,
    /// Whether the reader looks at the board from time to time.
    ticking: bool,
    idle_ticks: u32,
    /// When a message left that is without an answer, or when the stream was last doubted for it; once it has
    /// answered, nobody asks.
    silent_since: Option<Instant>,
    /// When a single call was answered while the stream was silent.
    beaten_at: Option<Instant>,
    answered: bool,
    strangers: u32,
}

impl Desk {
    pub(super) fn new() -> Self {
        let (inner, places) = (Mutex::default(), Semaphore::new(OPEN_MAX));
        Self { inner, places, wanted: Notify::new(), open: AtomicBool::new(true) }
    }

    /// Tells whether further calls are taken.
    pub(super) fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    /// Returns how the stream ended, if it has, and whether it ever answered.
    pub(super) fn ended(&self) -> (Option<End>, bool) {
        let inner = self.inner.lock();
        (inner.end.clone(), inner.answered)
    }

    /// Begins a call if there is a place; `None` if not, or if the stream takes no further ones.
    pub(crate) fn try_begin(
        self: &Arc<Self>,
        parcel: v1::CryptoStreamRequest,
        times: Times,
    ) -> Option<Waiting> {
        let permit = self.places.try_acquire().ok()?;
        self.put(permit, parcel, times)
    }

    /// Waits for a place and begins a call; `None` if the stream takes no further ones.
    pub(super) async fn begin(
        self: &Arc<Self>,
        parcel: v1::CryptoStreamRequest,
        times: Times,
    ) -> Option<Waiting> {
        let permit = self.places.acquire().await.ok()?;
        self.put(permit, parcel, times)
    }

    fn put(
        self: &Arc<Self>,
        permit: SemaphorePermit<'_>,
        parcel: v1::CryptoStreamRequest,
        times: Times,
    ) -> Option<Waiting> {
        let (id, writer, sleeping) = {
            let mut inner = self.inner.lock();
            if inner.end.is_some() || inner.retired {
                return None;
            }
            let id = inner.board.place(parcel, times)?;
            (id, inner.writer.take(), !std::mem::replace(&mut inner.ticking, true))
        };
        permit.forget();
        if sleeping {
            self.wanted.notify_one();
        }
        if let Some(writer) = writer {
            writer.wake();
        }
        Some(Waiting::new(Arc::clone(self), id))
    }

    pub(super) fn poll_call(&self, id: CallId, cx: &Context<'_>) -> Poll<Progress> {
        let (look, freed, end) = {
            let mut inner = self.inner.lock();
            let look = inner.board.look(id, cx.waker());
            let end = if matches!(look, Look::Waiting) { inner.end.clone() } else { None };
            (look, inner.board.take_freed(), end)
        };
        self.give_back(freed);
        match (look, end) {
            (Look::Answered(given), _) => Poll::Ready(Progress::Answered(given)),
            (Look::Late, _) => Poll::Ready(Progress::Late),
            (Look::Doubted, _) => Poll::Ready(Progress::Doubted),
            (Look::Waiting, Some(end)) => Poll::Ready(Progress::Ended(end)),
            (Look::Waiting, None) => Poll::Pending,
        }
    }

    pub(super) fn give_up(&self, id: CallId) {
        let (freed, writer) = {
            let mut inner = self.inner.lock();
            let leaves = inner.board.give_up(id);
            (inner.board.take_freed(), if leaves { inner.writer.take() } else { None })
        };
        self.give_back(freed);
        if let Some(writer) = writer {
            writer.wake();
        }
    }

    /// Takes the next message that leaves; the end once nothing more will.
    pub(super) fn poll_out(&self, cx: &Context<'_>) -> Poll<Option<v1::CryptoStreamRequest>> {
        let (out, freed) = {
            let mut inner = self.inner.lock();
            let out = inner.board.take_out();
            if out.is_some() {
                // Only the first message asks for the time.
                inner.silent_since.get_or_insert_with(Instant::now);
            } else {
                inner.writer = Some(cx.waker().clone());
            }
            let over = inner.end.is_some() || (inner.retired && inner.board.open() == 0);
            let out = match out {
                Some(message) => Poll::Ready(Some(message)),
                None if over => Poll::Ready(None),
                None => Poll::Pending,
            };
            (out, inner.board.take_freed())
        };
        self.give_back(freed);
        out
    }

    /// Hands answers out.
    ///
    /// # Errors
    /// [`Stranger`] if too many were to calls that are not open.
    pub(super) fn answer(
        &self,
        answers: &mut Vec<v1::CryptoStreamResponse>,
        wakers: &mut Vec<Waker>,
    ) -> Result<(), Stranger> {
        let (freed, strangers) = {
            let mut inner = self.inner.lock();
            inner.answered |= !answers.is_empty();
            for answer in answers.drain(..) {
                match inner.board.answer(answer.call_id, answer.result) {
                    Ok(waker) => wakers.extend(waker),
                    Err(Stranger) => inner.strangers += 1,
                }
            }
            (inner.board.take_freed(), inner.strangers)
        };
        self.give_back(freed);
        wakers.drain(..).for_each(Waker::wake);
        if strangers > STRANGERS_MAX { Err(Stranger) } else { Ok(()) }
    }

    /// Notes that a single call was answered by the node while the stream was in doubt.
    pub(super) fn beaten(&self) {
        let mut inner = self.inner.lock();
        inner.beaten_at.get_or_insert_with(Instant::now);
    }

    /// Wakes who has waited for long; says what is wrong with the stream.
    pub(super) fn sweep(&self, now: Instant) -> Swept {
        let mut late = Vec::new();
        let swept = {
            let mut inner = self.inner.lock();
            let overdue = inner.board.sweep(now, &mut late);
            late.extend(inner.doubt(now));
            inner.judge(now, overdue)
        };
        late.into_iter().for_each(Waker::wake);
        swept
    }

    /// Waits until a call comes after the board was idle.
    pub(super) async fn wanted(&self) {
        self.wanted.notified().await;
    }

    /// Takes no further calls; those that are open go on.
    pub(super) fn retire(&self) {
        self.close(|inner| inner.retired = true);
        self.wanted.notify_one();
    }

    /// Ends the stream for all open calls.
    pub(super) fn end(&self, end: End) {
        let waiting = self.close(|inner| {
            inner.end.get_or_insert(end);
            inner.board.everybody()
        });
        waiting.into_iter().for_each(Waker::wake);
    }

    fn close<T>(&self, how: impl FnOnce(&mut Inner) -> T) -> T {
        let (out, writer) = {
            let mut inner = self.inner.lock();
            self.open.store(false, Ordering::Release);
            (how(&mut inner), inner.writer.take())
        };
        self.places.close();
        if let Some(writer) = writer {
            writer.wake();
        }
        out
    }

    fn give_back(&self, freed: usize) {
        if freed > 0 {
            self.places.add_permits(freed);
        }
    }
}

impl Inner {
    /// Has a call find out whether a silent stream gets through; returns whom to wake for it. Should that call
    /// come to nothing, another one does after as long a silence.
    fn doubt(&mut self, now: Instant) -> Option<Waker> {
        let long = |since: Instant| now.duration_since(since) > DOUBT_AFTER;
        if self.answered || !self.silent_since.is_some_and(long) {
            return None;
        }
        let (doubted, waker) = self.board.doubt();
        if doubted {
            self.silent_since = Some(now);
        }
        waker
    }

    fn judge(&mut self, now: Instant, overdue: bool) -> Swept {
        let mute = |since: Instant| now.duration_since(since) > MUTE_AFTER;
        if self.board.open() > 0 {
            self.idle_ticks = 0;
            return if !self.answered && self.beaten_at.is_some_and(mute) {
                Swept::Over(End::Mute)
            } else if overdue {
                Swept::Over(End::Broke(Status::unavailable("the node left a call unanswered")))
            } else {
                Swept::Busy
            };
        }
        if self.retired {
            return Swept::Over(End::Retired);
        }
        // An answer that came late says nothing about the next call.
        self.silent_since = self.silent_since.filter(|_| self.answered);
        self.beaten_at = None;
        self.idle_ticks += 1;
        if self.idle_ticks < IDLE_TICKS {
            return Swept::Busy;
        }
        self.idle_ticks = 0;
        self.ticking = false;
        Swept::Idle
    }
}
