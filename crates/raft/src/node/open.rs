//! Putting a node together, and the tasks that run beside its Raft.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use parking_lot::Mutex;
use twinkeep_core::clock::Clock;
use twinkeep_core::topology::NodeRole;

use super::{Node, Shared};
use crate::config::{Config, InvalidConfig};
use crate::snapshot_keeper;
use crate::stores::{Opened, Stores, StoresError};
use crate::transport::{Links, Network, Wire};
use crate::witness::Watchdog;

/// What a node is made of.
pub struct Parts {
    /// What it does.
    pub role: NodeRole,
    /// Timing and limits.
    pub config: Config,
    /// What it keeps on disk.
    pub stores: Stores,
    /// How peers are reached.
    pub wire: Arc<dyn Wire>,
    /// The node's clocks.
    pub clock: Arc<dyn Clock>,
}

/// Why a node does not start. Nothing on disk was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The timing cannot work.
    #[error(transparent)]
    Config(#[from] InvalidConfig),
    /// What is on disk does not fit together.
    #[error(transparent)]
    Stores(#[from] StoresError),
    /// Raft refused what it found.
    #[error("raft refuses to start: {0}")]
    Raft(String),
}

impl Node {
    /// Checks what is on disk and prepares the node. It takes part once [`Node::run`] is called.
    ///
    /// # Errors
    /// [`OpenError`] with one line that says what does not fit.
    pub async fn open(parts: Parts) -> Result<Self, OpenError> {
        let Parts { role, config, stores, wire, clock } = parts;
        let openraft_config = Arc::new(config.openraft(role)?);
        let Opened { log, state_machine, applied, changes, snapshots } = stores.open()?;
        let Stores { me, state, roster, verifier, signer, .. } = stores;
        let links = Links::new(me, Arc::clone(&wire), Arc::clone(&roster), Arc::clone(&clock));
        let network = Network { links: Arc::clone(&links) };
        let node = me.node.get();
        let raft = openraft::Raft::build(node, openraft_config, network, log, state_machine)
            .await
            .map_err(|fatal| OpenError::Raft(fatal.to_string()))?;
        let shared = Arc::new(Shared {
            me,
            role,
            config,
            raft,
            state,
            snapshots,
            roster,
            links,
            clock,
            signer,
            verifier,
            refusals: Arc::default(),
            applied,
            changes,
            stamp: super::clock::Stamp::default(),
            heard: Mutex::default(),
            draining: AtomicBool::new(false),
        });
        Ok(Self { shared, wire, tasks: Arc::default() })
    }

    /// Starts what runs beside Raft.
    pub(super) fn spawn_tasks(&self) {
        let shared = &self.shared;
        let mut tasks = self.tasks.lock();
        tasks.spawn(snapshot_keeper::run(Arc::clone(shared)));
        let meeting = Arc::clone(shared);
        tasks.spawn(async move { meeting.meet_peers().await });
        match shared.role {
            NodeRole::Data => {
                let shared = Arc::clone(shared);
                tasks.spawn(async move { shared.follow_records().await });
            }
            NodeRole::Witness => {
                let (raft, roster) = (shared.raft.clone(), Arc::clone(&shared.roster));
                let refusals = Arc::clone(&shared.refusals);
                let watchdog = Watchdog::new(raft, roster, refusals, &shared.config);
                tasks.spawn(watchdog.run());
            }
        }
    }
}
