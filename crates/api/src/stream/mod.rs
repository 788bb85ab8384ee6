//! `CryptoService.CryptoStream`: many calls over one stream.
//!
//! A unary gRPC call costs far more than the envelope that it asks for; a message on a stream that is open
//! costs about as much. So a caller opens one stream and sends its calls over it. Each is let in by the
//! gate like a single call, with its own permission, audit record, deadline and answer.
//!
//! | file          | holds                                                                   |
//! |---------------|-------------------------------------------------------------------------|
//! | `driver.rs`   | [`Driver`]: reads calls, hands answers on, decides when the stream ends |
//! | `open.rs`     | [`open::Open`]: the calls that could not be answered at once            |
//! | `dispatch.rs` | from a message to the operation that it asks for                        |
//!
//! Symmetric calls are answered where they are read, without a task or a queue of their own. What has to
//! wait (a worker for RSA, the disk for the audit record, the state) becomes a task, so that it goes on
//! while the caller is slow to read.

mod dispatch;
mod driver;
mod open;

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use twinkeep_proto::v1;

pub(crate) use self::driver::Driver;
use crate::authorize::{Gate, Session};
use crate::crypto::Crypto;
use crate::metrics::StreamMeter;
use crate::operation as op;
use crate::status;

/// What all calls of a stream share.
struct Shared {
    session: Session,
    crypto: Crypto,
    meter: StreamMeter,
}

/// Opens a stream, or says why not.
pub(crate) async fn open(
    gate: &Arc<Gate>,
    crypto: &Crypto,
    stop: &CancellationToken,
    request: Request<Streaming<v1::CryptoStreamRequest>>,
) -> Result<Response<Driver>, Status> {
    let (metadata, extensions, incoming) = request.into_parts();
    let (session, id) = gate.open::<op::CryptoStream>(&metadata, &extensions).await?;
    let shared =
        Arc::new(Shared { session, crypto: crypto.clone(), meter: StreamMeter::default() });
    Ok(status::tagged(Response::new(Driver::new(shared, incoming, stop.clone())), id))
}
