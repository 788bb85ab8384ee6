//! What a node keeps on disk: the Raft log, the replicated state, and snapshots of it.
//!
//! | part         | holds                                       | durable                           |
//! |--------------|---------------------------------------------|-----------------------------------|
//! | [`log`]      | votes, entries, how far they count          | synced before the answer          |
//! | [`state`]    | one table per [`twinkeep_core::state::Table`] | by the log; a snapshot flushes it |
//! | [`snapshot`] | checkpoints of the state with a signed list | synced before they have a name    |
//!
//! Two RocksDB databases and not one: a busy state would delay the syncs of the log, and a damaged
//! block of the state would take the vote with it.
//!
//! The crate knows no consensus library. Votes, entries and what was applied last are bytes to it;
//! only their numbers matter here. Every record has a format byte and a checksum ([`record`]). A
//! database of another cluster or node is refused by name ([`identity`]).
//!
//! A write or sync that fails is final: the database takes no further write and the process has to
//! end. What the page cache holds after a failed sync is unknown, and a second sync may succeed
//! without having written it (Rebello et al., "Can Applications Recover from fsync Failures?",
//! USENIX ATC 2020).

pub mod identity;
pub mod log;
pub mod metrics;
pub mod record;
pub mod snapshot;
pub mod state;

mod disk;
mod options;
mod recent;

pub use identity::Identity;
pub use log::{LogDb, Note};
pub use recent::Syncs;
pub use snapshot::SnapshotStore;
pub use state::StateDb;
