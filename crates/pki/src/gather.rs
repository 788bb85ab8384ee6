//! Gathers what a connection writes, so that many small answers leave in one piece.
//!
//! An HTTP/2 server hands on each answer by itself and asks for a flush behind it: a TLS record and a
//! system call for each. Behind [`Gathered`] a flush is put off until the connection's task runs again,
//! which on a runtime of one thread is after all tasks that are ready now, with their answers. A caller
//! with one call in flight waits a microsecond longer; with sixty-four in flight their answers share a few
//! records and one system call.
//!
//! What may break: a flush that is put off has to happen. The task is woken each time, and whoever drives a
//! connection reads from it in each turn, which is where the flush is made up for. A driver that only
//! writes gets its flush after [`PUT_OFF_MAX`] turns.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf};

/// Most bytes that are gathered: four TLS records of full size.
const GATHERED_MAX: usize = 64 * 1024;
/// Most flushes that are put off in a row.
const PUT_OFF_MAX: u32 = 256;

/// A connection that gathers what is written to it.
#[derive(Debug)]
pub struct Gathered<S> {
    inner: S,
    /// Given back after each flush: an idle connection holds no buffer.
    gathered: Vec<u8>,
    /// Of them, handed on already.
    written: usize,
    /// Room that the last flush needed, for the next.
    usual: usize,
    put_off: u32,
}

impl<S> Gathered<S> {
    pub(crate) const fn new(inner: S) -> Self {
        Self { inner, gathered: Vec::new(), written: 0, usual: 0, put_off: 0 }
    }

    fn take(&mut self, bytes: &[u8]) -> usize {
        let taken = bytes.len().min(GATHERED_MAX - self.gathered.len());
        if self.gathered.is_empty() {
            self.gathered.reserve_exact(taken.max(self.usual));
        }
        self.gathered.extend_from_slice(&bytes[..taken]);
        taken
    }
}

impl<S: AsyncWrite + Unpin> Gathered<S> {
    /// Hands on what is gathered.
    fn poll_hand_on(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.gathered.len() {
            let rest = &self.gathered[self.written..];
            match ready!(Pin::new(&mut self.inner).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.written += written,
            }
        }
        self.usual = self.gathered.len();
        self.gathered = Vec::new();
        self.written = 0;
        Poll::Ready(Ok(()))
    }

    /// Makes room for at least one byte.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.gathered.len() < GATHERED_MAX { Poll::Ready(Ok(())) } else { self.poll_hand_on(cx) }
    }

    fn poll_flush_now(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_hand_on(cx))?;
        ready!(Pin::new(&mut self.inner).poll_flush(cx))?;
        self.put_off = 0;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Gathered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.put_off > 0
            && let Poll::Ready(Err(error)) = self.poll_flush_now(cx)
        {
            return Poll::Ready(Err(error));
        }
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

/// Looks at what has come without taking it.
impl<S: AsyncBufRead + AsyncWrite + Unpin> AsyncBufRead for Gathered<S> {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let this = self.get_mut();
        if this.put_off > 0
            && let Poll::Ready(Err(error)) = this.poll_flush_now(cx)
        {
            return Poll::Ready(Err(error));
        }
        Pin::new(&mut this.inner).poll_fill_buf(cx)
    }

    fn consume(mut self: Pin<&mut Self>, count: usize) {
        Pin::new(&mut self.inner).consume(count);
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gathered<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_room(cx))?;
        Poll::Ready(Ok(self.take(bytes)))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_room(cx))?;
        Poll::Ready(Ok(slices.iter().map(|slice| self.take(slice)).sum()))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What is handed on already waits for the socket, and so would the rest.
        if self.gathered.is_empty() || self.written > 0 || self.put_off == PUT_OFF_MAX {
            return self.poll_flush_now(cx);
        }
        self.put_off += 1;
        cx.waker().wake_by_ref();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_flush_now(cx))?;
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use futures::task::noop_waker;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    /// Takes what it is given in pieces of at most `max`, and counts the pieces and the flushes.
    struct Sink {
        taken: Vec<u8>,
        writes: usize,
        flushes: usize,
        max: usize,
    }

    impl AsyncWrite for Sink {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            let taken = bytes.len().min(self.max);
            self.taken.extend_from_slice(&bytes[..taken]);
            self.writes += 1;
            Poll::Ready(Ok(taken))
        }

        fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.flushes += 1;
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncRead for Sink {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    fn gathered(max: usize) -> Gathered<Sink> {
        Gathered::new(Sink { taken: Vec::new(), writes: 0, flushes: 0, max })
    }

    fn read(gathered: &mut Gathered<Sink>) {
        let waker = noop_waker();
        let mut buffer = [0; 1];
        let polled = Pin::new(gathered)
            .poll_read(&mut Context::from_waker(&waker), &mut ReadBuf::new(&mut buffer));
        assert!(polled.is_pending());
    }

    #[tokio::test]
    async fn answers_of_one_turn_leave_together_in_the_next() {
        let mut gathered = gathered(usize::MAX);
        for answer in 0..10_u8 {
            gathered.write_all(&[answer; 1000]).await.unwrap();
            gathered.flush().await.unwrap();
        }
        assert_eq!(gathered.inner.writes, 0);
        read(&mut gathered);
        assert_eq!((gathered.inner.writes, gathered.inner.flushes), (1, 1));
        assert_eq!(gathered.inner.taken.len(), 10_000);
        assert_eq!(gathered.gathered.capacity(), 0, "an idle connection holds no buffer");
    }

    #[tokio::test]
    async fn flush_that_is_put_off_wakes_the_task() {
        use std::sync::Arc;
        use std::sync::atomic::{AtomicUsize, Ordering};
        struct Woken(AtomicUsize);
        impl std::task::Wake for Woken {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let woken = Arc::new(Woken(AtomicUsize::new(0)));
        let mut gathered = gathered(usize::MAX);
        gathered.write_all(b"answer").await.unwrap();
        let waker = Arc::clone(&woken).into();
        let flushed = Pin::new(&mut gathered).poll_flush(&mut Context::from_waker(&waker));
        assert!(flushed.is_ready());
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn driver_that_never_reads_gets_its_flush_too() {
        let mut gathered = gathered(usize::MAX);
        gathered.write_all(b"answer").await.unwrap();
        for _ in 0..PUT_OFF_MAX {
            gathered.flush().await.unwrap();
        }
        assert_eq!(gathered.inner.flushes, 0);
        gathered.flush().await.unwrap();
        assert_eq!((gathered.inner.flushes, gathered.inner.taken.as_slice()), (1, &b"answer"[..]));
    }

    #[tokio::test]
    async fn what_is_gathered_is_bounded_and_comes_out_in_order() {
        let sent: Vec<u8> = (0..300_000_u32).map(|n| n.to_le_bytes()[n as usize % 3]).collect();
        let mut gathered = gathered(1000);
        for piece in sent.chunks(777) {
            gathered.write_all(piece).await.unwrap();
            assert!(gathered.gathered.len() <= GATHERED_MAX);
        }
        poll_fn(|cx| Pin::new(&mut gathered).poll_shutdown(cx)).await.unwrap();
        assert!(gathered.inner.taken == sent);
    }

    #[tokio::test]
    async fn reader_that_does_not_read_stops_the_writer() {
        let (near, mut far) = duplex(1024);
        let mut near = Gathered::new(near);
        let long = vec![7; 10 * GATHERED_MAX];
        let mut writing = Box::pin(near.write_all(&long));
        assert!(futures::poll!(&mut writing).is_pending());
        let reading = async {
            let mut read = vec![0; long.len() - GATHERED_MAX];
            far.read_exact(&mut read).await.unwrap();
        };
        tokio::join!(async { writing.await.unwrap() }, reading);
    }
}
