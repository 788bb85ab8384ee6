//! Whoever waits for a record to be on the disk, in the records' order.
//!
//! A commit wakes those whose records it holds and nobody else: of a thousand calls that wait, a commit of
//! thirty records wakes thirty.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

/// Those who wait, by the sequence of their record.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    wakers: Mutex<BTreeMap<u64, Waker>>,
}

impl Waiters {
    /// Waits until `settled` has an answer. It is asked again when the record's sequence is reached. Each
    /// record has one wait at a time.
    pub(crate) const fn wait<F>(&self, sequence: u64, settled: F) -> Wait<'_, F> {
        Wait { waiters: self, sequence, settled }
    }

    /// Wakes those who wait for this record or an earlier one. What they ask for must be true by now.
    pub(crate) fn wake_up_to(&self, sequence: u64) {
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

/// The wait for one record.
#[must_use = "a wait that nobody awaits is none"]
pub(crate) struct Wait<'a, F> {
    waiters: &'a Waiters,
    sequence: u64,
    settled: F,
}

impl<T, F: Fn() -> Option<T> + Unpin> Future for Wait<'_, F> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        // Asked under the lock, so that whoever wakes does so before the question or after the entry.
        let mut wakers = self.waiters.wakers.lock();
        match (self.settled)() {
            Some(answer) => Poll::Ready(answer),
            None => {
                wakers.insert(self.sequence, context.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl<F> Drop for Wait<'_, F> {
    fn drop(&mut self) {
        self.waiters.wakers.lock().remove(&self.sequence);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use futures::future::join_all;
    use futures::poll;

    use super::*;

    #[tokio::test]
    async fn commit_wakes_those_whose_records_it_holds() {
        let (waiters, reached) = (Waiters::default(), AtomicU64::new(0));
        let wait = |sequence| {
            let reached = &reached;
            let settled = move || (reached.load(Ordering::SeqCst) >= sequence).then_some(sequence);
            waiters.wait(sequence, settled)
        };
        let mut early = Box::pin(join_all((1..=30).map(wait)));
        let mut late = Box::pin(wait(31));
        assert!(poll!(&mut early).is_pending() && poll!(&mut late).is_pending());
        assert_eq!(waiters.wakers.lock().len(), 31);
        reached.store(30, Ordering::SeqCst);
        waiters.wake_up_to(30);
        assert_eq!(waiters.wakers.lock().len(), 1, "the one behind sleeps on");
        assert_eq!(early.await.len(), 30);
        drop(late);
        assert!(waiters.wakers.lock().is_empty(), "who gives up leaves nothing behind");
    }

    #[tokio::test]
    async fn end_wakes_everybody() {
        let waiters = Waiters::default();
        let ended = AtomicU64::new(0);
        let settled = || (ended.load(Ordering::SeqCst) > 0).then_some(());
        let mut last = Box::pin(waiters.wait(u64::MAX, settled));
        assert!(poll!(&mut last).is_pending());
        ended.store(1, Ordering::SeqCst);
        waiters.wake_up_to(u64::MAX);
        last.await;
    }
}
