//! Snapshots that leave this node: the leader's to a peer, or fetched by one.

use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout_at};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::transport::Channel;
use twinkeep_proto::peer::v1 as pb;
use twinkeep_proto::peer::v1::peer_service_client::PeerServiceClient;
use twinkeep_storage::snapshot::Snapshot;

use super::wire;
use crate::node::Shared;
use crate::types::Vote;

/// Chunks that are read ahead of the network.
const READ_AHEAD: usize = 2;

/// Why a snapshot did not arrive.
pub(super) enum Failure {
    /// Nothing moved for too long.
    Late,
    /// The peer or the connection refused.
    Refused(Status),
}

/// Sends a snapshot and waits until the peer has installed or refused it. Gives up when neither a
/// chunk nor an answer moved for `limit`.
pub(super) async fn install(
    mut client: PeerServiceClient<Channel>,
    header: pb::Header,
    vote: Vote,
    snapshot: Arc<Snapshot>,
    limit: Duration,
) -> Result<pb::InstallSnapshotResponse, Failure> {
    use pb::install_snapshot_request::Part;
    let head = pb::InstallSnapshotHead {
        header: Some(header),
        vote: Some(wire::vote_out(&vote)),
        signed_manifest: snapshot.signed().encode().into(),
    };
    let (moved, last_move) = watch::channel(Instant::now());
    let parts = futures::stream::once(async { Part::Head(head) })
        .chain(chunks(snapshot).map(Part::Chunk))
        .map(move |part| {
            moved.send_replace(Instant::now());
            pb::InstallSnapshotRequest { part: Some(part) }
        });
    let mut call = Box::pin(client.install_snapshot(parts));
    loop {
        let until = *last_move.borrow() + limit;
        match timeout_at(until, &mut call).await {
            Ok(Ok(answer)) => return Ok(answer.into_inner()),
            Ok(Err(status)) => return Err(Failure::Refused(status)),
            Err(_) if *last_move.borrow() + limit > Instant::now() => {}
            Err(_) => return Err(Failure::Late),
        }
    }
}

/// Answers a peer that fetches the newest signed snapshot.
pub(super) fn fetched(
    shared: &Shared,
) -> Result<impl Stream<Item = Result<pb::FetchSnapshotResponse, Status>> + use<>, Status> {
    use pb::fetch_snapshot_response::Part;
    let newest = shared.snapshots.newest().map_err(|error| {
        tracing::error!(error = &error as &dyn std::error::Error, "no snapshot can be read");
        Status::internal("the newest snapshot cannot be read")
    })?;
    let stored = newest.and_then(|newest| newest.stored().cloned());
    let snapshot = stored.ok_or_else(|| Status::not_found("this node has no snapshot"))?;
    let signed = Part::SignedManifest(snapshot.signed().encode().into());
    let parts = futures::stream::once(async { signed }).chain(chunks(snapshot).map(Part::Chunk));
    Ok(parts.map(|part| Ok(pb::FetchSnapshotResponse { part: Some(part) })))
}

/// Reads a snapshot chunk by chunk, a little ahead of the network. Ends early when a file is not what
/// was signed; the receiver misses the rest and keeps nothing.
fn chunks(snapshot: Arc<Snapshot>) -> impl Stream<Item = pb::SnapshotChunk> + Send {
    let (chunks, read) = mpsc::channel(READ_AHEAD);
    tokio::task::spawn_blocking(move || {
        for (number, chunk) in (0..).zip(snapshot.chunks(0)) {
            let data = match chunk {
                Ok(data) => data.into(),
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    return tracing::error!(error, "a snapshot cannot be read");
                }
            };
            if chunks.blocking_send(pb::SnapshotChunk { number, data }).is_err() {
                // The transfer was given up.
                return;
            }
        }
    });
    ReceiverStream::new(read)
}
