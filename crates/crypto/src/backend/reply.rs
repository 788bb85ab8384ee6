//! An answer that is there already, or a future.
//!
//! The usual way to make an async method object-safe boxes a future per call. A symmetric operation of
//! two microseconds has no use for that, and a second, synchronous way in would let the two drift apart.
//! So every method of [`KeyBackend`](super::KeyBackend) returns a `Reply`: software AES and HMAC are
//! computed before it is returned and cost no allocation and no poll beyond the first, a network
//! backend boxes its future as usual. Callers write `.await` and do not see the difference; a caller
//! that wants to stay synchronous while it can asks [`Reply::now`].

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::Error;

/// The answer of a backend, at once or later.
#[must_use = "a reply that nobody awaits may never be computed"]
pub struct Reply<'a, T>(State<'a, T>);

type Later<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

enum State<'a, T> {
    Ready(Option<Result<T, Error>>),
    Later(Later<'a, T>),
}

impl<'a, T> Reply<'a, T> {
    /// An answer that is known now.
    pub const fn ready(answer: Result<T, Error>) -> Self {
        Self(State::Ready(Some(answer)))
    }

    /// An answer that has to be waited for.
    pub fn later(future: impl Future<Output = Result<T, Error>> + Send + 'a) -> Self {
        Self(State::Later(Box::pin(future)))
    }

    /// What `begin` decides: a refusal at once, or the reply that it starts.
    pub fn begin(begin: impl FnOnce() -> Result<Self, Error>) -> Self {
        begin().unwrap_or_else(|error| Self::ready(Err(error)))
    }

    /// Returns the answer if it is known already, otherwise the reply to be awaited.
    ///
    /// # Errors
    /// The reply itself, when there is something to wait for.
    pub fn now(self) -> Result<Result<T, Error>, Self> {
        match self.0 {
            State::Ready(Some(answer)) => Ok(answer),
            state => Err(Self(state)),
        }
    }
}

impl<T: Unpin> Future for Reply<'_, T> {
    type Output = Result<T, Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.get_mut().0 {
            State::Ready(answer) => {
                Poll::Ready(answer.take().expect("a reply is polled to its end once"))
            }
            State::Later(future) => future.as_mut().poll(context),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn both_kinds_are_awaited_alike() {
        assert_eq!(Reply::ready(Ok(7)).await.unwrap(), 7);
        let later = Reply::later(async {
            tokio::task::yield_now().await;
            Ok(8)
        });
        assert_eq!(later.await.unwrap(), 8);
    }

    #[tokio::test]
    async fn only_a_ready_reply_is_there_now() {
        assert_eq!(Reply::ready(Ok(7)).now().ok().unwrap().unwrap(), 7);
        let later = Reply::later(async { Ok(8) }).now().err().unwrap();
        assert_eq!(later.await.unwrap(), 8);
    }
}
