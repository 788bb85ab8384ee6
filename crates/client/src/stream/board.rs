//! Which calls are open on a stream and what leaves next.
//!
//! A call is at one place from [`Board::place`] until its answer has been taken, or has come for nobody.
//! What it goes through:
//!
//! ```text
//! place ─► Waiting ── answer ─► Answered ── look, give_up ─► Free
//!             └── give_up ─► GivenUp ── answer, or before it left: take_out ─► Free
//! ```
//!
//! The number of a call names its place and how often the place was used, so that an answer that comes
//! twice, or that nobody asked for, is known as such.

use std::collections::VecDeque;
use std::task::Waker;

use tokio::time::Instant;
use twinkeep_proto::v1;
use twinkeep_proto::v1::crypto_stream_request::Body;
use twinkeep_proto::v1::crypto_stream_response::Result as Given;

/// Open calls on one stream: as many as a node works on at a time.
pub(crate) const OPEN_MAX: usize = 256;

/// A call on a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CallId(u64);

impl CallId {
    fn first(place: usize) -> Self {
        Self(OPEN_MAX as u64 + place as u64)
    }

    fn next(self) -> Self {
        Self(self.0.wrapping_add(OPEN_MAX as u64))
    }

    fn place(self) -> usize {
        usize::try_from(self.0 % OPEN_MAX as u64).expect("less than 256")
    }
}

/// When a call is looked at although no answer has come.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    /// The caller is told that it has waited for long.
    pub(crate) late: Instant,
    /// The node has broken its promise to answer.
    pub(crate) overdue: Instant,
}

/// What is known of a call.
#[derive(Debug)]
pub(crate) enum Look {
    /// The answer; `None` is one of a kind that this release does not know.
    Answered(Option<Given>),
    /// It has waited for long; said once.
    Late,
    /// The stream may not get through: this call is to find out; said once.
    Doubted,
    /// Nothing yet.
    Waiting,
}

/// An answer to a call that is not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stranger;

struct Slot {
    id: CallId,
    state: State,
    /// The message, until it leaves.
    parcel: Option<v1::CryptoStreamRequest>,
    late: Option<Instant>,
    overdue: Instant,
    /// Whether it was chosen to find out if the stream gets through.
    doubted: bool,
}

enum State {
    Free,
    Waiting { waker: Option<Waker>, told_late: bool, told_doubt: bool },
    Answered(Option<Given>),
    GivenUp,
}

enum Leaving {
    Call(CallId),
    Cancel(CallId),
}

/// The calls of one stream.
#[derive(Default)]
pub(super) struct Board {
    slots: Vec<Slot>,
    free: Vec<usize>,
    /// At most two for each place: the call and its cancellation.
    outbox: VecDeque<Leaving>,
    /// Places that became free since somebody asked.
    freed: usize,
}

impl Board {
    /// Returns how many places are taken.
    pub(super) fn open(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Takes a call; `None` if all places are taken.
    pub(super) fn place(
        &mut self,
        mut parcel: v1::CryptoStreamRequest,
        times: Times,
    ) -> Option<CallId> {
        let place = match self.free.pop() {
            Some(place) => place,
            None => self.add_place(times)?,
        };
        let slot = &mut self.slots[place];
        parcel.call_id = slot.id.0;
        slot.state = State::Waiting { waker: None, told_late: false, told_doubt: false };
        slot.doubted = false;
        slot.parcel = Some(parcel);
        slot.late = Some(times.late);
        slot.overdue = times.overdue;
        let id = slot.id;
        self.outbox.push_back(Leaving::Call(id));
        Some(id)
    }

    fn add_place(&mut self, times: Times) -> Option<usize> {
        let place = self.slots.len();
        (place < OPEN_MAX).then(|| {
            let id = CallId::first(place);
            let state = State::Free;
            let overdue = times.overdue;
            self.slots.push(Slot { id, state, parcel: None, late: None, overdue, doubted: false });
            place
        })
    }

    /// Takes the next message that leaves.
    pub(super) fn take_out(&mut self) -> Option<v1::CryptoStreamRequest> {
        while let Some(leaving) = self.outbox.pop_front() {
            match leaving {
                Leaving::Call(id) => {
                    let Some(slot) = self.slot(id) else { continue };
                    let parcel = slot.parcel.take();
                    if !matches!(slot.state, State::GivenUp) {
                        return parcel;
                    }
                    // Given up before it left: the node never hears of it.
                    self.release(id.place());
                }
                Leaving::Cancel(id) => {
                    let given_up =
                        self.slot(id).is_some_and(|slot| matches!(slot.state, State::GivenUp));
                    if given_up {
                        let body = Some(Body::Cancel(v1::CancelCall {}));
                        return Some(v1::CryptoStreamRequest {
                            call_id: id.0,
                            body,
                            ..Default::default()
                        });
                    }
                }
            }
        }
        None
    }

    /// Notes an answer; returns who waits for it.
    pub(super) fn answer(
        &mut self,
        id: u64,
        given: Option<Given>,
    ) -> Result<Option<Waker>, Stranger> {
        let id = CallId(id);
        let slot = self.slot(id).filter(|slot| slot.parcel.is_none()).ok_or(Stranger)?;
        match &mut slot.state {
            State::Waiting { waker, .. } => {
                let waker = waker.take();
                slot.state = State::Answered(given);
                Ok(waker)
            }
            State::GivenUp => {
                self.release(id.place());
                Ok(None)
            }
            State::Free | State::Answered(_) => Err(Stranger),
        }
    }

    /// Looks at a call. An answer is taken, and the call is over.
    pub(super) fn look(&mut self, id: CallId, caller: &Waker) -> Look {
        let Some(slot) = self.slot(id) else { return Look::Answered(None) };
        match &mut slot.state {
            State::Answered(given) => {
                let given = given.take();
                self.release(id.place());
                Look::Answered(given)
            }
            State::Waiting { told_late: told @ true, .. } => {
                *told = false;
                Look::Late
            }
            State::Waiting { told_doubt: told @ true, .. } => {
                *told = false;
                Look::Doubted
            }
            State::Waiting { waker, .. } => {
                match waker {
                    Some(waker) => waker.clone_from(caller),
                    None => *waker = Some(caller.clone()),
                }
                Look::Waiting
            }
            // Nobody looks at a call that is over or that was given up.
            State::Free | State::GivenUp => Look::Answered(None),
        }
    }

    /// Gives a call up; returns whether that makes a message leave.
    pub(super) fn give_up(&mut self, id: CallId) -> bool {
        let Some(slot) = self.slot(id) else { return false };
        match slot.state {
            State::Answered(_) => {
                self.release(id.place());
                false
            }
            State::Waiting { .. } => {
                slot.state = State::GivenUp;
                let left = slot.parcel.is_none();
                if left {
                    self.outbox.push_back(Leaving::Cancel(id));
                }
                left
            }
            State::Free | State::GivenUp => false,
        }
    }

    /// Gathers who has waited for long, and tells whether an answer is overdue.
    pub(super) fn sweep(&mut self, now: Instant, late: &mut Vec<Waker>) -> bool {
        let mut overdue = false;
        for slot in &mut self.slots {
            if let State::Waiting { waker, told_late, .. } = &mut slot.state
                && slot.late.is_some_and(|late| late <= now)
            {
                slot.late = None;
                *told_late = true;
                late.extend(waker.take());
            }
            // Of a call that has not left nothing is expected.
            let expected = !matches!(slot.state, State::Free | State::Answered(_));
            overdue |= expected && slot.parcel.is_none() && slot.overdue <= now;
        }
        overdue
    }

    /// Chooses a call that has left and waits, one that was not chosen before, to find out whether the stream
    /// gets through. Returns whether there was one, and who is to be woken.
    pub(super) fn doubt(&mut self) -> (bool, Option<Waker>) {
        for slot in &mut self.slots {
            if let State::Waiting { waker, told_doubt, .. } = &mut slot.state
                && slot.parcel.is_none()
                && !std::mem::replace(&mut slot.doubted, true)
            {
                *told_doubt = true;
                return (true, waker.take());
            }
        }
        (false, None)
    }

    /// Gathers who waits, at the end of the stream.
    pub(super) fn everybody(&mut self) -> Vec<Waker> {
        let waiting = self.slots.iter_mut().filter_map(|slot| match &mut slot.state {
            State::Waiting { waker, .. } => waker.take(),
            State::Free | State::Answered(_) | State::GivenUp => None,
        });
        waiting.collect()
    }

    /// Returns how many places became free since the last time.
    pub(super) fn take_freed(&mut self) -> usize {
        std::mem::take(&mut self.freed)
    }

    fn slot(&mut self, id: CallId) -> Option<&mut Slot> {
        self.slots.get_mut(id.place()).filter(|slot| slot.id == id)
    }

    fn release(&mut self, place: usize) {
        let slot = &mut self.slots[place];
        slot.id = slot.id.next();
        slot.state = State::Free;
        slot.parcel = None;
        self.free.push(place);
        self.freed += 1;
    }
}

#[cfg(test)]
mod tests;
