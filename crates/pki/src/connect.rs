//! The calling end: a connector for tonic's `Endpoint::connect_with_connector`.
//!
//! The endpoint's URI says where to connect and, for callers, which host the certificate has to name. Its
//! scheme is of no account: TLS is always spoken. Write `http://`: a tonic built with TLS of its
//! own would wrap `https://` a second time.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tower::Service;

use crate::ahead::Ahead;
use crate::counted::{Counted, Counter};
use crate::gather::Gathered;
use crate::server::{ConnectInfo, EXPORTER_LABEL};

/// A connection to a server.
pub type Connection = Gathered<TlsStream<Ahead<Counted<TcpStream>>>>;

/// Is told of each new connection.
type Observer = Arc<dyn Fn(&ConnectInfo) + Send + Sync>;

/// Opens TLS connections for tonic, with TCP_NODELAY. Cheap to clone.
#[derive(Clone)]
pub struct Connector {
    tls: TlsConnector,
    limit: Duration,
    tcp_limit: Duration,
    observer: Option<Observer>,
    sent: Option<Counter>,
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").field("limit", &self.limit).finish_non_exhaustive()
    }
}

impl Connector {
    /// Connects with a configuration from [`crate::tls`]; `limit` bounds the time from looking up the host
    /// to the end of the handshake.
    #[must_use]
    pub fn new(config: Arc<ClientConfig>, limit: Duration) -> Self {
        Self { tls: config.into(), limit, tcp_limit: limit, observer: None, sent: None }
    }

    /// Bounds the wait for each address of the host on its own: a silent one leaves time for the next.
    #[must_use]
    pub fn tcp_limit(self, tcp_limit: Duration) -> Self {
        Self { tcp_limit, ..self }
    }

    /// Tells somebody of each new connection: who answers, and the keying material that a join is bound to.
    #[must_use]
    pub fn on_connect(mut self, observer: impl Fn(&ConnectInfo) + Send + Sync + 'static) -> Self {
        self.observer = Some(Arc::new(observer));
        self
    }

    /// Tells somebody how many bytes are sent, TLS and its handshake included, after each write.
    #[must_use]
    pub fn on_sent(mut self, count: impl Fn(usize) + Send + Sync + 'static) -> Self {
        self.sent = Some(Arc::new(count));
        self
    }

    async fn connect(self, uri: Uri) -> io::Result<TokioIo<Connection>> {
        let limit = self.limit;
        let stream = timeout(limit, self.shake_hands(&uri)).await.map_err(|_| {
            let why = format!("no connection to {uri} within {limit:?}");
            io::Error::new(io::ErrorKind::TimedOut, why)
        })??;
        Ok(TokioIo::new(stream))
    }

    async fn shake_hands(self, uri: &Uri) -> io::Result<Connection> {
        let (host, port) = host_and_port(uri)?;
        let name = ServerName::try_from(host.to_owned()).map_err(invalid)?;
        let (tcp, remote) = connect_tcp(host, port, self.tcp_limit).await?;
        let stream = self.tls.connect(name, Ahead::new(Counted::new(tcp, self.sent))).await?;
        if let Some(observer) = &self.observer {
            let tls = stream.get_ref().1;
            let exporter = tls
                .export_keying_material([0; 32], EXPORTER_LABEL, None)
                .map_err(io::Error::other)?;
            observer(&ConnectInfo::of(remote, tls, exporter).map_err(io::Error::other)?);
        }
        Ok(Gathered::new(stream))
    }
}

/// Tries the addresses of a host in turn.
async fn connect_tcp(
    host: &str,
    port: u16,
    limit: Duration,
) -> io::Result<(TcpStream, SocketAddr)> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, format!("{host} has no address"));
    for address in lookup_host((host, port)).await? {
        match timeout(limit, TcpStream::connect(address)).await {
            Ok(Ok(tcp)) => {
                tcp.set_nodelay(true)?;
                return Ok((tcp, address));
            }
            Ok(Err(error)) => last = error,
            Err(_) => {
                last = io::Error::new(io::ErrorKind::TimedOut, format!("{address} is silent"))
            }
        }
    }
    Err(last)
}

fn host_and_port(uri: &Uri) -> io::Result<(&str, u16)> {
    let host = uri.host().ok_or_else(|| invalid("a URI without a host"))?;
    let port = uri.port_u16().ok_or_else(|| invalid("a URI without a port"))?;
    // RFC 3986 writes IPv6 addresses in brackets, everybody else without.
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    Ok((bare.unwrap_or(host), port))
}

fn invalid(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why)
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Connection>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().connect(uri))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uri_needs_host_and_port() {
        for (uri, host, port) in [
            ("http://127.0.1.11:7101", "127.0.1.11", 7101),
            ("https://[::1]:7101", "::1", 7101),
            ("http://kms.example:443/x", "kms.example", 443),
        ] {
            let uri = Uri::from_static(uri);
            assert_eq!(host_and_port(&uri).unwrap(), (host, port));
        }
        assert!(host_and_port(&Uri::from_static("http://host")).is_err());
        assert!(host_and_port(&Uri::from_static("/path")).is_err());
    }
}
