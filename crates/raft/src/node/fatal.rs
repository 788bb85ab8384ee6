//! When this node must not go on.
//!
//! A failed write or sync, a damaged record or a panic leaves a node that holds its place and does
//! not do its work. openraft reports some of that and hides the rest: after a panic its metrics still
//! say that all is well. So four things are watched, and whoever runs the process ends it.

use std::time::Duration;

use tokio::time::sleep;

use super::Node;
use crate::boot::RolledBack;
use crate::observe::observe;

/// How often the core is asked for a sign of life.
const PROBE_INTERVAL: Duration = Duration::from_millis(500);

/// Why this node has stopped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fatal {
    /// Raft ended with an error: the disk failed, or a rule was broken.
    #[error("raft stopped: {0}")]
    Raft(String),
    /// This node's disk is an older copy: it must not take part with it.
    #[error("{0}")]
    RolledBack(RolledBack),
    /// Entries are not applied any more.
    #[error("the state machine stopped")]
    StateMachine,
}

impl Node {
    /// Returns when this node must not go on; the process has to end then. Also returns after
    /// [`Node::shutdown`].
    pub async fn fatal(&self) -> Fatal {
        let mut applied = self.applied();
        tokio::select! {
            fatal = self.raft_stopped() => fatal,
            why = self.shared.boot.refused() => Fatal::RolledBack(why),
            // The state machine drops its end when it panics.
            () = async { while applied.changed().await.is_ok() {} } => Fatal::StateMachine,
        }
    }

    async fn raft_stopped(&self) -> Fatal {
        let raft = &self.shared.raft;
        loop {
            if let Err(fatal) = observe(raft, |metrics| metrics.running_state.clone()) {
                return Fatal::Raft(fatal.to_string());
            }
            // A core that panicked answers nothing, whatever its metrics say.
            if let Err(fatal) = raft.with_raft_state(|_| ()).await {
                return Fatal::Raft(fatal.to_string());
            }
            sleep(PROBE_INTERVAL).await;
        }
    }
}
