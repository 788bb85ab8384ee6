//! The zones as their leader sees them: which of them answer, and what each holds on disk.
//!
//! [`judgement`] says how far an answer may go under the present replication mode, [`mode`] when the mode
//! has to change. Both are functions of a [`View`] and know nothing of openraft; `node::zone_gate` feeds
//! them. [`leadership`] says in which zone the lead belongs, and when it goes there.

mod judgement;
mod leadership;
mod mode;
#[cfg(test)]
mod testing;

use std::time::Duration;

use openraft::Instant as _;
use openraft::metrics::RaftMetrics;
use tokio::time::Instant;
use twinkeep_core::name::ZoneName;
use twinkeep_core::topology::NodeRole;

pub(crate) use judgement::{Judged, judge};
pub(crate) use leadership::{Candidate, Look, Standing, WayHome, ready, successor};
pub(crate) use mode::{Change, Watch};

use crate::roster::Roster;
use crate::types::TypeConfig;

/// Silence after which a voter, and a zone whose voters are all silent, is not counted on. Measured from
/// the sending of the last message that was answered.
pub(crate) const SILENCE_MAX: Duration = Duration::from_secs(1);
/// How long a new leader waits for the first answer of a voter.
pub(crate) const FIRST_ANSWER_MAX: Duration = Duration::from_millis(50);
/// The same where the leader before handed over: its sync leases may hold for a while still, since nobody waited
/// for an election lease to end.
pub(crate) const FIRST_ANSWER_AFTER_TRANSFER_MAX: Duration = Duration::from_millis(300);

/// A leadership of this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Led {
    pub(crate) term: u64,
    pub(crate) since: Instant,
    /// Whether the leader before handed over.
    pub(crate) by_transfer: bool,
}

/// What a leader knows of the voters.
#[derive(Clone, Debug)]
pub(crate) struct View {
    /// The zone that the leader stands in.
    pub(crate) own_zone: ZoneName,
    /// Every other voter.
    pub(crate) others: Vec<Voter>,
    /// The last entry that the leader has applied, and so has on disk itself.
    pub(crate) applied: Option<u64>,
    /// The last entry of its log.
    pub(crate) last_index: u64,
    /// How long it has led.
    pub(crate) led_for: Duration,
    /// How long it waits for first answers.
    pub(crate) patience: Duration,
}

/// A voter that is not the leader.
#[derive(Clone, Debug)]
pub(crate) struct Voter {
    pub(crate) zone: ZoneName,
    /// Whether it holds data, and so stands for its zone. A witness does not.
    pub(crate) is_data: bool,
    /// The last entry that it is known to have on disk.
    pub(crate) matched: Option<u64>,
    /// Time since the last message that it answered was sent; `None` before its first answer to this leader.
    pub(crate) silent_for: Option<Duration>,
}

impl Voter {
    /// Tells whether the voter is counted on: it answers, or has not had the time to.
    pub(crate) fn answers(&self, view: &View) -> bool {
        match self.silent_for {
            Some(silence) => silence < SILENCE_MAX,
            None => view.led_for < view.patience,
        }
    }
}

impl View {
    /// Reads a view from a leader's metrics; `None` where the leader has not applied yet who its voters are.
    pub(crate) fn read(
        metrics: &RaftMetrics<TypeConfig>,
        roster: &Roster,
        applied: Option<u64>,
        led: &Led,
    ) -> Option<Self> {
        let (matched, heard) = (metrics.replication.as_ref()?, metrics.heartbeat.as_ref()?);
        let records = roster.records();
        let own_zone = records.get(&metrics.id)?.placement.zone.clone();
        let others = metrics.membership_config.voter_ids().filter(|node| *node != metrics.id);
        let others = others.map(|node| {
            let record = records.get(&node)?;
            Some(Voter {
                zone: record.placement.zone.clone(),
                is_data: record.role == NodeRole::Data,
                matched: matched.get(&node).copied().flatten().map(|id| id.index),
                silent_for: heard.get(&node).copied().flatten().map(|at| at.elapsed()),
            })
        });
        Some(Self {
            own_zone,
            others: others.collect::<Option<_>>()?,
            applied,
            last_index: metrics.last_log_index.unwrap_or(0),
            led_for: led.since.elapsed(),
            patience: match led.by_transfer {
                true => FIRST_ANSWER_AFTER_TRANSFER_MAX,
                false => FIRST_ANSWER_MAX,
            },
        })
    }

    /// Returns the voters that stand for a zone, the leader itself left out.
    fn data_in<'a>(&'a self, zone: &'a ZoneName) -> impl Iterator<Item = &'a Voter> {
        self.others.iter().filter(move |voter| voter.is_data && voter.zone == *zone)
    }

    /// Returns the zones with data that the leader does not stand in.
    fn other_zones(&self) -> Vec<&ZoneName> {
        let data = self.others.iter().filter(|v| v.is_data && v.zone != self.own_zone);
        let mut zones: Vec<_> = data.map(|voter| &voter.zone).collect();
        zones.sort_unstable();
        zones.dedup();
        zones
    }

    /// Returns the last entry that some voter of a zone holds.
    fn held_in(&self, zone: &ZoneName) -> Option<u64> {
        let others = self.data_in(zone).filter_map(|voter| voter.matched).max();
        if *zone == self.own_zone { self.applied.max(others) } else { others }
    }

    /// Tells whether a voter of the zone has answered this leader lately.
    fn has_answered(&self, zone: &ZoneName) -> bool {
        self.data_in(zone).any(|v| v.silent_for.is_some_and(|silence| silence < SILENCE_MAX))
    }

    /// Tells whether a voter of the zone answers, or has not had the time to.
    fn is_heard(&self, zone: &ZoneName) -> bool {
        *zone == self.own_zone || self.data_in(zone).any(|voter| voter.answers(self))
    }
}
