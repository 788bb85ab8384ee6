//! Looks at every data node all the time, and notes when one says something else than before.
//!
//! Times are those of the answers, to [`PACE`].

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::AbortHandle;
use tokio::time::{MissedTickBehavior, interval};
use twinkeep_client::{Client, v1};

use crate::dev::layout::{DevNode, Layout};
use crate::dev::up;

/// Pause between two looks at a node.
const PACE: Duration = Duration::from_millis(20);
/// Longest wait for its answer.
const ANSWER_MAX: Duration = Duration::from_millis(250);

/// What a node says from a moment on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sight {
    pub(super) at: Instant,
    pub(super) node: String,
    pub(super) zone: String,
    /// `None` while it does not answer.
    pub(super) said: Option<Said>,
}

/// What a node says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Said {
    /// Whether it takes itself for the leader.
    pub(super) leads: bool,
    /// The replication mode.
    pub(super) mode: v1::ReplicationMode,
    /// How often the mode has changed.
    pub(super) revision: u64,
}

/// A look-out at work; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Watch {
    sights: Arc<Mutex<Vec<Sight>>>,
    tasks: Vec<AbortHandle>,
}

impl Watch {
    /// Begins to look at the data nodes.
    pub(super) fn start(layout: &Layout) -> anyhow::Result<Self> {
        let mut watch = Self { sights: Arc::default(), tasks: Vec::new() };
        for node in layout.nodes().iter().filter(|node| !node.witness) {
            let client = up::client_of(layout, up::ADMIN, [node], &node.zone)?;
            let client = client.any_state().with_deadline(ANSWER_MAX);
            let task = tokio::spawn(look(client, node.clone(), Arc::clone(&watch.sights)));
            watch.tasks.push(task.abort_handle());
        }
        Ok(watch)
    }

    /// Returns what was seen so far, in order.
    pub(super) fn sights(&self) -> Vec<Sight> {
        self.sights.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

async fn look(client: Client, node: DevNode, sights: Arc<Mutex<Vec<Sight>>>) {
    let mut pace = interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = None;
    loop {
        pace.tick().await;
        let answer = client.get_status(v1::GetStatusRequest::default()).await;
        let said = answer.ok().as_ref().map(Said::of);
        if last != Some(said) {
            last = Some(said);
            let (name, zone) = (node.name.clone(), node.zone.clone());
            let mut sights = sights.lock().unwrap_or_else(PoisonError::into_inner);
            // The time is taken under the lock, so that they are in order.
            sights.push(Sight { at: Instant::now(), node: name, zone, said });
        }
    }
}

impl Said {
    fn of(status: &v1::GetStatusResponse) -> Self {
        let replication = status.replication.clone().unwrap_or_default();
        Self {
            leads: status.leader_node_id == status.node_id,
            mode: replication.mode(),
            revision: replication.revision,
        }
    }
}
