//! A connection of a server that says nothing before it has heard the client, as some proxies do.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::server::Connected;
use twinkeep_pki::server::{ConnectInfo, TlsConnection};

/// What is written before the first read is held back until then.
pub(super) struct Shy {
    connection: TlsConnection,
    held: Vec<u8>,
    is_shy: bool,
}

impl Shy {
    pub(super) fn new(connection: TlsConnection, is_shy: bool) -> Self {
        Self { connection, held: Vec::new(), is_shy }
    }

    fn poll_speak(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.is_shy && !self.held.is_empty() {
            let written = ready!(Pin::new(&mut self.connection).poll_write(cx, &self.held))?;
            self.held.drain(..written);
        }
        Poll::Ready(Ok(()))
    }
}

impl Connected for Shy {
    type ConnectInfo = ConnectInfo;

    fn connect_info(&self) -> ConnectInfo {
        self.connection.connect_info()
    }
}

impl AsyncRead for Shy {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.connection).poll_read(cx, buffer))?;
        self.is_shy = false;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Shy {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.is_shy {
            self.held.extend_from_slice(bytes);
            return Poll::Ready(Ok(bytes.len()));
        }
        ready!(self.poll_speak(cx))?;
        Pin::new(&mut self.connection).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_speak(cx))?;
        Pin::new(&mut self.connection).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_speak(cx))?;
        Pin::new(&mut self.connection).poll_shutdown(cx)
    }
}
