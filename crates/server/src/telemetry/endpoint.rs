//! The metrics' endpoint: `GET /metrics` over plain HTTP.
//!
//! A node that is busy, sealed, or has no disk for its audit log shows that here, so nothing of what
//! serves callers stands in between: it runs on telemetry's own thread. There is no authentication: the address is a loopback one or in
//! the vSwitch, which the configuration makes sure of, and the text holds no names of keys or callers.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use super::exposition;
use super::scrape::Scrape;

/// Connections at one time; further ones wait.
const CONNECTIONS_MAX: usize = 16;
/// Longest wait for the head of a request.
const HEAD_MAX: Duration = Duration::from_secs(10);
/// Longest life of a connection: a Prometheus keeps its own open and makes a new one then.
const CONNECTION_MAX: Duration = Duration::from_secs(600);
/// Pause after a connection could not be accepted, mostly for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Listens; called within a runtime.
///
/// # Errors
/// When the address cannot be listened on.
pub(super) fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    std::net::TcpListener::bind(address)
        .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
        .and_then(TcpListener::from_std)
        .with_context(|| format!("metrics.address {address} cannot be listened on"))
}

/// Answers until the process ends.
pub(super) async fn serve(listener: TcpListener, scrape: Arc<Scrape>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let place = Arc::clone(&places).acquire_owned().await;
        let place = place.expect("the semaphore is never closed");
        match listener.accept().await {
            Ok((stream, _)) => {
                let scrape = Arc::clone(&scrape);
                tokio::spawn(async move {
                    answer_all(stream, scrape).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a reader of metrics was not accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn answer_all(stream: TcpStream, scrape: Arc<Scrape>) {
    let service = service_fn(move |request| {
        let answer = answer(&request, &scrape);
        async move { Ok::<_, Infallible>(answer) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_MAX)
        .serve_connection(TokioIo::new(stream), service);
    if let Ok(Err(error)) = timeout(CONNECTION_MAX, connection).await {
        tracing::debug!(%error, "a reader of metrics went away");
    }
}

fn answer(request: &Request<Incoming>, scrape: &Scrape) -> Response<Full<Bytes>> {
    let (status, header, body) = match (request.method(), request.uri().path()) {
        (&Method::GET, "/metrics") => {
            (StatusCode::OK, (CONTENT_TYPE, exposition::CONTENT_TYPE), scrape.text())
        }
        (_, "/metrics") => (StatusCode::METHOD_NOT_ALLOWED, (ALLOW, "GET"), String::new()),
        _ => {
            let body = "the metrics are at /metrics\n".to_owned();
            (StatusCode::NOT_FOUND, (CONTENT_TYPE, "text/plain"), body)
        }
    };
    let answer = Response::builder().status(status).header(header.0, header.1);
    answer.body(Full::new(body.into())).expect("our own headers are valid")
}
