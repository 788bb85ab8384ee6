//! A gRPC client of the barest kind: HTTP/2 frames in and out, messages as bytes.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, ensure};
use bytes::{BufMut, Bytes, BytesMut};
use h2::client::SendRequest;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Method, Request};
use prost::Message;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Window of a call and of a connection, in bytes: answers never wait for room.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 64 << 20;
/// Length of gRPC's frame header: a flag and the length of the message.
pub(crate) const FRAME_HEADER_BYTES: usize = 5;

/// Why a call had no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// The service refused it.
    #[error("gRPC status {code}: {message}")]
    Refused {
        /// The number of the gRPC status.
        code: u32,
        /// What the service says.
        message: String,
    },
    /// The connection failed, or what came is no gRPC.
    #[error("the connection failed: {0}")]
    Connection(String),
}

impl From<h2::Error> for CallError {
    fn from(error: h2::Error) -> Self {
        Self::Connection(error.to_string())
    }
}

/// An open connection. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Connection {
    requests: SendRequest<Bytes>,
    authority: Arc<str>,
}

/// A call ready to be sent any number of times.
#[derive(Debug, Clone)]
pub(crate) struct Prepared {
    connection: Connection,
    head: Request<()>,
}

/// A bidirectional stream that is open: what is sent, and what comes.
pub(crate) type OpenStream = (SendStream<Bytes>, RecvStream);

/// Puts a message into a gRPC frame.
pub(crate) fn frame(message: &impl Message) -> Bytes {
    let len = message.encoded_len();
    let mut frame = BytesMut::with_capacity(FRAME_HEADER_BYTES + len);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(len).expect("messages of benchmarks are short"));
    message.encode(&mut frame).expect("the buffer grows as needed");
    frame.freeze()
}

impl Connection {
    /// Connects; without TLS where there is no configuration for it.
    pub(crate) async fn open(
        address: SocketAddr,
        tls: Option<&Arc<ClientConfig>>,
    ) -> anyhow::Result<Self> {
        let tcp = TcpStream::connect(address)
            .await
            .with_context(|| format!("nobody listens on {address}"))?;
        tcp.set_nodelay(true)?;
        let authority = address.to_string().into();
        let requests = match tls {
            None => handshake(tcp).await?,
            Some(config) => {
                let name = ServerName::from(address.ip());
                let stream = TlsConnector::from(Arc::clone(config)).connect(name, tcp).await;
                handshake(stream.with_context(|| format!("no TLS with {address}"))?).await?
            }
        };
        Ok(Self { requests, authority })
    }

    /// Prepares calls of a method, which is written `/package.Service/Method`.
    pub(crate) fn prepare(&self, method: &str) -> anyhow::Result<Prepared> {
        let head = Request::builder()
            .method(Method::POST)
            .uri(format!("http://{}{method}", self.authority))
            .header(http::header::CONTENT_TYPE, "application/grpc")
            .header(http::header::TE, "trailers")
            .body(())
            .with_context(|| format!("{method} is no method"))?;
        Ok(Prepared { connection: self.clone(), head })
    }
}

async fn handshake(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> anyhow::Result<SendRequest<Bytes>> {
    let (requests, connection) = h2::client::Builder::new()
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .handshake(io)
        .await
        .context("no HTTP/2")?;
    // What goes wrong here is seen by the calls on it.
    tokio::spawn(connection);
    Ok(requests)
}

impl Prepared {
    /// Sends one framed message and returns the framed answer.
    pub(crate) async fn call(&self, frame: Bytes) -> Result<Bytes, CallError> {
        self.opened().await?.finish(frame).await
    }

    /// Returns how many calls the server takes on this connection at a time. h2 takes further ones and keeps
    /// them to itself until there is room.
    pub(crate) fn calls_max(&self) -> usize {
        self.connection.requests.current_max_send_streams()
    }

    /// Waits until the connection takes a call.
    pub(crate) async fn opened(&self) -> Result<Opened<'_>, CallError> {
        let requests = self.connection.requests.clone().ready().await?;
        Ok(Opened { requests, head: &self.head })
    }

    /// Sends one message and decodes the answer.
    pub(crate) async fn ask<A>(&self, message: &impl Message) -> anyhow::Result<A>
    where
        A: Message + Default,
    {
        let answer = self.call(frame(message)).await?;
        ensure!(answer.len() >= FRAME_HEADER_BYTES, "the answer has no frame");
        A::decode(answer.slice(FRAME_HEADER_BYTES..)).context("the answer cannot be decoded")
    }

    /// Opens a bidirectional stream.
    pub(crate) async fn stream(&self) -> Result<OpenStream, CallError> {
        let mut requests = self.connection.requests.clone().ready().await?;
        let (answer, send) = requests.send_request(self.head.clone(), false)?;
        let answer = answer.await?;
        refuse(answer.headers())?;
        Ok((send, answer.into_body()))
    }
}

/// A call whose turn has come.
pub(crate) struct Opened<'a> {
    requests: SendRequest<Bytes>,
    head: &'a Request<()>,
}

impl Opened<'_> {
    /// Sends the framed message and returns the framed answer.
    pub(crate) async fn finish(mut self, frame: Bytes) -> Result<Bytes, CallError> {
        let (answer, mut send) = self.requests.send_request(self.head.clone(), false)?;
        send.send_data(frame, true)?;
        let answer = answer.await?;
        refuse(answer.headers())?;
        let mut body = answer.into_body();
        let message = whole(&mut body).await?;
        let trailers = body.trailers().await?;
        refuse(trailers.as_ref().unwrap_or(&HeaderMap::new()))?;
        Ok(message)
    }
}

/// Reads a body to its end. Nearly always it is one piece, which is not copied.
async fn whole(body: &mut RecvStream) -> Result<Bytes, CallError> {
    let mut message = Bytes::new();
    while let Some(piece) = body.data().await {
        let piece = piece?;
        body.flow_control().release_capacity(piece.len())?;
        message = if message.is_empty() { piece } else { [message, piece].concat().into() };
    }
    Ok(message)
}

/// Fails when headers or trailers hold a status other than OK.
fn refuse(headers: &HeaderMap) -> Result<(), CallError> {
    let Some(code) = headers.get("grpc-status") else { return Ok(()) };
    let code = code.to_str().ok().and_then(|code| code.parse().ok()).unwrap_or(2);
    if code == 0 {
        return Ok(());
    }
    let message = headers.get("grpc-message").and_then(|text| text.to_str().ok());
    Err(CallError::Refused { code, message: message.unwrap_or_default().to_owned() })
}
