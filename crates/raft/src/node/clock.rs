//! The replicated clock: a leader that is an unsealed data node puts its time in front of a batch.
//!
//! A leader cannot stamp batches that others signed, so time is a command of its own. It is proposed
//! only while the leader's clock agrees with another data node of each living zone, its own included,
//! and with one at all: the replicated clock never goes back, so one wrong clock would refuse every
//! batch of the others until real time has caught up. Without a stamp time stands still and writes go
//! on. A cluster of one data node has nobody to ask and stamps alone.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use twinkeep_core::apply::now_ms;
use twinkeep_core::clock::UnixMs;
use twinkeep_core::command::{Batch, Command, Proposal};
use twinkeep_core::name::ZoneName;
use twinkeep_core::record::NodeRecord;
use twinkeep_core::topology::{NodeRole, Standing};

use super::Shared;
use crate::observe::{leads, observe};
use crate::signing::sign_batch;
use crate::transport::Reading;
use crate::types::SignedBytes;

/// Age of the replicated clock beyond which it is moved.
const STALE_MS: UnixMs = 1_000;
/// Furthest that two clocks may lie apart.
const APART_MS_MAX: u64 = 5_000;
/// A zone from which no data node was read for this long is not living.
const SILENCE_MAX: Duration = Duration::from_secs(3);

/// When this node last moved the clock, by its own clock.
#[derive(Default)]
pub(super) struct Stamp {
    last_ms: AtomicU64,
}

impl Stamp {
    /// Takes the turn to move the clock; one caller a second gets it.
    fn take_turn(&self, now: UnixMs) -> bool {
        let last = self.last_ms.load(Ordering::Relaxed);
        now.abs_diff(last) > STALE_MS
            && self
                .last_ms
                .compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }
}

/// Why this node's time does not become the cluster's.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum Discord {
    #[error("this clock disagrees with all that were read in {0}")]
    Zone(ZoneName),
    #[error("no other data node was heard that could confirm this clock")]
    Unheard,
}

impl Shared {
    /// Proposes this node's time if it leads, is unsealed, and the replicated clock is stale.
    ///
    /// The entry goes in front of whatever the caller proposes next; its outcome is not awaited.
    pub(super) async fn stamp_clock_if_due(&self) {
        let now = self.clock.unix_ms();
        let replicated = match self.state.view(|state| now_ms(state)) {
            Ok(replicated) => replicated,
            Err(error) => return tracing::error!(%error, "the replicated clock cannot be read"),
        };
        // Zero: the cluster has not begun.
        let is_due = replicated != 0 && now.saturating_sub(replicated) > STALE_MS;
        if !is_due || !leads(&self.raft) {
            return;
        }
        let discord = self.check_agreement().err();
        // A fresh leader hears of the others within a moment: the turn is left to the next batch.
        // Peers that stay silent are warned of where they are called.
        if discord == Some(Discord::Unheard) {
            return tracing::debug!("nobody confirms this clock; time stands still");
        }
        if !self.stamp.take_turn(now) {
            return;
        }
        if let Some(discord) = discord {
            return tracing::error!(%discord, "time stands still");
        }
        let proposal =
            Proposal { actor: None, token: None, command: Command::Clock { unix_ms: now } };
        let batch = Batch { not_after_ms: now + Batch::LIFE_MS, commands: vec![proposal] };
        if let Some(signed) = sign_batch(self.me, &*self.signer, &batch) {
            let entry = SignedBytes(signed.to_bytes().into());
            // A Raft that has stopped refuses the batch that follows, and says so there.
            let _ = self.raft.client_write_ff(entry, None).await;
        }
    }

    /// Compares this clock with those of the other data nodes.
    fn check_agreement(&self) -> Result<(), Discord> {
        let records = self.roster.records();
        // A leader that has not applied yet how the others joined must not take itself for alone.
        if self.is_behind(&records) {
            return Err(Discord::Unheard);
        }
        let others = records.values().filter(|record| {
            record.role == NodeRole::Data
                && record.standing != Standing::Removed
                && record.id != self.me.node
        });
        agreement(others, &self.links.readings(), Instant::now())
    }

    /// Tells whether the log, whose newest membership counts at once, names nodes that the records do
    /// not have yet: after a crash the state may be an earlier one.
    fn is_behind(&self, records: &BTreeMap<u64, NodeRecord>) -> bool {
        observe(&self.raft, |metrics| {
            let mut members = metrics.membership_config.membership().nodes();
            members.any(|(node, _)| !records.contains_key(node))
        })
    }
}

/// Judges this clock by what was read from the other data nodes.
fn agreement<'a>(
    others: impl Iterator<Item = &'a NodeRecord>,
    readings: &BTreeMap<u64, Reading>,
    now: Instant,
) -> Result<(), Discord> {
    let mut zones: BTreeMap<&ZoneName, bool> = BTreeMap::new();
    let mut is_alone = true;
    for node in others {
        is_alone = false;
        let Some(reading) = readings.get(&node.id.get()) else { continue };
        if now.saturating_duration_since(reading.at) <= SILENCE_MAX {
            let agrees = reading.clock_ahead_ms.unsigned_abs() <= APART_MS_MAX;
            *zones.entry(&node.placement.zone).or_default() |= agrees;
        }
    }
    if zones.is_empty() && !is_alone {
        return Err(Discord::Unheard);
    }
    match zones.into_iter().find(|(_, agrees)| !agrees) {
        Some((zone, _)) => Err(Discord::Zone(zone.clone())),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
