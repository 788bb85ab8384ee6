//! Where slow operations run: on threads of their own, bounded in number and in how many may wait.
//!
//! An RSA-4096 signature takes milliseconds and an RSA key generation up to seconds. On a thread that
//! polls sockets it would hold up every other call, so such work goes to worker threads, one for each core. They
//! stand back behind the threads that poll ([`NICENESS`], [`turns`]) and yield between operations, but always get
//! some time. Callers share them by time ([`Fair`]), so nobody's flood delays another's single signature by more
//! than the job in hand. What waits longer than its deadline, or for nobody any more, is never begun.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Instant;

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;
use tokio::time::timeout_at;
use twinkeep_sysmem::turns;

use super::fair::Fair;
use crate::backend::{Call, Error, Failure, Unavailable};

/// Most operations that wait for a worker; more are refused as busy, so that the caller can go to
/// another node while there is time.
const WAITING_MAX: usize = 1024;
/// Most operations of one caller that wait: nobody fills the queue alone.
const WAITING_OF_ONE_MAX: usize = WAITING_MAX / 2;
/// How far workers stand back behind threads that poll sockets, which have 0: a thread of niceness 15 gets
/// a thirtieth of a core that another keeps busy (sched(7)), and what is left idle. What other values do is
/// measured in docs/performance.md.
const NICENESS: i32 = 15;

/// Bounded access to worker threads. Started with the first operation, ended with the pool.
pub(super) struct Pool {
    workers: usize,
    shared: Arc<Shared>,
    started: OnceLock<()>,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    work: Condvar,
}

#[derive(Default)]
struct Queue {
    jobs: Fair<Job>,
    closed: bool,
}

/// One operation, ready to run; does nothing when nobody wants its result.
type Job = Box<dyn FnOnce() + Send>;

impl Pool {
    /// As many operations at a time as there are cores.
    pub(super) fn new() -> Self {
        Self::with_workers(thread::available_parallelism().map_or(1, usize::from))
    }

    fn with_workers(workers: usize) -> Self {
        Self { workers, shared: Arc::default(), started: OnceLock::new() }
    }

    /// Runs `work` when a worker is free. Work that was begun runs to its end, also when nobody waits
    /// for it any more, and keeps its worker until then.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        call: Call,
        work: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (answer, answered) = oneshot::channel();
        self.enqueue(
            call,
            Box::new(move || {
                if answer.is_closed() {
                    return;
                }
                // The workers may have been busy for longer than the call has time.
                let result = if Instant::now() < call.deadline() {
                    work()
                } else {
                    Err(Error::DeadlineExceeded)
                };
                // Whoever gave up meanwhile is not told.
                let _ = answer.send(result);
            }),
        )?;
        timeout_at(call.deadline().into(), answered)
            .await
            .map_err(|_| Error::DeadlineExceeded)?
            .map_err(|_| Failure::WorkerLost)?
    }

    fn enqueue(&self, call: Call, job: Job) -> Result<(), Error> {
        let mut queue = self.shared.queue.lock();
        let (waiting, own) = (queue.jobs.waiting(), queue.jobs.waiting_of(call.caller()));
        if waiting >= WAITING_MAX || own >= WAITING_OF_ONE_MAX {
            return Err(Error::Unavailable(Unavailable::Busy { waiting }));
        }
        queue.jobs.push(call.caller(), job);
        drop(queue);
        self.started.get_or_init(|| self.start());
        self.shared.work.notify_one();
        Ok(())
    }

    fn start(&self) {
        for number in 0..self.workers {
            let shared = Arc::clone(&self.shared);
            let started =
                thread::Builder::new().name(format!("crypto-{number}")).spawn(move || shared.run());
            if let Err(error) = started {
                tracing::error!(%error, "a crypto worker does not start");
            }
        }
    }
}

impl Shared {
    /// Works until the pool is gone.
    fn run(&self) {
        stand_back();
        while let Some((caller, job)) = self.next() {
            let began = Instant::now();
            // A panic is the failure of that call alone: its sender is dropped.
            let _ = catch_unwind(AssertUnwindSafe(job));
            self.queue.lock().jobs.done(caller, began.elapsed());
            // A thread that polls and was put off for this one is let on now, and not at the kernel's next tick, which
            // comes up to four milliseconds later.
            thread::yield_now();
        }
    }

    fn next(&self) -> Option<(u64, Job)> {
        let mut queue = self.queue.lock();
        loop {
            if queue.closed {
                return None;
            }
            if let Some(next) = queue.jobs.pop() {
                return Some(next);
            }
            self.work.wait(&mut queue);
        }
    }
}

/// Has the calling thread, a worker, stand back. What the kernel refuses costs fairness, not correctness.
fn stand_back() {
    // On Linux this is the calling thread's alone.
    if let Err(error) = rustix::process::nice(NICENESS) {
        tracing::warn!(%error, "a crypto worker keeps its priority");
    }
    if let Err(error) = turns::shorten(turns::OPERATIONS) {
        tracing::warn!(%error, "a crypto worker keeps its long turns");
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let mut queue = self.shared.queue.lock();
        queue.closed = true;
        let left = queue.jobs.drain();
        drop(queue);
        self.shared.work.notify_all();
        drop(left);
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

    impl Pool {
        fn waiting(&self) -> usize {
            self.shared.queue.lock().jobs.waiting()
        }
    }

    /// Keeps the only worker busy until the sender is used; returns once it is.
    async fn occupy(
        pool: &Arc<Pool>,
    ) -> (mpsc::Sender<()>, tokio::task::JoinHandle<Result<(), Error>>) {
        let (release, held) = mpsc::channel::<()>();
        let (begun, has_begun) = oneshot::channel();
        let pool = Arc::clone(pool);
        let first = tokio::spawn(async move {
            pool.run(later(), move || {
                begun.send(()).unwrap();
                held.recv().unwrap();
                Ok(())
            })
            .await
        });
        has_begun.await.unwrap();
        (release, first)
    }

    #[tokio::test]
    async fn work_that_waits_past_its_deadline_is_never_begun() {
        let pool = Arc::new(Pool::with_workers(1));
        let (release, first) = occupy(&pool).await;
        let second =
            pool.run(soon(), || -> Result<(), _> { panic!("begun after its deadline") }).await;
        assert!(matches!(second, Err(Error::DeadlineExceeded)));
        release.send(()).unwrap();
        first.await.unwrap().unwrap();
        assert_eq!(pool.run(later(), || Ok(1)).await.unwrap(), 1);
        assert_eq!(pool.waiting(), 0);
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
        assert!(matches!(pool.run(soon(), || Ok(0)).await, Err(Error::DeadlineExceeded)));
        release.send(()).unwrap();
        assert_eq!(pool.run(later(), || Ok(2)).await.unwrap(), 2);
    }

    #[tokio::test]
    async fn full_queue_is_busy_and_nobody_fills_it_alone() {
        let pool = Pool::with_workers(0);
        let calls = futures::stream::FuturesUnordered::new();
        for caller in 1..=2 {
            for _ in 0..WAITING_OF_ONE_MAX {
                let mut call = Box::pin(pool.run(later().of(caller), || Ok(())));
                assert!(futures::poll!(&mut call).is_pending());
                calls.push(call);
            }
            let refused = pool.run(later().of(caller), || Ok(())).await;
            assert!(matches!(refused, Err(Error::Unavailable(Unavailable::Busy { .. }))));
        }
        let refused = pool.run(later().of(3), || Ok(())).await;
        assert!(matches!(
            refused,
            Err(Error::Unavailable(Unavailable::Busy { waiting: WAITING_MAX }))
        ));
    }

    #[tokio::test]
    async fn work_that_nobody_waits_for_is_never_begun() {
        let pool = Arc::new(Pool::with_workers(1));
        let (release, first) = occupy(&pool).await;
        let given_up = pool.run(later(), || -> Result<(), _> { panic!("begun for nobody") });
        assert!(tokio::time::timeout(Duration::from_millis(10), given_up).await.is_err());
        release.send(()).unwrap();
        first.await.unwrap().unwrap();
        assert_eq!(pool.run(later(), || Ok(3)).await.unwrap(), 3);
    }

    #[tokio::test]
    async fn single_job_does_not_wait_behind_the_flood_of_another_caller() {
        let pool = Arc::new(Pool::with_workers(1));
        let (release, first) = occupy(&pool).await;
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut calls = Vec::new();
        for caller in std::iter::repeat_n(1, 100).chain([2]) {
            let (pool, order) = (Arc::clone(&pool), Arc::clone(&order));
            calls.push(tokio::spawn(async move {
                let work = move || {
                    order.lock().push(caller);
                    thread::sleep(Duration::from_millis(1));
                    Ok(())
                };
                pool.run(later().of(caller), work).await
            }));
        }
        while pool.waiting() < 101 {
            tokio::task::yield_now().await;
        }
        release.send(()).unwrap();
        first.await.unwrap().unwrap();
        for call in calls {
            call.await.unwrap().unwrap();
        }
        let place = order.lock().iter().position(|caller| *caller == 2).unwrap();
        assert!(place <= 2, "the single job was number {place}");
    }

    #[tokio::test]
    async fn panic_in_the_work_is_an_error_of_that_call_alone() {
        let pool = Pool::with_workers(1);
        let lost = pool.run(later(), || -> Result<(), _> { panic!("planted") }).await;
        assert!(matches!(lost, Err(Error::Internal(Failure::WorkerLost))));
        assert_eq!(pool.run(later(), || Ok(3)).await.unwrap(), 3);
    }
}
