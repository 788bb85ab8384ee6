//! Keeps a snapshot that is not far behind the state, so that the log can be purged.
//!
//! An unsealed data node builds one when enough entries have been applied since the last. A sealed
//! one and the witness fetch one from a data node that has; what lies beyond the entries applied
//! here waits until it does not. openraft is then told that there is a new one, and purges the log at
//! most up to it.
//!
//! The state is synced before openraft is told. Its commits are not, a fetched snapshot is: a power
//! cut would leave a state below the snapshots that are kept, which count for nothing then, and below
//! the log that was purged behind them.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use tonic::Status;
use twinkeep_core::topology::NodeRole;

use crate::blocking::blocking;
use crate::metrics::{self, Origin};
use crate::node::Shared;
use crate::snapshot::SnapshotData;
use crate::transport::fetch_snapshot;
use crate::types::{LogId, SnapshotMeta};

/// How often the keeper looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// Runs until Raft stops.
pub(crate) async fn run(shared: Arc<Shared>) {
    loop {
        sleep(LOOK_INTERVAL).await;
        if !is_due(&shared) {
            continue;
        }
        let kept = match built(&shared).await {
            Some(kept) => Some((kept, Origin::Built)),
            None => fetched(&shared).await.map(|kept| (kept, Origin::Fetched)),
        };
        let Some((kept, origin)) = kept else { continue };
        metrics::snapshot(origin);
        tracing::info!(last = ?kept.last_log_id(), "a new snapshot is kept");
        if let Err(error) = blocking(|| shared.state.flush()) {
            let error = &error as &dyn std::error::Error;
            tracing::error!(error, "the state is not on disk; the log stays for the next snapshot");
            continue;
        }
        if shared.raft.trigger().snapshot().await.is_err() {
            return;
        }
    }
}

fn newest_of(shared: &Shared) -> Option<SnapshotData> {
    shared.snapshots.newest().unwrap_or_else(|error| {
        tracing::error!(error = &error as &dyn std::error::Error, "no snapshot can be read");
        None
    })
}

fn newest(shared: &Shared) -> Option<u64> {
    newest_of(shared)?.last_log_id().map(|id| id.index)
}

fn is_due(shared: &Shared) -> bool {
    let applied = shared.applied_index().map_or(0, |index| index + 1);
    let covered = newest(shared).map_or(0, |index| index + 1);
    applied.saturating_sub(covered) >= shared.config.snapshot_every
}

/// Builds a snapshot; `None` when this node cannot sign one.
async fn built(shared: &Shared) -> Option<SnapshotData> {
    if shared.role == NodeRole::Witness {
        return None;
    }
    let snapshots = Arc::clone(&shared.snapshots);
    match tokio::task::spawn_blocking(move || snapshots.build()).await {
        Ok(Ok(built)) => built,
        Err(panicked) => {
            tracing::error!(error = &panicked as &dyn std::error::Error, "no snapshot was built");
            None
        }
        Ok(Err(error)) => {
            tracing::error!(error = &error as &dyn std::error::Error, "no snapshot was built");
            None
        }
    }
}

/// Fetches a snapshot that is newer than the one kept and not beyond what is applied here.
async fn fetched(shared: &Shared) -> Option<SnapshotData> {
    let kept = newest(shared);
    let applied = shared.applied_index();
    let fits = |id: LogId| Some(id.index) > kept && Some(id.index) <= applied;
    let readings = shared.links.readings();
    let source = readings
        .into_iter()
        .filter(|(node, _)| shared.roster.is_data(*node))
        .filter_map(|(node, reading)| Some((reading.snapshot.filter(|id| fits(*id))?, node)))
        .max();
    let (_, node) = source?;
    let peer = shared.links.peer(node, None);
    // The peer may have built a newer one since it said which it has.
    let check = |meta: &SnapshotMeta| match meta.last_log_id {
        Some(last) if fits(last) => Ok(()),
        _ => Err(Status::failed_precondition("the snapshot is beyond what is applied here")),
    };
    let limit = shared.config.snapshot_timeout;
    match fetch_snapshot(&peer, &shared.snapshots, limit, check).await {
        Ok(data) => Some(data),
        Err(status) => {
            tracing::warn!(peer = node, %status, "no snapshot was fetched");
            None
        }
    }
}
