//! Leaving the lead on purpose: a planned stop must not cost an election timeout.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};
use twinkeep_core::topology::NodeRole;

use super::Shared;
use crate::observe::{leads, observe};

/// How soon a transfer that did not succeed is tried again, with another node if there is one.
const RETRY: Duration = Duration::from_millis(100);

/// A node that said nothing for this long is no successor, if there is another.
const SILENCE_MAX: Duration = Duration::from_secs(3);

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
        self.draining.store(true, std::sync::atomic::Ordering::Relaxed);
        self.allow_elections();
        timeout_at(deadline, self.hand_over()).await.map_err(|_| StillLeads)
    }

    /// Lets Raft stand for election, or not, by what this node is and does.
    pub(crate) fn allow_elections(&self) {
        let may_stand = self.role == NodeRole::Data && !self.draining() && self.boot.may_stand();
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

    /// Returns the voting data node that shall lead next: one that answers before others; an unsealed one, since a leader has
    /// to sign; then the one with the longest log; then one of another zone: nodes are often stopped a zone
    /// at a time, and a neighbour would be the next to go.
    fn successor(&self) -> Option<u64> {
        let readings = self.links.readings();
        let answers = |node: &u64| readings.get(node).is_some_and(|r| r.at.elapsed() < SILENCE_MAX);
        let unsealed = |node: &u64| readings.get(node).is_some_and(|r| !r.is_sealed);
        let me = self.me.node.get();
        let records = self.roster.records();
        let zone = |node: &u64| records.get(node).map(|record| &record.placement.zone);
        observe(&self.raft, |metrics| {
            let matched = metrics.replication.as_ref()?;
            metrics
                .membership_config
                .voter_ids()
                .filter(|node| *node != me && self.roster.is_data(*node))
                .filter(|node| !self.boot.ledger.is_rolled_back(*node))
                .filter_map(|node| Some((matched.get(&node).copied()??, node)))
                .max_by_key(|(log_id, node)| {
                    (answers(node), unsealed(node), *log_id, zone(node) != zone(&me))
                })
                .map(|(_, node)| node)
        })
    }
}
