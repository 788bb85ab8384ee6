//! Staying fresh, and knowing that everybody is: freshness leases and the revocation barrier.
//!
//! A change that takes something away (a key disabled, a role revoked) is *effective everywhere* when every
//! node that may use keys has applied it, or its freshness lease is surely over. The leader finds out: it asks
//! each node, and for one that does not answer it waits out the longest lease that node can hold.
//!
//! A lease by a question that comes later does no harm. It rests on an index that a leader determines after the
//! change was committed, and the node has to apply that first. So what this leader knows of questions up to the
//! commit suffices, even if it has lost the lead by the time it answers.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::time::{Instant, sleep, sleep_until};
use twinkeep_core::id::NodeId;
use twinkeep_core::topology::NodeRole;
use twinkeep_proto::peer::v1 as pb;

use super::Shared;
use crate::blocking::blocking;
use crate::freshness::{Moment, ROUNDS};
use crate::observe::observe;
use crate::transport::Purpose;

/// Pause before a question that was not answered is asked again.
const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// Time that an answer needs to reach who asked, kept back from the deadline once by each node on the way.
const ANSWER_TIME: Duration = Duration::from_millis(100);

/// Time after a node was taken out in which it is waited for: the longest lease, and what the replicated clock
/// may be behind.
const LONG_AGO_MS: u64 = 120_000;

/// A node that is not known to have applied a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Laggard {
    /// The node.
    pub node: NodeId,
    /// Time until its freshness lease is surely over, in milliseconds; below zero: time since then.
    pub lease_left_ms: i64,
}

/// No leader says who has applied a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no leader could say in time who has applied the change")]
pub struct NotEverywhere;

impl Shared {
    /// Keeps this node's freshness lease, for as long as Raft runs.
    pub(super) async fn keep_fresh(self: Arc<Self>) {
        while observe(&self.raft, |metrics| metrics.running_state.is_ok()) {
            let length = self.replication.freshness_lease();
            let asked = Instant::now();
            let sent = Moment::now(&*self.clock);
            let next = match self.become_fresh(asked + length).await {
                true => {
                    self.fresh.extend(sent);
                    asked + length / ROUNDS
                }
                false => Instant::now() + RETRY_PAUSE,
            };
            sleep_until(next).await;
        }
    }

    /// Applies all that was acknowledged before this call.
    async fn become_fresh(&self, deadline: Instant) -> bool {
        // An unanswered question is asked anew well within the lease: its leader may be gone.
        let patience = Instant::now() + self.replication.freshness_lease() / ROUNDS;
        let Ok(index) = self.read_index(patience.min(deadline)).await else { return false };
        self.wait_applied(index, deadline).await.is_ok()
    }

    /// Notes that a node has asked for an index, from which its lease may begin.
    pub(crate) fn note_asked(&self, node: u64) {
        self.granted.note(node);
    }

    /// Runs the barrier at whichever node leads.
    pub(super) async fn everywhere(
        &self,
        index: u64,
        deadline: Instant,
    ) -> Result<Vec<Laggard>, NotEverywhere> {
        // Below that version nodes have no leases that could end.
        if !self.replication.applied().borrow().has_modes {
            return Err(NotEverywhere);
        }
        let deadline = deadline - ANSWER_TIME;
        loop {
            let answer = match self.answering_leader() {
                Some(leader) if leader != self.me.node.get() => {
                    self.ask_everywhere(leader, index, deadline).await
                }
                _ => self.everywhere_by_leader(index, deadline).await,
            };
            if let Some(laggards) = answer {
                return laggards.into_iter().map(laggard).collect();
            }
            if Instant::now() + RETRY_PAUSE >= deadline {
                return Err(NotEverywhere);
            }
            sleep(RETRY_PAUSE).await;
        }
    }

    async fn ask_everywhere(
        &self,
        leader: u64,
        index: u64,
        deadline: Instant,
    ) -> Option<Vec<pb::Laggard>> {
        let (mut client, header) = self.peer(leader).client(Purpose::Entries).ok()?;
        let left = deadline.saturating_duration_since(Instant::now()).saturating_sub(ANSWER_TIME);
        let timeout_ms = u32::try_from(left.as_millis()).unwrap_or(u32::MAX);
        let request = pb::AwaitEverywhereRequest { header: Some(header), index, timeout_ms };
        let asked = client.await_everywhere(request);
        let answer = self.ask_leader(leader, deadline, asked).await?.ok()?;
        match answer.into_inner().result? {
            pb::await_everywhere_response::Result::Laggards(laggards) => Some(laggards.nodes),
            pb::await_everywhere_response::Result::NotLeader(_) => None,
        }
    }

    /// Runs the barrier here; `None` when this node does not lead.
    pub(crate) async fn everywhere_by_leader(
        &self,
        index: u64,
        deadline: Instant,
    ) -> Option<Vec<pb::Laggard>> {
        let led_since = self.led_since()?;
        // What this leader has not applied itself it knows nothing about.
        if self.applied_index() < Some(index) {
            return None;
        }
        self.keep_applied().ok()?;
        let length = self.replication.freshness_lease();
        let records = self.roster.records();
        let now_ms = self.clock.unix_ms();
        let serving = records.values().filter(|record| {
            // Who was taken out long ago has no lease any more.
            let is_gone =
                record.removed_ms.is_some_and(|at| at.saturating_add(LONG_AGO_MS) < now_ms);
            record.role == NodeRole::Data && !is_gone
        });
        let others = serving.map(|record| record.id.get()).filter(|id| *id != self.me.node.get());
        let asked = others.map(|node| {
            let over = self.granted.over(node, length, led_since);
            async move {
                let is_removed = self.roster.is_removed(node);
                tokio::select! {
                    () = self.until_applied(node, index), if !is_removed => None,
                    () = sleep_until(over.min(deadline)) => {
                        let lease_left_ms = signed_ms(over, Instant::now());
                        Some(pb::Laggard { node_id: node, lease_left_ms })
                    }
                }
            }
        });
        Some(join_all(asked).await.into_iter().flatten().collect())
    }

    /// Syncs what is applied: a power cut must not take back what this node says it has applied.
    pub(crate) fn keep_applied(&self) -> Result<(), tonic::Status> {
        blocking(|| self.state.flush()).map_err(|error| {
            let error = &error as &dyn std::error::Error;
            tracing::error!(error, "the state is not on disk");
            tonic::Status::internal("the state is not on disk")
        })
    }

    /// Asks a node until it says that it has applied an entry.
    async fn until_applied(&self, node: u64, index: u64) {
        while self.ask_applied(node, index).await.is_none() {
            sleep(RETRY_PAUSE).await;
        }
    }

    async fn ask_applied(&self, node: u64, index: u64) -> Option<()> {
        let (mut client, header) = self.peer(node).client(Purpose::Entries).ok()?;
        let request = pb::AwaitAppliedRequest { header: Some(header), index };
        client.await_applied(request).await.ok().map(|_| ())
    }
}

fn laggard(laggard: pb::Laggard) -> Result<Laggard, NotEverywhere> {
    Ok(Laggard {
        node: NodeId::new(laggard.node_id).map_err(|_| NotEverywhere)?,
        lease_left_ms: laggard.lease_left_ms,
    })
}

/// Returns the time from one moment to another in milliseconds, rounded up; below zero when it lies before.
fn signed_ms(to: Instant, from: Instant) -> i64 {
    let ms = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
    match to.checked_duration_since(from) {
        Some(left) => ms(left).saturating_add(1),
        None => -ms(from - to),
    }
}
