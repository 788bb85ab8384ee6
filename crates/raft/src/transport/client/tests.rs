use std::sync::atomic::AtomicBool;

use openraft::raft::AppendEntriesRequest;
use tonic::Extensions;
use tonic::transport::Channel;
use twinkeep_core::clock::Clock;
use twinkeep_core::id::{ClusterId, Incarnation, NodeId};

use super::*;
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

fn client(purpose: Purpose) -> (Arc<Links>, Client) {
    let me = Me {
        cluster: ClusterId::from_bytes([1; 16]),
        incarnation: Incarnation::FIRST,
        node: NodeId::FIRST,
    };
    let roster = Roster::new(NodeId::FIRST, Vec::new());
    let links = Links::new(me, Arc::new(DeadWire), roster, Arc::new(Noon));
    let client = Client::new(&links, 2, &Contact::new("127.0.1.2:7401"), purpose);
    (links, client)
}

/// openraft waits between attempts inside its stream of requests. A client that fails before it takes
/// one was called two hundred thousand times a second while a peer was down.
#[tokio::test]
async fn an_unreachable_peer_costs_a_request_and_so_the_wait_before_it() {
    let (_links, mut client) = client(Purpose::Entries);
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
