//! Connections that the node has accepted too.
//!
//! A client of TLS 1.3 has finished its handshake before the node has looked at its certificate: the node's refusal
//! is the first thing that it reads (RFC 8446, 4.4.2.4 and 6.2). A call that is on its way by then runs into a
//! closed door, and nobody can tell any more why, nor whether it got through. So a new connection waits for the
//! node's first word, which comes unasked: its HTTP/2 settings (RFC 9113, 3.4), or the refusal, with which the
//! connection never was and no call left over it. That costs each connection one round trip.
//!
//! A proxy may want to hear the client first. After [`FIRST_WORD_MAX`] the connection is taken as it is.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::io::AsyncBufRead as _;
use tokio::time::{Instant, timeout_at};
use tonic::transport::Uri;
use tower::Service;
use twinkeep_pki::Connector;
use twinkeep_pki::connect::Connection;

/// Longest wait for a node's first word: many round trips between zones.
const FIRST_WORD_MAX: Duration = Duration::from_millis(250);

/// Opens connections, and waits for the node's first word on them. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Dialler {
    connector: Connector,
    limit: Duration,
}

impl Dialler {
    /// `limit` bounds the time of the whole.
    pub(crate) fn new(connector: Connector, limit: Duration) -> Self {
        Self { connector, limit }
    }
}

impl Service<Uri> for Dialler {
    type Response = <Connector as Service<Uri>>::Response;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Self::Response>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.connector.poll_ready(cx)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let deadline = Instant::now() + self.limit;
        let address = uri.authority().map(ToString::to_string).unwrap_or_default();
        let connecting = self.connector.call(uri);
        let accepted = async move {
            let mut connection = connecting.await.map_err(|error| at(&address, error))?;
            let patience = deadline.min(Instant::now() + FIRST_WORD_MAX);
            let word = timeout_at(patience, first_word(connection.inner_mut()));
            // Silence is no answer: whoever is there may wait for ours.
            word.await.unwrap_or(Ok(()))?;
            Ok(connection)
        };
        accepted.boxed()
    }
}

/// Adds the address to what the operating system says, which does not name it. Other errors have causes of their own,
/// by which they are told apart.
fn at(address: &str, error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(_) => io::Error::new(error.kind(), format!("cannot connect to {address}: {error}")),
        None => error,
    }
}

/// Waits until there is something to read, and takes none of it. A connection that ends first never was, however
/// politely it ends: a node that shuts down, or a proxy without one behind it, says no more than that it closes.
async fn first_word(connection: &mut Connection) -> io::Result<()> {
    let filled = |word: &[u8]| !word.is_empty();
    match poll_fn(|cx| Pin::new(&mut *connection).poll_fill_buf(cx).map_ok(filled)).await? {
        true => Ok(()),
        false => {
            let why = "the node closed the connection before its first word";
            Err(io::Error::new(io::ErrorKind::UnexpectedEof, why))
        }
    }
}
