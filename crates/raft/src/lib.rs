//! Consensus behind a narrow handle: openraft adapters, peer transport, membership, witness.
//!
//! [`Node`] is what everything above sees: batches are proposed, indexes are applied, a status is
//! read. Below it, [`log_store`] and [`state_machine`] put openraft on `twinkeep-storage`,
//! [`transport`] carries it between nodes over mutual TLS, [`codec`] fixes the bytes that are stored
//! and sent, and `witness` is the watchdog of the one voter that serves nobody.
//!
//! What holds here: a vote and an entry count once they are on disk; nothing from a peer is believed
//! because of who sent it; a batch, a snapshot and a member count only with the signature of a data
//! node. Log indexes count from 0, times are [`std::time::Duration`]s.

mod blocking;
mod boot;
mod changes;
pub mod codec;
pub mod config;
mod freshness;
mod lease;
pub mod log_store;
mod membership;
pub mod metrics;
mod node;
mod observe;
mod proposal_queue;
pub mod rebirth;
mod replication;
mod roster;
mod signing;
mod snapshot;
mod snapshot_keeper;
pub mod state_machine;
mod stores;
mod trace;
pub mod transport;
pub mod types;
mod witness;
mod zones;

pub use boot::RolledBack;
pub use changes::Changes;
pub use config::Config;
pub use freshness::Freshness;
pub use lease::Lease;
pub use node::{
    Fatal, InitializeError, Laggard, Member, Node, NotEverywhere, NotFollowed, OpenError, Part,
    Parts, ProposeError, Proposed, Read, ReadError, Status, StillLeads,
};
pub use proposal_queue::{Decided, ProposalQueue, Proposer, QueueError, WAITING_MAX};
pub use replication::{Applied as AppliedReplication, Replication};
pub use roster::{Pin, Roster};
pub use signing::{CommandSigner, Disbelief};
pub use snapshot::{SnapshotData, Unusable};
pub use stores::{Opened, Stores, StoresError};
pub use transport::{Me, TlsWire, Wire};
pub use types::Contact;
