//! Following what the cluster says of itself: nodes, zones, the leader.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};
use tonic::Streaming;
use twinkeep_proto::v1;

use crate::client::{Client, Shared};
use crate::error::Error;
use crate::node::{Node, Standing};
use crate::pool::Pool;

/// The wait before another node is asked after a stream ended.
const PAUSE: Duration = Duration::from_millis(500);
/// The same after the node that was followed is avoided.
const MOVE_PAUSE: Duration = Duration::from_millis(50);
/// The longest one while certificates are refused: each refusal in a row doubles it. Somebody has to renew one, and
/// until then every client of a fleet would shake hands with every node twice a second.
const REFUSED_PAUSE_MAX: Duration = Duration::from_secs(30);

/// Follows the topology until the client is gone.
pub(crate) fn follow(shared: Weak<Shared>) -> AbortHandle {
    tokio::spawn(run(shared)).abort_handle()
}

async fn run(shared: Weak<Shared>) {
    let mut pause = PAUSE;
    loop {
        let opened = open(&shared).await;
        pause = match &opened {
            Some(Err(Error::CertificateRefused { .. })) => (pause * 2).min(REFUSED_PAUSE_MAX),
            _ => PAUSE,
        };
        match opened {
            Some(Ok((stream, node))) => match read(&shared, stream, &node).await {
                Over::Ended => {}
                // The others know more than a node that is silent, about the next leader for one.
                Over::Ejected => pause = MOVE_PAUSE,
                Over::Gone => return,
            },
            Some(Err(Error::Denied(why) | Error::Unauthenticated(why))) => {
                tracing::debug!(why, "the cluster does not show its topology to this caller");
                return;
            }
            Some(Err(error)) => tracing::debug!(%error, "topology unknown"),
            None => return,
        }
        sleep(pause).await;
    }
}

type Views = Streaming<v1::WatchTopologyResponse>;

/// Why a stream is read no further.
enum Over {
    /// It ended or broke.
    Ended,
    /// Its node is avoided.
    Ejected,
    /// The client is gone.
    Gone,
}

/// Opens the stream; `None` when the client is gone.
async fn open(shared: &Weak<Shared>) -> Option<Result<(Views, Arc<Node>), Error>> {
    let client = Client::new(shared.upgrade()?);
    let opened = client.watch_topology(v1::WatchTopologyRequest::default()).await;
    // Not `Answers`: those would keep the client alive.
    Some(opened.map(crate::exchange::Answers::into_inner))
}

async fn read(shared: &Weak<Shared>, mut stream: Views, node: &Node) -> Over {
    let Some(mut news) = shared.upgrade().map(|shared| shared.pool.news()) else {
        return Over::Gone;
    };
    loop {
        let view = tokio::select! {
            view = stream.message() => view,
            changed = news.changed() => match changed {
                Ok(()) if node.standing(Instant::now()) == Standing::Ejected => return Over::Ejected,
                Ok(()) => continue,
                Err(_) => return Over::Gone,
            },
        };
        let Ok(Some(view)) = view else { return Over::Ended };
        let Some(shared) = shared.upgrade() else { return Over::Gone };
        learn(&shared.pool, &view);
    }
}

fn learn(pool: &Pool, view: &v1::WatchTopologyResponse) {
    let leader = view.endpoints.iter().find(|node| node.node_id == view.leader_node_id);
    let nodes: Vec<_> =
        view.endpoints.iter().map(|node| (node.address.clone(), node.zone.clone())).collect();
    pool.learn(&nodes, leader.map(|leader| leader.address.as_str()));
}
