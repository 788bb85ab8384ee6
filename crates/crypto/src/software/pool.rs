//! Where slow operations run: bounded in number and in how many may wait.
//!
//! An RSA-4096 signature takes milliseconds and an RSA key generation up to seconds. On a thread that
//! polls sockets it would hold up every other call, so such work goes to the runtime's blocking
//! threads, as many at a time as there are cores. What waits longer than its deadline is never begun.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use tokio::sync::Semaphore;
use tokio::time::timeout_at;

use crate::backend::{Call, Error, Failure, Unavailable};

/// Most operations that wait for a worker; more are refused as busy, so that the caller can go to
/// another node while there is time.
const WAITING_MAX: usize = 1024;

/// Bounded access to the runtime's blocking threads.
pub(super) struct Pool {
    workers: Arc<Semaphore>,
    waiting: AtomicUsize,
}

impl Pool {
    /// As many operations at a time as there are cores.
    pub(super) fn new() -> Self {
        Self::with_workers(std::thread::available_parallelism().map_or(1, usize::from))
    }

    fn with_workers(workers: usize) -> Self {
        Self { workers: Arc::new(Semaphore::new(workers)), waiting: AtomicUsize::new(0) }
    }

    /// Runs `work` when a worker is free. Work that was begun runs to its end, also when nobody waits
    /// for it any more, and keeps its worker until then.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        call: Call,
        work: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let queued = Queued::enter(&self.waiting)?;
        let worker = timeout_at(call.deadline().into(), Arc::clone(&self.workers).acquire_owned())
            .await
            .map_err(|_| Error::DeadlineExceeded)?
            .map_err(|_| Failure::WorkerLost)?;
        drop(queued);
        let done = tokio::task::spawn_blocking(move || {
            let _worker = worker;
            // The runtime may have had its threads busy with other things than ours.
            if Instant::now() >= call.deadline() {
                return Err(Error::DeadlineExceeded);
            }
            work()
        });
        timeout_at(call.deadline().into(), done)
            .await
            .map_err(|_| Error::DeadlineExceeded)?
            .map_err(|_| Failure::WorkerLost)?
    }
}

/// A place among those who wait; given back on drop, also when the caller gives up.
struct Queued<'a>(&'a AtomicUsize);

impl<'a> Queued<'a> {
    fn enter(waiting: &'a AtomicUsize) -> Result<Self, Error> {
        let before = waiting.fetch_add(1, Ordering::Relaxed);
        let place = Self(waiting);
        if before >= WAITING_MAX {
            return Err(Error::Unavailable(Unavailable::Busy { waiting: before }));
        }
        Ok(place)
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    fn soon() -> Call {
        Call::within(Duration::from_millis(50))
    }

    fn later() -> Call {
        Call::within(Duration::from_secs(60))
    }

    #[tokio::test]
    async fn work_that_waits_past_its_deadline_is_never_begun() {
        let pool = Arc::new(Pool::with_workers(1));
        let (release, held) = mpsc::channel::<()>();
        let (begun, has_begun) = tokio::sync::oneshot::channel();
        let first = tokio::spawn({
            let pool = Arc::clone(&pool);
            async move {
                pool.run(later(), move || {
                    begun.send(()).unwrap();
                    held.recv().unwrap();
                    Ok(1)
                })
                .await
            }
        });
        has_begun.await.unwrap();
        let second =
            pool.run(soon(), || -> Result<(), _> { panic!("begun after its deadline") }).await;
        assert!(matches!(second, Err(Error::DeadlineExceeded)));
        release.send(()).unwrap();
        assert_eq!(first.await.unwrap().unwrap(), 1);
        assert_eq!(pool.waiting.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn work_over_its_deadline_is_answered_and_keeps_its_worker() {
        let pool = Pool::with_workers(1);
        let (release, held) = mpsc::channel::<()>();
        let slow = pool.run(soon(), move || {
            held.recv().unwrap();
            Ok(())
        });
        assert!(matches!(slow.await, Err(Error::DeadlineExceeded)));
        assert_eq!(pool.workers.available_permits(), 0);
        release.send(()).unwrap();
        assert_eq!(pool.run(later(), || Ok(2)).await.unwrap(), 2);
    }

    #[tokio::test]
    async fn full_queue_is_busy_and_not_longer() {
        let pool = Pool::with_workers(0);
        pool.waiting.store(WAITING_MAX, Ordering::Relaxed);
        let refused = pool.run(later(), || Ok(())).await;
        assert!(matches!(
            refused,
            Err(Error::Unavailable(Unavailable::Busy { waiting: WAITING_MAX }))
        ));
        assert_eq!(pool.waiting.load(Ordering::Relaxed), WAITING_MAX);
    }

    #[tokio::test]
    async fn caller_that_gives_up_leaves_no_place_taken() {
        let pool = Pool::with_workers(0);
        let call = pool.run(later(), || Ok(()));
        assert!(tokio::time::timeout(Duration::from_millis(10), call).await.is_err());
        assert_eq!(pool.waiting.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn panic_in_the_work_is_an_error_of_that_call_alone() {
        let pool = Pool::with_workers(1);
        let lost = pool.run(later(), || -> Result<(), _> { panic!("planted") }).await;
        assert!(matches!(lost, Err(Error::Internal(Failure::WorkerLost))));
        assert_eq!(pool.run(later(), || Ok(3)).await.unwrap(), 3);
    }
}
