//! The types that openraft is run with.
//!
//! One log entry carries the exact bytes of one signed batch; its answer is one outcome for each
//! command of the batch. Leader ids are `(term, node)` and totally ordered (openraft's
//! `leader_id_adv`), so that two candidates of one term do not block each other.

use std::fmt;

use bytes::Bytes;
use twinkeep_core::outcome::Outcome;

openraft::declare_raft_types!(
    /// The type configuration of the cluster's one Raft group.
    pub TypeConfig:
        D = SignedBytes,
        R = Outcomes,
        NodeId = u64,
        Node = Contact,
        Term = u64,
        LeaderId = openraft::impls::leader_id_adv::LeaderId<u64, u64>,
        Vote = openraft::impls::Vote<Self::LeaderId>,
        Payload = openraft::EntryPayload<SignedBytes, u64, Contact>,
        Entry = openraft::Entry<LeaderId, Self::Payload>,
        AsyncRuntime = openraft_rt_tokio::TokioRuntime,
);

/// Who led when an entry was proposed: term first, then node.
pub type LeaderId = openraft::impls::leader_id_adv::LeaderId<u64, u64>;
/// The place of an entry in the log: leader first, then index.
pub type LogId = openraft::LogId<LeaderId>;
/// A vote, or with `committed` a leadership that a quorum granted.
pub type Vote = openraft::impls::Vote<LeaderId>;
/// What a log entry says: nothing, a signed batch, or a membership.
pub type Payload = openraft::EntryPayload<SignedBytes, u64, Contact>;
/// A log entry.
pub type Entry = openraft::Entry<LeaderId, Payload>;
/// Voter sets and all nodes, learners included.
pub type Membership = openraft::Membership<u64, Contact>;
/// A membership with the place of the entry that made it.
pub type StoredMembership = openraft::StoredMembership<LeaderId, u64, Contact>;
/// What a snapshot covers.
pub type SnapshotMeta = openraft::SnapshotMeta<LeaderId, u64, Contact>;

/// The exact bytes of one signed batch of commands, as the signer produced them.
///
/// The signature is over these bytes, so they are stored and sent verbatim and decoded only where
/// they are applied.
#[derive(Clone, PartialEq, Eq)]
pub struct SignedBytes(pub Bytes);

impl fmt::Debug for SignedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SignedBytes({} bytes)", self.0.len())
    }
}

impl fmt::Display for SignedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What came of an entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcomes {
    /// The outcome of each command, in their order; empty for an entry without commands.
    pub outcomes: Vec<Outcome>,
    /// Whether it tells of keys, whose versions may wait for the marker of durability.
    pub needs_marker: bool,
}

/// Where a node is first reached, as the membership says it.
///
/// A node that is still catching up has no node records yet and needs this address; afterwards the
/// replicated record of the node counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contact {
    /// Host and port of the peer service, such as `127.0.1.1:7401`.
    pub address: String,
}

impl Contact {
    /// Longest address, in bytes: a DNS name of 253 and a port.
    pub const ADDRESS_LEN_MAX: usize = 260;

    /// Takes an address; it is resolved when the peer is dialled.
    #[must_use]
    pub fn new(address: impl Into<String>) -> Self {
        Self { address: address.into() }
    }
}
