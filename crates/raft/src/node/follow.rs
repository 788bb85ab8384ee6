//! The leader's part in membership: doing what the records say.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use openraft::Precondition;
use openraft::errors::{InitializeError as RaftInitializeError, RaftError};
use tokio::time::{Instant, sleep, sleep_until};

use super::{Node, Shared};
use crate::membership::{Step, next_step};
use crate::metrics::Elections;
use crate::observe::{leads, observe};
use crate::types::Contact;

/// How often the leader compares membership and records.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// Why a cluster could not begin with this node.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InitializeError {
    /// The node has a log or a vote: it belongs to a cluster that has begun.
    #[error("this node has begun or joined a cluster already")]
    Begun,
    /// Raft has stopped.
    #[error("this node has stopped: {0}")]
    Stopped(String),
}

/// The membership did not reach what the records say before the deadline.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the membership change is not complete yet: {0}")]
pub struct NotFollowed(pub String);

impl Node {
    /// Begins a cluster with this node as its only voter. The genesis command comes next.
    ///
    /// # Errors
    /// [`InitializeError::Begun`] when the node has anything in its log.
    pub async fn initialize(&self, contact: Contact) -> Result<(), InitializeError> {
        let members = BTreeMap::from([(self.shared.me.node.get(), contact)]);
        match self.shared.raft.initialize(members).await {
            Ok(()) => Ok(()),
            Err(RaftError::APIError(RaftInitializeError::NotAllowed(_))) => {
                Err(InitializeError::Begun)
            }
            Err(error) => Err(InitializeError::Stopped(error.to_string())),
        }
    }

    /// Waits until the membership, as this node has it, is what this node's records say.
    ///
    /// The leader changes it by itself; this tells when it is done.
    ///
    /// # Errors
    /// [`NotFollowed`] with what is missing, after the deadline.
    pub async fn membership_followed(&self, deadline: Instant) -> Result<(), NotFollowed> {
        while let Some(step) = self.shared.next_step() {
            if Instant::now() >= deadline {
                return Err(NotFollowed(format!("{step:?}")));
            }
            sleep_until(deadline.min(Instant::now() + LOOK_INTERVAL)).await;
        }
        Ok(())
    }
}

impl Shared {
    fn next_step(&self) -> Option<Step> {
        let records = self.roster.records();
        observe(&self.raft, |metrics| {
            let matched = |node: u64| {
                let log_id = metrics.replication.as_ref()?.get(&node).copied().flatten();
                log_id.map(|id| id.index)
            };
            let membership = metrics.membership_config.membership();
            next_step(&records, membership, matched, metrics.last_log_index.unwrap_or(0))
        })
    }

    /// Makes the next change of the membership if this node leads and one is due.
    async fn follow_once(&self) {
        if !leads(&self.raft) {
            return;
        }
        let seen = observe(&self.raft, |metrics| *metrics.membership_config.log_id());
        let Some(step) = self.next_step() else { return };
        let Some(change) = step.clone().change() else {
            return tracing::debug!(?step, "membership waits");
        };
        tracing::info!(?step, "membership follows the records");
        let unchanged = Precondition::LastMembershipLogId { last_membership_log_id: seen };
        // Removed voters stay as learners until the next step takes them out.
        let changed = self.raft.change_membership_if(change, true, [unchanged]).await;
        if let Err(error) = changed {
            tracing::warn!(%error, ?step, "the membership was not changed; it is tried again");
        }
    }

    /// Keeps channels to every node that is recorded, so that votes and proposals find them open, and
    /// closes those to nodes that were removed.
    pub(super) async fn meet_peers(self: Arc<Self>) {
        let mut elections = Elections::default();
        loop {
            let term = observe(&self.raft, |metrics| metrics.current_term);
            elections.look(term, self.leader());
            for node in self.roster.records().keys().filter(|node| **node != self.me.node.get()) {
                if !self.roster.is_removed(*node) {
                    self.links.peer(*node, None);
                }
            }
            self.links.close_removed();
            sleep(LOOK_INTERVAL).await;
        }
    }

    /// Brings the membership to what the records say, for as long as Raft runs.
    pub(super) async fn follow_records(&self) {
        while observe(&self.raft, |metrics| metrics.running_state.is_ok()) {
            self.follow_once().await;
            sleep(LOOK_INTERVAL).await;
        }
    }
}
