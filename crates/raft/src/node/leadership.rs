//! Keeping the lead where the operators want it: out of a drained zone, and back in the preferred one.
//!
//! The lead is moved by transfer alone, to a data node that has the log and answers. Timers are the same
//! everywhere: a shorter one would win elections for a node by disturbing leaders that live.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver as _;
use tokio::time::{Instant, sleep, timeout};
use twinkeep_core::leadership::Leadership;
use twinkeep_core::name::ZoneName;
use twinkeep_core::replication::Mode;
use twinkeep_core::topology::{NodeRole, Standing as RecordStanding};

use super::Shared;
use crate::observe::{leads, observe};
use crate::zones::{Candidate, Look, Standing, WayHome, ready};

/// How often a data node looks who leads and who shall.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// Longest wait for the end of a transfer. The leader has sent no heartbeat meanwhile: if the one that was chosen
/// does not take over, others stand for election.
const TRANSFER_MAX: Duration = Duration::from_secs(1);
/// A node that said nothing of itself for this long is not counted on to lead.
const READING_MAX: Duration = Duration::from_secs(2);

impl Shared {
    /// Keeps the lead where it belongs, for as long as Raft runs.
    pub(super) async fn keep_leadership(self: Arc<Self>) {
        let mut way_home = WayHome::new(self.config.fail_back_after);
        let mut standing = Standing::default();
        while observe(&self.raft, |metrics| metrics.running_state.is_ok()) {
            sleep(LOOK_INTERVAL).await;
            // A node that is to stop stands for nothing and hands over by itself.
            if self.draining() {
                continue;
            }
            let (leadership, mode) = {
                let applied = self.replication.applied();
                let applied = applied.borrow();
                (applied.leadership.clone(), applied.mode.clone())
            };
            let leader = self.leader();
            let is_drained = self.own_zone().is_some_and(|zone| leadership.is_drained(&zone));
            let may_stand = standing.look(is_drained, leader.is_some(), Instant::now());
            if self.stands_back.swap(!may_stand, Ordering::SeqCst) == may_stand {
                self.allow_elections();
            }
            let leader_zone = leader.and_then(|leader| self.zone_of(leader));
            let successor = self.at_home(&leadership, &mode);
            let look = Look {
                home: leadership.home(),
                leader_zone: leader_zone.as_ref(),
                is_ready: successor.is_some(),
            };
            let is_due = way_home.look(look, Instant::now());
            if let Some(successor) = successor.filter(|_| is_due) {
                let why = "its zone is the preferred one and steady again";
                if !self.transfer(successor, why).await {
                    way_home.failed();
                }
            } else if is_drained && leads(&self.raft) {
                let successor = ready(&self.candidates(), |zone| !leadership.is_drained(zone));
                if let Some(successor) = successor {
                    self.transfer(successor, "this zone is drained").await;
                }
            }
        }
    }

    /// Returns the node of the preferred zone that can take over the lead from this node now.
    fn at_home(&self, leadership: &Leadership, mode: &Mode) -> Option<u64> {
        let home = leadership.home()?;
        let is_away = leads(&self.raft) && self.own_zone().as_ref() != Some(home);
        if !is_away || *mode != Mode::Sync {
            return None;
        }
        ready(&self.candidates(), |zone| zone == home)
    }

    /// Hands over the lead, and tells whether it is gone.
    pub(super) async fn transfer(&self, successor: u64, why: &'static str) -> bool {
        tracing::info!(successor, why, "handing over the lead");
        self.leases.hand_over();
        let mut metrics = self.raft.metrics();
        // An error here means that Raft has stopped, and then nobody leads from here.
        let _ = self.raft.trigger().transfer_leader(successor).await;
        let handed_over = async { while leads(&self.raft) && metrics.changed().await.is_ok() {} };
        timeout(TRANSFER_MAX, handed_over).await.is_ok()
    }

    /// Returns the voting data nodes besides this one, as its leadership has heard of them; none while it does not
    /// lead.
    pub(super) fn candidates(&self) -> Vec<Candidate> {
        let readings = self.links.readings();
        let records = self.roster.records();
        observe(&self.raft, |metrics| {
            let heard = |node| metrics.heartbeat.as_ref()?.get(&node).copied().flatten();
            let last = metrics.last_log_index.unwrap_or(0);
            let candidate = |node| {
                let record = records.get(&node).filter(|r| r.role == NodeRole::Data)?;
                let matched = metrics.replication.as_ref()?.get(&node).copied().flatten()?;
                Some(Candidate {
                    node,
                    zone: record.placement.zone.clone(),
                    is_sealed: readings.get(&node).is_none_or(|reading| reading.is_sealed),
                    behind: last.saturating_sub(matched.index),
                    silent_for: heard(node).map(|at| openraft::Instant::elapsed(&*at)),
                })
            };
            let ledger = &self.boot.ledger;
            let others = metrics.membership_config.voter_ids();
            let others = others.filter(|node| *node != metrics.id && !ledger.is_rolled_back(*node));
            others.filter_map(candidate).collect()
        })
    }

    pub(super) fn own_zone(&self) -> Option<ZoneName> {
        self.zone_of(self.me.node.get())
    }

    fn zone_of(&self, node: u64) -> Option<ZoneName> {
        Some(self.roster.living(node)?.placement.zone)
    }

    /// Returns the voting data nodes outside a zone that can sign and have lately said so; any node knows.
    pub(super) fn fit_to_lead(&self, outside: &ZoneName) -> Vec<u64> {
        let readings = self.links.readings();
        let is_fit = |node: u64| {
            if node == self.me.node.get() {
                return !self.draining() && !self.signer.is_sealed();
            }
            let reading = readings.get(&node);
            reading.is_some_and(|r| !r.is_sealed && r.at.elapsed() <= READING_MAX)
        };
        let records = self.roster.records();
        let voters = records.iter().filter(|(node, record)| {
            record.role == NodeRole::Data
                && record.standing == RecordStanding::Voter
                && record.placement.zone != *outside
                && is_fit(**node)
        });
        voters.map(|(node, _)| *node).collect()
    }
}
