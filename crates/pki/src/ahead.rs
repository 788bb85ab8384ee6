//! Reads ahead of TLS, so that a burst of calls costs one system call.
//!
//! rustls asks for 4 KiB at a time (`READ_SIZE` in its deframer), which is a quarter of a full record.
//! [`Ahead`] asks the socket for as much as a thread's shared buffer holds, and keeps what rustls does not
//! take yet. All of it is ciphertext.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Most bytes that are read at once, and so the most that a connection holds.
const READ_MAX: usize = 64 * 1024;

thread_local! {
    /// One for all connections of a thread: nobody holds it beyond one read.
    static SHARED: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_MAX].into_boxed_slice());
}

/// A connection that is read ahead.
#[derive(Debug)]
pub struct Ahead<S> {
    inner: S,
    /// Given back once it is used up: an idle connection holds no buffer.
    ahead: Vec<u8>,
    /// Of them, handed on already.
    read: usize,
}

impl<S> Ahead<S> {
    pub(crate) const fn new(inner: S) -> Self {
        Self { inner, ahead: Vec::new(), read: 0 }
    }

    /// Hands on what was read ahead, as far as there is room.
    fn serve(&mut self, buffer: &mut ReadBuf<'_>) {
        let rest = &self.ahead[self.read..];
        let served = rest.len().min(buffer.remaining());
        buffer.put_slice(&rest[..served]);
        self.read += served;
        if self.read == self.ahead.len() {
            self.ahead = Vec::new();
            self.read = 0;
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Ahead<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.read < this.ahead.len() {
            this.serve(buffer);
            return Poll::Ready(Ok(()));
        }
        if buffer.remaining() >= READ_MAX {
            return Pin::new(&mut this.inner).poll_read(cx, buffer);
        }
        SHARED.with_borrow_mut(|shared| {
            let mut shared = ReadBuf::new(shared);
            ready!(Pin::new(&mut this.inner).poll_read(cx, &mut shared))?;
            let read = shared.filled();
            let (served, ahead) = read.split_at(read.len().min(buffer.remaining()));
            buffer.put_slice(served);
            if !ahead.is_empty() {
                this.ahead = ahead.to_vec();
            }
            Poll::Ready(Ok(()))
        })
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Ahead<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, slices)
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
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    #[tokio::test]
    async fn small_reads_get_all_bytes_in_order_and_leave_no_buffer() {
        let sent: Vec<u8> = (0..200_000_u32).map(|n| n.to_le_bytes()[n as usize % 3]).collect();
        let (mut far, near) = duplex(READ_MAX);
        let writing = {
            let sent = sent.clone();
            tokio::spawn(async move { far.write_all(&sent).await })
        };
        let mut near = Ahead::new(near);
        let mut read = Vec::new();
        let mut piece = vec![0; 4096];
        while read.len() < sent.len() {
            let wanted = piece.len().min(1 + read.len() % 5000);
            let n = near.read(&mut piece[..wanted]).await.unwrap();
            assert!(n > 0, "the other end has not closed");
            read.extend_from_slice(&piece[..n]);
        }
        assert!(read == sent);
        assert_eq!(near.ahead.capacity(), 0);
        writing.await.unwrap().unwrap();
        assert_eq!(near.read(&mut piece).await.unwrap(), 0, "the end is handed on");
    }
}
