//! Putting a node together, and the tasks that run beside its Raft.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use parking_lot::Mutex;
use tokio::time::Instant;
use twinkeep_core::clock::Clock;
use twinkeep_core::topology::NodeRole;
use twinkeep_storage::Note;

use super::{Node, Shared};
use crate::boot::{Boot, Ledger, Start};
use crate::config::{Config, InvalidConfig};
use crate::freshness::{self, Granted};
use crate::lease::{Holder, Leases};
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
    /// Names the start of the machine that `clock` counts from: the kernel's boot id.
    pub boot_id: [u8; 16],
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
    /// The end of the log cannot be read.
    #[error("the end of the log cannot be read")]
    Log(#[from] std::io::Error),
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
        let Parts { role, config, stores, wire, clock, boot_id } = parts;
        let openraft_config = Arc::new(config.openraft()?);
        let Opened { log, state_machine, applied, changes, replication, snapshots } =
            stores.open()?;
        let Stores { me, log: disk, state, roster, verifier, signer, .. } = stores;
        let holder = Holder::new(boot_id, disk.note(Note::SyncLease).as_deref());
        let stamp = disk.note(Note::Freshness);
        let fresh = freshness::Lease::new(boot_id, stamp.as_deref(), &*clock);
        let node = me.node.get();
        let start = Start { number: clock.unix_ms().max(1), shown: log.shown()? };
        let remembered = disk.note(Note::Acknowledged);
        let ledger = Ledger::new(node, start, remembered.as_deref());
        let boot = Boot::new(ledger, log.clone());
        let log = log.remembering(&boot);
        let links = Links::new(
            me,
            Arc::clone(&wire),
            Arc::clone(&roster),
            Arc::clone(&clock),
            Arc::clone(&boot),
        );
        let network = Network { links: Arc::clone(&links) };
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
            boot,
            applied,
            changes,
            replication,
            gate: super::zone_gate::Gate::default(),
            leases: Leases::new(holder),
            fresh,
            granted: Granted::default(),
            disk,
            opened: Instant::now(),
            stamp: super::clock::Stamp::default(),
            heard: Mutex::default(),
            draining: AtomicBool::new(false),
            stands_back: AtomicBool::new(false),
            allowing: Mutex::default(),
        });
        let granting = Arc::downgrade(&shared);
        shared.links.grant_by(move |node, answer| granting.upgrade()?.grant(node, answer));
        Ok(Self { shared, wire, tasks: Arc::default() })
    }

    /// Starts what runs beside Raft.
    pub(super) fn spawn_tasks(&self) {
        let shared = &self.shared;
        let mut tasks = self.tasks.lock();
        tasks.spawn(snapshot_keeper::run(Arc::clone(shared)));
        let meeting = Arc::clone(shared);
        tasks.spawn(async move { meeting.meet_peers().await });
        tasks.spawn(Arc::clone(shared).take_part());
        tasks.spawn(Arc::clone(shared).end_lost_leaderships());
        tasks.spawn(Arc::clone(shared).write_notes());
        match shared.role {
            NodeRole::Data => {
                let following = Arc::clone(shared);
                tasks.spawn(async move { following.follow_records().await });
                tasks.spawn(Arc::clone(shared).judge_durability());
                tasks.spawn(Arc::clone(shared).mark_durable());
                tasks.spawn(Arc::clone(shared).keep_mode());
                tasks.spawn(Arc::clone(shared).keep_leadership());
                tasks.spawn(Arc::clone(shared).keep_fresh());
            }
            NodeRole::Witness => {
                let (raft, roster) = (shared.raft.clone(), Arc::clone(&shared.roster));
                let refusals = Arc::clone(&shared.refusals);
                let boot = Arc::clone(&shared.boot);
                let watchdog = Watchdog::new(raft, roster, refusals, boot, &shared.config);
                tasks.spawn(watchdog.run());
            }
        }
    }
}
