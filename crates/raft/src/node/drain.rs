//! Leaving the lead on purpose: a planned stop must not cost an election timeout.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};
use twinkeep_core::topology::NodeRole;

use super::Shared;
use crate::observe::{leads, observe};
use crate::zones::successor;

/// How soon a transfer that did not succeed is tried again, with another node if there is one.
const RETRY: Duration = Duration::from_millis(100);

/// The deadline passed and this node still leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no other data node could take over the lead in time")]
pub struct StillLeads;

impl Shared {
    /// Takes no more proposals, stands for no election, and hands over the lead if this node has it.
    ///
    /// # Errors
    /// [`StillLeads`] when nobody took over before the deadline.
    pub(super) async fn drain(&self, deadline: Instant) -> Result<(), StillLeads> {
        self.draining.store(true, Ordering::SeqCst);
        self.allow_elections();
        timeout_at(deadline, self.hand_over()).await.map_err(|_| StillLeads)
    }

    /// Lets Raft stand for election, or not, by what this node is and does. Called after each change of that; the
    /// last call sees all of them.
    pub(crate) fn allow_elections(&self) {
        let _turn = self.allowing.lock();
        let may_stand = self.role == NodeRole::Data
            && !self.draining()
            && !self.stands_back.load(Ordering::SeqCst)
            && self.boot.may_stand();
        self.raft.runtime_config().elect(may_stand);
    }

    /// Ends leaderships of this node that have counted what a voter has lost: nothing more is counted under
    /// them, and another node takes over, which counts from the beginning.
    pub(super) async fn end_lost_leaderships(self: Arc<Self>) {
        loop {
            self.boot.ledger.halted.notified().await;
            let lost = observe(&self.raft, |metrics| self.boot.ledger.is_halted(&metrics.vote));
            if !lost {
                continue;
            }
            tracing::error!("this node has counted copies that are gone, and hands over the lead");
            // Without a successor it goes on leading and acknowledges nothing, which loses nothing.
            self.hand_over().await;
        }
    }

    /// Transfers the lead to the data node that is furthest, until another node leads.
    pub(super) async fn hand_over(&self) {
        while leads(&self.raft) {
            if let Some(successor) = self.successor() {
                tracing::info!(successor, "handing over the lead");
                self.leases.hand_over();
                // An error here means that Raft has stopped, and then nobody leads from here.
                let _ = self.raft.trigger().transfer_leader(successor).await;
            }
            sleep(RETRY).await;
        }
    }

    /// Hands the lead to an unsealed data node, if this node leads and there is one. It is done when another
    /// node leads; until then it is to be tried again.
    pub(super) async fn yield_to_unsealed(&self) {
        let sealed = |node| self.links.readings().get(&node).is_none_or(|r| r.is_sealed);
        let successor = self.successor().filter(|node| leads(&self.raft) && !sealed(*node));
        if let Some(successor) = successor {
            tracing::info!(successor, "handing over the lead, since this node is sealed");
            self.leases.hand_over();
            let _ = self.raft.trigger().transfer_leader(successor).await;
        }
    }

    /// Returns the voting data node that shall lead next.
    fn successor(&self) -> Option<u64> {
        let leadership = self.replication.applied().borrow().leadership.clone();
        successor(&self.candidates(), self.own_zone().as_ref(), &leadership)
    }
}
