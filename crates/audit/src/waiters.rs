//! Whoever waits for a record to be on the disk, and how they are woken.
//!
//! A commit wakes those whose records it holds and nobody else: of a thousand calls that wait, a commit of
//! thirty records wakes thirty. They are woken where they run: on each runtime a task, its [`Courier`], follows the
//! log's progress and wakes those that wait there. So the thread that writes the log wakes one task for each
//! runtime. Waking a task of another thread costs a system call, and lets that thread take the core before
//! the next is woken: thirty signatures once cost thirty of both.
//!
//! What may break: a wait belongs to the runtime that it was made on. Polled on another one after the first has
//! ended it is woken by nobody, and whoever waits needs a bound on its time, as [`crate::Ticket::durable`] has.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use tokio::runtime::{Handle, Id};
use tokio::sync::watch;

use crate::queue::Progress;

/// Those who wait, by the runtime that they run on.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    couriers: Couriers,
}

type Couriers = Arc<Mutex<HashMap<Id, Arc<Courier>>>>;

/// Those who wait on one runtime, by the sequence of their record.
#[derive(Debug, Default)]
struct Courier {
    wakers: Mutex<BTreeMap<u64, Waker>>,
}

impl Waiters {
    /// Waits until `settled` has an answer. It is asked again when the log has come as far as the record, or has
    /// failed. Each record has one wait at a time. Must be called, and polled, on a Tokio runtime.
    pub(crate) fn wait<F>(
        &self,
        sequence: u64,
        progress: &watch::Sender<Progress>,
        settled: F,
    ) -> Wait<F> {
        Wait { courier: self.courier(progress), sequence, settled }
    }

    /// Returns the courier of this runtime, which the first wait starts.
    fn courier(&self, progress: &watch::Sender<Progress>) -> Arc<Courier> {
        let runtime = Handle::current();
        let (courier, progress) = match self.couriers.lock().entry(runtime.id()) {
            Entry::Occupied(known) => return Arc::clone(known.get()),
            // Subscribed before another thread of the runtime finds the courier and waits with it: what is
            // committed from then on, the courier sees.
            Entry::Vacant(place) => {
                (Arc::clone(place.insert(Arc::default())), progress.subscribe())
            }
        };
        let left = Left { couriers: Arc::clone(&self.couriers), runtime: runtime.id() };
        let of_task = Arc::clone(&courier);
        // Outside of the lock, which `left` takes: a runtime that is ending drops the task at once.
        runtime.spawn(async move {
            let _left = left;
            of_task.follow(progress).await;
        });
        courier
    }
}

impl Courier {
    /// Wakes whoever waits for what has come, until the log is gone.
    async fn follow(&self, mut progress: watch::Receiver<Progress>) {
        while progress.changed().await.is_ok() {
            let Progress { head, outage } = *progress.borrow_and_update();
            // Whatever went wrong, all are told.
            self.wake_up_to(if outage.is_some() { u64::MAX } else { head.sequence });
        }
        self.wake_up_to(u64::MAX);
    }

    /// Wakes those who wait for this record or an earlier one.
    fn wake_up_to(&self, sequence: u64) {
        let reached = {
            let mut wakers = self.wakers.lock();
            let later = match sequence.checked_add(1) {
                Some(next) => wakers.split_off(&next),
                None => BTreeMap::new(),
            };
            std::mem::replace(&mut *wakers, later)
        };
        // Outside of the lock: a waker may poll at once.
        reached.into_values().for_each(Waker::wake);
    }
}

/// Takes a courier off the list when its task goes, with its runtime or with the log.
struct Left {
    couriers: Couriers,
    runtime: Id,
}

impl Drop for Left {
    fn drop(&mut self) {
        self.couriers.lock().remove(&self.runtime);
    }
}

/// The wait for one record.
#[must_use = "a wait that nobody awaits is none"]
pub(crate) struct Wait<F> {
    courier: Arc<Courier>,
    sequence: u64,
    settled: F,
}

impl<T, F: Fn() -> Option<T> + Unpin> Future for Wait<F> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        // Asked under the lock: whoever wakes takes it after the progress was made, so either the answer is there
        // or the waker is found.
        let mut wakers = self.courier.wakers.lock();
        match (self.settled)() {
            Some(answer) => Poll::Ready(answer),
            None => {
                let before = wakers.insert(self.sequence, context.waker().clone());
                drop(wakers);
                // Outside of the lock, since it may be the last hold on a task that waits here.
                drop(before);
                Poll::Pending
            }
        }
    }
}

impl<F> Drop for Wait<F> {
    fn drop(&mut self) {
        let left = self.courier.wakers.lock().remove(&self.sequence);
        drop(left);
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use futures::future::join_all;
    use futures::poll;
    use tokio::task::yield_now;
    use tokio::time::timeout;

    use super::*;
    use crate::error::Outage;
    use crate::frame::{Chain, Head};
    use crate::testing::block_on;

    struct Log {
        waiters: Waiters,
        progress: watch::Sender<Progress>,
    }

    impl Log {
        fn new() -> Self {
            let progress = Progress { head: Head::START, outage: None };
            Self { waiters: Waiters::default(), progress: watch::Sender::new(progress) }
        }

        fn wait(&self, sequence: u64) -> impl Future<Output = Result<u64, Outage>> + use<'_> {
            let settled = move || {
                let Progress { head, outage } = *self.progress.borrow();
                let reached = (head.sequence >= sequence).then_some(Ok(sequence));
                reached.or(outage.map(Err))
            };
            self.waiters.wait(sequence, &self.progress, settled)
        }

        fn come_to(&self, sequence: u64) {
            let head = Head { sequence, chain: Chain::from_bytes([0; 32]) };
            self.progress.send_modify(|progress| progress.head = head);
        }

        /// How many wait, on all runtimes.
        fn waiting(&self) -> usize {
            let couriers = self.waiters.couriers.lock();
            couriers.values().map(|courier| courier.wakers.lock().len()).sum()
        }
    }

    /// Who is not woken fails the test and does not hang it.
    async fn soon<T>(waiting: impl Future<Output = T>) -> T {
        timeout(Duration::from_secs(10), waiting).await.expect("woken")
    }

    #[tokio::test]
    async fn commit_wakes_those_whose_records_it_holds() {
        let log = Log::new();
        let mut early = Box::pin(join_all((1..=30).map(|sequence| log.wait(sequence))));
        let mut late = Box::pin(log.wait(31));
        assert!(poll!(&mut early).is_pending() && poll!(&mut late).is_pending());
        assert_eq!(log.waiting(), 31);
        log.come_to(30);
        assert_eq!(soon(early).await.len(), 30);
        assert_eq!(log.waiting(), 1, "the one behind sleeps on");
        drop(late);
        assert_eq!(log.waiting(), 0, "who gives up leaves nothing behind");
    }

    #[tokio::test]
    async fn outage_wakes_everybody() {
        let log = Log::new();
        let mut last = Box::pin(log.wait(u64::MAX));
        assert!(poll!(&mut last).is_pending());
        log.progress.send_modify(|progress| progress.outage = Some(Outage::Stalled));
        assert_eq!(soon(last).await, Err(Outage::Stalled));
    }

    /// Waits of two runtimes are woken on their own, by a thread that is on none.
    #[test]
    fn each_runtime_has_a_courier_that_goes_with_it() {
        let log = Log::new();
        std::thread::scope(|scope| {
            let threads = [1, 2].map(|sequence| {
                let log = &log;
                scope.spawn(move || block_on(async { soon(log.wait(sequence)).await }))
            });
            let began = Instant::now();
            while log.waiting() < 2 && began.elapsed() < Duration::from_secs(5) {
                std::thread::yield_now();
            }
            assert_eq!(log.waiters.couriers.lock().len(), 2);
            log.come_to(2);
            for (thread, sequence) in threads.into_iter().zip(1..) {
                assert_eq!(thread.join().unwrap(), Ok(sequence));
            }
        });
        assert_eq!(log.waiters.couriers.lock().len(), 0);
    }

    #[tokio::test]
    async fn courier_goes_with_the_log() {
        let Log { waiters, progress } = Log::new();
        let mut wait = Box::pin(waiters.wait(1, &progress, || None::<()>));
        assert!(poll!(&mut wait).is_pending());
        drop(progress);
        let left = async {
            while !waiters.couriers.lock().is_empty() {
                yield_now().await;
            }
        };
        soon(left).await;
    }
}
