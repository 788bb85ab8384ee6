//! The threads that serve callers, each with a runtime of its own.
//!
//! Raft, its heartbeats and control work have the process's main runtime; a flood of calls does not stand in
//! their way. A connection stays on one thread from its handshake to its end: on a runtime of several
//! threads each answer crosses from the task that made it to the one that writes, which costs a unary call a
//! third of its time (docs/performance.md).

use std::thread;

use anyhow::Context;
use futures::future::{BoxFuture, try_join_all};
use tokio::runtime::Builder;
use tokio::sync::oneshot;
use twinkeep_pki::{Incoming, Lane};
use twinkeep_sysmem::turns;

/// Serves the connections of one lane to their end.
pub(super) type Serve =
    Box<dyn FnOnce(Incoming) -> BoxFuture<'static, Result<(), tonic::transport::Error>> + Send>;

/// Serves each lane on a thread of its own; returns when all have ended.
pub(super) async fn run(lanes: Vec<Lane>, mut serve: impl FnMut() -> Serve) -> anyhow::Result<()> {
    let threads: Vec<_> =
        lanes.into_iter().enumerate().map(|(number, lane)| start(number, lane, serve())).collect();
    let ends = threads.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
    let ended = |end: oneshot::Receiver<_>| async {
        end.await.context("a thread that serves callers has panicked")?
    };
    try_join_all(ends.into_iter().map(ended)).await.map(drop)
}

type End = oneshot::Receiver<anyhow::Result<()>>;

fn start(number: usize, lane: Lane, serve: Serve) -> anyhow::Result<End> {
    let (ended, end) = oneshot::channel();
    let work = move || {
        // Nobody waits any more when the time for stopping is over.
        let _ = ended.send(work(lane, serve));
    };
    thread::Builder::new()
        .name(format!("callers-{number}"))
        .spawn(work)
        .context("a thread that serves callers does not start")?;
    Ok(end)
}

fn work(lane: Lane, serve: Serve) -> anyhow::Result<()> {
    // Failing costs fairness, not correctness.
    if let Err(error) = turns::shorten(turns::CALLS) {
        tracing::warn!(%error, "a thread that serves callers waits for others to end their turns");
    }
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("a runtime for callers does not start")?;
    let served = runtime.block_on(async { serve(lane.incoming()).await });
    // Blocking work that hangs must not keep the thread.
    runtime.shutdown_background();
    served.context("the endpoint failed")
}
