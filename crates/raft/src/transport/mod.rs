//! How nodes reach each other: three channels per peer, deadlines, identity, checks.
//!
//! Heartbeats and votes, entries, and snapshots each have a channel of their own, so that a large
//! message never delays a heartbeat. Channels are opened early and kept warm by a `Hello` a second;
//! HTTP/2 keep-alive ends a dead connection within half an election lease, before an election would
//! have to run over it.
//!
//! What comes in is checked twice: the connection by TLS ([`Wire`]), each message by `admission`.
//! Nothing in a message is trusted because of where it came from. Messages of the log carry which starts of
//! which nodes their sender knows; `hearing` refuses those that do not know enough ([`crate::boot`]).

mod admission;
mod append;
mod client;
mod hearing;
mod links;
mod server;
mod snapshot_in;
mod snapshot_out;
mod tls;
mod wire;

use bytes::Bytes;
use twinkeep_core::id::{ClusterId, Incarnation, NodeId};
use twinkeep_proto::peer::v1 as pb;

pub(crate) use client::Network;
pub use links::{InvalidAddress, Reading, Wire};
pub(crate) use links::{Links, Peer, Purpose};
pub(crate) use server::PeerServer;
pub(crate) use snapshot_in::fetch as fetch_snapshot;
pub use tls::TlsWire;
pub(crate) use wire::{
    acknowledged_in, membership_in, membership_out, reached_in, reached_out, shown_in, start_out,
    starts_out,
};

/// Who this node is; stands in every message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Me {
    /// The cluster.
    pub cluster: ClusterId,
    /// The cluster's life that this node's certificate names.
    pub incarnation: Incarnation,
    /// The node.
    pub node: NodeId,
}

impl Me {
    fn header(&self, to: u64) -> pb::Header {
        pb::Header {
            cluster_id: self.cluster.as_bytes().to_vec().into(),
            incarnation: self.incarnation.get(),
            from: self.node.get(),
            to,
            starts: Bytes::new(),
        }
    }
}
