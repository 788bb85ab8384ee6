//! The open loop: calls at a fixed rate, whatever became of those before.
//!
//! A call's time begins when it was due, not when it could be sent: a server that stalls is charged for all
//! the calls that came due meanwhile (coordinated omission). The loop never sleeps, since tokio's timers
//! are a millisecond coarse; the load generator has its core to itself.

use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::sync::Semaphore;
use tokio::task::yield_now;
use tokio::time::sleep;

use super::closed::Call;
use super::tally::Tally;
use super::wire::{Connection, Prepared};

/// Most calls that wait for their answers at a time; more than that a sender would hold back itself.
pub(crate) const OUTSTANDING_MAX: usize = 4096;

/// Time for a server's first frame.
const FIRST_FRAME: Duration = Duration::from_millis(20);

/// Sends `rate` calls a second over some connections until the window is over, then leaves what is still
/// unanswered behind.
pub(crate) async fn run(
    connections: &[Connection],
    call: &Call,
    rate: f64,
    tally: &Tally<'_>,
) -> anyhow::Result<()> {
    let prepared: Vec<_> = connections
        .iter()
        .map(|connection| connection.prepare(call.method))
        .collect::<anyhow::Result<_>>()?;
    // How many calls a server takes stands in its first frame.
    sleep(FIRST_FRAME).await;
    let place =
        |prepared: &Prepared| Semaphore::new(prepared.calls_max().min(Semaphore::MAX_PERMITS));
    let places: Vec<_> = prepared.iter().map(place).collect();
    let started = Instant::now();
    let mut calls = FuturesUnordered::new();
    let mut next: u32 = 0;
    while !tally.window().is_over() {
        let mut due = started + Duration::from_secs_f64(f64::from(next) / rate);
        while due <= Instant::now() {
            if calls.len() < OUTSTANDING_MAX {
                let turn = next as usize;
                let frame = call.frames[turn % call.frames.len()].clone();
                let connection = turn % prepared.len();
                calls.push(one(&prepared[connection], &places[connection], frame, due, tally));
            } else {
                tally.abandon();
            }
            next += 1;
            due = started + Duration::from_secs_f64(f64::from(next) / rate);
        }
        while let Some(Some(done)) = calls.next().now_or_never() {
            done?;
        }
        yield_now().await;
    }
    Ok(())
}

async fn one(
    prepared: &Prepared,
    places: &Semaphore,
    frame: bytes::Bytes,
    due: Instant,
    tally: &Tally<'_>,
) -> anyhow::Result<()> {
    let _place = places.acquire().await?;
    let outcome = match prepared.opened().await {
        Ok(opened) => {
            // From here on the server has it.
            let sent = Instant::now();
            return tally.note(due, sent, opened.finish(frame).await);
        }
        Err(error) => Err::<(), _>(error),
    };
    tally.note(due, due, outcome)
}
