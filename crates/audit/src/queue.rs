//! What stands between the callers of a log and its one writing thread.
//!
//! A record gets its sequence when it is queued. The writer takes all that has gathered, and reports
//! how far the log is on the disk. Both sides hold the lock for a few moves of memory, never for I/O.
//!
//! Records gather for [`GATHER`] while no answer waits for the disk: each commit costs a sync and wakes a
//! thread, which thousands of records share then. Once an answer waits, they gather for a small share of the time
//! that its call has taken already ([`AWAITED_SHARE`]), and only while other calls are under way whose records
//! could still come: a call alone never waits for more than its own sync, and a crowd, whose calls have stood
//! in line for a while, shares one.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};
use tokio::sync::watch;

use crate::error::{AppendError, Outage};
use crate::frame::Head;
use crate::waiters::{Wait, Waiters};

/// How long records gather that no answer waits for: a tenth of [`crate::LOSS_WINDOW`].
const GATHER: Duration = Duration::from_millis(5);
/// How long records gather that an answer waits for, as a share of the time that its call took until then: it
/// is answered later by so much at most.
const AWAITED_SHARE: u32 = 8;
/// Most of that.
const AWAITED_MAX: Duration = Duration::from_millis(2);

/// A record that is not on the disk yet.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) sequence: u64,
    pub(crate) time_unix_ns: u64,
    /// Canonical bytes of the entry.
    pub(crate) entry: Vec<u8>,
    /// By the node's steady clock.
    pub(crate) queued_at: Duration,
}

/// Where a record was queued.
pub(crate) struct Place {
    pub(crate) sequence: u64,
    /// Since when the oldest record has been waiting for the disk.
    pub(crate) oldest: Duration,
    /// Whether half of the queue is taken.
    pub(crate) crowded: bool,
}

/// How far a log is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Progress {
    /// The newest record on the disk.
    pub(crate) head: Head,
    /// Why the log takes no records, if it takes none.
    pub(crate) outage: Option<Outage>,
}

/// What the writer is to do next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// Write the batch.
    Commit,
    /// Everything is written: end, after a mark that says so if the log was closed.
    End {
        /// Whether it was closed rather than dropped.
        closed: bool,
    },
}

#[derive(Debug)]
struct State {
    pending: VecDeque<Pending>,
    next_sequence: u64,
    /// Records that the writer took and has not reported.
    in_commit: usize,
    /// When the oldest of them was queued.
    in_commit_since: Option<Duration>,
    /// Whether the writer waits for more of what is pending.
    gathering: bool,
    /// By when what is pending has to be taken, if an answer waits for some of it.
    awaited_by: Option<Instant>,
    /// Places promised to calls that are under way.
    promised: usize,
    outage: Option<Outage>,
    /// Set when the log is to end; says whether it was closed.
    ending: Option<bool>,
    ended: bool,
}

impl State {
    /// Returns when the oldest record that is not on the disk was queued.
    fn oldest(&self) -> Option<Duration> {
        self.in_commit_since.or_else(|| self.pending.front().map(|first| first.queued_at))
    }

    /// Tells whether an answer waits for what is pending and no record can join it any more.
    fn is_complete(&self) -> bool {
        self.awaited_by.is_some() && self.promised == 0
    }

    /// Returns until when records gather that the writer has waited for since `began`.
    fn gather_until(&self, began: Instant) -> Instant {
        if self.is_complete() {
            return began;
        }
        let all = began + GATHER;
        self.awaited_by.map_or(all, |awaited_by| awaited_by.min(all))
    }

    fn refuse_if_out(&self) -> Result<(), AppendError> {
        match (self.outage, self.ending) {
            (Some(outage), _) => Err(outage.into()),
            (None, Some(_)) => Err(Outage::Closed.into()),
            (None, None) => Ok(()),
        }
    }
}

/// The queue of a log.
#[derive(Debug)]
pub(crate) struct Queue {
    state: Mutex<State>,
    work: Condvar,
    ended: Condvar,
    progress: watch::Sender<Progress>,
    waiters: Waiters,
    records_max: usize,
    stall_limit: Duration,
}

impl Queue {
    pub(crate) fn new(head: Head, records_max: usize, stall_limit: Duration) -> Self {
        let state = State {
            pending: VecDeque::new(),
            next_sequence: head.sequence + 1,
            in_commit: 0,
            in_commit_since: None,
            gathering: false,
            awaited_by: None,
            promised: 0,
            outage: None,
            ending: None,
            ended: false,
        };
        Self {
            state: Mutex::new(state),
            work: Condvar::new(),
            ended: Condvar::new(),
            progress: watch::Sender::new(Progress { head, outage: None }),
            waiters: Waiters::default(),
            records_max,
            stall_limit,
        }
    }

    /// Promises a place for one record.
    pub(crate) fn promise(&self, now: Duration) -> Result<(), AppendError> {
        let mut state = self.state.lock();
        state.refuse_if_out()?;
        if self.is_stalled(&state, now) {
            return Err(Outage::Stalled.into());
        }
        if state.pending.len() + state.in_commit + state.promised >= self.records_max {
            return Err(AppendError::QueueFull { records: self.records_max });
        }
        state.promised += 1;
        Ok(())
    }

    fn is_stalled(&self, state: &State, now: Duration) -> bool {
        state.oldest().is_some_and(|oldest| now.saturating_sub(oldest) > self.stall_limit)
    }

    /// Returns why the log takes no records now, if it takes none.
    pub(crate) fn outage(&self, now: Duration) -> Option<Outage> {
        let state = self.state.lock();
        state.outage.or_else(|| self.is_stalled(&state, now).then_some(Outage::Stalled))
    }

    /// Takes back a promise that was not used.
    pub(crate) fn release(&self) {
        let mut state = self.state.lock();
        state.promised -= 1;
        let wakes = state.gathering && state.is_complete();
        drop(state);
        if wakes {
            self.work.notify_one();
        }
    }

    /// Queues a record in a promised place.
    pub(crate) fn push(
        &self,
        entry: Vec<u8>,
        time_unix_ns: u64,
        now: Duration,
    ) -> Result<Place, AppendError> {
        let mut state = self.state.lock();
        // Whoever is refused here needs to wake nobody: the writer ends, or tries again by itself.
        state.promised -= 1;
        state.refuse_if_out()?;
        let sequence = state.next_sequence;
        state.next_sequence += 1;
        state.pending.push_back(Pending { sequence, time_unix_ns, entry, queued_at: now });
        let oldest = state.oldest().unwrap_or(now);
        let crowded = state.pending.len() + state.in_commit >= self.records_max / 2;
        let wakes = !state.gathering || state.is_complete() || state.pending.len() == self.crowd();
        drop(state);
        if wakes {
            self.work.notify_one();
        }
        Ok(Place { sequence, oldest, crowded })
    }

    /// Asks the writer not to gather for long, since an answer waits for the record. Its call took `age` until the
    /// record was queued.
    pub(crate) fn await_record(&self, sequence: u64, age: Duration) {
        let by = Instant::now() + (age / AWAITED_SHARE).min(AWAITED_MAX);
        let mut state = self.state.lock();
        if state.pending.front().is_none_or(|first| first.sequence > sequence) {
            // The writer has it.
            return;
        }
        let is_sooner = state.awaited_by.is_none_or(|awaited_by| by < awaited_by);
        if is_sooner {
            state.awaited_by = Some(by);
        }
        let wakes = state.gathering && (is_sooner || state.is_complete());
        drop(state);
        if wakes {
            self.work.notify_one();
        }
    }

    /// Waits for work. The batch must be empty and then holds what gathered.
    pub(crate) fn take(&self, batch: &mut VecDeque<Pending>) -> Work {
        let mut state = self.state.lock();
        while state.pending.is_empty() {
            if let Some(closed) = state.ending {
                return Work::End { closed };
            }
            self.work.wait(&mut state);
        }
        self.gather(&mut state);
        std::mem::swap(&mut state.pending, batch);
        state.in_commit = batch.len();
        state.in_commit_since = batch.front().map(|first| first.queued_at);
        state.awaited_by = None;
        Work::Commit
    }

    /// Waits for more records, for as long as nobody minds.
    fn gather(&self, state: &mut MutexGuard<'_, State>) {
        let began = Instant::now();
        state.gathering = true;
        while state.ending.is_none() && state.pending.len() < self.crowd() {
            let until = state.gather_until(began);
            if until <= Instant::now() {
                break;
            }
            self.work.wait_until(state, until);
        }
        state.gathering = false;
    }

    /// Returns how many records are not let wait for more.
    const fn crowd(&self) -> usize {
        self.records_max / 4
    }

    /// Reports that the log is on the disk up to `head`; `next` is the first record still in the
    /// writer's hands.
    pub(crate) fn committed(&self, head: Head, records: usize, next: Option<&Pending>) {
        let mut state = self.state.lock();
        state.in_commit -= records;
        state.in_commit_since = next.map(|next| next.queued_at);
        state.outage = None;
        drop(state);
        self.progress.send_modify(|progress| *progress = Progress { head, outage: None });
    }

    /// Refuses records until a commit succeeds, and tells those who wait why.
    pub(crate) fn fail(&self, outage: Outage) {
        self.state.lock().outage = Some(outage);
        self.progress.send_modify(|progress| progress.outage = Some(outage));
    }

    /// Waits before the next try; `false` if the log is to end.
    pub(crate) fn pause(&self, wait: Duration) -> bool {
        let mut state = self.state.lock();
        if state.ending.is_none() {
            self.work.wait_for(&mut state, wait);
        }
        state.ending.is_none()
    }

    /// Asks the writer to end, and waits until it has, for at most the stall limit. Safe to repeat.
    pub(crate) fn end(&self, closed: bool) -> Result<(), Outage> {
        let mut state = self.state.lock();
        state.ending.get_or_insert(closed);
        self.work.notify_one();
        while !state.ended {
            if self.ended.wait_for(&mut state, self.stall_limit).timed_out() && !state.ended {
                return Err(Outage::Stalled);
            }
        }
        match state.outage {
            None | Some(Outage::Closed) => Ok(()),
            Some(outage) => Err(outage),
        }
    }

    /// Reports the end of the writer. Whoever still waits, or comes later, is told so.
    pub(crate) fn ended(&self, outage: Outage) {
        let mut state = self.state.lock();
        let outage = *state.outage.get_or_insert(outage);
        state.ended = true;
        state.pending.clear();
        drop(state);
        self.progress.send_modify(|progress| progress.outage = Some(outage));
        self.ended.notify_all();
    }

    /// Returns the next sequence. For the writer alone, after [`Work::End`], when no more can come.
    pub(crate) fn next_sequence(&self) -> u64 {
        self.state.lock().next_sequence
    }

    /// Returns how many records are not on the disk yet.
    pub(crate) fn len(&self) -> usize {
        let state = self.state.lock();
        state.pending.len() + state.in_commit
    }

    pub(crate) fn progress(&self) -> Progress {
        *self.progress.borrow()
    }

    /// Waits until `settled` has an answer, which it may have once the log has come as far as the record.
    pub(crate) fn wait<F>(&self, sequence: u64, settled: F) -> Wait<F> {
        self.waiters.wait(sequence, &self.progress, settled)
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    pub(crate) const fn stall_limit(&self) -> Duration {
        self.stall_limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn queue() -> Queue {
        Queue::new(Head::START, 1000, Duration::from_secs(5))
    }

    /// Queues a record; returns its sequence.
    fn push(queue: &Queue) -> u64 {
        queue.promise(Duration::ZERO).unwrap();
        queue.push(vec![1], 0, Duration::ZERO).unwrap().sequence
    }

    fn gathers(queue: &Queue) -> Duration {
        let began = Instant::now();
        queue.state.lock().gather_until(began).saturating_duration_since(began)
    }

    #[test]
    fn records_that_nobody_waits_for_gather() {
        let queue = queue();
        push(&queue);
        assert_eq!(gathers(&queue), GATHER);
    }

    #[test]
    fn call_alone_waits_for_its_own_sync_alone() {
        let queue = queue();
        let sequence = push(&queue);
        queue.await_record(sequence, Duration::from_secs(1));
        assert_eq!(gathers(&queue), Duration::ZERO);
    }

    #[test]
    fn answer_waits_for_others_a_share_of_what_its_call_took() {
        let queue = queue();
        let sequence = push(&queue);
        queue.promise(Duration::ZERO).unwrap();
        let before = Instant::now();
        queue.await_record(sequence, 8 * MS);
        let by = queue.state.lock().awaited_by.unwrap();
        assert!((before + MS..=Instant::now() + MS).contains(&by), "an eighth of it");
        assert_eq!(queue.state.lock().gather_until(before), by, "another call is under way");
        queue.release();
        assert_eq!(gathers(&queue), Duration::ZERO, "nobody is any more");
    }

    #[test]
    fn answer_in_a_hurry_is_not_held_up_by_one_that_is_not() {
        let queue = queue();
        let (slow, quick) = (push(&queue), push(&queue));
        queue.promise(Duration::ZERO).unwrap();
        queue.await_record(slow, Duration::from_secs(10));
        assert!(gathers(&queue) <= AWAITED_MAX);
        queue.await_record(quick, Duration::ZERO);
        assert_eq!(gathers(&queue), Duration::ZERO);
        queue.await_record(slow, Duration::from_secs(10));
        assert_eq!(gathers(&queue), Duration::ZERO);
    }

    #[test]
    fn record_that_the_writer_has_hurries_nobody() {
        let queue = queue();
        let sequence = push(&queue);
        let mut batch = VecDeque::new();
        queue.await_record(sequence, Duration::ZERO);
        assert_eq!(queue.take(&mut batch), Work::Commit);
        push(&queue);
        queue.await_record(sequence, Duration::ZERO);
        assert_eq!(gathers(&queue), GATHER);
    }
}
