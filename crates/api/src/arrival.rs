//! How long a call waits for its turn, and from when on it is too late to begin it.
//!
//! A thread that has more calls than it can answer works on them in the order they came, and the wait grows
//! with the queue. Most of that queue never gets here: a connection has a bounded number of calls open, and
//! its flow control holds the caller back, which costs nothing. What is left, from many connections at once,
//! is refused once it has waited for [`BEGUN_WITHIN_MAX`], before any of its work is done: an answer that
//! late is mostly one that nobody waits for any more, and the caller can try another node. Control calls are
//! never refused for that: an operator who comes to mend an overloaded node must get through.
//!
//! The wait is from when a call's headers are read to when its task runs first. How long the caller takes to send
//! the rest is not this node's fault and does not count.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::Request;
use pin_project_lite::pin_project;
use tonic::Extensions;
use tower::{Layer, Service};

use crate::limits::BEGUN_WITHIN_MAX;
use crate::operation::Guarded;

/// The service whose calls are refused when they come too late.
const SHED: &str = "CryptoService";

/// Microseconds that a call has waited, known when its task has run first.
#[derive(Debug, Clone, Default)]
struct Wait(Arc<AtomicU64>);

/// Notes how long each call waits. To be the outermost layer of the server.
#[derive(Debug, Clone, Copy, Default)]
pub struct Arrivals;

impl<S> Layer<S> for Arrivals {
    type Service = Noted<S>;

    fn layer(&self, inner: S) -> Noted<S> {
        Noted(inner)
    }
}

/// A service whose calls know how long they waited.
#[derive(Debug, Clone)]
pub struct Noted<S>(S);

impl<S, B> Service<Request<B>> for Noted<S>
where
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Waiting<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let wait = Wait::default();
        request.extensions_mut().insert(wait.clone());
        Waiting { since: Some(Instant::now()), wait, inner: self.0.call(request) }
    }
}

pin_project! {
    /// A call that waits to be begun, and then is.
    #[derive(Debug)]
    pub struct Waiting<F> {
        since: Option<Instant>,
        wait: Wait,
        #[pin]
        inner: F,
    }
}

impl<F: Future> Future for Waiting<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        if let Some(since) = this.since.take() {
            let waited = u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX);
            this.wait.0.store(waited, Ordering::Relaxed);
        }
        this.inner.poll(context)
    }
}

/// Returns how long a call has waited to be begun; nothing for one that was not noted.
pub(crate) fn waited(extensions: &Extensions) -> Duration {
    let wait = extensions.get::<Wait>().map_or(0, |wait| wait.0.load(Ordering::Relaxed));
    Duration::from_micros(wait)
}

/// Tells whether a call has waited so long that it is not begun any more. Opening a stream costs little, and
/// flow control bounds what comes on it.
pub(crate) fn is_too_late<O: Guarded>(waited: Duration) -> bool {
    waited > BEGUN_WITHIN_MAX && O::METHOD.service == SHED && !O::METHOD.client_streaming
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use tower::service_fn;

    use super::*;
    use crate::operation::{CreateKey, CryptoStream, Encrypt, Seal};

    #[test]
    fn use_of_keys_is_shed_and_control_is_not() {
        let late = BEGUN_WITHIN_MAX + Duration::from_millis(1);
        assert!(is_too_late::<Encrypt>(late));
        assert!(!is_too_late::<Encrypt>(BEGUN_WITHIN_MAX));
        assert!(!is_too_late::<CreateKey>(late) && !is_too_late::<Seal>(late));
        assert!(!is_too_late::<CryptoStream>(late));
    }

    /// Only the wait for a turn counts, not what the call waits for once it has begun: its body, say.
    #[tokio::test]
    async fn wait_ends_when_the_task_runs_first() {
        let slow = service_fn(|request: Request<()>| async move {
            tokio::time::sleep(Duration::from_millis(50)).await;
            Ok::<_, Infallible>(waited(request.extensions()))
        });
        let mut noted = Arrivals.layer(slow);
        let prompt = noted.call(Request::new(())).await.unwrap();
        assert!(prompt < Duration::from_millis(40), "{prompt:?}");
        let late = noted.call(Request::new(()));
        std::thread::sleep(Duration::from_millis(60));
        assert!(late.await.unwrap() >= Duration::from_millis(60));
        assert_eq!(waited(&Extensions::new()), Duration::ZERO);
    }
}
