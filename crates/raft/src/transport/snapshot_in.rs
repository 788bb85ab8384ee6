//! Snapshots that come in: from the leader to be installed, or fetched to be kept.
//!
//! The signature over the manifest is checked before a byte of a file is taken, and the files against
//! the manifest before anything opens them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt, TryStreamExt};
use parking_lot::Mutex;
use tokio::sync::OwnedMutexGuard;
use tokio::time::timeout;
use tonic::{Extensions, Status, Streaming};
use twinkeep_proto::peer::v1 as pb;

use super::admission::{self, malformed};
use super::append::stopped;
use super::server::PeerServer;
use super::{Peer, Purpose, wire};
use crate::blocking::blocking;
use crate::observe::observe;
use crate::snapshot::{SnapshotData, Snapshots, Unusable};
use crate::types::{LogId, SnapshotMeta, Vote};

/// Held while a snapshot arrives.
type Turn = tokio::sync::Mutex<()>;

/// Lets each peer send one snapshot at a time: copies of one that was signed once would otherwise fill
/// the disk. One turn per peer, so that none of them can keep the leader's out.
#[derive(Clone, Default)]
pub(super) struct Receptions(Arc<Mutex<BTreeMap<u64, Arc<Turn>>>>);

impl Receptions {
    /// Waits until nothing else arrives from a peer; a leader that begins again may be faster than the
    /// end of what it broke off.
    async fn turn(&self, from: u64, limit: Duration) -> Result<OwnedMutexGuard<()>, Status> {
        let turn = Arc::clone(self.0.lock().entry(from).or_default());
        let held = timeout(limit, turn.lock_owned()).await;
        held.map_err(|_| Status::resource_exhausted("another snapshot is arriving from this node"))
    }
}

/// Takes in the leader's snapshot and installs it; returns the vote that this node holds then.
pub(super) async fn install(
    server: &PeerServer,
    connection: &Extensions,
    mut messages: Streaming<pb::InstallSnapshotRequest>,
) -> Result<Vote, Status> {
    use pb::install_snapshot_request::Part;
    let first = messages.message().await?.and_then(|message| message.part);
    let Some(Part::Head(head)) = first else {
        return Err(malformed("a snapshot begins with its head"));
    };
    let from = server.admission.admit(connection, head.header.as_ref())?;
    let vote = wire::vote_in(head.vote).map_err(|e| malformed(e.to_string()))?;
    admission::leadership(from, &vote)?;
    let heard = server.hear(head.header.as_ref())?;
    if let Some(greater) = server.leader_below(&vote)? {
        return Ok(greater);
    }
    let shared = &server.shared;
    let check = |meta: &SnapshotMeta| {
        let committed = observe(&shared.raft, |metrics| metrics.local_committed);
        check_place(meta.last_log_id, &vote, committed)
    };
    let chunks = messages.map(|message| match message?.part {
        Some(Part::Chunk(chunk)) => Ok(chunk),
        _ => Err(malformed("only chunks follow the head of a snapshot")),
    });
    let limit = shared.config.snapshot_timeout;
    let _turn = server.receptions.turn(from, limit).await?;
    let signed = &head.signed_manifest;
    let data = receive(&shared.snapshots, signed, chunks, limit, check).await?;
    let answer = shared.raft.install_full_snapshot(vote, data.into_snapshot()).await;
    let answer = answer.map_err(|fatal| stopped(&fatal))?;
    server.hear_again(heard)?;
    Ok(answer.vote)
}

/// Checks what openraft asserts of a snapshot that it installs.
fn check_place(last: Option<LogId>, vote: &Vote, committed: Option<LogId>) -> Result<(), Status> {
    let Some(last) = last else { return Err(malformed("the snapshot is of an empty state")) };
    if last.leader_id > vote.leader_id {
        return Err(malformed("the snapshot ends in the term of a later leader"));
    }
    match committed {
        Some(committed) if last > committed && last.index <= committed.index => {
            Err(malformed("the snapshot contradicts entries that are committed here"))
        }
        _ => Ok(()),
    }
}

/// Fetches the newest signed snapshot of a peer, if `check` likes what it covers, and keeps it.
pub(crate) async fn fetch(
    peer: &Peer,
    snapshots: &Snapshots,
    limit: Duration,
    check: impl FnOnce(&SnapshotMeta) -> Result<(), Status>,
) -> Result<SnapshotData, Status> {
    use pb::fetch_snapshot_response::Part;
    let client = peer.client(Purpose::Snapshots);
    let (mut client, header) = client.map_err(|e| Status::unavailable(e.to_string()))?;
    let call = client.fetch_snapshot(pb::FetchSnapshotRequest { header: Some(header) });
    let mut messages =
        timeout(limit, call).await.map_err(|_| Status::deadline_exceeded("late"))??.into_inner();
    let Some(Part::SignedManifest(signed)) = messages.message().await?.and_then(|m| m.part) else {
        return Err(malformed("a snapshot begins with its manifest"));
    };
    let chunks = messages.map(|message| match message?.part {
        Some(Part::Chunk(chunk)) => Ok(chunk),
        _ => Err(malformed("only chunks follow the manifest of a snapshot")),
    });
    receive(snapshots, &signed, chunks, limit, check).await
}

/// Takes in the files of a snapshot. Gives up when nothing comes for `limit`.
async fn receive(
    snapshots: &Snapshots,
    signed: &[u8],
    chunks: impl Stream<Item = Result<pb::SnapshotChunk, Status>>,
    limit: Duration,
    check: impl FnOnce(&SnapshotMeta) -> Result<(), Status>,
) -> Result<SnapshotData, Status> {
    let mut incoming = blocking(|| snapshots.receive(signed)).map_err(refused)?;
    check(&incoming.meta())?;
    let mut chunks = std::pin::pin!(chunks);
    loop {
        let next = timeout(limit, chunks.try_next()).await;
        let next = next.map_err(|_| Status::deadline_exceeded("the snapshot came to a halt"))?;
        let Some(chunk) = next? else { break };
        blocking(|| incoming.accept(chunk.number, &chunk.data)).map_err(refused)?;
    }
    blocking(|| incoming.finish()).map_err(refused)
}

fn refused(error: Unusable) -> Status {
    tracing::warn!(error = &error as &dyn std::error::Error, "refused a snapshot");
    malformed(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::LeaderId;

    #[tokio::test]
    async fn each_peer_sends_one_snapshot_at_a_time() {
        let (receptions, limit) = (Receptions::default(), Duration::from_millis(20));
        let first = receptions.turn(1, limit).await.unwrap();
        receptions.turn(1, limit).await.unwrap_err();
        receptions.turn(2, limit).await.unwrap();
        drop(first);
        receptions.turn(1, limit).await.unwrap();
    }

    fn id(term: u64, index: u64) -> Option<LogId> {
        Some(LogId::new(LeaderId { term, node_id: 1 }, index))
    }

    #[test]
    fn a_snapshot_that_openraft_would_choke_on_is_refused() {
        let vote = Vote::new_committed(5, 1);
        check_place(id(5, 9), &vote, None).unwrap();
        check_place(id(5, 9), &vote, id(4, 8)).unwrap();
        check_place(id(3, 4), &vote, id(4, 8)).unwrap();
        check_place(None, &vote, None).unwrap_err();
        check_place(id(6, 9), &vote, None).unwrap_err();
        check_place(id(5, 8), &vote, id(4, 8)).unwrap_err();
        check_place(id(5, 7), &vote, id(4, 8)).unwrap_err();
    }
}
