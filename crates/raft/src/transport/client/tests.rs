use std::path::Path;
use std::sync::atomic::AtomicBool;

use openraft::raft::AppendEntriesRequest;
use tempfile::TempDir;
use tonic::Extensions;
use tonic::transport::Channel;
use twinkeep_core::clock::Clock;
use twinkeep_core::id::{ClusterId, Incarnation, NodeId};
use twinkeep_storage::{Identity, LogDb, StateDb};

use super::*;
use crate::boot::{Boot, Ledger, Start};
use crate::log_store::LogStore;
use crate::roster::Roster;
use crate::transport::{InvalidAddress, Me, Wire};

/// Reaches nobody.
struct DeadWire;

impl Wire for DeadWire {
    fn channel(&self, _: NodeId, address: &str) -> Result<Channel, InvalidAddress> {
        Err(InvalidAddress(address.to_owned()))
    }

    fn peer(&self, _: &Extensions) -> Option<NodeId> {
        None
    }
}

struct Noon;

impl Clock for Noon {
    fn unix_ms(&self) -> u64 {
        0
    }

    fn elapsed(&self) -> Duration {
        Duration::ZERO
    }
}

fn client(folder: &Path, purpose: Purpose) -> (Arc<Links>, Client) {
    let (cluster, node) = (ClusterId::from_bytes([1; 16]), NodeId::FIRST);
    let me = Me { cluster, incarnation: Incarnation::FIRST, node };
    let identity = Identity { cluster, node };
    let log = LogDb::open(&folder.join("log"), identity).unwrap();
    let state = StateDb::open(&folder.join("state"), identity).unwrap();
    let log = LogStore::new(Arc::new(log), Arc::new(state));
    let start = Start { number: 1, shown: log.shown().unwrap() };
    let boot = Boot::new(Ledger::new(node.get(), start, None), log);
    let roster = Roster::new(NodeId::FIRST, Vec::new());
    let links = Links::new(me, Arc::new(DeadWire), roster, Arc::new(Noon), boot);
    let client = Client::new(&links, 2, &Contact::new("127.0.1.2:7401"), purpose);
    (links, client)
}

/// openraft waits between attempts inside its stream of requests. A client that fails before it takes
/// one was called two hundred thousand times a second while a peer was down.
#[tokio::test]
async fn an_unreachable_peer_costs_a_request_and_so_the_wait_before_it() {
    let folder = TempDir::new().unwrap();
    let (_links, mut client) = client(folder.path(), Purpose::Entries);
    let is_taken = Arc::new(AtomicBool::new(false));
    let taken = Arc::clone(&is_taken);
    let requests = futures::stream::once(Box::pin(async move {
        taken.store(true, Ordering::Relaxed);
        AppendEntriesRequest::<TypeConfig> {
            vote: Vote::new_committed(1, 1),
            prev_log_id: None,
            entries: Vec::new(),
            leader_commit: None,
        }
    }));
    let option = RPCOption::new(Duration::from_millis(50));
    let mut answers = client.stream_append(requests, option).await.unwrap();
    let answer = answers.next().await.unwrap();
    assert!(matches!(answer, Err(RPCError::Unreachable(_))), "{answer:?}");
    assert!(is_taken.load(Ordering::Relaxed));
    assert!(answers.next().await.is_none());
}

#[test]
fn refusals_are_not_tried_again_at_once() {
    for code in [
        Code::Unavailable,
        Code::PermissionDenied,
        Code::Unauthenticated,
        Code::FailedPrecondition,
        Code::InvalidArgument,
        Code::ResourceExhausted,
        Code::Unimplemented,
    ] {
        let error = rpc_error(Status::new(code, "no"));
        assert!(matches!(error, RPCError::Unreachable(_)), "{code:?}");
    }
    for code in [Code::Unknown, Code::Internal, Code::Cancelled, Code::DeadlineExceeded] {
        let error = rpc_error(Status::new(code, "broken"));
        assert!(matches!(error, RPCError::Network(_)), "{code:?}");
    }
}
