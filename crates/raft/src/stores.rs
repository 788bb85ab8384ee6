//! What a node keeps on disk, checked to fit together before Raft sees any of it.

use std::fmt;
use std::sync::Arc;

use tokio::sync::watch;
use twinkeep_core::apply::Trust;
use twinkeep_core::command::SignatureVerifier;
use twinkeep_core::state::Fault;
use twinkeep_storage::{LogDb, SnapshotStore, StateDb};

use crate::changes::Changes;
use crate::codec::{Applied, Malformed};
use crate::log_store::LogStore;
use crate::replication::Replication;
use crate::roster::Roster;
use crate::signing::CommandSigner;
use crate::snapshot::{Snapshots, Unusable};
use crate::state_machine::StateMachine;
use crate::transport::Me;

/// What a node keeps, and whom it believes about it.
pub struct Stores {
    /// Whose it is.
    pub me: Me,
    /// The log, open.
    pub log: Arc<LogDb>,
    /// The state, open.
    pub state: Arc<StateDb>,
    /// Where snapshots are kept.
    pub snapshots: Arc<SnapshotStore>,
    /// Who belongs to the cluster; is kept up to date with the state.
    pub roster: Arc<Roster>,
    /// Whom the node believes before it has any state.
    pub trust: Trust,
    /// Checks signatures.
    pub verifier: Arc<dyn SignatureVerifier>,
    /// Signs, while the node is unsealed. A witness has one that never does.
    pub signer: Arc<dyn CommandSigner>,
}

/// Why what is on disk is not used. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum StoresError {
    /// Log and state do not fit together.
    #[error("log and state do not fit together")]
    Log(#[from] twinkeep_storage::log::OpenError),
    /// What was applied is not readable.
    #[error("the state does not say how far it was applied")]
    Applied(#[from] Malformed),
    /// The state could not be read.
    #[error("the state cannot be read")]
    State(#[from] Fault),
    /// The newest snapshot is not readable.
    #[error("the newest snapshot cannot be read")]
    Snapshot(#[from] Unusable),
    /// The log was purged and no snapshot has all that is gone.
    #[error(
        "the log was purged up to entry {purged}, the newest snapshot holds {}: join as a fresh node",
        Held(*.newest)
    )]
    NoSnapshot {
        /// The last purged entry.
        purged: u64,
        /// The last entry of the newest snapshot, if there is one.
        newest: Option<u64>,
    },
}

/// How far a snapshot reaches, in words.
struct Held(Option<u64>);

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(index) => write!(f, "entries up to {index}"),
            None => f.write_str("nothing"),
        }
    }
}

/// The same, as Raft uses it.
pub struct Opened {
    /// The log.
    pub log: LogStore,
    /// The state.
    pub state_machine: StateMachine,
    /// Tells the index of the last applied entry.
    pub applied: watch::Receiver<Option<u64>>,
    /// Which rows have changed.
    pub changes: Arc<Changes>,
    /// The replication mode and the marker of durability.
    pub replication: Arc<Replication>,
    pub(crate) snapshots: Arc<Snapshots>,
}

impl Stores {
    /// Checks that log, state and snapshots fit together.
    ///
    /// # Errors
    /// [`StoresError`] with what does not fit.
    pub fn open(&self) -> Result<Opened, StoresError> {
        let applied = match self.state.applied()? {
            Some(marker) => Applied::decode(&marker.meta)?,
            None => Applied::default(),
        };
        let applied_index = applied.last_log_id.map(|id| id.index);
        self.log.check_applied(applied_index)?;
        let replication = Arc::new(Replication::default());
        self.state.view(|state| {
            self.roster.refresh(state)?;
            replication.refresh(state, applied_index)
        })?;
        let snapshots = Snapshots::new(self);
        self.check_purged(&snapshots)?;
        let (told, heard) = watch::channel(applied_index);
        let changes = Arc::new(Changes::default());
        let state_machine = StateMachine {
            state: Arc::clone(&self.state),
            log: Arc::clone(&self.log),
            snapshots: Arc::clone(&snapshots),
            roster: Arc::clone(&self.roster),
            changes: Arc::clone(&changes),
            replication: Arc::clone(&replication),
            trust: self.trust,
            verifier: Arc::clone(&self.verifier),
            applied,
            told,
        };
        let log = LogStore::new(Arc::clone(&self.log), Arc::clone(&self.state));
        Ok(Opened { log, state_machine, applied: heard, changes, replication, snapshots })
    }

    /// Refuses a newest snapshot that ends below the purged log, as one does when those after it are
    /// torn: a peer that got it would lack the entries between, and this log has them no more.
    fn check_purged(&self, snapshots: &Snapshots) -> Result<(), StoresError> {
        let Some((purged, _)) = self.log.purged() else { return Ok(()) };
        let newest = snapshots.newest()?.and_then(|newest| newest.last_log_id());
        let newest = newest.map(|id| id.index);
        if newest < Some(purged) {
            return Err(StoresError::NoSnapshot { purged, newest });
        }
        Ok(())
    }
}
