//! Makes the calls of a batch: one after the other where they need not wait, side by side where they must.
//!
//! Most calls are answered when they are first polled. Those share one box, which is filled anew for each; a
//! call that has to wait (a worker for RSA, the disk for its audit record) keeps its box and is joined later.

use std::task::Poll;
use std::time::Instant;

use futures::poll;
use futures::stream::{FuturesUnordered, StreamExt as _};
use tokio::task::yield_now;
use tokio_util::sync::ReusableBoxFuture;

use crate::limits::{BATCH_PARALLEL, STREAM_TURN};

/// Makes all calls and returns their answers, in the calls' order. Other work of the thread has its turn each
/// [`STREAM_TURN`].
pub(super) async fn answer_all<'a, C, T>(calls: impl Iterator<Item = C> + Send) -> Vec<T>
where
    C: Future<Output = T> + Send + 'a,
    T: Send + 'a,
{
    let mut answers = Vec::with_capacity(calls.size_hint().0);
    let mut waiting = FuturesUnordered::new();
    let mut room: Option<ReusableBoxFuture<'a, T>> = None;
    let mut turn = Instant::now();
    for call in calls {
        if turn.elapsed() >= STREAM_TURN {
            yield_now().await;
            turn = Instant::now();
        }
        if waiting.len() == BATCH_PARALLEL
            && let Some((place, answer)) = waiting.next().await
        {
            answers[place] = Some(answer);
        }
        let mut calling = match room.take() {
            Some(mut room) => {
                room.set(call);
                room
            }
            None => ReusableBoxFuture::new(call),
        };
        match poll!(&mut calling) {
            Poll::Ready(answer) => {
                answers.push(Some(answer));
                room = Some(calling);
            }
            Poll::Pending => {
                let place = answers.len();
                answers.push(None);
                waiting.push(async move { (place, calling.await) });
            }
        }
    }
    while let Some((place, answer)) = waiting.next().await {
        answers[place] = Some(answer);
    }
    answers.into_iter().map(|answer| answer.expect("each call was answered")).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use tokio::time::sleep;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn answers_come_in_order_whoever_had_to_wait() {
        let calls = (0..100_u64).map(|n| async move {
            if n % 3 == 0 {
                sleep(Duration::from_millis(100 - n)).await;
            }
            n
        });
        assert_eq!(answer_all(calls).await, (0..100).collect::<Vec<_>>());
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_wait_than_may_wait_side_by_side() {
        let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let calls = (0..10 * BATCH_PARALLEL).map(|_| async {
            most.fetch_max(now.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
            sleep(Duration::from_millis(10)).await;
            now.fetch_sub(1, Ordering::Relaxed);
        });
        answer_all(calls).await;
        assert_eq!(most.load(Ordering::Relaxed), BATCH_PARALLEL);
    }
}
