//! Accepts connections and hands them to the threads that serve them.
//!
//! One task accepts, and gives each connection to the lane that has the fewest, of those that have room. A lane
//! belongs to one thread with a runtime of its own: there the handshake is done and there the connection stays,
//! so that nothing of a call crosses threads. A thread that is stuck holds up the connections of its own lane and no
//! others. The bounds on handshakes and connections hold over all lanes.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpStream as StdTcpStream};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::select_ok;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::Permit;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_stream::Stream;
use tracing::{Instrument, debug, info_span, warn};

use crate::server::{Limits, TlsConnection, shake_hands};

/// Pause after an accept that failed for want of file descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Connections that wait between accepting and a lane, and between a lane and its server.
const READY_MAX: usize = 64;

/// Accepts connections and does their handshakes side by side, in tasks of their own on this runtime.
#[must_use]
pub fn incoming(listener: TcpListener, config: Arc<ServerConfig>, limits: Limits) -> Incoming {
    let mut lanes = lanes(listener, config, limits, 1);
    lanes.remove(0).incoming()
}

/// Accepts connections on this runtime, for `count` threads, at least one.
#[must_use]
pub fn lanes(
    listener: TcpListener,
    config: Arc<ServerConfig>,
    limits: Limits,
    count: usize,
) -> Vec<Lane> {
    let ends: Vec<_> = (0..count.max(1)).map(|_| mpsc::channel(READY_MAX)).collect();
    let open: Vec<_> = ends.iter().map(|_| Arc::new(AtomicUsize::new(0))).collect();
    let senders =
        ends.iter().zip(&open).map(|((sender, _), open)| (sender.clone(), Arc::clone(open)));
    let door = Door {
        handshakes: Arc::new(Semaphore::new(limits.handshakes_max)),
        connections: Arc::new(Semaphore::new(limits.connections_max)),
        lanes: senders.collect(),
    };
    let span = info_span!("accept", local = ?listener.local_addr().ok());
    let accepting = tokio::spawn(door.accept_all(listener).instrument(span.clone()));
    let accepting = Arc::new(Accepting(accepting.abort_handle()));
    let acceptor = TlsAcceptor::from(config);
    let lane = |(_, accepted)| Lane {
        accepted,
        acceptor: acceptor.clone(),
        limits,
        span: span.clone(),
        accepting: Arc::clone(&accepting),
    };
    ends.into_iter().map(lane).collect()
}

/// The connections of one thread. When all lanes are gone, nothing is accepted any more.
pub struct Lane {
    accepted: mpsc::Receiver<Accepted>,
    acceptor: TlsAcceptor,
    limits: Limits,
    span: tracing::Span,
    accepting: Arc<Accepting>,
}

/// Finished connections of one lane.
#[derive(Debug)]
pub struct Incoming {
    ready: mpsc::Receiver<TlsConnection>,
    greeting: AbortHandle,
    _accepting: Arc<Accepting>,
}

/// Ends the accepting task with the last who has a use for it.
#[derive(Debug)]
struct Accepting(AbortHandle);

impl Drop for Accepting {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What a connection occupies for as long as it lives.
#[derive(Debug)]
pub(crate) struct Place {
    _connection: OwnedSemaphorePermit,
    open: Arc<AtomicUsize>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection without its handshake. Of the operating system alone: a lane has another runtime.
#[derive(Debug)]
struct Accepted {
    tcp: StdTcpStream,
    remote: SocketAddr,
    place: Place,
    handshake: OwnedSemaphorePermit,
}

impl fmt::Debug for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lane").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl Lane {
    /// Does the handshakes of this lane's connections, side by side, on the runtime that this is called in.
    #[must_use]
    pub fn incoming(self) -> Incoming {
        let Self { mut accepted, acceptor, limits, span, accepting } = self;
        let (sender, ready) = mpsc::channel(READY_MAX);
        let greet_all = async move {
            while let Some(accepted) = accepted.recv().await {
                let greeting = greet(acceptor.clone(), limits, accepted, sender.clone());
                tokio::spawn(greeting.in_current_span());
            }
        };
        let greeting = tokio::spawn(greet_all.instrument(span)).abort_handle();
        Incoming { ready, greeting, _accepting: accepting }
    }
}

impl Stream for Incoming {
    type Item = Result<TlsConnection, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.ready.poll_recv(cx).map(|connection| connection.map(Ok))
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        self.greeting.abort();
    }
}

struct Door {
    handshakes: Arc<Semaphore>,
    connections: Arc<Semaphore>,
    lanes: Vec<(mpsc::Sender<Accepted>, Arc<AtomicUsize>)>,
}

impl Door {
    async fn accept_all(self, listener: TcpListener) {
        loop {
            let connection = permit(&self.connections).await;
            let handshake = permit(&self.handshakes).await;
            match listener.accept().await {
                Ok((tcp, remote)) => self.hand_on(tcp, remote, connection, handshake).await,
                // The connection broke while it waited in the backlog; that is its own affair.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    warn!(%error, "accept failed");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Gives a connection to the lane that has the fewest.
    async fn hand_on(
        &self,
        tcp: TcpStream,
        remote: SocketAddr,
        connection: OwnedSemaphorePermit,
        handshake: OwnedSemaphorePermit,
    ) {
        let tcp = match tcp.into_std() {
            Ok(tcp) => tcp,
            Err(error) => return debug!(%remote, %error, "connection broke at once"),
        };
        // All lanes are gone only when the server stops; the connection ends with it.
        let Some((room, open)) = self.room().await else { return };
        open.fetch_add(1, Ordering::Relaxed);
        let place = Place { _connection: connection, open: Arc::clone(open) };
        room.send(Accepted { tcp, remote, place, handshake });
    }

    /// Returns room in the lane that has the fewest connections, of those that have any; waits only while none has.
    /// `None` if all lanes are gone.
    async fn room(&self) -> Option<(Permit<'_, Accepted>, &Arc<AtomicUsize>)> {
        let free =
            self.lanes.iter().filter_map(|(lane, open)| Some((lane.try_reserve().ok()?, open)));
        if let Some(fewest) = free.min_by_key(|(_, open)| open.load(Ordering::Relaxed)) {
            return Some(fewest);
        }
        let first = self.lanes.iter().map(|(lane, open)| {
            Box::pin(async move { lane.reserve().await.map(|room| (room, open)) })
        });
        select_ok(first).await.ok().map(|(room, _)| room)
    }
}

async fn greet(
    acceptor: TlsAcceptor,
    limits: Limits,
    accepted: Accepted,
    ready: mpsc::Sender<TlsConnection>,
) {
    let Accepted { tcp, remote, place, handshake } = accepted;
    match timeout(limits.handshake, shake_hands(&acceptor, tcp, remote, place)).await {
        // The permit goes back before the wait for tonic: finished handshakes hold up no other.
        Ok(Ok(mut finished)) => {
            finished.limit_strangers(limits.without_certificate);
            drop(handshake);
            // The receiver is gone only when the server stops; the connection ends with it.
            ready.send(finished).await.ok();
        }
        Ok(Err(error)) => debug!(%remote, %error, "handshake failed"),
        Err(_) => debug!(%remote, "handshake took too long"),
    }
}

async fn permit(semaphore: &Arc<Semaphore>) -> OwnedSemaphorePermit {
    Arc::clone(semaphore).acquire_owned().await.expect("the semaphore is never closed")
}
