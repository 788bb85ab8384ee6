//! The listening end: TLS connections for tonic. [`crate::door`] accepts them.
//!
//! A client that stalls, sends rubbish or opens connections without end costs bounded time and
//! memory, and nothing that goes wrong with one connection ends the loop (RUSTSEC-2024-0376 was
//! a server that stopped accepting after a failed handshake).

use std::fmt;
use std::future::Future as _;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::CommonState;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use crate::ahead::Ahead;
use crate::certificate::{Facts, InvalidCertificate};
use crate::door::Place;
use crate::gather::Gathered;
use crate::identity::Identity;

/// Label of the exported keying material that binds a join to its connection (RFC 8446, 7.5).
pub const EXPORTER_LABEL: &[u8] = b"EXPORTER-twinkeep-join-v1";

/// What a listener spends on connections.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Longest time from accepting to the end of the handshake. Default 10 s.
    pub handshake: Duration,
    /// Most handshakes at one time; further connections wait in the backlog. Default 256.
    pub handshakes_max: usize,
    /// Most open connections, handshakes included; further ones wait in the backlog. Default 4096.
    pub connections_max: usize,
    /// How long a connection without a certificate may stay: strangers must not use up the connections.
    /// Long enough to be told what is missing, or for a load balancer's probe. Default 60 s.
    pub without_certificate: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            handshakes_max: 256,
            connections_max: 4096,
            without_certificate: Duration::from_secs(60),
        }
    }
}

/// What is known of a connection; every request carries it in its extensions. Cheap to clone.
#[derive(Clone)]
pub struct ConnectInfo(Arc<Connection>);

struct Connection {
    remote: SocketAddr,
    peer: Option<Facts>,
    exporter: [u8; 32],
}

impl ConnectInfo {
    /// Describes a finished handshake.
    pub(crate) fn of(
        remote: SocketAddr,
        tls: &CommonState,
        exporter: [u8; 32],
    ) -> Result<Self, InvalidCertificate> {
        let certificate = tls.peer_certificates().and_then(<[_]>::first);
        let peer = certificate.map(Facts::of).transpose()?;
        Ok(Self(Arc::new(Connection { remote, peer, exporter })))
    }

    /// Returns the address at the other end.
    #[must_use]
    pub fn remote(&self) -> SocketAddr {
        self.0.remote
    }

    /// Returns what the certificate at the other end says; `None` when none was shown.
    ///
    /// The certificate was verified in the handshake. Expiry and trust have to be checked again as the
    /// connection grows old: see [`Facts::valid_at`].
    #[must_use]
    pub fn peer(&self) -> Option<&Facts> {
        self.0.peer.as_ref()
    }

    /// Returns who is at the other end.
    #[must_use]
    pub fn identity(&self) -> Option<&Identity> {
        self.peer().map(|facts| &facts.identity)
    }

    /// Returns keying material that both ends of this connection know and nobody else.
    #[must_use]
    pub fn exporter(&self) -> &[u8; 32] {
        &self.0.exporter
    }
}

impl fmt::Debug for ConnectInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectInfo")
            .field("remote", &self.0.remote)
            .field("peer", &self.0.peer)
            .finish_non_exhaustive()
    }
}

/// Does the handshake of a connection, on the runtime that this is called in.
pub(crate) async fn shake_hands(
    acceptor: &TlsAcceptor,
    tcp: std::net::TcpStream,
    remote: SocketAddr,
    place: Place,
) -> io::Result<TlsConnection> {
    let tcp = TcpStream::from_std(tcp)?;
    tcp.set_nodelay(true)?;
    let stream = acceptor.accept(Ahead::new(tcp)).await?;
    let tls = stream.get_ref().1;
    let exporter =
        tls.export_keying_material([0; 32], EXPORTER_LABEL, None).map_err(io::Error::other)?;
    let info = ConnectInfo::of(remote, tls, exporter).map_err(io::Error::other)?;
    Ok(TlsConnection { stream: Gathered::new(stream), info, end: None, _place: place })
}

/// A connection whose handshake is done.
#[derive(Debug)]
pub struct TlsConnection {
    stream: Gathered<TlsStream<Ahead<TcpStream>>>,
    info: ConnectInfo,
    /// When the connection has to end, if it has to.
    end: Option<Pin<Box<Sleep>>>,
    _place: Place,
}

impl TlsConnection {
    pub(crate) fn limit_strangers(&mut self, limit: Duration) {
        if self.info.peer().is_none() {
            self.end = Some(Box::pin(sleep(limit)));
        }
    }

    /// Fails once the time is over. An HTTP/2 connection is read all the time, so this wakes it.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let is_over = self.end.as_mut().is_some_and(|end| end.as_mut().poll(cx).is_ready());
        if is_over {
            let why = "a connection without a certificate has used up its time";
            return Err(io::Error::new(io::ErrorKind::TimedOut, why));
        }
        Ok(())
    }
}

impl Connected for TlsConnection {
    type ConnectInfo = ConnectInfo;

    fn connect_info(&self) -> ConnectInfo {
        self.info.clone()
    }
}

impl AsyncRead for TlsConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_end(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for TlsConnection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
