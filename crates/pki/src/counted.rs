//! Counts what a connection sends, below TLS: the bytes that the network carries, without what TCP and IP add.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Is told how many bytes were sent, after each write.
pub(crate) type Counter = Arc<dyn Fn(usize) + Send + Sync>;

/// A connection whose sent bytes somebody may count.
pub struct Counted<S> {
    inner: S,
    sent: Option<Counter>,
}

impl<S> Counted<S> {
    pub(crate) const fn new(inner: S, sent: Option<Counter>) -> Self {
        Self { inner, sent }
    }

    fn count(&self, written: &Poll<io::Result<usize>>) {
        if let (Some(sent), Poll::Ready(Ok(bytes))) = (&self.sent, written) {
            sent(*bytes);
        }
    }
}

impl<S: fmt::Debug> fmt::Debug for Counted<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Counted").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(cx, bytes);
        self.count(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(cx, slices);
        self.count(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    #[tokio::test]
    async fn what_is_sent_is_counted_and_what_comes_is_not() {
        let total = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&total);
        let count: Counter = Arc::new(move |bytes| {
            counter.fetch_add(bytes, Ordering::Relaxed);
        });
        // A write of all that fits, one of the rest.
        let (near, mut far) = duplex(64);
        let mut near = Counted::new(near, Some(count));
        let reading = tokio::spawn(async move {
            let mut read = vec![0; 100];
            far.read_exact(&mut read).await.unwrap();
            far.write_all(b"thank you").await.unwrap();
        });
        near.write_all(&[7; 100]).await.unwrap();
        let mut answer = [0; 9];
        near.read_exact(&mut answer).await.unwrap();
        reading.await.unwrap();
        assert_eq!(total.load(Ordering::Relaxed), 100);
    }
}
