//! What the services need from outside, as traits: no Raft, no RocksDB, no file.
//!
//! | file          | trait             | gives                                                     |
//! |---------------|-------------------|-----------------------------------------------------------|
//! | `control.rs`  | [`ControlPlane`]  | the replicated state, and changes to it                   |
//! | `vault.rs`    | [`Vault`]         | sealing and opening records under the instances' keys     |
//! | `cluster.rs`  | [`ClusterControl`]| this node, the other nodes, membership, sealing           |
//! | `issuer.rs`   | [`CallerIssuer`]  | certificates for callers                                  |
//!
//! The audit log is [`twinkeep_audit::Log`] itself. The server implements the traits; the tests of this crate do so in memory.

mod cluster;
mod control;
mod issuer;
mod vault;

use std::fmt;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use twinkeep_audit::Log;
use twinkeep_core::clock::Clock;
use twinkeep_core::record::BackendKind;
use twinkeep_crypto::KeyBackend;

pub use cluster::{
    Admit, Admitted, Certificate, ClusterControl, ClusterError, Diagnosis, Lead, LeadershipChange,
    NodeStatus, PeerDiagnosis, PeerHealth, Topology, TopologyEndpoint, UnsealProgress,
    UnsealSecret,
};
pub use control::{
    Committed, ControlError, ControlPlane, Freshness, Laggard, Leader, Reached, ReplicationStatus,
};
pub use issuer::{CallerIssuer, IssueError, Issued};
pub use vault::{Vault, VaultError};

/// Everything that the services need from outside.
#[derive(Clone)]
pub struct Ports {
    /// The replicated state.
    pub control: Arc<dyn ControlPlane>,
    /// Sealing and opening records.
    pub vault: Arc<dyn Vault>,
    /// Where keys live and are used.
    pub backends: Backends,
    /// This node and the others.
    pub cluster: Arc<dyn ClusterControl>,
    /// The audit log.
    pub audit: Arc<Log>,
    /// Certificates for callers.
    pub issuer: Arc<dyn CallerIssuer>,
    /// The node's clocks.
    pub clock: Arc<dyn Clock>,
    /// Cancelled when the node stops: streams of calls end then, and single calls are finished.
    pub stop: CancellationToken,
}

impl fmt::Debug for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ports").finish_non_exhaustive()
    }
}

/// The backends of this node, one for each kind.
#[derive(Clone)]
pub struct Backends {
    /// Keys in sealed records, used in this process.
    pub software: Arc<dyn KeyBackend>,
}

impl Backends {
    /// Returns the backend of a kind. There is no other to fall back to.
    #[must_use]
    pub fn of(&self, kind: BackendKind) -> &dyn KeyBackend {
        match kind {
            BackendKind::Software => &*self.software,
        }
    }
}

impl fmt::Debug for Backends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backends").finish_non_exhaustive()
    }
}
