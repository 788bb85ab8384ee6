//! The witness's watchdog: when the one voter that shall not lead has to.
//!
//! The witness votes and keeps the log, and stands for no election by itself. But when two zones
//! cannot see each other and the witness sees both, it may be the only one left with the newest
//! entries after the leader's zone dies: then nobody else can win. So it asks for votes
//!
//! - as soon as its leader lease is over, if within the last 2 s it refused a data node whose log was
//!   shorter than its own: that node cannot win, and this one can;
//! - otherwise after twice the sum of lease and longest election timeout, in which any data node that
//!   can win has won.
//!
//! It asks by pre-vote, so that it never disturbs a leader that lives. As leader it serves nobody: it
//! brings a data node up to date and hands over.

use std::sync::Arc;
use std::time::Duration;

use openraft::Instant as _;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::raft::{VoteRequest, VoteResponse};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::boot::Boot;
use crate::config::Config;
use crate::observe::{leads, observe};
use crate::roster::Roster;
use crate::state_machine::Raft;
use crate::types::TypeConfig;

/// How long a refusal of a shorter log counts.
const REFUSAL_LIFE: Duration = Duration::from_secs(2);

/// What the watchdog knows besides Raft's own state: whom this node refused for a shorter log.
#[derive(Default)]
pub(crate) struct Refusals {
    last: Mutex<Option<Instant>>,
    fresh: Notify,
}

impl Refusals {
    /// Looks at an answer to a data node's vote or pre-vote.
    pub(crate) fn note(
        &self,
        request: &VoteRequest<TypeConfig>,
        answer: &VoteResponse<TypeConfig>,
    ) {
        if !answer.vote_granted && request.last_log_id < answer.last_log_id {
            *self.last.lock() = Some(Instant::now());
            self.fresh.notify_one();
        }
    }

    fn is_fresh(&self, now: Instant) -> bool {
        self.last.lock().is_some_and(|at| now.saturating_duration_since(at) <= REFUSAL_LIFE)
    }
}

/// Watches over the cluster from the witness.
pub(crate) struct Watchdog {
    pub(crate) raft: Raft,
    pub(crate) roster: Arc<Roster>,
    pub(crate) refusals: Arc<Refusals>,
    pub(crate) boot: Arc<Boot>,
    pub(crate) lease: Duration,
}

impl Watchdog {
    pub(crate) fn new(
        raft: Raft,
        roster: Arc<Roster>,
        refusals: Arc<Refusals>,
        boot: Arc<Boot>,
        config: &Config,
    ) -> Self {
        Self { raft, roster, refusals, boot, lease: config.election_max }
    }

    /// Runs until Raft stops.
    pub(crate) async fn run(self) {
        while let Some(last_heard) = self.last_heard().await {
            if leads(&self.raft) {
                self.hand_over().await;
                continue;
            }
            let now = Instant::now();
            let due = due(last_heard, self.lease, self.refusals.is_fresh(now));
            if due > now {
                self.wait(due).await;
                continue;
            }
            if self.may_stand() {
                tracing::info!("the witness stands for election");
                if self.raft.trigger().elect(true).await.is_err() {
                    return;
                }
            }
            // One round of pre-vote and vote fits into a lease. Nobody serves while this node leads: it hands over at
            // once.
            tokio::select! {
                () = self.wait(now + self.lease) => {}
                () = self.until_leader() => {}
            }
        }
    }

    /// Returns when this node last heard of a leader or gave its vote; `None` once Raft has stopped.
    async fn last_heard(&self) -> Option<Instant> {
        let silence = self
            .raft
            .with_raft_state(|state| state.vote_last_modified().map(|at| at.elapsed()))
            .await
            .ok()?;
        Some(Instant::now() - silence.unwrap_or_default())
    }

    /// Waits until `until`, or until a refusal may have brought the moment nearer.
    async fn wait(&self, until: Instant) {
        tokio::select! {
            () = sleep_until(until) => {}
            () = self.refusals.fresh.notified() => {}
        }
    }

    fn may_stand(&self) -> bool {
        let is_voter = observe(&self.raft, |metrics| {
            metrics.membership_config.voter_ids().any(|node| node == metrics.id)
        });
        is_voter && self.boot.may_stand() && !cfg!(twinkeep_break = "watchdog")
    }

    /// Brings a data node up to date and hands it the lead.
    async fn hand_over(&self) {
        let mut metrics = self.raft.metrics();
        while leads(&self.raft) {
            if let Some(successor) = self.up_to_date() {
                tracing::info!(successor, "the witness hands over the lead");
                if self.raft.trigger().transfer_leader(successor).await.is_err() {
                    return;
                }
                let end = Instant::now() + self.lease;
                // Late means that the transfer failed; it is tried again.
                let _ = timeout_at(end, self.until_not_leader()).await;
            } else if metrics.changed().await.is_err() {
                return;
            }
        }
    }

    async fn until_leader(&self) {
        let mut metrics = self.raft.metrics();
        while !leads(&self.raft) && metrics.changed().await.is_ok() {}
    }

    async fn until_not_leader(&self) {
        let mut metrics = self.raft.metrics();
        while leads(&self.raft) && metrics.changed().await.is_ok() {}
    }

    /// Returns a voting data node that holds this node's whole log.
    fn up_to_date(&self) -> Option<u64> {
        observe(&self.raft, |metrics| {
            let matched = metrics.replication.as_ref()?;
            let holds_all = |node: &u64| {
                let log_id = matched.get(node).copied().flatten();
                log_id.map(|id| id.index) >= metrics.last_log_index
            };
            metrics
                .membership_config
                .voter_ids()
                .filter(|node| *node != metrics.id && self.roster.is_data(*node))
                .find(holds_all)
        })
    }
}

/// Returns when the witness may ask for votes.
fn due(last_heard: Instant, lease: Duration, refused_shorter: bool) -> Instant {
    // The longest election timeout equals the lease.
    last_heard + if refused_shorter { lease } else { 2 * (lease + lease) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{LeaderId, LogId, Vote};

    fn id(index: u64) -> Option<LogId> {
        Some(LogId::new(LeaderId { term: 1, node_id: 1 }, index))
    }

    fn noted(asked: Option<LogId>, own: Option<LogId>, granted: bool) -> bool {
        let refusals = Refusals::default();
        let request = VoteRequest::new(Vote::new(2, 1), asked);
        refusals.note(&request, &VoteResponse::new(Vote::new(1, 1), own, granted));
        refusals.is_fresh(Instant::now())
    }

    #[test]
    fn only_a_refusal_for_a_shorter_log_counts() {
        assert!(noted(id(3), id(4), false));
        assert!(noted(None, id(4), false));
        assert!(!noted(id(4), id(4), false));
        assert!(!noted(id(5), id(4), false));
        assert!(!noted(id(3), id(4), true));
    }

    #[test]
    fn a_refusal_is_forgotten_after_two_seconds() {
        let refusals = Refusals::default();
        let request = VoteRequest::new(Vote::new(2, 1), id(3));
        refusals.note(&request, &VoteResponse::new(Vote::new(1, 1), id(4), false));
        let now = Instant::now();
        assert!(refusals.is_fresh(now + Duration::from_millis(1_900)));
        assert!(!refusals.is_fresh(now + Duration::from_millis(2_100)));
    }

    #[test]
    fn the_witness_waits_for_the_lease_or_for_every_data_node_to_have_tried() {
        let (now, lease) = (Instant::now(), Duration::from_millis(300));
        assert_eq!(due(now, lease, true), now + Duration::from_millis(300));
        assert_eq!(due(now, lease, false), now + Duration::from_millis(1_200));
    }
}
