//! Leaving the lead on purpose: a planned stop must not cost an election timeout.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use super::Shared;
use crate::observe::{leads, observe};

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
        self.draining.store(true, std::sync::atomic::Ordering::Relaxed);
        self.raft.runtime_config().elect(false);
        timeout_at(deadline, self.hand_over()).await.map_err(|_| StillLeads)
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

    /// Returns the voting data node that shall lead next: an unsealed one before others, since a leader has
    /// to sign; then the one with the longest log; then one of another zone: nodes are often stopped a zone
    /// at a time, and a neighbour would be the next to go.
    fn successor(&self) -> Option<u64> {
        let readings = self.links.readings();
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
                .filter_map(|node| Some((matched.get(&node).copied()??, node)))
                .max_by_key(|(log_id, node)| (unsealed(node), *log_id, zone(node) != zone(&me)))
                .map(|(_, node)| node)
        })
    }
}
