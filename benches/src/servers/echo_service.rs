//! The empty service: what tonic, HTTP/2 and TLS cost when nothing is done.
//!
//! It is built as a user would build it: tonic with its defaults, one thread, and the TLS and the settings of
//! a node's endpoint. Each answer is a slice of zeros that exists already.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};
use twinkeep_pki::{Limits, incoming};

use super::certificates;
use crate::proto::echo::echo_server::{Echo, EchoServer};
use crate::proto::echo::{EchoRequest, EchoResponse};

/// Longest answer.
const REPLY_BYTES_MAX: usize = 1 << 20;
static ZEROS: [u8; REPLY_BYTES_MAX] = [0; REPLY_BYTES_MAX];

/// What the echo server is told.
#[derive(Debug, clap::Parser)]
pub struct Arguments {
    /// Folder with its certificates.
    #[arg(long)]
    certificates: PathBuf,
    /// Runs on tokio's runtime for several threads, with one worker, as a node does.
    #[arg(long)]
    multi_thread: bool,
}

/// Listens on a free port, prints the address, and serves until standard input ends.
///
/// # Errors
/// When certificates cannot be used or the port fails.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let runtime = match arguments.multi_thread {
        true => Builder::new_multi_thread().worker_threads(1).enable_all().build()?,
        false => Builder::new_current_thread().enable_all().build()?,
    };
    runtime.block_on(async {
        let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?;
        println!("{}", listener.local_addr()?);
        serve(listener, &arguments.certificates, told_to_end()).await
    })
}

/// Serves until told to end.
pub(crate) async fn serve(
    listener: TcpListener,
    certificates: &Path,
    end: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let tls = certificates::server(certificates)?;
    Server::builder()
        .tcp_nodelay(true)
        .http2_keepalive_interval(Some(Duration::from_secs(10)))
        .add_service(EchoServer::new(Service))
        .serve_with_incoming_shutdown(incoming(listener, tls, Limits::default()), end)
        .await
        .context("the echo server failed")
}

/// Whoever started this process holds the other end of its standard input, until it ends itself.
async fn told_to_end() {
    let mut rest = Vec::new();
    let _ = tokio::io::stdin().read_to_end(&mut rest).await;
}

struct Service;

#[tonic::async_trait]
impl Echo for Service {
    type StreamStream = BoxStream<'static, Result<EchoResponse, Status>>;

    async fn unary(&self, request: Request<EchoRequest>) -> Result<Response<EchoResponse>, Status> {
        answer(&request.into_inner()).map(Response::new)
    }

    async fn stream(
        &self,
        request: Request<Streaming<EchoRequest>>,
    ) -> Result<Response<Self::StreamStream>, Status> {
        let answers = request.into_inner().map(|request| request.and_then(|it| answer(&it)));
        Ok(Response::new(answers.boxed()))
    }
}

fn answer(request: &EchoRequest) -> Result<EchoResponse, Status> {
    let body = usize::try_from(request.reply_bytes).ok().and_then(|len| ZEROS.get(..len));
    let body = body.ok_or_else(|| Status::invalid_argument("the answer would be too long"))?;
    Ok(EchoResponse { body: Bytes::from_static(body) })
}
